//! The verbs on one object, each one atomic: decide and commit under the store's lock.

use std::sync::Arc;

use serde_json::{Value, json};

use super::defaults;
use super::patch::{self, Format, PatchError};
use super::resources::Resource;
use super::status::{ApiError, Cause};
use super::store::{Key, Store};
use super::validate::{self, Relaxed};

/// The object a request is about.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) resource: &'static Resource,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Only `status` is written (or, without it, all but `status`).
    pub(super) status: bool,
}

impl Target {
    pub(super) fn key(&self) -> Key {
        Key {
            plural: self.resource.plural,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    pub(super) fn find<'s>(&self, store: &'s Store) -> Result<&'s Arc<Value>, ApiError> {
        let found = store.get(&self.key());
        found.ok_or_else(|| ApiError::not_found(self.resource, &self.name))
    }
}

pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// A body as its kind: type checked, pruned, in its stored form.
fn decode(resource: &Resource, mut body: Value) -> Result<Value, ApiError> {
    let (version, kind) = (resource.api_version(), resource.kind);
    let Some(fields) = body.as_object_mut() else {
        return Err(ApiError::bad_request(
            "the body of the request is not a JSON object",
        ));
    };
    for (field, wanted) in [("apiVersion", version.as_str()), ("kind", kind)] {
        let given = fields.entry(field).or_insert_with(|| wanted.into());
        if given != wanted {
            let message = format!(
                "the object provided is unrecognized (must be of type {kind}): {field} is {given}, \
                 expected {wanted:?}"
            );
            return Err(ApiError::bad_request(message));
        }
    }
    fields.entry("metadata").or_insert_with(|| json!({}));
    let object = resource.normalise(body).map_err(|error| {
        let message =
            format!("{kind} in version \"v1\" cannot be handled as a {kind}: json: {error}");
        ApiError::bad_request(message)
    })?;
    Ok(defaults::to_stored(resource, object))
}

pub(super) fn create(
    store: &mut Store,
    target: &Target,
    body: Value,
    relaxed: Relaxed,
) -> Result<Value, ApiError> {
    let resource = target.resource;
    let mut object = decode(resource, body)?;
    check_namespace(target, &object)?;
    if !text(&object, "resourceVersion").is_empty() {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(ApiError::unforeseen(message));
    }
    let metadata = &mut object["metadata"];
    let prefix = metadata["generateName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if metadata["name"].as_str().unwrap_or_default().is_empty() && !prefix.is_empty() {
        metadata["name"] = format!("{prefix}{}", defaults::name_suffix()).into();
    }
    metadata["namespace"] = target.namespace.clone().into();
    metadata["uid"] = defaults::new_uid().into();
    metadata["creationTimestamp"] = defaults::timestamp().into();
    if resource.has_status
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    defaults::apply(resource, &mut object);
    validate::check(resource, &object, None, relaxed)?;
    let target = Target {
        name: text(&object, "name").to_owned(),
        ..target.clone()
    };
    if store.get(&target.key()).is_some() {
        return Err(ApiError::already_exists(resource, &target.name));
    }
    Ok(defaults::to_served(
        resource,
        &store.put(target.key(), object),
    ))
}

fn check_namespace(target: &Target, object: &Value) -> Result<(), ApiError> {
    let given = text(object, "namespace");
    if !given.is_empty() && given != target.namespace {
        let message =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(message));
    }
    Ok(())
}

fn check_name(target: &Target, object: &Value) -> Result<(), ApiError> {
    let given = text(object, "name");
    if given == target.name {
        return Ok(());
    }
    let message = if given.is_empty() {
        "the name of the object must be specified and match the name on the URL".to_owned()
    } else {
        format!(
            "the name of the object ({given}) does not match the name on the URL ({})",
            target.name
        )
    };
    Err(ApiError::bad_request(message))
}

/// PUT. The flag says that it created.
pub(super) fn update(
    store: &mut Store,
    target: &Target,
    mut body: Value,
    relaxed: Relaxed,
) -> Result<(Value, bool), ApiError> {
    let resource = target.resource;
    let mut object = decode(resource, body.clone())?;
    check_name(target, &object)?;
    check_namespace(target, &object)?;
    let before = store.get(&target.key()).cloned();
    if before.is_none() && (!resource.create_on_update || target.status) {
        return Err(ApiError::not_found(resource, &target.name));
    }
    let uid = text(&object, "uid");
    let stored_uid = before.as_ref().map_or("", |it| text(it, "uid"));
    if !uid.is_empty() && uid != stored_uid {
        return Err(wrong_uid(resource, &target.name, uid, stored_uid));
    }
    let Some(before) = before else {
        // Upstream creates whatever resourceVersion the writer believed in: a compare-and-swap by
        // PUT revives a deleted object unless it names the uid as well.
        if let Some(metadata) = body["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        return create(store, target, body, relaxed).map(|created| (created, true));
    };
    check_version(target, &object, &before)?;
    defaults::apply(resource, &mut object);
    commit(store, target, &before, object, relaxed).map(|updated| (updated, false))
}

/// The compare of compare-and-swap.
fn check_version(target: &Target, object: &Value, before: &Value) -> Result<(), ApiError> {
    let (resource, version) = (target.resource, text(object, "resourceVersion"));
    if version.is_empty() {
        if resource.unconditional_update {
            return Ok(());
        }
        let must = "must be specified for an update";
        let cause = Cause::invalid("metadata.resourceVersion", &0.into(), must);
        return Err(ApiError::invalid(resource, &target.name, vec![cause]));
    }
    if version.parse::<u64>().is_err() {
        let message = format!("strconv.ParseUint: parsing {version:?}: invalid syntax");
        return Err(ApiError::unforeseen(message));
    }
    if version != text(before, "resourceVersion") {
        return Err(ApiError::modified(resource, &target.name));
    }
    Ok(())
}

/// PATCH. A resourceVersion in the patch makes it a compare-and-swap.
pub(super) fn patch(
    store: &mut Store,
    target: &Target,
    format: Format,
    body: &Value,
    relaxed: Relaxed,
) -> Result<Value, ApiError> {
    let resource = target.resource;
    let before = Arc::clone(target.find(store)?);
    let served = defaults::to_served(resource, &before);
    let patched = patch::apply(format, &served, body).map_err(|error| match error {
        PatchError::Malformed(message) => ApiError::bad_request(message),
        PatchError::Unfitting(_) => ApiError::unprocessable(),
    })?;
    let mut object = decode(resource, patched).map_err(|error| {
        // What cannot be decoded after patching is the patch's fault, hence 422.
        if error.code == 400 {
            ApiError::misshapen(&error.to_string())
        } else {
            error
        }
    })?;
    check_name(target, &object)?;
    check_namespace(target, &object)?;
    // A patch that says nothing of the version got the stored one, and thus always passes.
    check_version(target, &object, &before)?;
    let uid = &object["metadata"]["uid"];
    if !uid.is_null() && *uid != before["metadata"]["uid"] {
        let cause = Cause::invalid("metadata.uid", uid, "field is immutable");
        return Err(ApiError::invalid(resource, &target.name, vec![cause]));
    }
    defaults::apply(resource, &mut object);
    commit(store, target, &before, object, relaxed)
}

/// The common end of PUT and PATCH: keep what a client may not change, validate, store if changed.
fn commit(
    store: &mut Store,
    target: &Target,
    before: &Value,
    mut object: Value,
    relaxed: Relaxed,
) -> Result<Value, ApiError> {
    let resource = target.resource;
    for field in [
        "namespace",
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "generateName",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        object["metadata"][field] = before["metadata"][field].clone();
    }
    if resource.has_status {
        let kept = if target.status { "spec" } else { "status" };
        object[kept] = before[kept].clone();
    }
    // The detour drops the nulls of the copying above and makes the comparison one of like with
    // like.
    let object = defaults::to_served(resource, &object);
    let object = decode(resource, object)?;
    validate::check(resource, &object, Some(before), relaxed)?;
    if object == *before {
        return Ok(defaults::to_served(resource, before));
    }
    let leaves = object["metadata"]["finalizers"].is_null()
        && object["metadata"]["deletionGracePeriodSeconds"] == 0;
    let stored = store.put(target.key(), object);
    if leaves {
        store.remove(&target.key());
    }
    Ok(defaults::to_served(resource, &stored))
}

pub(super) fn wrong_uid(resource: &Resource, name: &str, wanted: &str, found: &str) -> ApiError {
    let why =
        format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
    ApiError::conflict(resource, name, &why)
}

/// GET of one object from the present or from a snapshot of the past.
pub(super) fn served(target: &Target, found: Option<&Arc<Value>>) -> Result<Value, ApiError> {
    let found = found.ok_or_else(|| ApiError::not_found(target.resource, &target.name))?;
    Ok(defaults::to_served(target.resource, found))
}
