//! What every object has, read leniently and kept small.
//!
//! Only the named fields are kept: managedFields, specs and data of pods and ConfigMaps are dropped
//! while parsing. A field of the wrong type reads as absent, never as an error.

use super::super::names::DcsNames;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The metadata that the program uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// The object's name.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Its UID.
    #[serde(deserialize_with = "text")]
    pub uid: String,
    /// Its version; empty: unknown.
    #[serde(deserialize_with = "text")]
    pub resource_version: String,
    /// When it was made; empty: unknown.
    #[serde(deserialize_with = "text")]
    pub creation_timestamp: String,
    /// When it was asked to go; empty: it stays.
    #[serde(deserialize_with = "text")]
    pub deletion_timestamp: String,
    /// Its labels.
    #[serde(deserialize_with = "texts")]
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    #[serde(deserialize_with = "texts")]
    pub annotations: BTreeMap<String, String>,
}

/// A time with its zone, in milliseconds since 1970.
pub fn unix_ms(text: &str) -> Option<u64> {
    let at = text.trim().parse::<jiff::Timestamp>().ok()?;
    u64::try_from(at.as_millisecond()).ok()
}

/// An object of which only the metadata matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Slim {
    /// The metadata.
    #[serde(default)]
    pub metadata: Meta,
}

impl Meta {
    /// The metadata of an object that came as a JSON value.
    pub fn of(object: &Value) -> Self {
        Self::deserialize(&object["metadata"]).unwrap_or_default()
    }

    /// The version, unless empty.
    pub fn version(&self) -> Option<String> {
        (!self.resource_version.is_empty()).then(|| self.resource_version.clone())
    }

    /// An annotation, unless missing or empty.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.annotations
            .get(key)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }
}

fn text<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(input)? {
        Value::String(text) => text,
        _ => String::new(),
    })
}

fn texts<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<String, String>, D::Error> {
    let Value::Object(map) = Value::deserialize(input)? else {
        return Ok(BTreeMap::new());
    };
    let texts = map.into_iter().filter_map(|(key, value)| match value {
        Value::String(text) => Some((key, text)),
        _ => None,
    });
    Ok(texts.collect())
}

/// Annotations to set, or with `None` to remove.
pub type Notes = Vec<(&'static str, Option<String>)>;

/// The body of a merge PATCH: annotations, the labels of the scope, and with `expect`
/// compare-and-swap.
pub fn patch_body(names: &DcsNames, notes: &Notes, expect: Option<&str>) -> Value {
    let annotations: Map<String, Value> = notes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    let mut metadata = json!({ "labels": names.object_labels(), "annotations": annotations });
    if let Some(version) = expect {
        metadata["resourceVersion"] = json!(version);
    }
    json!({ "metadata": metadata })
}

/// The same as a new object: removals have nothing to remove.
pub fn create_body(names: &DcsNames, kind: (&str, &str), name: &str, notes: &Notes) -> Value {
    let annotations: Map<String, Value> = notes
        .iter()
        .filter_map(|(key, value)| value.as_ref().map(|text| ((*key).to_owned(), json!(text))))
        .collect();
    json!({
        "apiVersion": kind.0,
        "kind": kind.1,
        "metadata": {
            "name": name,
            "namespace": names.namespace,
            "labels": names.object_labels(),
            "annotations": annotations,
        },
    })
}
