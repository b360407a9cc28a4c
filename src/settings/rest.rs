//! `restapi` and `ctl`, resolved: who may ask, over what, and how this program asks others.

use super::address::HostPort;
use super::allow::AllowEntry;
use super::secret::Secret;
use super::types::BasicAuth;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `restapi`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestApi {
    /// Where it listens; the host may be a wildcard (`0.0.0.0`, `::`, `*` which is shown as `::`).
    pub listen: HostPort,
    /// How others reach it; never a wildcard.
    pub connect_address: HostPort,
    /// Asked of everything that changes something, when set.
    pub authentication: Option<BasicAuth>,
    /// `None`: plain HTTP.
    pub tls: Option<RestTls>,
    /// From where things may be changed; empty: from anywhere.
    pub allowlist: Vec<AllowEntry>,
    /// The members may too; alone it means that nobody else may.
    pub allowlist_include_members: bool,
    /// Headers of every answer.
    pub http_extra_headers: BTreeMap<String, String>,
    /// The same where TLS is spoken; these win.
    pub https_extra_headers: BTreeMap<String, String>,
    /// Connections that wait to be taken; `None`: the program's own choice.
    pub request_queue_size: Option<u32>,
    /// What the `Server` header says.
    pub server_tokens: ServerTokens,
}

impl RestApi {
    /// The member's `api_url`, as it is published.
    pub fn api_url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/patroni", self.connect_address)
    }
}

/// A certificate and its private key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyPair {
    /// The certificate, PEM.
    pub certfile: PathBuf,
    /// The private key, PEM; `None`: it is in `certfile` too.
    pub keyfile: Option<PathBuf>,
    /// What the private key is encrypted with.
    pub keyfile_password: Option<Secret>,
}

/// `restapi`, as far as it is TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestTls {
    /// The member's own.
    #[serde(flatten)]
    pub pair: KeyPair,
    /// Who signs the clients' certificates; always there if they are asked for.
    pub cafile: Option<PathBuf>,
    /// OpenSSL's list of ciphers.
    pub ciphers: Option<String>,
    /// What is asked of clients.
    pub verify_client: VerifyClient,
}

/// `restapi.verify_client`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyClient {
    /// No certificate.
    #[default]
    None,
    /// A certificate of whoever changes something.
    Optional,
    /// A certificate of everybody.
    Required,
}

/// `restapi.server_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerTokens {
    /// No `Server` header.
    #[default]
    Original,
    /// The program and its version.
    Minimal,
    /// The program.
    ProductOnly,
}

/// `ctl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ctl {
    /// Sent with every request; that of `restapi` where `ctl` has none.
    pub authentication: Option<BasicAuth>,
    /// Every certificate is believed.
    pub insecure: bool,
    /// Whose certificates are believed; `restapi.cafile` counts where `ctl` has none.
    pub cacert: Option<PathBuf>,
    /// What is shown to members that ask for a certificate.
    pub pair: Option<KeyPair>,
}
