//! What the file says, not yet judged: a tree of values that know where they stand.
//!
//! Typed structs would end at the first wrong value. A tree lets the resolver report every problem
//! of a file in one pass, each with its path and line.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::sync::Arc;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A file and a line in it; line 0 where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: Option<Arc<str>>,
    pub(super) line: u64,
}

/// The shapes YAML and JSON share.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Value {
    /// The kind of the value in words, with the value itself where it is short and harmless.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "a number",
            Self::Float(_) => "a fraction",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl Node {
    /// A node without a place, as JSON gives them.
    pub(super) fn bare(value: Value) -> Self {
        Self {
            place: Place::default(),
            value,
        }
    }

    /// The child of a map; a null child counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let found = entries
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, node)| node)?;
        (found.value != Value::Null).then_some(found)
    }

    /// Every node below learns which file it is from.
    pub(super) fn belongs_to(&mut self, file: &Arc<str>) {
        self.place.file = Some(Arc::clone(file));
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.belongs_to(file)),
            Value::Map(entries) => entries
                .iter_mut()
                .for_each(|(_, item)| item.belongs_to(file)),
            _ => {}
        }
    }

    /// Lays a later file over this one, as Patroni does with a directory: maps are merged, a null
    /// removes a key, anything else replaces.
    pub(super) fn merge(&mut self, over: Self) {
        let (Value::Map(mine), Value::Map(theirs)) = (&mut self.value, over.value) else {
            return;
        };
        for (key, node) in theirs {
            let existing = mine.iter().position(|(name, _)| *name == key);
            match (existing, &node.value) {
                (Some(at), Value::Null) => drop(mine.remove(at)),
                (Some(at), Value::Map(_)) if matches!(mine[at].1.value, Value::Map(_)) => {
                    mine[at].1.merge(node);
                }
                (Some(at), _) => mine[at].1 = node,
                (None, Value::Null) => {}
                (None, _) => mine.push((key, node)),
            }
        }
    }

    /// The same as a JSON document, for the DCS.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(b) => (*b).into(),
            Value::Int(n) => (*n).into(),
            Value::Float(x) => (*x).into(),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|(key, node)| (key.clone(), node.to_json()))
                .collect(),
        }
    }

    /// Keys written twice in one map: (path, place of the second, line of the first).
    pub(super) fn duplicates(&self, path: &str, found: &mut Vec<(String, Place, u64)>) {
        match &self.value {
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.duplicates(&format!("{path}[{index}]"), found);
                }
            }
            Value::Map(entries) => {
                for (index, (key, node)) in entries.iter().enumerate() {
                    let path = join(path, key);
                    let first = entries[..index].iter().find(|(name, _)| name == key);
                    if let Some((_, first)) = first {
                        found.push((path.clone(), node.place.clone(), first.place.line));
                    }
                    node.duplicates(&path, found);
                }
            }
            _ => {}
        }
    }
}

/// `a` and `b` are `a.b`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a configuration file")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        Value::deserialize(inner)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        // What no setting can hold is kept as the text it is and refused where it is used.
        Ok(i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Int))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(node) = seq.next_element::<Node>()? {
            items.push(node);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            entries.push((key, map.next_value::<Node>()?));
        }
        Ok(Value::Map(entries))
    }
}

/// A JSON document as the same tree, without places.
pub(super) fn from_json(value: serde_json::Value) -> Node {
    use serde_json::Value as Json;
    Node::bare(match value {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(b),
        Json::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(int), _) => Value::Int(int),
            (None, Some(float)) => Value::Float(float),
            (None, None) => Value::Text(n.to_string()),
        },
        Json::String(text) => Value::Text(text),
        Json::Array(items) => Value::List(items.into_iter().map(from_json).collect()),
        Json::Object(map) => Value::Map(
            map.into_iter()
                .map(|(key, item)| (key, from_json(item)))
                .collect(),
        ),
    })
}
