//! `/config`: the dynamic configuration as stored, and the two ways to change it.
//!
//! PATCH lays a document over the stored one, where null takes a key away; PUT replaces it. Whether
//! the result can be used is judged where the settings are known, before anything is stored.

use super::body;
use super::command::Reply;
use super::view::View;
use serde_json::{Map, Value};

/// A change that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// PATCH.
    Merge(Map<String, Value>),
    /// PUT.
    Replace(Map<String, Value>),
}

impl ConfigChange {
    /// The keys at the top, for the log.
    pub fn keys(&self) -> String {
        let (Self::Merge(fields) | Self::Replace(fields)) = self;
        let keys: Vec<_> = fields.keys().map(String::as_str).collect();
        keys.join(", ")
    }

    /// The document it makes of the stored one; `None`: there is none to lay it over.
    pub fn apply(&self, stored: Option<&Map<String, Value>>) -> Option<Map<String, Value>> {
        match self {
            Self::Replace(next) => Some(next.clone()),
            Self::Merge(change) => {
                let mut next = stored?.clone();
                merge(&mut next, change);
                Some(next)
            }
        }
    }
}

/// Null deletes, an object goes into an object, everything else replaces.
fn merge(target: &mut Map<String, Value>, change: &Map<String, Value>) {
    for (key, value) in change {
        match (value, target.get_mut(key)) {
            (Value::Null, _) => {
                target.remove(key);
            }
            (Value::Object(inner), Some(Value::Object(below))) => merge(below, inner),
            (Value::Object(inner), _) => {
                let mut fresh = Map::new();
                merge(&mut fresh, inner);
                target.insert(key.clone(), Value::Object(fresh));
            }
            _ => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Read the body of a change.
pub(super) fn parse(body: &[u8]) -> Result<Map<String, Value>, Reply> {
    body::object(body, "expected a JSON object such as {\"ttl\": 30}")
}

/// GET: the stored document, or Patroni's code for "no valid one".
pub(super) fn stored(view: &View) -> Reply {
    match &view.config {
        Some(config) => Reply::json(200, config.to_string()),
        None => Reply::new(502, "no dynamic configuration is stored yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_patch_goes_deep_and_null_takes_away() {
        let stored = object(json!({
            "ttl": 30, "pause": true,
            "postgresql": { "parameters": { "work_mem": "4MB", "jit": "off" }, "use_slots": true },
        }));
        let change = ConfigChange::Merge(object(json!({
            "ttl": 20, "pause": null, "absent": null, "slots": { "a": { "x": null, "type": "physical" } },
            "postgresql": { "parameters": { "jit": null, "work_mem": "8MB" } },
        })));
        let wanted = object(json!({
            "ttl": 20, "slots": { "a": { "type": "physical" } },
            "postgresql": { "parameters": { "work_mem": "8MB" }, "use_slots": true },
        }));
        assert_eq!(change.apply(Some(&stored)), Some(wanted));
        assert_eq!(change.apply(None), None);
        let whole = object(json!({ "ttl": 25 }));
        assert_eq!(
            ConfigChange::Replace(whole.clone()).apply(None),
            Some(whole)
        );
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_with_what_is_wanted() {
        for body in ["", "[]", "3", "null", "{", "\"x\""] {
            let refusal = parse(body.as_bytes()).expect_err(body);
            assert_eq!(refusal.status, 400);
            assert!(
                refusal.body.contains("expected a JSON object"),
                "{}",
                refusal.body
            );
        }
    }
}
