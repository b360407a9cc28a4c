//! The server's side: its certificate, and what it asks of clients.

use super::keys::{self, Checked};
use super::{Error, Files, Pair, Warning, ciphers, provider, refused};
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the names of keys begin.
const SECTION: &str = "restapi";
/// What is spoken inside.
const HTTP: &[u8] = b"http/1.1";

/// What is asked of clients (`restapi.verify_client`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyClient {
    /// Nothing.
    #[default]
    None,
    /// A certificate of whoever changes something.
    Optional,
    /// A certificate of everybody: without one there is no handshake.
    Required,
}

/// What the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The member's certificate.
    pub pair: Pair,
    /// Who signs the clients' certificates.
    pub cafile: Option<PathBuf>,
    /// OpenSSL's list of ciphers.
    pub ciphers: Option<String>,
    /// What is asked of clients.
    pub verify_client: VerifyClient,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Material {
    /// For the handshake.
    pub config: Arc<ServerConfig>,
    /// The certificate has ended or not begun.
    pub outdated: Option<Error>,
    /// What is worth a word.
    pub warnings: Vec<Warning>,
}

impl Wanted {
    /// Read the files.
    pub(in crate::api) fn read(&self, files: &mut Files) -> Result<(), Error> {
        keys::read_pair(files, SECTION, &self.pair)?;
        match &self.cafile {
            Some(path) if self.verify_client != VerifyClient::None => {
                keys::read_authorities(files, "restapi.cafile", path)
            }
            _ => Ok(()),
        }
    }

    /// Judge them. An outdated certificate is no error here: it is up to the caller.
    pub(in crate::api) fn check(&self, files: &Files, now_s: i64) -> Result<Material, Error> {
        let checked = keys::check_pair(files, SECTION, &self.pair)?;
        let mut warnings: Vec<_> = checked
            .warning(SECTION, &self.pair, now_s)
            .into_iter()
            .collect();
        let mut provider = provider();
        if let Some(list) = &self.ciphers {
            let key = "restapi.ciphers".to_owned();
            let choice = ciphers::choose(list).map_err(|why| refused(&key, &why))?;
            choice.apply(&mut provider);
            if !choice.unknown.is_empty() {
                let message = format!(
                    "not available and left out: {}; all that is available has forward secrecy and \
                     authenticated encryption",
                    choice.unknown.join(":")
                );
                warnings.push(Warning { key, message });
            }
        }
        let config = self.config(files, &checked, Arc::new(provider))?;
        Ok(Material {
            config: Arc::new(config),
            outdated: checked.outdated(SECTION, &self.pair, now_s),
            warnings,
        })
    }

    fn config(
        &self,
        files: &Files,
        checked: &Checked,
        provider: Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<ServerConfig, Error> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| refused("restapi.ciphers", &error))?;
        let builder = if self.verify_client == VerifyClient::None {
            builder.with_no_client_auth()
        } else {
            let key = "restapi.cafile";
            let roots = Arc::new(keys::authorities(files, key)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = if self.verify_client == VerifyClient::Optional {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            let verifier = verifier.build().map_err(|error| refused(key, &error))?;
            builder.with_client_cert_verifier(verifier)
        };
        let resolver = SingleCertAndKey::from(Arc::clone(&checked.key));
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![HTTP.to_vec()];
        // Probes never resume a session, and nobody keeps one beyond the certificates it rests on.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}
