//! One request: its path, its deadline, its whole answer.

use super::outcome::{Answer, NoAnswer, retry_after_ms};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy;
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use std::fmt::Write as _;
use tokio::time::{Instant, timeout_at};

/// No object of ours is near this size; an answer beyond it is not read.
const ANSWER_MAX_BYTES: usize = 16 << 20;

/// A merge PATCH: null removes, lists are replaced.
const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";

/// What to ask for.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// What it is for, in words.
    pub(super) what: String,
    method: Method,
    path: String,
    body: Option<(&'static str, Vec<u8>)>,
    /// Useful, and beyond the rights that Patroni's users have given.
    pub(super) spare: bool,
}

impl Ask {
    /// A quorum read: no resourceVersion, so the server answers from its store.
    pub(super) fn get(what: &str, path: &str) -> Self {
        Self {
            what: what.to_owned(),
            method: Method::GET,
            path: path.to_owned(),
            body: None,
            spare: false,
        }
    }

    /// Change an object.
    pub(super) fn patch(what: &str, path: &str, body: &Value) -> Self {
        let body = Some((MERGE, body.to_string().into_bytes()));
        Self {
            what: what.to_owned(),
            method: Method::PATCH,
            path: path.to_owned(),
            body,
            spare: false,
        }
    }

    /// Create an object in a collection.
    pub(super) fn create(what: &str, path: &str, body: &Value) -> Self {
        let body = Some((JSON, body.to_string().into_bytes()));
        Self {
            what: what.to_owned(),
            method: Method::POST,
            path: path.to_owned(),
            body,
            spare: false,
        }
    }

    /// Goes without in a role made for Patroni: there its refusal is nobody's concern.
    pub(super) fn spare(mut self) -> Self {
        self.spare = true;
        self
    }

    fn request(&self) -> Result<Request<Body>, NoAnswer> {
        let mut request = Request::builder().method(&self.method).uri(&self.path);
        request = request.header(http::header::ACCEPT, JSON);
        let body = match &self.body {
            Some((kind, bytes)) => {
                request = request.header(http::header::CONTENT_TYPE, *kind);
                Body::from(bytes.clone())
            }
            None => Body::from(Vec::new()),
        };
        request
            .body(body)
            .map_err(|error| NoAnswer::NotSent(error.to_string()))
    }
}

/// Send and read the whole answer, or give up at the deadline; giving up closes the connection.
pub(super) async fn send(
    client: &Client,
    ask: &Ask,
    deadline: Instant,
) -> Result<Answer, NoAnswer> {
    let exchange = async {
        let response = open(client, ask).await?;
        let (parts, body) = response.into_parts();
        let header = parts
            .headers
            .get(http::header::RETRY_AFTER)
            .and_then(|text| text.to_str().ok());
        let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await;
        let body =
            body.map_err(|error| NoAnswer::Lost(format!("the answer broke off: {error}")))?;
        Ok(Answer {
            status: parts.status.as_u16(),
            retry_after_ms: retry_after_ms(header),
            body: body.to_bytes().to_vec(),
        })
    };
    match timeout_at(deadline, exchange).await {
        Ok(result) => result,
        Err(_) => Err(NoAnswer::Lost("no answer within the deadline".to_owned())),
    }
}

/// Send and return as soon as the answer begins: for watches.
pub(super) async fn open(client: &Client, ask: &Ask) -> Result<Response<Body>, NoAnswer> {
    client
        .send(ask.request()?)
        .await
        .map_err(|error| of_error(&error))
}

fn of_error(error: &kube::Error) -> NoAnswer {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !why.contains(&text) {
            let _ = write!(why, ": {text}");
        }
        source = cause.source();
    }
    let never_sent = match error {
        kube::Error::Service(inner) => inner
            .downcast_ref::<legacy::Error>()
            .is_some_and(legacy::Error::is_connect),
        kube::Error::Auth(_) => true,
        _ => false,
    };
    if never_sent {
        NoAnswer::NotSent(why)
    } else {
        NoAnswer::Lost(why)
    }
}

/// A query value with everything escaped that could end it.
pub(super) fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_cannot_end_themselves() {
        assert_eq!(escaped("app=a b&x"), "app%3Da%20b%26x");
    }
}
