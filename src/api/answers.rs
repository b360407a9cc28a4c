//! Answers as bytes: a status, a content type and a text.

use super::access;
use super::command::Reply;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const JSON_LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
pub(super) const EXPOSITION: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(super) type Answer = Response<Full<Bytes>>;

pub(super) fn reply_answer(reply: Reply) -> Answer {
    if reply.json {
        return full(reply.status, JSON, reply.body);
    }
    text(reply.status, reply.body)
}

pub(super) fn text(status: u16, body: impl Into<String>) -> Answer {
    full(status, TEXT, body.into())
}

pub(super) fn full(status: u16, content_type: HeaderValue, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = code(status);
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// A status line and nothing else.
pub(super) fn bare(status: u16) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = code(status);
    answer
}

/// What is left of the request is not read: the connection ends with the answer.
pub(super) fn close_after(mut answer: Answer) -> Answer {
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// Who may not is told why.
pub(super) fn refusal(why: access::Refusal) -> Answer {
    let mut answer = text(why.status(), why.words());
    if why.status() == 401 {
        let realm = HeaderValue::from_static("Basic realm=\"Patroni\"");
        answer.headers_mut().insert(WWW_AUTHENTICATE, realm);
    }
    answer
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
