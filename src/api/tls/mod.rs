//! TLS of the REST API: what the files named in the configuration are, checked before anything
//! uses them.
//!
//! It exists apart from the server because certificates change while a member runs: files are read
//! and judged here as a whole, and only what is in order becomes a configuration of rustls. Reading
//! ([`Files`]) is apart from judging, so that a change of the files is seen by their content.

mod ciphers;
pub mod client;
mod keys;
pub mod server;
mod validity;

use rustls::crypto::CryptoProvider;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The most that is read of one file: a bundle of authorities is far smaller.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// What is wrong with the TLS of the REST API. Each names the key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file is not there, or not to be read by this user.
    #[error("{key}: {} cannot be read: {why}; expected {wanted}", path.display())]
    Unreadable {
        /// The key that names the file.
        key: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A file is no PEM, or holds something else than it should.
    #[error("{key}: {} {why}; expected {wanted}", path.display())]
    Content {
        /// The key that names the file.
        key: String,
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// An encrypted private key cannot be opened.
    #[error("{key}: the private key in {} cannot be decrypted: {why}", path.display())]
    Encrypted {
        /// The key that is missing or wrong.
        key: String,
        /// The file of the private key.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// The private key is another certificate's.
    #[error(
        "{key}: the private key in {} does not belong to the certificate in {}; expected the two \
         files of one pair",
        path.display(), certificate.display()
    )]
    Mismatch {
        /// The key that names the private key.
        key: String,
        /// The file of the private key.
        path: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
    },
    /// The certificate has ended, or has not begun.
    #[error("{key}: the certificate in {} {why}; expected one that is valid now", path.display())]
    Outdated {
        /// The key that names the certificate.
        key: String,
        /// The file.
        path: PathBuf,
        /// Since when, or from when.
        why: String,
    },
    /// It cannot be used as it is configured.
    #[error("{key}: {why}")]
    Refused {
        /// The key.
        key: String,
        /// What was found and would be right, or what rustls said.
        why: String,
    },
}

fn refused(key: &str, why: &dyn std::fmt::Display) -> Error {
    Error::Refused {
        key: key.to_owned(),
        why: why.to_string(),
    }
}

impl Error {
    /// The key of the configuration.
    pub fn key(&self) -> &str {
        match self {
            Self::Unreadable { key, .. }
            | Self::Content { key, .. }
            | Self::Encrypted { key, .. }
            | Self::Mismatch { key, .. }
            | Self::Outdated { key, .. }
            | Self::Refused { key, .. } => key,
        }
    }

    /// The message without the key.
    pub fn message(&self) -> String {
        let text = self.to_string();
        let bare = text.strip_prefix(self.key()).unwrap_or(&text);
        bare.trim_start_matches([':', ' ']).to_owned()
    }
}

/// A certificate and its private key, as a configuration names them.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, and after it those that lead to its authority; PEM.
    pub certfile: PathBuf,
    /// The private key; `None`: it is in `certfile` too.
    pub keyfile: Option<PathBuf>,
    /// What the private key is encrypted with.
    pub password: Option<String>,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair")
            .field("certfile", &self.certfile)
            .field("keyfile", &self.keyfile)
            .finish_non_exhaustive()
    }
}

/// The contents of files, by the key that names each.
#[derive(Debug, Default)]
pub struct Files(BTreeMap<String, (PathBuf, Vec<u8>)>);

impl Files {
    /// Read one more. Blocks for as long as the file system does.
    fn read(&mut self, key: &str, path: &Path, wanted: &'static str) -> Result<(), Error> {
        let unreadable = |why: String| Error::Unreadable {
            key: key.to_owned(),
            path: path.to_owned(),
            why,
            wanted,
        };
        let about = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
        // A pipe would be waited for without end.
        if !about.is_file() {
            return Err(unreadable("it is not a file".to_owned()));
        }
        if about.len() > MAX_FILE_BYTES {
            let why = format!("it has more than {MAX_FILE_BYTES} bytes");
            return Err(unreadable(why));
        }
        let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
        self.0.insert(key.to_owned(), (path.to_owned(), bytes));
        Ok(())
    }

    fn get(&self, key: &str) -> Option<(&Path, &[u8])> {
        let (path, bytes) = self.0.get(key)?;
        Some((path.as_path(), bytes.as_slice()))
    }

    /// All of it in 32 bytes: equal as long as no file changed.
    pub fn digest(&self) -> [u8; 32] {
        let mut all = Sha256::new();
        for (key, (_, bytes)) in &self.0 {
            all.update((key.len() as u64).to_be_bytes());
            all.update(key);
            all.update((bytes.len() as u64).to_be_bytes());
            all.update(bytes);
        }
        all.finalize().into()
    }
}

/// What is in order and still worth a word: the key and the words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The key of the configuration.
    pub key: String,
    /// What to know.
    pub message: String,
}

/// The one provider of cryptography, which the Kubernetes client brings too.
fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}
