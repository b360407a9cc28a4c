//! Who may call, as one value: TLS, credentials, addresses, and what every answer carries besides.
//!
//! It is one value behind a [`Handle`] so that a reload changes all of it at once or nothing. A
//! certificate that is replaced by one that is broken, of another key or out of date must not end a
//! member that works: the former stays, and whoever asked is told which key and file is wrong.

mod handle;

pub use handle::Handle;

use crate::api::allowlist::Allowlist;
use crate::api::auth::Credentials;
use crate::api::client::Client;
use crate::api::tls::client::Trust;
use crate::api::tls::server::VerifyClient;
use crate::api::tls::{self, Files, Warning};
use http::header::{CONNECTION, CONTENT_LENGTH, SERVER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::ServerConfig;
use std::sync::Arc;

/// Why it cannot be had as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A certificate, a private key, a list of ciphers.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// A header that answers cannot carry.
    #[error("{key}.{name}: {why}")]
    Header {
        /// `restapi.http_extra_headers` or its twin of https.
        key: &'static str,
        /// The header.
        name: String,
        /// What is wrong, and what would be right.
        why: &'static str,
    },
}

impl Error {
    /// The key of the configuration.
    pub fn key(&self) -> String {
        match self {
            Self::Tls(error) => error.key().to_owned(),
            Self::Header { key, name, .. } => format!("{key}.{name}"),
        }
    }

    /// The message without the key.
    pub fn message(&self) -> String {
        match self {
            Self::Tls(error) => error.message(),
            Self::Header { why, .. } => (*why).to_owned(),
        }
    }
}

/// What the `Server` header says (`restapi.server_tokens`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTokens {
    /// What the library sends of itself: nothing.
    #[default]
    Original,
    /// The program and its version.
    Minimal,
    /// The program.
    ProductOnly,
}

/// What the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Who may change things; `None`: anybody.
    pub credentials: Option<Credentials>,
    /// From where things may be changed.
    pub allowlist: Allowlist,
    /// `None`: plain HTTP.
    pub tls: Option<tls::server::Wanted>,
    /// How this member asks others.
    pub peers: tls::client::Wanted,
    /// What every answer carries.
    pub http_headers: Vec<(String, String)>,
    /// The same where TLS is spoken; these win.
    pub https_headers: Vec<(String, String)>,
    /// What the `Server` header says.
    pub server_tokens: ServerTokens,
}

/// How a new connection is spoken to.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Plain HTTP.
    Plain,
    /// HTTPS.
    Tls(Arc<ServerConfig>),
    /// Not at all: TLS is wanted, and there is no certificate for it.
    Closed,
}

impl Transport {
    /// Whether connections begun under the one may go on under the other.
    pub(in crate::api) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain, Self::Plain) | (Self::Closed, Self::Closed) => true,
            (Self::Tls(one), Self::Tls(another)) => Arc::ptr_eq(one, another),
            _ => false,
        }
    }
}

/// Everything about who may call.
#[derive(Clone, Debug)]
pub struct Security {
    wanted: Wanted,
    digest: [u8; 32],
    transport: Transport,
    headers: HeaderMap,
    peers: Client,
    /// Accepted at a start, where there is nothing better; not in the place of what works.
    faults: Vec<Error>,
    warnings: Vec<Warning>,
}

impl Security {
    /// Read the files and judge everything. Blocks for as long as the file system does. `now_s`:
    /// seconds since 1970. A certificate that is out of date, and one for asking others that is
    /// broken, are warnings here; [`Handle::reload`] takes neither for one that works.
    pub fn load(wanted: Wanted, now_s: i64) -> Result<Self, Error> {
        let read = Read::of(&wanted)?;
        Self::judge(wanted, read, now_s)
    }

    fn judge(wanted: Wanted, read: Read, now_s: i64) -> Result<Self, Error> {
        let Read { files, peers } = read;
        let (mut faults, mut warnings) = (Vec::new(), Vec::new());
        let headers = headers(&wanted)?;
        let transport = match &wanted.tls {
            None => Transport::Plain,
            Some(tls) => {
                let material = tls.check(&files, now_s)?;
                faults.extend(material.outdated.map(Error::from));
                warnings.extend(material.warnings);
                Transport::Tls(material.config)
            }
        };
        let peers = match peers.and_then(|()| wanted.peers.check(&files, now_s)) {
            Ok(material) => {
                warnings.extend(material.warnings);
                Client::with_tls(&material.config)
            }
            Err(error) => {
                let (key, message) = (error.key().to_owned(), error.message());
                warnings.push(Warning { key, message });
                faults.push(error.into());
                let bare = tls::client::Wanted {
                    trust: Trust::Anybody,
                    pair: None,
                };
                Client::with_tls(&bare.load(now_s)?.config)
            }
        };
        Ok(Self {
            digest: files.digest(),
            wanted,
            transport,
            headers,
            peers,
            faults,
            warnings,
        })
    }

    /// For a member whose PostgreSQL runs while its certificate cannot be used: nobody is answered
    /// until the files are repaired, which [`Handle`] looks for. Without that, the lock of a running
    /// primary would not be renewed.
    pub fn closed(wanted: Wanted) -> Self {
        Self {
            digest: [0; 32],
            transport: Transport::Closed,
            headers: HeaderMap::new(),
            peers: Client::default(),
            faults: Vec::new(),
            warnings: Vec::new(),
            wanted,
        }
    }

    /// Plain HTTP for everybody; with credentials, changes for one user only.
    pub fn plain(credentials: Option<Credentials>) -> Self {
        Self {
            transport: Transport::Plain,
            ..Self::closed(Wanted {
                credentials,
                ..Wanted::default()
            })
        }
    }

    /// What is worth a word: the key and the words.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// How this member asks others.
    pub fn peers(&self) -> &Client {
        &self.peers
    }

    pub(in crate::api) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// What whoever changes something has to show, here and at other members.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.wanted.credentials.as_ref()
    }

    pub(in crate::api) fn allowlist(&self) -> &Allowlist {
        &self.wanted.allowlist
    }

    /// Whether who changes something has to show a certificate.
    pub(in crate::api) fn asks_certificate(&self) -> bool {
        let tls = self.wanted.tls.as_ref();
        tls.is_some_and(|tls| tls.verify_client != VerifyClient::None)
    }

    /// What every answer carries.
    pub(in crate::api) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn has_files(&self) -> bool {
        let peers = &self.wanted.peers;
        self.wanted.tls.is_some()
            || peers.pair.is_some()
            || matches!(peers.trust, Trust::File { .. })
    }

    /// What of a successor is worse than here.
    fn fault_of(&self, next: &Self) -> Option<Error> {
        if matches!(self.transport, Transport::Closed) {
            return None;
        }
        let new = |fault: &&Error| !self.faults.contains(fault);
        next.faults.iter().find(new).cloned()
    }
}

/// The files as they are now; those for asking others may be missing.
struct Read {
    files: Files,
    peers: Result<(), tls::Error>,
}

impl Read {
    fn of(wanted: &Wanted) -> Result<Self, Error> {
        let mut files = Files::default();
        if let Some(tls) = &wanted.tls {
            tls.read(&mut files)?;
        }
        let peers = wanted.peers.read(&mut files);
        Ok(Self { files, peers })
    }
}

/// What `pgwarden check` finds: whether it is an error, the key, the words.
pub fn inspect(wanted: &Wanted, now_s: i64) -> Vec<(bool, String, String)> {
    let mut found = Vec::new();
    let mut error = |error: &Error| found.push((true, error.key(), error.message()));
    let mut warnings = Vec::new();
    if let Err(wrong) = headers(wanted) {
        error(&wrong);
    }
    if let Some(tls) = &wanted.tls {
        let mut files = Files::default();
        let judged = tls.read(&mut files).and_then(|()| tls.check(&files, now_s));
        match judged {
            Ok(material) => warnings.extend(material.warnings),
            Err(wrong) => error(&wrong.into()),
        }
    }
    match wanted.peers.load(now_s) {
        Ok(material) => warnings.extend(material.warnings),
        Err(wrong) => error(&wrong.into()),
    }
    let warnings = warnings.into_iter();
    found.extend(warnings.map(|warning| (false, warning.key, warning.message)));
    found
}

fn headers(wanted: &Wanted) -> Result<HeaderMap, Error> {
    let mut all = HeaderMap::new();
    let version = concat!("pgwarden/", env!("CARGO_PKG_VERSION"));
    match wanted.server_tokens {
        ServerTokens::Original => {}
        ServerTokens::Minimal => drop(all.insert(SERVER, HeaderValue::from_static(version))),
        ServerTokens::ProductOnly => {
            all.insert(SERVER, HeaderValue::from_static("pgwarden"));
        }
    }
    let https = wanted.tls.as_ref().map(|_| &wanted.https_headers);
    let groups = [
        ("restapi.http_extra_headers", Some(&wanted.http_headers)),
        ("restapi.https_extra_headers", https),
    ];
    for (key, group) in groups {
        for (name, value) in group.into_iter().flatten() {
            let (name, value) = header(name, value).map_err(|why| Error::Header {
                key,
                name: name.clone(),
                why,
            })?;
            all.insert(name, value);
        }
    }
    Ok(all)
}

/// A header that may be added to every answer; the error says what is wrong with it.
fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name: HeaderName = name
        .parse()
        .map_err(|_| "it is no name of a header; expected letters, digits and -")?;
    if [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE].contains(&name) {
        return Err("it says how the answer is sent, which only the server knows; remove it");
    }
    let value = value
        .parse()
        .map_err(|_| "its value has characters that a header cannot carry; expected one line")?;
    Ok((name, value))
}
