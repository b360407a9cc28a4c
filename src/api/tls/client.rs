//! The client's side: whom this program believes when it asks a member, and what it shows itself.

use super::keys;
use super::{Error, Files, Pair, Warning, provider, refused};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::PathBuf;
use std::sync::Arc;

const SECTION: &str = "ctl";

/// Whose certificates are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those of the machine's authorities.
    #[default]
    System,
    /// Those of the authorities in a file.
    File {
        /// The key that names it: `ctl.cacert`, or `restapi.cafile` in its stead.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Everybody's.
    Anybody,
}

/// What the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Whom to believe.
    pub trust: Trust,
    /// What to show where a certificate is asked for.
    pub pair: Option<Pair>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Material {
    /// For the handshake.
    pub config: Arc<ClientConfig>,
    /// What is worth a word.
    pub warnings: Vec<Warning>,
}

impl Wanted {
    /// Read and judge in one step. `now_s`: seconds since 1970.
    pub fn load(&self, now_s: i64) -> Result<Material, Error> {
        let mut files = Files::default();
        self.read(&mut files)?;
        self.check(&files, now_s)
    }

    /// Read the files.
    pub(in crate::api) fn read(&self, files: &mut Files) -> Result<(), Error> {
        if let Some(pair) = &self.pair {
            keys::read_pair(files, SECTION, pair)?;
        }
        match &self.trust {
            Trust::File { key, path } => keys::read_authorities(files, key, path),
            Trust::System | Trust::Anybody => Ok(()),
        }
    }

    /// Judge them.
    pub(in crate::api) fn check(&self, files: &Files, now_s: i64) -> Result<Material, Error> {
        let provider = Arc::new(provider());
        let mut warnings = Vec::new();
        let verifier: Arc<dyn ServerCertVerifier> = match &self.trust {
            Trust::Anybody => Arc::new(Blind::new(&provider, true)),
            Trust::File { key, .. } => verify(keys::authorities(files, key)?, &provider, key)?,
            Trust::System => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    let key = "ctl.cacert".to_owned();
                    let message = "it is missing, and this machine knows no authority either: no \
                                   member is believed over https; expected a PEM file";
                    warnings.push(Warning {
                        key,
                        message: message.to_owned(),
                    });
                    Arc::new(Blind::new(&provider, false))
                } else {
                    verify(roots, &provider, "ctl.cacert")?
                }
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused("ctl.certfile", &error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let checked = keys::check_pair(files, SECTION, pair)?;
                warnings.extend(checked.warning(SECTION, pair, now_s));
                let resolver = SingleCertAndKey::from(Arc::clone(&checked.key));
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
        };
        // One question a connection: nothing is ever resumed.
        config.resumption = Resumption::disabled();
        Ok(Material {
            config: Arc::new(config),
            warnings,
        })
    }
}

fn verify(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
    key: &str,
) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| refused(key, &error))?;
    Ok(verifier)
}

type Verdict<T> = Result<T, rustls::Error>;

/// Believes whoever has the private key of whatever certificate it shows, or nobody at all.
#[derive(Debug)]
struct Blind {
    provider: Arc<CryptoProvider>,
    believes: bool,
}

impl Blind {
    fn new(provider: &Arc<CryptoProvider>, believes: bool) -> Self {
        Self {
            provider: Arc::clone(provider),
            believes,
        }
    }
}

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Verdict<ServerCertVerified> {
        if self.believes {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Verdict<HandshakeSignatureValid> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Verdict<HandshakeSignatureValid> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
