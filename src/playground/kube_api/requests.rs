//! One request from its head to its answer: faults first, then the verb.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::oneshot;

use super::admin;
use super::answers;
use super::faults::Plan;
use super::patch::Format;
use super::routes::{self, Place, Query, Route};
use super::rules::Call;
use super::server::Shared;
use super::status::ApiError;

/// Upstream's limit of a request's body.
const BODY_LIMIT_BYTES: usize = 3 * 1024 * 1024;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A fault: the connection closes without an answer.
#[derive(Debug, thiserror::Error)]
#[error("connection cut by an injected fault")]
pub(super) struct Cut;

/// A request read whole.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) place: Place,
    pub(super) query: Query,
    pub(super) format: Option<Format>,
    pub(super) body: Bytes,
}

pub(super) fn json_response(code: u16, body: &Value) -> Response<Body> {
    let bytes = Full::new(Bytes::from(body.to_string()));
    let mut response = Response::new(
        bytes
            .map_err(|never: Infallible| match never {})
            .boxed_unsync(),
    );
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    let value = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

fn refusal(error: &ApiError) -> Response<Body> {
    let mut response = json_response(error.code, &error.to_status());
    if let Some(seconds) = error.retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// The bearer token is the client's name.
fn client(headers: &HeaderMap) -> String {
    let bearer = headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok());
    bearer
        .and_then(|it| it.strip_prefix("Bearer "))
        .unwrap_or("anonymous")
        .to_owned()
}

pub(super) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Cut> {
    let (head, body) = request.into_parts();
    if head.uri.path().starts_with(admin::PREFIX) {
        let body = read_body(body).await.unwrap_or_default();
        return Ok(admin::answer(&shared, &head.method, head.uri.path(), &body));
    }
    let place = match routes::route(head.uri.path()) {
        Some(Route::Objects(place)) => place,
        Some(Route::Discovery(answer)) => return Ok(json_response(200, &answer)),
        Some(Route::Health) => return Ok(json_response(200, &"ok".into())),
        None => return Ok(refusal(&ApiError::no_such_path())),
    };
    let query = routes::query(&head.uri);
    let Some(verb) = place.verb(&head.method, &query) else {
        return Ok(refusal(&ApiError::method_not_allowed()));
    };
    let call = Call {
        client: client(&head.headers),
        verb,
        resource: place.resource.plural,
        name: place.name.clone(),
    };
    let content_type = head
        .headers
        .get(CONTENT_TYPE)
        .and_then(|it| it.to_str().ok());
    let format = content_type.and_then(Format::from_content_type);
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(error) => return Ok(refusal(&error)),
    };
    through_faults(
        shared,
        call,
        Read {
            place,
            query,
            format,
            body,
        },
    )
    .await
}

async fn read_body(body: Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, BODY_LIMIT_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(BODY_LIMIT_BYTES)),
        Err(error) => Err(ApiError::bad_request(format!(
            "the body cannot be read: {error}"
        ))),
    }
}

/// Lets the faults in force have their way with the request.
async fn through_faults(
    shared: Arc<Shared>,
    call: Call,
    read: Read,
) -> Result<Response<Body>, Cut> {
    let plan = shared.faults.plan(&call);
    if let Some(cut) = plan.cut {
        return held(&shared, cut).await;
    }
    let lose_answer = plan.lose_answer;
    // A task of the server's own: a request that was sent is applied even if its sender went away.
    let (sender, receiver) = oneshot::channel();
    let (server, caller) = (Arc::clone(&shared), call.clone());
    shared.spawn(async move {
        let answer = apply(server, caller, read, plan).await;
        // A sender that went away does not read the answer.
        drop(sender.send(answer));
    });
    let answer = tokio::select! {
        answer = receiver => answer.map_err(|_| Cut)?,
        cut = shared.faults.until_cut(&call) => return held(&shared, cut).await,
    };
    match lose_answer {
        None => Ok(answer),
        Some(false) => Err(Cut),
        Some(true) => std::future::pending().await,
    }
}

/// No answer while the partition stands; when it has healed the connection is found dead.
async fn held(shared: &Shared, (rule, reset): (u64, bool)) -> Result<Response<Body>, Cut> {
    if !reset {
        shared.faults.until_cleared(rule).await;
    }
    Err(Cut)
}

async fn apply(shared: Arc<Shared>, call: Call, read: Read, plan: Plan) -> Response<Body> {
    pause(plan.delay_before).await;
    let answer = match plan.answer {
        Some((code, retry_after_s)) => Err(ApiError::injected(code, retry_after_s)),
        None => answers::answer(&shared, call, &read, plan.stale.as_deref()),
    };
    pause(plan.delay_after).await;
    answer.unwrap_or_else(|error| refusal(&error))
}

async fn pause(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}
