//! The lock where Patroni keeps it: in annotations of an Endpoints object or a ConfigMap (contract
//! §1.2), as the spec of a Lease would say it, and back.
//!
//! So there is one decoder and one encoder of the record, and Patroni's readers see the fields they
//! know: `leader`, `acquireTime`, `renewTime`, `ttl`, `transitions`.

use super::object::Notes;
use crate::dcs::dialect::Dialect;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

const LEADER: &str = "leader";
const ACQUIRE_TIME: &str = "acquireTime";
const RENEW_TIME: &str = "renewTime";
const TTL: &str = "ttl";
const TRANSITIONS: &str = "transitions";

/// Our field, and the annotation it is kept in.
const FIELDS: [(&str, &str); 5] = [
    ("holderIdentity", LEADER),
    ("acquireTime", ACQUIRE_TIME),
    ("renewTime", RENEW_TIME),
    ("leaseDurationSeconds", TTL),
    ("leaseTransitions", TRANSITIONS),
];

/// The object with the lock fields in `spec`, whatever the dialect.
pub(super) fn as_lease(dialect: Dialect, object: &Value) -> Cow<'_, Value> {
    if dialect == Dialect::Lease {
        return Cow::Borrowed(object);
    }
    let notes = &object["metadata"]["annotations"];
    let spec: Map<String, Value> = FIELDS
        .iter()
        .map(|(field, note)| ((*field).to_owned(), value_of(note, &notes[note])))
        .collect();
    Cow::Owned(json!({ "metadata": object["metadata"], "spec": spec }))
}

/// Counts are texts in annotations; one that is no count stays as it is, for the message.
fn value_of(note: &str, raw: &Value) -> Value {
    let count = match note {
        TTL | TRANSITIONS => raw
            .as_str()
            .and_then(|text| text.trim().parse::<u64>().ok()),
        _ => None,
    };
    count.map_or_else(|| raw.clone(), |count| json!(count))
}

/// Nobody has ever written a lock here: a chart or an operator made the object for the Service.
pub(super) fn is_bare(dialect: Dialect, object: &Value, ours: &[&str]) -> bool {
    let notes = &object["metadata"]["annotations"];
    let patronis = FIELDS.iter().map(|(_, note)| *note);
    dialect != Dialect::Lease
        && patronis
            .chain(ours.iter().copied())
            .all(|note| notes[note].is_null())
}

/// The names people see in this dialect, in a message about the record.
pub(super) fn in_words(dialect: Dialect, why: String) -> String {
    if dialect == Dialect::Lease {
        return why;
    }
    FIELDS
        .iter()
        .fold(why, |why, (field, note)| why.replace(field, note))
}

/// Moves the record into the annotations, as Patroni writes them. A release takes `leader` away, and
/// leaves `renewTime` as it was.
pub(super) fn into_notes(spec: &Value, notes: &mut Notes) {
    let released = spec["holderIdentity"].is_null();
    if released {
        notes.push((LEADER, None));
    }
    let kept = texts(spec).filter(|(note, _)| !(released && *note == RENEW_TIME));
    notes.extend(kept.map(|(note, text)| (note, Some(text))));
}

/// The fields that are there as annotations: counts as texts, instants with an offset.
fn texts(spec: &Value) -> impl Iterator<Item = (&'static str, String)> {
    FIELDS.iter().filter_map(|(field, note)| {
        let text = match &spec[field] {
            Value::Null => return None,
            Value::String(text) if matches!(*note, RENEW_TIME | ACQUIRE_TIME) => with_offset(text),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some((*note, text))
    })
}

/// These lock fields as a change of the lock object, for who writes past its holder.
pub(super) fn as_change(dialect: Dialect, spec: &Value) -> Value {
    if dialect == Dialect::Lease {
        return json!({ "spec": spec });
    }
    let notes: Map<String, Value> = texts(spec)
        .map(|(note, text)| (note.to_owned(), json!(text)))
        .collect();
    json!({ "metadata": { "annotations": notes } })
}

/// `…Z` as `…+00:00`.
fn with_offset(instant: &str) -> String {
    let bare = instant.strip_suffix('Z');
    bare.map_or_else(|| instant.to_owned(), |bare| format!("{bare}+00:00"))
}

#[cfg(test)]
#[path = "annotated_tests.rs"]
mod tests;
