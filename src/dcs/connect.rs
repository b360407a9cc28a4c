//! The way to the API server: one HTTP/1.1 client whose dead connections die quickly.
//!
//! Not kube's default stack: that one retries by itself, waits 30 s for a connection and logs every
//! failure as an error. Here each request has one deadline (L6), each runs on a connection of its
//! own while it lasts, so a hung one holds up nobody, and TCP keepalive ends a watch whose peer is
//! gone.

use super::bypass::{Direct, Servers};
use super::error::DcsError;
use futures::TryFutureExt;
use futures::future::MapErr;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;
use tower::{BoxError, Layer, Service};

/// An idle watch connection is probed after this long, then each [`PROBE_EVERY`].
const PROBE_AFTER: Duration = Duration::from_secs(5);
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBES: u32 = 3;
/// Sent bytes that stay unacknowledged this long end a connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// Connections kept idle: after a network cut each of them costs at most one lost request.
const IDLE_MAX: usize = 2;
const IDLE_FOR: Duration = Duration::from_secs(30);

/// Where the API server is and who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum ApiAccess {
    /// An address, for playgrounds and tests.
    Url {
        /// Such as `http://127.0.0.1:8001`.
        url: String,
        /// A bearer token.
        token: Option<String>,
        /// A file with a bearer token, read again as it rotates.
        token_file: Option<PathBuf>,
    },
    /// A kubeconfig file; without a path, the one `kubectl` would use.
    Kubeconfig {
        /// The file.
        path: Option<PathBuf>,
        /// The context; without it, the file's current one.
        context: Option<String>,
    },
    /// The pod's service account.
    InCluster {
        /// A file of certificates to trust instead of the service account's.
        cacert: Option<PathBuf>,
    },
}

impl std::fmt::Debug for ApiAccess {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url { url, .. } => write!(f, "Url({url})"),
            Self::Kubeconfig { path, context } => write!(f, "Kubeconfig({path:?}, {context:?})"),
            Self::InCluster { cacert } => write!(f, "InCluster({cacert:?})"),
        }
    }
}

/// Prepare the client; nothing is sent yet. `call_ms` bounds the making of a connection.
pub async fn connect(access: &ApiAccess, call_ms: u64) -> Result<Client, DcsError> {
    connect_to(access, call_ms, Servers::default()).await
}

/// The same, going to these servers once they are known.
pub async fn connect_to(
    access: &ApiAccess,
    call_ms: u64,
    servers: Servers,
) -> Result<Client, DcsError> {
    let config = config(access).await?;
    let connect_max = Duration::from_millis(call_ms.max(1));
    let bad =
        |error: kube::Error| bad_settings("kubernetes", error, "a usable TLS and token setup");

    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(connect_max));
    http.set_keepalive(Some(PROBE_AFTER));
    http.set_keepalive_interval(Some(PROBE_EVERY));
    http.set_keepalive_retries(Some(PROBES));
    http.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let direct = Direct {
        http,
        servers,
        connect_max,
    };
    let https = config
        .rustls_https_connector_with_connector(direct)
        .map_err(bad)?;
    let transport: legacy::Client<_, Body> = legacy::Builder::new(TokioExecutor::new())
        .pool_max_idle_per_host(IDLE_MAX)
        .pool_idle_timeout(IDLE_FOR)
        .pool_timer(hyper_util::rt::TokioTimer::new())
        .build(https);
    let transport = BoxedErrors(transport);

    let base = config.base_uri_layer();
    let extra = config.extra_headers_layer().map_err(bad)?;
    let namespace = config.default_namespace.clone();
    Ok(match config.auth_layer().map_err(bad)? {
        Some(auth) => Client::new(base.layer(auth.layer(extra.layer(transport))), namespace),
        None => Client::new(base.layer(extra.layer(transport)), namespace),
    })
}

/// The layers above want every error in a box.
#[derive(Clone)]
struct BoxedErrors<S>(S);

impl<S, R> Service<R> for BoxedErrors<S>
where
    S: Service<R>,
    S::Error: std::error::Error + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = MapErr<S::Future, fn(S::Error) -> BoxError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(BoxError::from)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.0
            .call(request)
            .map_err(BoxError::from as fn(S::Error) -> BoxError)
    }
}

async fn config(access: &ApiAccess) -> Result<Config, DcsError> {
    match access {
        ApiAccess::Url {
            url,
            token,
            token_file,
        } => {
            let uri: http::Uri = url
                .parse()
                .map_err(|error| bad_settings("API address", error, "http://host:port"))?;
            if uri.scheme().is_none() || uri.host().is_none() {
                return Err(bad_settings(
                    "API address",
                    format!("\"{url}\""),
                    "http://host:port",
                ));
            }
            let mut config = Config::new(uri);
            config.auth_info = AuthInfo {
                token: token.clone().map(Into::into),
                token_file: token_file
                    .as_ref()
                    .map(|path| path.to_string_lossy().into_owned()),
                ..AuthInfo::default()
            };
            Ok(config)
        }
        ApiAccess::Kubeconfig { path, context } => {
            let options = KubeConfigOptions {
                context: context.clone(),
                ..KubeConfigOptions::default()
            };
            let loaded = match path {
                Some(path) => {
                    let file = Kubeconfig::read_from(path);
                    let file = file.map_err(|error| {
                        bad_settings(
                            &format!("kubeconfig {}", path.display()),
                            error,
                            "a readable file",
                        )
                    })?;
                    Config::from_custom_kubeconfig(file, &options).await
                }
                None => Config::from_kubeconfig(&options).await,
            };
            loaded.map_err(|error| bad_settings("kubeconfig", error, "a file that kubectl accepts"))
        }
        ApiAccess::InCluster { cacert } => {
            let mut config = Config::incluster().map_err(|error| {
                bad_settings(
                    "service account",
                    error,
                    "a pod with automountServiceAccountToken",
                )
            })?;
            if let Some(file) = cacert {
                config.root_cert = Some(authorities(file)?);
            }
            Ok(config)
        }
    }
}

/// The certificates of a PEM file, as DER.
fn authorities(file: &Path) -> Result<Vec<Vec<u8>>, DcsError> {
    const RIGHT: &str = "a readable file with PEM certificates";
    let bad = |why: String| bad_settings("kubernetes.cacert", why, RIGHT);
    let shown = file.display();
    let bytes = std::fs::read(file).map_err(|error| bad(format!("{shown}: {error}")))?;
    let sections = pem::parse_many(bytes).map_err(|error| bad(format!("{shown}: {error}")))?;
    let certificates = sections
        .into_iter()
        .filter(|part| part.tag() == "CERTIFICATE");
    let certificates: Vec<_> = certificates.map(pem::Pem::into_contents).collect();
    if certificates.is_empty() {
        return Err(bad(format!("{shown} holds no certificate")));
    }
    Ok(certificates)
}

fn bad_settings(field: &str, why: impl std::fmt::Display, right: &str) -> DcsError {
    DcsError::BadSettings {
        field: field.to_owned(),
        why: why.to_string(),
        right: right.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_without_scheme_is_refused_with_the_right_form() {
        for url in ["127.0.0.1:8001", "", "http://"] {
            let access = ApiAccess::Url {
                url: url.to_owned(),
                token: None,
                token_file: None,
            };
            let Err(error) = connect(&access, 100).await else {
                panic!("{url:?} was accepted")
            };
            assert!(error.to_string().contains("http://host:port"), "{error}");
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        let url = "http://h:1".to_owned();
        let access = ApiAccess::Url {
            url,
            token: Some("geheim".to_owned()),
            token_file: None,
        };
        assert!(!format!("{access:?}").contains("geheim"));
    }
}
