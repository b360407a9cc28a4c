//! The effective settings in words: what `pgwarden check` prints, never with a secret.

use super::budgets::{BudgetOverrides, Budgets};
use super::types::Settings;
use serde::Serializer;
use serde::ser::SerializeMap;
use serde_json::{Value, json};

/// What stands for a text that may hold a secret.
const HIDDEN: &str = "(not shown: it may hold a secret)";

/// The settings as a JSON document without secrets. Passwords are redacted by their type; texts of
/// the user's choice (parameters, commands) are hidden where they look like holding one.
pub fn document(settings: &Settings) -> Value {
    let mut value = serde_json::to_value(settings).unwrap_or(Value::Null);
    hide("", &mut value);
    value
}

/// The same, one line per value: `postgresql.data_dir: /var/lib/postgresql/data`.
pub fn lines(settings: &Settings) -> Vec<String> {
    let mut lines = Vec::new();
    let mut document = document(settings);
    if let Some(bootstrap) = document.get_mut("bootstrap").and_then(Value::as_object_mut) {
        // The lines show what it means; the document itself is for machines.
        bootstrap.remove("dcs_document");
    }
    flatten("", &document, &mut lines);
    lines
}

/// The budgets of a TTL as a JSON object, by the names of the overrides.
pub fn budgets(budgets: &Budgets) -> Value {
    json!({
        "ttl_ms": budgets.ttl_ms(),
        "renew_ms": budgets.renew_ms(),
        "call_ms": budgets.call_ms(),
        "election_ms": budgets.election_ms(),
        "fast_stop_ms": budgets.fast_stop_ms(),
        "immediate_stop_ms": budgets.immediate_stop_ms(),
        "kill_ms": budgets.kill_ms(),
        "kill_budget_ms": budgets.kill_budget_ms(),
    })
}

fn flatten(path: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Null => {}
        Value::Object(map) => {
            for (key, value) in map {
                flatten(&super::raw::join(path, key), value, lines);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{path}[{index}]"), item, lines);
            }
        }
        Value::String(text) => lines.push(format!("{path}: {text}")),
        other => lines.push(format!("{path}: {other}")),
    }
}

fn hide(key: &str, value: &mut Value) {
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| hide(key, value)),
        Value::Array(items) => items.iter_mut().for_each(|item| hide(key, item)),
        Value::String(text) if text != super::secret::REDACTED && may_be_secret(key, text) => {
            HIDDEN.clone_into(text);
        }
        _ => {}
    }
}

fn may_be_secret(key: &str, text: &str) -> bool {
    const HARMLESS: [&str; 2] = ["password_encryption", "server_tokens"];
    const IN_KEY: [&str; 5] = ["password", "passphrase", "secret", "token", "conninfo"];
    const IN_TEXT: [&str; 7] = [
        "password=",
        "passwd=",
        "secret=",
        "secret_",
        "_secret",
        "token=",
        "access_key",
    ];
    let (key, text) = (key.to_lowercase(), text.to_lowercase());
    let url_with_password = text
        .split_once("://")
        .and_then(|(_, rest)| rest.split(['/', ' ']).next())
        .is_some_and(|authority| authority.contains('@') && authority.contains(':'));
    (!HARMLESS.contains(&key.as_str()) && IN_KEY.iter().any(|word| key.contains(word)))
        || IN_TEXT
            .iter()
            .any(|word| text.replace(' ', "").contains(word))
        || url_with_password
}

/// Serializes the overrides that are set; the budgets themselves know nothing of serde.
pub(super) fn overrides<S: Serializer>(o: &BudgetOverrides, s: S) -> Result<S::Ok, S::Error> {
    let all = [
        ("renew_ms", o.renew_ms),
        ("call_ms", o.call_ms),
        ("election_ms", o.election_ms),
        ("fast_stop_ms", o.fast_stop_ms),
        ("immediate_stop_ms", o.immediate_stop_ms),
        ("kill_ms", o.kill_ms),
        ("kill_budget_ms", o.kill_budget_ms),
    ];
    let mut map = s.serialize_map(None)?;
    for (name, value) in all {
        if let Some(ms) = value {
            map.serialize_entry(name, &ms)?;
        }
    }
    map.end()
}
