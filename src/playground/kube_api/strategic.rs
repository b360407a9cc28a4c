//! Strategic merge: like a JSON merge patch, but some lists merge by a key.
//!
//! Which lists do is a property of the Go types; the table below holds those of the kinds served
//! here. Surprising but true: a Pod's containerStatuses, an Endpoints' subsets and everything in an
//! EndpointSlice are replaced whole; a Pod's containers, conditions and podIPs merge.

use serde_json::{Map, Value};

use super::patch::PatchError;

/// How a list merges: by the value of this key in its elements, or as a set of plain values.
enum ListMerge {
    Replace,
    ByKey(&'static str),
    Set,
}

/// By field name: the kinds served here never use one name for lists of two sorts, but for `ports`.
fn list_merge(path: &[&str]) -> ListMerge {
    let field = path.last().copied().unwrap_or_default();
    let under = path.first().copied().unwrap_or_default();
    match (under, field) {
        ("metadata", "finalizers") => ListMerge::Set,
        ("metadata", "ownerReferences") => ListMerge::ByKey("uid"),
        ("spec", "ports") if path.len() == 2 => ListMerge::ByKey("port"),
        ("spec", "ports") => ListMerge::ByKey("containerPort"),
        (
            "spec",
            "containers"
            | "initContainers"
            | "ephemeralContainers"
            | "env"
            | "volumes"
            | "imagePullSecrets"
            | "schedulingGates"
            | "resourceClaims",
        )
        | ("status", "resourceClaimStatuses" | "allocatedResourcesStatus") => {
            ListMerge::ByKey("name")
        }
        ("spec" | "status", "volumeMounts") => ListMerge::ByKey("mountPath"),
        ("spec", "volumeDevices") => ListMerge::ByKey("devicePath"),
        ("spec", "topologySpreadConstraints") => ListMerge::ByKey("topologyKey"),
        ("spec", "hostAliases") | ("status", "podIPs" | "hostIPs") => ListMerge::ByKey("ip"),
        ("status", "conditions") => ListMerge::ByKey("type"),
        _ => ListMerge::Replace,
    }
}

pub(super) fn merge(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    merge_value(target, patch, &mut Vec::new())
}

fn merge_value<'p>(
    target: &mut Value,
    patch: &'p Value,
    path: &mut Vec<&'p str>,
) -> Result<(), PatchError> {
    match patch {
        Value::Object(fields) => merge_object(target, fields, path),
        Value::Array(items) => merge_list(target, items, path),
        other => {
            *target = other.clone();
            Ok(())
        }
    }
}

fn merge_object<'p>(
    target: &mut Value,
    patch: &'p Map<String, Value>,
    path: &mut Vec<&'p str>,
) -> Result<(), PatchError> {
    match patch
        .get("$patch")
        .map(|it| it.as_str().unwrap_or_default())
    {
        None | Some("merge") => {}
        Some("replace") => *target = Value::Object(Map::new()),
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some(other) => {
            return Err(PatchError::Malformed(format!(
                "unknown patch type found: {other:?}"
            )));
        }
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else {
        return Ok(());
    };
    if let Some(Value::Array(keep)) = patch.get("$retainKeys") {
        fields.retain(|name, _| keep.iter().any(|it| it == name));
    }
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (fields.get_mut(list), value) {
                items.retain(|it| !gone.contains(it));
            }
        } else if name.starts_with('$') {
            // $patch and $retainKeys are done; $setElementOrder concerns order alone.
        } else if value.is_null() {
            fields.remove(name);
        } else {
            path.push(name);
            let place = fields.entry(name.clone()).or_insert(Value::Null);
            merge_value(place, value, path)?;
            path.pop();
        }
    }
    Ok(())
}

fn merge_list<'p>(
    target: &mut Value,
    patch: &'p [Value],
    path: &mut Vec<&'p str>,
) -> Result<(), PatchError> {
    let merge = list_merge(path);
    let replaces = patch.iter().any(|it| it["$patch"] == "replace");
    if matches!(merge, ListMerge::Replace) || replaces {
        let kept = patch.iter().filter(|it| it.get("$patch").is_none());
        *target = Value::Array(kept.cloned().collect());
        return Ok(());
    }
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let Some(items) = target.as_array_mut() else {
        return Ok(());
    };
    for element in patch {
        match merge {
            ListMerge::ByKey(key) => merge_element(items, element, key, path)?,
            _ if items.contains(element) => {}
            _ => items.push(element.clone()),
        }
    }
    Ok(())
}

fn merge_element<'p>(
    items: &mut Vec<Value>,
    element: &'p Value,
    key: &str,
    path: &mut Vec<&'p str>,
) -> Result<(), PatchError> {
    let Some(wanted) = element.get(key) else {
        let message = format!("map: {element} does not contain declared merge key: {key}");
        return Err(PatchError::Unfitting(message));
    };
    let found = items.iter().position(|it| it.get(key) == Some(wanted));
    match (element["$patch"] == "delete", found) {
        (true, Some(index)) => drop(items.remove(index)),
        (true, None) => {}
        (false, Some(index)) => merge_value(&mut items[index], element, path)?,
        (false, None) => {
            let mut fresh = Value::Null;
            merge_value(&mut fresh, element, path)?;
            items.push(fresh);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(object: Value, patch: &Value) -> Value {
        let mut object = object;
        merge(&mut object, patch).expect("merges");
        object
    }

    #[test]
    fn maps_merge_and_null_removes() {
        let object = json!({"metadata": {"annotations": {"a": "1", "b": "2"}}});
        let patch = json!({"metadata": {"annotations": {"a": null, "c": "3"}}});
        assert_eq!(
            merged(object, &patch),
            json!({"metadata": {"annotations": {"b": "2", "c": "3"}}})
        );
    }

    #[test]
    fn lists_merge_as_their_kind_says() {
        let pod = json!({
            "metadata": {"finalizers": ["x"]},
            "spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "E", "value": "v"}]}]},
            "status": {
                "conditions": [{"type": "Ready", "status": "True", "reason": "r"}],
                "containerStatuses": [{"name": "a", "ready": true}],
            },
        });
        let patch = json!({
            "metadata": {"finalizers": ["y", "x"]},
            "spec": {"containers": [{"name": "a", "image": "2"}, {"name": "b", "image": "1"}]},
            "status": {
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{"name": "b", "ready": false}],
            },
        });
        let done = merged(pod, &patch);
        assert_eq!(done["metadata"]["finalizers"], json!(["x", "y"]));
        assert_eq!(done["spec"]["containers"][0]["image"], "2");
        assert_eq!(done["spec"]["containers"][0]["env"][0]["value"], "v");
        assert_eq!(done["spec"]["containers"][1]["name"], "b");
        assert_eq!(done["status"]["conditions"][0]["status"], "False");
        assert_eq!(done["status"]["conditions"][0]["reason"], "r");
        assert_eq!(
            done["status"]["containerStatuses"],
            json!([{"name": "b", "ready": false}])
        );
        let endpoints = json!({"subsets": [{"addresses": [{"ip": "1"}, {"ip": "2"}]}]});
        let patch = json!({"subsets": [{"addresses": [{"ip": "3"}]}]});
        assert_eq!(merged(endpoints, &patch), patch);
    }

    #[test]
    fn directives() {
        let object = json!({"metadata": {"annotations": {"a": "1"}, "finalizers": ["x", "y"]},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        let patch = json!({
            "metadata": {
                "annotations": {"$patch": "replace", "b": "2"},
                "$deleteFromPrimitiveList/finalizers": ["x"],
            },
            "spec": {
                "$setElementOrder/containers": [{"name": "b"}],
                "containers": [{"name": "a", "$patch": "delete"}],
            },
        });
        let done = merged(object, &patch);
        assert_eq!(
            done["metadata"],
            json!({"annotations": {"b": "2"}, "finalizers": ["y"]})
        );
        assert_eq!(done["spec"], json!({"containers": [{"name": "b"}]}));
        let keyless = json!({"spec": {"containers": [{"image": "x"}]}});
        assert!(merge(&mut json!({}), &keyless).is_err());
    }
}
