//! What every object must satisfy: names, keys, sizes, and what an update may not change.

use serde_json::{Map, Value};

use super::kinds;
use super::names::{self, Checked};
use super::resources::Resource;
use super::status::{ApiError, Cause};

const ANNOTATIONS_LIMIT_BYTES: usize = 256 * 1024;

/// Which rules of the cluster are relaxed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Relaxed {
    pub(super) loopback: bool,
}

/// Refuses what upstream would refuse. `before` is the stored object of an update.
pub(super) fn check(
    resource: &Resource,
    object: &Value,
    before: Option<&Value>,
    relaxed: Relaxed,
) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    check_metadata(resource, object, &mut causes);
    if let Some(before) = before {
        check_immutable_metadata(object, before, &mut causes);
    }
    kinds::check(resource, object, before, relaxed, &mut causes);
    if causes.is_empty() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(ApiError::invalid(resource, name, causes))
}

/// Notes a field that broke a rule of syntax.
pub(super) fn note(causes: &mut Vec<Cause>, field: String, value: &str, checked: Checked) {
    if let Err(must) = checked {
        causes.push(Cause::invalid(field, &value.into(), &must));
    }
}

fn map_of<'a>(object: &'a Value, pointer: &str) -> Option<&'a Map<String, Value>> {
    object.pointer(pointer).and_then(Value::as_object)
}

fn check_metadata(resource: &Resource, object: &Value, causes: &mut Vec<Cause>) {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else {
        let checked = if resource.plural == "services" {
            names::service_name(name)
        } else {
            names::dns_subdomain(name)
        };
        note(causes, "metadata.name".into(), name, checked);
    }
    if let Some(labels) = map_of(object, "/metadata/labels") {
        for (key, value) in labels {
            note(
                causes,
                "metadata.labels".into(),
                key,
                names::qualified_name(key),
            );
            let value = value.as_str().unwrap_or_default();
            note(
                causes,
                format!("metadata.labels[{key}]"),
                value,
                names::label_value(value),
            );
        }
    }
    if let Some(annotations) = map_of(object, "/metadata/annotations") {
        let mut total_bytes = 0;
        for (key, value) in annotations {
            let lower = key.to_lowercase();
            note(
                causes,
                "metadata.annotations".into(),
                key,
                names::qualified_name(&lower),
            );
            total_bytes += key.len() + value.as_str().unwrap_or_default().len();
        }
        if total_bytes > ANNOTATIONS_LIMIT_BYTES {
            causes.push(Cause::too_long(
                "metadata.annotations",
                ANNOTATIONS_LIMIT_BYTES,
            ));
        }
    }
    check_owners(object, causes);
}

fn check_owners(object: &Value, causes: &mut Vec<Cause>) {
    let owners = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    for (index, owner) in owners.into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let field = format!("metadata.ownerReferences[{index}].{field}");
                causes.push(Cause::invalid(field, &"".into(), "must not be empty"));
            }
        }
    }
}

fn check_immutable_metadata(object: &Value, before: &Value, causes: &mut Vec<Cause>) {
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let (new, old) = (&object["metadata"][field], &before["metadata"][field]);
        if new != old {
            causes.push(Cause::invalid(
                format!("metadata.{field}"),
                new,
                "field is immutable",
            ));
        }
    }
}
