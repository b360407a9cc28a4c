//! Asking other members, from the agent and from the command line: one request, one deadline.
//!
//! No pool and no retry: in a race a peer that does not answer now is a peer that does not answer,
//! and the caller knows better than this file when to ask again.

use super::auth::Credentials;
use super::peer::PeerStatus;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Larger answers are refused, not read.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be used.
    #[error(
        "{url:?} is not an address of the REST API: {why}; expected http://host:port or https://host:port"
    )]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody listens there.
    #[error("{url} cannot be reached: {source}")]
    Connect {
        /// Who was asked.
        url: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The two do not agree on TLS: nothing was carried out.
    #[error("{url}: no TLS connection: {why}")]
    Tls {
        /// Who was asked.
        url: String,
        /// What was wrong.
        why: String,
    },
    /// It was reached, and the answer is no HTTP, broke off or is too large.
    #[error("{url} gave no proper answer: {why}")]
    Answer {
        /// Who was asked.
        url: String,
        /// What was wrong.
        why: String,
    },
    /// The deadline passed. The request may have been carried out.
    #[error("{url} did not answer within {deadline_ms} ms")]
    Deadline {
        /// Who was asked.
        url: String,
        /// How long was waited.
        deadline_ms: u128,
    },
}

/// An answer of any status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Who asks: over TLS only if it was given what that takes.
#[derive(Clone, Debug, Default)]
pub struct Client {
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    /// One that can be told https addresses.
    pub fn with_tls(config: &Arc<ClientConfig>) -> Self {
        Self {
            tls: Some(Arc::clone(config)),
        }
    }

    /// A peer's status. `url` is its REST address, with or without `/patroni`.
    pub async fn get_patroni(&self, url: &str, deadline: Duration) -> Result<PeerStatus, Error> {
        let url = format!("{}/patroni", base_of(url));
        let answer = self.get(&url, deadline).await?;
        if answer.status != 200 {
            return Err(Error::Answer {
                url,
                why: format!("status {}", answer.status),
            });
        }
        PeerStatus::decode(&answer.body).map_err(|error| Error::Answer {
            url,
            why: error.to_string(),
        })
    }

    /// GET something.
    pub async fn get(&self, url: &str, deadline: Duration) -> Result<Answer, Error> {
        self.exchange(Method::GET, url, None, None, deadline).await
    }

    /// GET something that is JSON whatever its status.
    pub async fn get_json(&self, url: &str, deadline: Duration) -> Result<(u16, Value), Error> {
        let answer = self.get(url, deadline).await?;
        let value = serde_json::from_slice(&answer.body).map_err(|error| Error::Answer {
            url: url.to_owned(),
            why: error.to_string(),
        })?;
        Ok((answer.status, value))
    }

    /// Send JSON with any method; the answer may be anything.
    pub async fn send_json(
        &self,
        method: &str,
        url: &str,
        body: &Value,
        credentials: Option<&Credentials>,
        deadline: Duration,
    ) -> Result<Answer, Error> {
        let method = method.parse().map_err(|_| Error::Url {
            url: url.to_owned(),
            why: format!("{method:?} is no method"),
        })?;
        let body = Some(body.to_string());
        self.exchange(method, url, body, credentials, deadline)
            .await
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        body: Option<String>,
        credentials: Option<&Credentials>,
        deadline: Duration,
    ) -> Result<Answer, Error> {
        let wrong = |why: String| Error::Url {
            url: url.to_owned(),
            why,
        };
        let (target, request) = build(method, url, body, credentials).map_err(wrong)?;
        let tls = match (target.https, &self.tls) {
            (false, _) => None,
            (true, Some(config)) => Some(TlsConnector::from(Arc::clone(config))),
            (true, None) => return Err(wrong("https is not set up here".to_owned())),
        };
        // Boxed: the state of a handshake is large, and nobody waits for many of these.
        let talk = Box::pin(talk(url, &target, tls, request));
        tokio::time::timeout(deadline, talk)
            .await
            .unwrap_or_else(|_| {
                Err(Error::Deadline {
                    url: url.to_owned(),
                    deadline_ms: deadline.as_millis(),
                })
            })
    }
}

/// Whether an address can be asked at all.
pub fn check_url(url: &str) -> Result<(), Error> {
    build(Method::GET, url, None, None)
        .map(drop)
        .map_err(|why| Error::Url {
            url: url.to_owned(),
            why,
        })
}

/// A member's REST address without the path that its `api_url` ends in.
pub fn base_of(api_url: &str) -> &str {
    api_url.trim_end_matches('/').trim_end_matches("/patroni")
}

/// [`Client::get_patroni`] without TLS.
pub async fn get_patroni(url: &str, deadline: Duration) -> Result<PeerStatus, Error> {
    Client::default().get_patroni(url, deadline).await
}

/// [`Client::get`] without TLS.
pub async fn get(url: &str, deadline: Duration) -> Result<Answer, Error> {
    Client::default().get(url, deadline).await
}

/// [`Client::get_json`] without TLS.
pub async fn get_json(url: &str, deadline: Duration) -> Result<(u16, Value), Error> {
    Client::default().get_json(url, deadline).await
}

/// POST JSON without TLS.
pub async fn post_json(
    url: &str,
    body: &Value,
    credentials: Option<&Credentials>,
    deadline: Duration,
) -> Result<Answer, Error> {
    send_json("POST", url, body, credentials, deadline).await
}

/// [`Client::send_json`] without TLS.
pub async fn send_json(
    method: &str,
    url: &str,
    body: &Value,
    credentials: Option<&Credentials>,
    deadline: Duration,
) -> Result<Answer, Error> {
    let client = Client::default();
    client
        .send_json(method, url, body, credentials, deadline)
        .await
}

/// Whom to connect to.
struct Endpoint {
    host: String,
    port: u16,
    https: bool,
}

/// Whom to connect to, and the request.
fn build(
    method: Method,
    url: &str,
    body: Option<String>,
    credentials: Option<&Credentials>,
) -> Result<(Endpoint, Request<Full<Bytes>>), String> {
    let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
    let https = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        Some(other) => return Err(format!("the scheme {other} is not supported")),
        None => return Err("it has no scheme".to_owned()),
    };
    let authority = uri.authority().ok_or("it has no host")?;
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']'));
    let target = Endpoint {
        host: bare.unwrap_or(host).to_owned(),
        port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
        https,
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, authority.as_str())
        .header(CONNECTION, "close");
    if body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    if let Some(credentials) = credentials {
        request = request.header(AUTHORIZATION, credentials.header());
    }
    let body = Full::new(Bytes::from(body.unwrap_or_default()));
    Ok((
        target,
        request.body(body).map_err(|error| error.to_string())?,
    ))
}

async fn talk(
    url: &str,
    target: &Endpoint,
    tls: Option<TlsConnector>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Error> {
    let stream = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(|source| Error::Connect {
            url: url.to_owned(),
            source,
        })?;
    let no_tls = |why: String| Error::Tls {
        url: url.to_owned(),
        why,
    };
    let Some(tls) = tls else {
        return ask(url, stream, request).await;
    };
    let name = ServerName::try_from(target.host.clone())
        .map_err(|_| no_tls(format!("{:?} is no name for a certificate", target.host)))?;
    let stream = tls
        .connect(name, stream)
        .await
        .map_err(|error| no_tls(error.to_string()))?;
    ask(url, stream, request).await
}

async fn ask<S>(url: &str, stream: S, request: Request<Full<Bytes>>) -> Result<Answer, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |error: &(dyn std::error::Error + 'static)| match refusal(error) {
        Some(why) => Error::Tls {
            url: url.to_owned(),
            why,
        },
        None => Error::Answer {
            url: url.to_owned(),
            why: error.to_string(),
        },
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let exchange = async move {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| broken(&error))?;
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let body = Limited::new(answer.into_body(), MAX_BODY_BYTES)
            .collect()
            .await
            .map_err(|error| broken(error.as_ref()))?;
        Ok(Answer {
            status,
            headers,
            body: body.to_bytes(),
        })
    };
    // The connection moves bytes only while it is polled: both are driven here, no task is left.
    let mut exchange = pin!(exchange);
    tokio::select! {
        biased;
        result = &mut exchange => result,
        _ = connection => exchange.await,
    }
}

/// In TLS 1.3 a server refuses a client's certificate, or the lack of one, when the client already
/// has sent its request; it has not read it.
fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            // What an io::Error carries is not its source but itself.
            let inner = io.get_ref().and_then(|inner| inner.downcast_ref());
            if let Some(rustls::Error::AlertReceived(alert)) = inner {
                return Some(format!("it refused with the alert {alert:?}"));
            }
        }
        cause = error.source();
    }
    None
}
