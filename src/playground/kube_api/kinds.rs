//! What each kind must satisfy beyond its metadata.

use serde_json::Value;

use super::addresses;
use super::names;
use super::resources::Resource;
use super::status::Cause;
use super::validate::{Relaxed, note};

const DATA_LIMIT_BYTES: usize = 1024 * 1024;
pub(super) fn check(
    resource: &Resource,
    object: &Value,
    before: Option<&Value>,
    relaxed: Relaxed,
    causes: &mut Vec<Cause>,
) {
    match resource.plural {
        "leases" => lease(object, causes),
        "endpoints" => addresses::endpoints(object, before, relaxed, causes),
        "endpointslices" => addresses::slice(object, before, relaxed, causes),
        "configmaps" | "secrets" => data(resource, object, before, causes),
        "pods" => pod(object, before, causes),
        "services" => service(object, causes),
        "events" => event(object, before, causes),
        _ => {}
    }
}

pub(super) fn items<'a>(
    object: &'a Value,
    field: &str,
) -> impl Iterator<Item = (usize, &'a Value)> + use<'a> {
    object[field].as_array().into_iter().flatten().enumerate()
}

pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

fn lease(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let below = |field: &str, least: i64| spec[field].as_i64().is_some_and(|it| it < least);
    for (field, least, must) in [
        ("leaseDurationSeconds", 1, "must be greater than 0"),
        ("leaseTransitions", 0, "must be greater than or equal to 0"),
    ] {
        if below(field, least) {
            causes.push(Cause::invalid(format!("spec.{field}"), &spec[field], must));
        }
    }
    if !text(spec, "preferredHolder").is_empty() && text(spec, "strategy").is_empty() {
        let must = "may only be specified if `strategy` is defined";
        causes.push(Cause::forbidden("spec.preferredHolder", must));
    }
}

fn data(resource: &Resource, object: &Value, before: Option<&Value>, causes: &mut Vec<Cause>) {
    let mut total_bytes = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in object[field].as_object().into_iter().flatten() {
            note(causes, format!("{field}[{key}]"), key, names::data_key(key));
            let length = value.as_str().unwrap_or_default().len();
            // Both are base64 there; the limit counts what it stands for.
            let encoded = field == "binaryData" || resource.plural == "secrets";
            total_bytes += if encoded { length / 4 * 3 } else { length };
        }
    }
    if total_bytes > DATA_LIMIT_BYTES {
        let field = if resource.plural == "secrets" {
            "data"
        } else {
            ""
        };
        causes.push(Cause::too_long(field, DATA_LIMIT_BYTES));
    }
    let Some(before) = before else { return };
    if before["immutable"] == true {
        for field in ["data", "binaryData", "immutable"] {
            if before[field] != object[field] {
                let must = "field is immutable when `immutable` is set";
                causes.push(Cause::forbidden(field, must));
            }
        }
    }
    if before["type"] != object["type"] {
        causes.push(Cause::invalid(
            "type",
            &object["type"],
            "field is immutable",
        ));
    }
}

fn pod(object: &Value, before: Option<&Value>, causes: &mut Vec<Cause>) {
    if items(&object["spec"], "containers").next().is_none() {
        causes.push(Cause::required("spec.containers", ""));
    }
    for (index, container) in items(&object["spec"], "containers") {
        for field in ["name", "image"] {
            if text(container, field).is_empty() {
                causes.push(Cause::required(
                    format!("spec.containers[{index}].{field}"),
                    "",
                ));
            }
        }
    }
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                container["image"] = Value::Null;
            }
        }
        for field in [
            "activeDeadlineSeconds",
            "tolerations",
            "terminationGracePeriodSeconds",
        ] {
            spec[field] = Value::Null;
        }
        spec
    };
    if before.is_some_and(|it| fixed(it) != fixed(object)) {
        let must = "pod updates may not change fields other than \
            `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
            `spec.tolerations` (only additions to existing tolerations),\
            `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        causes.push(Cause::forbidden("spec", must));
    }
}

fn service(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let headless = spec["clusterIP"] == "None" || spec["type"] == "ExternalName";
    if !headless && items(spec, "ports").next().is_none() {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (index, port) in items(spec, "ports") {
        let number = port["port"].as_i64().unwrap_or_default();
        if !(1..=65535).contains(&number) {
            let field = format!("spec.ports[{index}].port");
            let must = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(field, &number.into(), must));
        }
    }
}

fn event(object: &Value, before: Option<&Value>, causes: &mut Vec<Cause>) {
    let about = text(&object["involvedObject"], "namespace");
    if about != text(&object["metadata"], "namespace") {
        let must = "does not match event.namespace";
        causes.push(Cause::invalid(
            "involvedObject.namespace",
            &about.into(),
            must,
        ));
    }
    // Events of the older API carry no eventTime and are excused from the rest.
    if before.is_some() || object["eventTime"].is_null() {
        return;
    }
    for (field, named) in [
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
        ("action", "action"),
        ("reason", "reason"),
    ] {
        if text(object, field).is_empty() {
            causes.push(Cause::required(named, ""));
        }
    }
    if !["Normal", "Warning"].contains(&text(object, "type")) {
        causes.push(Cause::invalid("type", &object["type"], "has invalid value"));
    }
}
