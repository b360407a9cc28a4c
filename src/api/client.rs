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
use serde_json::Value;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;

/// Larger answers are refused, not read.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be used.
    #[error("{url:?} is not an address of the REST API: {why}; expected http://host:port")]
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
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A peer's status. `url` is its REST address, with or without `/patroni`.
pub async fn get_patroni(url: &str, deadline: Duration) -> Result<PeerStatus, Error> {
    let base = url.trim_end_matches('/').trim_end_matches("/patroni");
    let url = format!("{base}/patroni");
    let answer = get(&url, deadline).await?;
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

/// Whether an address can be asked at all.
pub fn check_url(url: &str) -> Result<(), Error> {
    build(Method::GET, url, None, None)
        .map(drop)
        .map_err(|why| Error::Url {
            url: url.to_owned(),
            why,
        })
}

/// GET something.
pub async fn get(url: &str, deadline: Duration) -> Result<Answer, Error> {
    exchange(Method::GET, url, None, None, deadline).await
}

/// GET something that is JSON whatever its status.
pub async fn get_json(url: &str, deadline: Duration) -> Result<(u16, Value), Error> {
    let answer = get(url, deadline).await?;
    let value = serde_json::from_slice(&answer.body).map_err(|error| Error::Answer {
        url: url.to_owned(),
        why: error.to_string(),
    })?;
    Ok((answer.status, value))
}

/// POST JSON; the answer may be anything.
pub async fn post_json(
    url: &str,
    body: &Value,
    credentials: Option<&Credentials>,
    deadline: Duration,
) -> Result<Answer, Error> {
    send_json("POST", url, body, credentials, deadline).await
}

/// The same with another method: PATCH, PUT.
pub async fn send_json(
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
    exchange(method, url, Some(body.to_string()), credentials, deadline).await
}

async fn exchange(
    method: Method,
    url: &str,
    body: Option<String>,
    credentials: Option<&Credentials>,
    deadline: Duration,
) -> Result<Answer, Error> {
    let (authority, request) = build(method, url, body, credentials).map_err(|why| Error::Url {
        url: url.to_owned(),
        why,
    })?;
    tokio::time::timeout(deadline, talk(url, &authority, request))
        .await
        .unwrap_or_else(|_| {
            Err(Error::Deadline {
                url: url.to_owned(),
                deadline_ms: deadline.as_millis(),
            })
        })
}

/// The host and port to connect to, and the request for it.
fn build(
    method: Method,
    url: &str,
    body: Option<String>,
    credentials: Option<&Credentials>,
) -> Result<(String, Request<Full<Bytes>>), String> {
    let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some(other) => return Err(format!("the scheme {other} is not supported")),
        None => return Err("it has no scheme".to_owned()),
    }
    let authority = uri.authority().ok_or("it has no host")?;
    let target = format!(
        "{}:{}",
        authority.host(),
        authority.port_u16().unwrap_or(80)
    );
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

async fn talk(url: &str, target: &str, request: Request<Full<Bytes>>) -> Result<Answer, Error> {
    let stream = TcpStream::connect(target)
        .await
        .map_err(|source| Error::Connect {
            url: url.to_owned(),
            source,
        })?;
    let broken = |why: String| Error::Answer {
        url: url.to_owned(),
        why,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(error.to_string()))?;
    let exchange = async move {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_BODY_BYTES)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(Answer {
            status,
            body: body.to_bytes(),
        })
    };
    // The connection moves bytes only while it is polled: both are driven here, no task is left.
    let mut exchange = pin!(exchange);
    let result = tokio::select! {
        biased;
        result = &mut exchange => result,
        _ = connection => exchange.await,
    };
    result.map_err(broken)
}
