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
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::admin;
use super::defaults;
use super::faults::{Call, Plan, Verb};
use super::patch::Format;
use super::routes::{self, Place, Query, Route};
use super::selector::Selector;
use super::server::Shared;
use super::status::ApiError;
use super::store::Snapshot;
use super::validate::Relaxed;
use super::verbs::{self, DeleteOptions, Target};
use super::watch::{self, Wanted};

/// Upstream's limit of a request's body.
const BODY_LIMIT_BYTES: usize = 3 * 1024 * 1024;
/// Upstream ends a watch without a timeout after half an hour to an hour.
const DEFAULT_WATCH_TIMEOUT_S: u64 = 1800;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A fault: the connection closes without an answer.
#[derive(Debug, thiserror::Error)]
#[error("connection cut by an injected fault")]
pub(super) struct Cut;

/// A request read whole.
#[derive(Debug)]
struct Read {
    place: Place,
    query: Query,
    format: Option<Format>,
    body: Bytes,
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
        None => run(&shared, call, &read, plan.stale.as_deref()),
    };
    pause(plan.delay_after).await;
    answer.unwrap_or_else(|error| refusal(&error))
}

async fn pause(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

fn run(
    shared: &Arc<Shared>,
    call: Call,
    read: &Read,
    stale: Option<&Snapshot>,
) -> Result<Response<Body>, ApiError> {
    if read.query.contains_key("dryRun") {
        return Err(ApiError::bad_request(
            "dryRun is not served by the embedded API",
        ));
    }
    let ok = |code: u16, value: Value| Ok(json_response(code, &value));
    let relaxed = Relaxed {
        loopback: shared.options.allow_loopback,
    };
    let place = &read.place;
    let target = Target {
        resource: place.resource,
        namespace: place.namespace.clone().unwrap_or_default(),
        name: place.name.clone().unwrap_or_default(),
        status: place.status,
    };
    match call.verb {
        Verb::Get => ok(
            200,
            reading(shared, read, stale, |from| {
                verbs::served(&target, from.objects.get(&target.key()))
            })?,
        ),
        Verb::List => {
            let selector = selector(read)?;
            ok(
                200,
                reading(shared, read, stale, |from| Ok(list(place, &selector, from)))?,
            )
        }
        Verb::Watch => watching(shared, call, read),
        Verb::Create => {
            let body = parse(&read.body)?;
            ok(
                201,
                shared.write(|store| verbs::create(store, &target, body, relaxed))?,
            )
        }
        Verb::Update => {
            let body = parse(&read.body)?;
            let (object, created) =
                shared.write(|store| verbs::update(store, &target, body, relaxed))?;
            ok(if created { 201 } else { 200 }, object)
        }
        Verb::Patch => {
            let format = read
                .format
                .ok_or_else(|| ApiError::unsupported_media_type(Format::ACCEPTED))?;
            let body = parse(&read.body)?;
            ok(
                200,
                shared.write(|store| verbs::patch(store, &target, format, &body, relaxed))?,
            )
        }
        Verb::Delete => {
            let options = delete_options(read)?;
            ok(
                200,
                shared.write(|store| verbs::delete(store, &target, &options))?,
            )
        }
        Verb::DeleteCollection => {
            let (selector, options) = (selector(read)?, delete_options(read)?);
            ok(
                200,
                shared.write(|store| delete_all(store, place, &selector, &options))?,
            )
        }
    }
}

fn parse(body: &Bytes) -> Result<Value, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))
}

fn delete_options(read: &Read) -> Result<DeleteOptions, ApiError> {
    if read.body.is_empty() {
        return Ok(DeleteOptions::default());
    }
    serde_json::from_value(parse(&read.body)?)
        .map_err(|error| ApiError::bad_request(format!("DeleteOptions: {error}")))
}

fn selector(read: &Read) -> Result<Selector, ApiError> {
    let of = |name: &str| read.query.get(name).map(String::as_str);
    Selector::parse(
        read.place.resource,
        of("labelSelector"),
        of("fieldSelector"),
    )
}

/// The resourceVersion of the query: nothing if it is missing, empty or not asked for.
fn version(read: &Read) -> Result<Option<u64>, ApiError> {
    let Some(text) = read
        .query
        .get("resourceVersion")
        .filter(|it| !it.is_empty())
    else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        ApiError::bad_request(format!(
            "resourceVersion: Invalid value: {text:?}: must be a number"
        ))
    })
}

/// Reads from the present; with resourceVersion=0 a fault may make that an older snapshot.
fn reading(
    shared: &Shared,
    read: &Read,
    stale: Option<&Snapshot>,
    look: impl FnOnce(&Snapshot) -> Result<Value, ApiError>,
) -> Result<Value, ApiError> {
    let version = version(read)?;
    if let (Some(stale), Some(0)) = (stale, version) {
        return look(stale);
    }
    let store = shared.store();
    if let Some(version) = version.filter(|it| *it > store.now.revision) {
        return Err(ApiError::from_the_future(version, store.now.revision));
    }
    look(&store.now)
}

fn list(place: &Place, selector: &Selector, from: &Snapshot) -> Value {
    let kind = place.resource;
    let items: Vec<Value> = from
        .of_kind(kind.plural, place.namespace.as_deref())
        .filter(|object| selector.matches(object))
        .map(|object| {
            let mut object = defaults::to_served(kind, object);
            // As upstream: the list names the kind once for all.
            if let Some(fields) = object.as_object_mut() {
                fields.retain(|name, _| name != "kind" && name != "apiVersion");
            }
            object
        })
        .collect();
    json!({
        "kind": format!("{}List", kind.kind),
        "apiVersion": kind.api_version(),
        "metadata": {"resourceVersion": from.revision.to_string()},
        "items": items,
    })
}

fn delete_all(
    store: &mut super::store::Store,
    place: &Place,
    selector: &Selector,
    options: &DeleteOptions,
) -> Result<Value, ApiError> {
    let answer = list(place, selector, &store.now);
    for item in answer["items"].as_array().into_iter().flatten() {
        let target = Target {
            resource: place.resource,
            namespace: place.namespace.clone().unwrap_or_default(),
            name: item["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            status: false,
        };
        verbs::delete(store, &target, options)?;
    }
    Ok(answer)
}

fn watching(shared: &Arc<Shared>, call: Call, read: &Read) -> Result<Response<Body>, ApiError> {
    let flag = |name: &str| {
        read.query
            .get(name)
            .is_some_and(|it| it == "true" || it == "1")
    };
    let seconds = read
        .query
        .get("timeoutSeconds")
        .and_then(|it| it.parse().ok());
    let timeout = seconds
        .filter(|it| *it > 0)
        .unwrap_or(DEFAULT_WATCH_TIMEOUT_S);
    let wanted = Wanted {
        resource: read.place.resource,
        namespace: read.place.namespace.clone(),
        selector: selector(read)?,
        since: version(read)?,
        bookmarks: flag("allowWatchBookmarks"),
        initial_events: flag("sendInitialEvents"),
        timeout: Duration::from_secs(timeout),
    };
    let mut response = json_response(200, &Value::Null);
    *response.body_mut() = watch::body(Arc::clone(shared), call, wanted).boxed_unsync();
    Ok(response)
}
