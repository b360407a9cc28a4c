//! What a request that no fault stopped is answered with.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::defaults;
use super::deletion::{self, DeleteOptions};
use super::patch::Format;
use super::requests::{Body, Read, json_response};
use super::routes::{self, Place};
use super::rules::{Call, Verb};
use super::selector::Selector;
use super::server::Shared;
use super::status::ApiError;
use super::store::{Snapshot, Store};
use super::validate::Relaxed;
use super::verbs::{self, Target};
use super::watch::{self, Wanted};

/// Upstream ends a watch without a timeout after half an hour to an hour.
const DEFAULT_WATCH_TIMEOUT_S: u64 = 1800;

/// Carries the request out. `stale` is what reads of the cache see instead of the present.
pub(super) fn answer(
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
    let target = target(&read.place);
    let (code, body) = match call.verb {
        Verb::Watch => return watching(shared, call, read),
        Verb::Get => {
            let look = |from: &Snapshot| verbs::served(&target, from.objects.get(&target.key()));
            (200, reading(shared, read, stale, look)?)
        }
        Verb::List => {
            let selector = selector(read)?;
            let look = |from: &Snapshot| Ok(list(&read.place, &selector, from));
            (200, reading(shared, read, stale, look)?)
        }
        verb => writing(shared, verb, &target, read)?,
    };
    Ok(json_response(code, &body))
}

fn target(place: &Place) -> Target {
    Target {
        resource: place.resource,
        namespace: place.namespace.clone().unwrap_or_default(),
        name: place.name.clone().unwrap_or_default(),
        status: place.status,
    }
}

fn writing(
    shared: &Shared,
    verb: Verb,
    target: &Target,
    read: &Read,
) -> Result<(u16, Value), ApiError> {
    let relaxed = Relaxed {
        loopback: shared.options.allow_loopback,
    };
    match verb {
        Verb::Create => {
            let body = parse(&read.body)?;
            Ok((
                201,
                shared.write(|store| verbs::create(store, target, body, relaxed))?,
            ))
        }
        Verb::Update => {
            let body = parse(&read.body)?;
            let (object, created) =
                shared.write(|store| verbs::update(store, target, body, relaxed))?;
            Ok((if created { 201 } else { 200 }, object))
        }
        Verb::Patch => {
            let format = read
                .format
                .ok_or_else(|| ApiError::unsupported_media_type(Format::ACCEPTED))?;
            let body = parse(&read.body)?;
            Ok((
                200,
                shared.write(|store| verbs::patch(store, target, format, &body, relaxed))?,
            ))
        }
        Verb::Delete => {
            let options = delete_options(read)?;
            Ok((
                200,
                shared.write(|store| deletion::delete(store, target, &options))?,
            ))
        }
        Verb::DeleteCollection => {
            let (selector, options) = (selector(read)?, delete_options(read)?);
            Ok((
                200,
                shared.write(|store| delete_all(store, &read.place, &selector, &options))?,
            ))
        }
        Verb::Get | Verb::List | Verb::Watch => Err(ApiError::method_not_allowed()),
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
    store: &mut Store,
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
        deletion::delete(store, &target, options)?;
    }
    Ok(answer)
}

fn watching(shared: &Arc<Shared>, call: Call, read: &Read) -> Result<Response<Body>, ApiError> {
    let flag = |name: &str| routes::flag(&read.query, name);
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
