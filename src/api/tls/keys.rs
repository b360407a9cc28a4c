//! Certificates and private keys out of PEM files.

use super::validity::{Validity, expect};
use super::{Error, Files, Pair, Warning};
use pem::Pem;
use pkcs5::EncryptionScheme;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use std::path::Path;
use std::sync::Arc;

const CERTIFICATE: &str = "a PEM file of the certificate and those that lead to its authority";
const PRIVATE_KEY: &str = "a PEM file of the certificate's private key";
const AUTHORITIES: &str = "a PEM file of the certificates of trusted authorities";
const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;
/// Fewer seconds are worth a warning: a week.
const SOON_S: i64 = 7 * 24 * 3600;

/// A pair that belongs together.
pub(super) struct Checked {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) validity: Validity,
}

/// Read the files of a pair; `section` is `restapi` or `ctl`.
pub(super) fn read_pair(files: &mut Files, section: &str, pair: &Pair) -> Result<(), Error> {
    files.read(&format!("{section}.certfile"), &pair.certfile, CERTIFICATE)?;
    if let Some(path) = &pair.keyfile {
        files.read(&format!("{section}.keyfile"), path, PRIVATE_KEY)?;
    }
    Ok(())
}

/// Read a file of authorities.
pub(super) fn read_authorities(files: &mut Files, key: &str, path: &Path) -> Result<(), Error> {
    files.read(key, path, AUTHORITIES)
}

/// Judge a pair that was read.
pub(super) fn check_pair(files: &Files, section: &str, pair: &Pair) -> Result<Checked, Error> {
    let cert_field = format!("{section}.certfile");
    let key_field = match &pair.keyfile {
        Some(_) => format!("{section}.keyfile"),
        None => cert_field.clone(),
    };
    let chain = certificates(files, &cert_field, CERTIFICATE)?;
    let Some(validity) = chain.first().and_then(|first| Validity::of(first)) else {
        let why = "holds a CERTIFICATE that is none (X.509)".to_owned();
        return Err(content(files, &cert_field, why, CERTIFICATE));
    };
    let password = pair.password.as_deref();
    let private = private_key(files, section, &key_field, password)?;
    let signing = rustls::crypto::ring::sign::any_supported_type(&private).map_err(|error| {
        let why = format!("holds a private key that cannot be used: {error}");
        content(
            files,
            &key_field,
            why,
            "one of RSA (2048 bits or more), ECDSA (P-256, P-384) or Ed25519",
        )
    })?;
    let key = CertifiedKey::new(chain, signing);
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            let path = pair.keyfile.as_ref().unwrap_or(&pair.certfile);
            return Err(Error::Mismatch {
                key: key_field,
                path: path.clone(),
                certificate: pair.certfile.clone(),
            });
        }
        Err(error) => {
            let why = format!("holds a certificate that cannot be used: {error}");
            return Err(content(files, &cert_field, why, CERTIFICATE));
        }
    }
    Ok(Checked {
        key: Arc::new(key),
        validity,
    })
}

impl Checked {
    /// An outdated certificate as an error.
    pub(super) fn outdated(&self, section: &str, pair: &Pair, now_s: i64) -> Option<Error> {
        Some(Error::Outdated {
            key: format!("{section}.certfile"),
            path: pair.certfile.clone(),
            why: self.validity.fault(now_s)?,
        })
    }

    /// The same as a warning, or that the end is near.
    pub(super) fn warning(&self, section: &str, pair: &Pair, now_s: i64) -> Option<Warning> {
        let key = format!("{section}.certfile");
        if let Some(error) = self.outdated(section, pair, now_s) {
            let message = error.message();
            return Some(Warning { key, message });
        }
        let left_s = self.validity.left_s(now_s);
        (left_s < SOON_S).then(|| Warning {
            key,
            message: format!(
                "the certificate in {} ends at {}; expected it to be renewed by now",
                pair.certfile.display(),
                self.validity.end()
            ),
        })
    }
}

/// Authorities that were read.
pub(super) fn authorities(files: &Files, key: &str) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for (number, certificate) in certificates(files, key, AUTHORITIES)?
        .into_iter()
        .enumerate()
    {
        store.add(certificate).map_err(|error| {
            let number = number + 1;
            let why = format!("holds a certificate (number {number}) of no authority: {error}");
            content(files, key, why, AUTHORITIES)
        })?;
    }
    Ok(store)
}

fn content(files: &Files, key: &str, why: String, wanted: &'static str) -> Error {
    let path = files.get(key).map(|(path, _)| path.to_owned());
    Error::Content {
        key: key.to_owned(),
        path: path.unwrap_or_default(),
        why,
        wanted,
    }
}

fn sections(files: &Files, key: &str, wanted: &'static str) -> Result<Vec<Pem>, Error> {
    let bytes = files.get(key).map(|(_, bytes)| bytes).unwrap_or_default();
    pem::parse_many(bytes).map_err(|error| {
        let why = format!("is no PEM file: {error}");
        content(files, key, why, wanted)
    })
}

fn certificates(
    files: &Files,
    key: &str,
    wanted: &'static str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = sections(files, key, wanted)?;
    let all: Vec<_> = found
        .into_iter()
        .filter(|section| matches!(section.tag(), "CERTIFICATE" | "X509 CERTIFICATE"))
        .map(|section| CertificateDer::from(section.into_contents()))
        .collect();
    if all.is_empty() {
        let why = "holds no CERTIFICATE".to_owned();
        return Err(content(files, key, why, wanted));
    }
    Ok(all)
}

fn private_key(
    files: &Files,
    section: &str,
    key: &str,
    password: Option<&str>,
) -> Result<PrivateKeyDer<'static>, Error> {
    let encrypted = |why: String| Error::Encrypted {
        key: format!("{section}.keyfile_password"),
        path: files
            .get(key)
            .map(|(path, _)| path.to_owned())
            .unwrap_or_default(),
        why,
    };
    for found in sections(files, key, PRIVATE_KEY)? {
        let old_style = found.headers().get("Proc-Type").is_some();
        match found.tag() {
            "RSA PRIVATE KEY" | "EC PRIVATE KEY" | "DSA PRIVATE KEY" if old_style => {
                let why = "it has OpenSSL's older form of encryption; expected PKCS#8, which \
                           `openssl pkcs8 -topk8 -v2 aes256 -in OLD -out NEW` makes of it";
                return Err(encrypted(why.to_owned()));
            }
            "PRIVATE KEY" => return Ok(PrivatePkcs8KeyDer::from(found.into_contents()).into()),
            "RSA PRIVATE KEY" => return Ok(PrivateKeyDer::Pkcs1(found.into_contents().into())),
            "EC PRIVATE KEY" => return Ok(PrivateKeyDer::Sec1(found.into_contents().into())),
            "ENCRYPTED PRIVATE KEY" => {
                let Some(password) = password else {
                    let why = "no password is set; expected the one it was encrypted with";
                    return Err(encrypted(why.to_owned()));
                };
                let plain = decrypt(found.contents(), password).map_err(encrypted)?;
                return Ok(PrivatePkcs8KeyDer::from(plain).into());
            }
            _ => {}
        }
    }
    let why = "holds no PRIVATE KEY".to_owned();
    Err(content(files, key, why, PRIVATE_KEY))
}

/// `EncryptedPrivateKeyInfo` (RFC 5958): how it is encrypted, and what is.
fn decrypt(der: &[u8], password: &str) -> Result<Vec<u8>, String> {
    let broken = || "it is damaged (no EncryptedPrivateKeyInfo)".to_owned();
    let (whole, _) = expect(der, SEQUENCE).ok_or_else(broken)?;
    let (_, data) = expect(whole, SEQUENCE).ok_or_else(broken)?;
    let scheme = &whole[..whole.len() - data.len()];
    let (data, _) = expect(data, OCTET_STRING).ok_or_else(broken)?;
    let unknown = "it is encrypted in a way that is not supported; expected PBES2 with AES and \
                   SHA-2, which `openssl pkcs8 -topk8 -v2 aes256 -in OLD -out NEW` makes of it";
    let scheme = EncryptionScheme::try_from(scheme).map_err(|_| unknown.to_owned())?;
    scheme.decrypt(password, data).map_err(|error| match error {
        pkcs5::Error::UnsupportedAlgorithm { .. } | pkcs5::Error::NoPbes1CryptSupport => {
            unknown.to_owned()
        }
        _ => "the password is wrong".to_owned(),
    })
}
