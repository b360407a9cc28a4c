//! The three patch formats: JSON merge patch (RFC 7386), JSON patch (RFC 6902) and Kubernetes'
//! strategic merge.

use serde_json::{Map, Value};

use super::strategic;

/// How the body of a PATCH is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Merge,
    Strategic,
    Json,
}

impl Format {
    pub(super) const ACCEPTED: &'static str = "application/json-patch+json, \
        application/merge-patch+json, application/strategic-merge-patch+json";

    pub(super) fn from_content_type(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/json-patch+json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Why a patch was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum PatchError {
    /// The patch itself makes no sense (400).
    #[error("{0}")]
    Malformed(String),
    /// It does not fit this object (422).
    #[error("{0}")]
    Unfitting(String),
}

/// The patched object, all of it new.
pub(super) fn apply(format: Format, object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let mut patched = object.clone();
    match format {
        Format::Merge | Format::Strategic if !patch.is_object() => {
            return Err(PatchError::Malformed(
                "a merge patch must be a JSON object".into(),
            ));
        }
        Format::Merge => merge(&mut patched, patch),
        Format::Strategic => strategic::merge(&mut patched, patch)?,
        Format::Json => json_patch(&mut patched, patch)?,
    }
    Ok(patched)
}

/// RFC 7386: null removes, objects merge, everything else replaces.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else {
        return;
    };
    for (name, value) in fields {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn json_patch(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let malformed = |what: &str| PatchError::Malformed(format!("error decoding patch: {what}"));
    let operations = patch
        .as_array()
        .ok_or_else(|| malformed("a JSON patch is an array"))?;
    for operation in operations {
        let text = |field: &str| {
            operation[field]
                .as_str()
                .ok_or_else(|| malformed(&format!("{field} is missing")))
        };
        let value = || {
            operation
                .get("value")
                .ok_or_else(|| malformed("value is missing"))
        };
        let path = text("path")?;
        match text("op")? {
            "add" => add(target, path, value()?.clone())?,
            "remove" => drop(remove(target, path)?),
            // Upstream's library lets `replace` add a missing field; only its parent must exist.
            "replace" => {
                let value = value()?.clone();
                if target.pointer(path).is_none() && !is_field(target, path) {
                    return Err(missing(path));
                }
                match target.pointer_mut(path) {
                    Some(place) => *place = value,
                    None => add(target, path, value)?,
                }
            }
            "move" => {
                let moved = remove(target, text("from")?)?;
                add(target, path, moved)?;
            }
            "copy" => {
                let from = text("from")?;
                let copied = target.pointer(from).ok_or_else(|| missing(from))?.clone();
                add(target, path, copied)?;
            }
            "test" => {
                // A missing place equals null, as upstream's library has it.
                let found = target.pointer(path).unwrap_or(&Value::Null);
                if found != value()? {
                    let message = format!("testing value {path} failed: test failed");
                    return Err(PatchError::Unfitting(message));
                }
            }
            other => return Err(malformed(&format!("unknown operation {other:?}"))),
        }
    }
    Ok(())
}

fn missing(path: &str) -> PatchError {
    PatchError::Unfitting(format!("doc is missing path: {path:?}: missing value"))
}

/// The container a pointer ends in, and the unescaped last token.
fn parent<'a>(target: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), PatchError> {
    let (head, token) = path.rsplit_once('/').ok_or_else(|| missing(path))?;
    let container = target.pointer_mut(head).ok_or_else(|| missing(path))?;
    Ok((container, token.replace("~1", "/").replace("~0", "~")))
}

fn is_field(target: &mut Value, path: &str) -> bool {
    parent(target, path).is_ok_and(|(container, _)| container.is_object())
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    let (container, token) = parent(target, path)?;
    match container {
        Value::Object(fields) => {
            fields.insert(token, value);
        }
        Value::Array(items) => {
            let index = if token == "-" {
                Some(items.len())
            } else {
                token.parse::<usize>().ok()
            };
            let index = index
                .filter(|it| *it <= items.len())
                .ok_or_else(|| missing(path))?;
            items.insert(index, value);
        }
        _ => return Err(missing(path)),
    }
    Ok(())
}

fn remove(target: &mut Value, path: &str) -> Result<Value, PatchError> {
    let (container, token) = parent(target, path)?;
    let removed = match container {
        Value::Object(fields) => fields.remove(&token),
        Value::Array(items) => token
            .parse::<usize>()
            .ok()
            .filter(|index| *index < items.len())
            .map(|index| items.remove(index)),
        _ => None,
    };
    removed.ok_or_else(|| missing(path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patch_removes_by_null_and_replaces_lists() {
        let object = json!({"a": {"x": "1", "y": "2"}, "l": [1, 2]});
        let patch = json!({"a": {"x": null, "z": {"deep": null, "k": 1}}, "l": [3]});
        let patched = apply(Format::Merge, &object, &patch).expect("applies");
        assert_eq!(patched, json!({"a": {"y": "2", "z": {"k": 1}}, "l": [3]}));
        assert!(apply(Format::Merge, &object, &json!([])).is_err());
    }

    #[test]
    fn json_patch_operations() {
        let object = json!({"a": {"x/y": 1}, "l": [1, 2]});
        let patch = json!([
            {"op": "test", "path": "/a/x~1y", "value": 1},
            {"op": "add", "path": "/l/-", "value": 3},
            {"op": "add", "path": "/l/0", "value": 0},
            {"op": "remove", "path": "/l/1"},
            {"op": "move", "from": "/a/x~1y", "path": "/b"},
            {"op": "copy", "from": "/b", "path": "/c"},
            {"op": "replace", "path": "/b", "value": "B"},
        ]);
        let patched = apply(Format::Json, &object, &patch).expect("applies");
        assert_eq!(patched, json!({"a": {}, "l": [0, 2, 3], "b": "B", "c": 1}));
    }

    #[test]
    fn json_patch_tells_malformed_from_unfitting() {
        let object = json!({"a": 1});
        let refused = |patch: Value| apply(Format::Json, &object, &patch).expect_err("refused");
        let unfitting = [
            json!([{"op": "test", "path": "/a", "value": 2}]),
            json!([{"op": "remove", "path": "/b"}]),
            json!([{"op": "replace", "path": "/b/c", "value": 1}]),
        ];
        for patch in unfitting {
            assert!(matches!(refused(patch), PatchError::Unfitting(_)));
        }
        for patch in [
            json!({}),
            json!([{"op": "spin", "path": "/a"}]),
            json!([{"op": "add"}]),
        ] {
            assert!(matches!(refused(patch), PatchError::Malformed(_)));
        }
    }
}
