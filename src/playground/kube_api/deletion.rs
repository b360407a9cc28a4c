//! DELETE: with preconditions, and in two steps for what a kubelet or a finalizer holds.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::defaults;
use super::resources::Resource;
use super::status::ApiError;
use super::store::Store;
use super::verbs::{Target, text, wrong_uid};

/// The body of a DELETE, and what of it counts here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DeleteOptions {
    preconditions: Preconditions,
    grace_period_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// DELETE. A pod on a node, and whatever has finalizers, is only marked at first.
pub(super) fn delete(
    store: &mut Store,
    target: &Target,
    options: &DeleteOptions,
) -> Result<Value, ApiError> {
    let resource = target.resource;
    let before = Arc::clone(target.find(store)?);
    let (uid, version) = (text(&before, "uid"), text(&before, "resourceVersion"));
    if let Some(wanted) = &options.preconditions.uid
        && wanted != uid
    {
        return Err(wrong_uid(resource, &target.name, wanted, uid));
    }
    if let Some(wanted) = &options.preconditions.resource_version
        && wanted != version
    {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {version}"
        );
        return Err(ApiError::conflict(resource, &target.name, &why));
    }
    let grace = grace_s(resource, &before, options);
    if grace > 0 || !before["metadata"]["finalizers"].is_null() {
        return Ok(mark_deleted(store, target, &before, grace));
    }
    let removed = store.remove(&target.key());
    let removed = removed.as_deref().unwrap_or(&before);
    if resource.returns_deleted {
        return Ok(defaults::to_served(resource, removed));
    }
    let mut details = json!({"name": target.name, "kind": resource.plural, "uid": uid});
    if !resource.group.is_empty() {
        details["group"] = resource.group.into();
    }
    Ok(
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details}),
    )
}

/// Only a pod that a kubelet may be running is given time.
fn grace_s(resource: &Resource, pod: &Value, options: &DeleteOptions) -> i64 {
    let over = pod
        .pointer("/status/phase")
        .is_some_and(|it| it == "Succeeded" || it == "Failed");
    if resource.plural != "pods" || over || pod["spec"]["nodeName"].is_null() {
        return 0;
    }
    let own = pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    options.grace_period_seconds.or(own).unwrap_or(30).max(0)
}

fn mark_deleted(store: &mut Store, target: &Target, before: &Value, grace_s: i64) -> Value {
    let mut marked = before.clone();
    let metadata = &mut marked["metadata"];
    if metadata["deletionTimestamp"].is_null() {
        let due = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace_s);
        metadata["deletionTimestamp"] = due.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        metadata["deletionGracePeriodSeconds"] = grace_s.into();
    }
    if marked == *before {
        return defaults::to_served(target.resource, before);
    }
    defaults::to_served(target.resource, &store.put(target.key(), marked))
}
