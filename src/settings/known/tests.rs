//! The table against itself and against the JSON schema.

use super::Kind::{Any, Bool, Int, List, Open, Section, Text};
use super::Status::{Ignored, Later, Refused};
use super::*;
use serde_json::Value;

/// What the schema may say of a kind.
fn types(kind: Kind) -> Option<&'static [&'static str]> {
    match kind {
        Section | Open => Some(&["object"]),
        Text => Some(&["string", "integer"]),
        Bool => Some(&["boolean", "string"]),
        Int => Some(&["integer", "string"]),
        List => Some(&["array"]),
        Any => None,
    }
}

fn compare(path: &str, schema: &Value, wrong: &mut Vec<String>) {
    let empty = serde_json::Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let known = children(path);
    for name in properties.keys() {
        if !known.iter().any(|(key, ..)| key == name) {
            wrong.push(format!("{path}.{name} is in the schema, not in the table"));
        }
    }
    for (name, kind, status) in known {
        let below = crate::settings::raw::join(path, name);
        let Some(schema) = properties.get(name) else {
            wrong.push(format!("{below} is in the table, not in the schema"));
            continue;
        };
        let said: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let may = types(kind).unwrap_or(&[]);
        if said.is_empty() != may.is_empty() || said.iter().any(|t| !may.contains(t)) {
            wrong.push(format!(
                "{below}: the schema says {said:?}, the table {kind:?}"
            ));
        }
        let described = schema["description"].as_str().unwrap_or("");
        if let Ignored(why) | Later(why) | Refused(why) = status
            && !described.contains(why)
        {
            wrong.push(format!(
                "{below}: the schema does not say why it is not used"
            ));
        }
        if kind == Section {
            compare(&below, schema, wrong);
        }
    }
}

#[test]
fn the_schema_and_the_table_agree() {
    let schema: Value = serde_json::from_str(crate::settings::embedded::SCHEMA).unwrap();
    let mut wrong = Vec::new();
    compare("", &schema, &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_key_stands_twice_and_every_parent_is_a_section() {
    let all: Vec<&Key> = SECTIONS.into_iter().flatten().collect();
    for (index, key) in all.iter().enumerate() {
        assert!(
            !all[..index].iter().any(|k| k.path == key.path),
            "{} twice",
            key.path
        );
        if let Some((parent, _)) = key.path.rsplit_once('.') {
            let found = all.iter().find(|k| k.path == parent);
            assert!(
                found.is_some_and(|k| k.kind == Section),
                "{} has no section",
                key.path
            );
        }
    }
}

#[test]
fn the_nearest_name_is_meant_or_none() {
    let names = [
        "ttl",
        "loop_wait",
        "retry_timeout",
        "synchronous_mode",
        "postgresql",
    ];
    let near = |name| nearest(name, names.into_iter());
    assert_eq!(near("tll"), Some("ttl"));
    assert_eq!(near("loopwait"), Some("loop_wait"));
    assert_eq!(near("Postgresql"), Some("postgresql"));
    assert_eq!(near("syncronous_mode"), Some("synchronous_mode"));
    assert_eq!(near("backup_window"), None);
    assert_eq!(near(""), None);
    assert_eq!(edit_distance("abcd", "acbd"), 1);
    assert_eq!(edit_distance("", "abc"), 3);
    assert_eq!(edit_distance("kitten", "sitting"), 3);
}
