//! ConfigMap `<scope>-config`: the dynamic configuration, `initialize`, the history, the noted
//! epoch.
//!
//! Patroni's agents survive a malformed annotation with what they knew; so do we: the last good
//! value stands and a [`Problem`] says so. A missing annotation is missing.

use super::object::{Meta, Notes};
use super::{Problem, lease::TTL_MAX_MS};
use crate::ha::lock::EPOCH_BELIEVED_MAX;
use crate::ha::model::{HistoryEntry, Timeline};
use crate::ha::shared::{ConfigRecord, Initialize, Rules};
use serde_json::{Value, json};

/// The annotation with the dynamic configuration, compact JSON.
pub const CONFIG: &str = "config";
/// Who bootstraps, or the system identifier.
pub const INITIALIZE: &str = "initialize";
/// The timelines' history.
pub const HISTORY: &str = "history";
/// The greatest epoch noted by a leader.
pub const EPOCH: &str = "pgwarden.io/epoch";
/// The timeline that the history leads to.
pub const TIMELINE: &str = "pgwarden.io/timeline";
/// The D noted with it.
pub const TTL_MS: &str = "pgwarden.io/ttl-ms";

/// How the settings layer turns the dynamic configuration into rules; `None`: it cannot be used.
pub type Resolve = dyn Fn(&Value) -> Option<Rules> + Send + Sync;

/// The decoded object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigView {
    /// What decisions depend on.
    pub record: ConfigRecord,
    /// The dynamic configuration as stored, if it is a JSON object (the last good one otherwise).
    pub raw: Option<String>,
}

/// Decode; `last` is the last good view.
pub fn decode(
    meta: Option<&Meta>,
    last: &ConfigView,
    resolve: &Resolve,
    problems: &mut Vec<Problem>,
) -> ConfigView {
    let Some(meta) = meta else {
        return ConfigView::default();
    };
    let mut complain = |key: &str, what: String| {
        problems.push(Problem {
            place: format!("{}/{key}", meta.name),
            what,
        });
    };
    let mut view = ConfigView::default();
    view.record.resource_version = meta.version();
    if let Some(text) = meta.note(CONFIG) {
        match dynamic(text, resolve) {
            Ok(rules) => {
                view.record.rules = Some(rules);
                view.raw = Some(text.to_owned());
            }
            Err(what) => {
                complain(CONFIG, what);
                view.record.rules.clone_from(&last.record.rules);
                view.raw.clone_from(&last.raw);
            }
        }
    }
    view.record.initialize = match meta.annotations.get(INITIALIZE) {
        None => Initialize::Never,
        Some(text) if is_number(text) => Initialize::Done(text.clone()),
        Some(text) => Initialize::Running(text.clone()),
    };
    if let Some(text) = meta.note(HISTORY) {
        view.record.history = history(text).unwrap_or_else(|what| {
            complain(HISTORY, what);
            last.record.history.clone()
        });
    }
    if let Some(text) = meta.note(TIMELINE) {
        view.record.timeline = text.parse().ok().or_else(|| {
            complain(
                TIMELINE,
                format!("\"{text}\" is no timeline; the last one stands"),
            );
            last.record.timeline
        });
    }
    if let Some(text) = meta.note(EPOCH) {
        let epoch = text.parse().ok();
        let epoch = epoch.filter(|epoch| *epoch <= EPOCH_BELIEVED_MAX);
        view.record.epoch = epoch.unwrap_or_else(|| {
            complain(
                EPOCH,
                format!("\"{text}\" is no count up to {EPOCH_BELIEVED_MAX}; the last one stands"),
            );
            last.record.epoch
        });
    }
    if let Some(text) = meta.note(TTL_MS) {
        let ttl_ms = text.parse().ok().filter(|ttl_ms| *ttl_ms <= TTL_MAX_MS);
        view.record.ttl_ms = ttl_ms.unwrap_or_else(|| {
            complain(
                TTL_MS,
                format!("\"{text}\" cannot be a TTL; the last one stands"),
            );
            last.record.ttl_ms
        });
    }
    view
}

fn dynamic(text: &str, resolve: &Resolve) -> Result<Rules, String> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| format!("not JSON ({error}); the last good configuration stands"))?;
    if !value.is_object() {
        return Err("not a JSON object; the last good configuration stands".to_owned());
    }
    resolve(&value).ok_or_else(|| "cannot be used; the last good configuration stands".to_owned())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Patroni's list: `[timeline, lsn, reason, timestamp?, new_leader?]`, oldest first.
pub fn history(text: &str) -> Result<Vec<HistoryEntry>, String> {
    let lines: Vec<Value> = serde_json::from_str(text)
        .map_err(|error| format!("not a JSON list ({error}); the last good history stands"))?;
    lines
        .iter()
        .enumerate()
        .map(|(at, line)| entry(line).ok_or_else(|| bad_entry(at, line)))
        .collect()
}

fn bad_entry(at: usize, line: &Value) -> String {
    format!(
        "entry {at} is {line}, not [timeline, position, \"reason\", \"time\"?, \"leader\"?]; the last \
         good history stands"
    )
}

fn entry(line: &Value) -> Option<HistoryEntry> {
    let list = line
        .as_array()
        .filter(|list| (3..=5).contains(&list.len()))?;
    let optional = |at: usize| match list.get(at) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => Some(Some(text.clone())),
        Some(_) => None,
    };
    Some(HistoryEntry {
        timeline: u32::try_from(list[0].as_u64()?)
            .ok()
            .filter(|timeline| *timeline > 0)?,
        switch_lsn: crate::ha::model::Lsn(list[1].as_u64()?),
        reason: list[2].as_str()?.to_owned(),
        at: optional(3)?,
        new_leader: optional(4)?,
    })
}

/// The history as Patroni writes it.
pub fn history_text(history: &[HistoryEntry]) -> String {
    let lines: Vec<Value> = history
        .iter()
        .map(|entry| {
            let mut line = vec![
                json!(entry.timeline),
                json!(entry.switch_lsn.0),
                json!(entry.reason),
            ];
            if entry.at.is_some() || entry.new_leader.is_some() {
                line.push(json!(entry.at));
            }
            if let Some(leader) = &entry.new_leader {
                line.push(json!(leader));
            }
            Value::Array(line)
        })
        .collect();
    Value::Array(lines).to_string()
}

/// The annotations of a new `initialize`.
pub fn initialize_notes(value: &Initialize) -> Notes {
    let text = match value {
        Initialize::Never => None,
        Initialize::Running(text) | Initialize::Done(text) => Some(text.clone()),
    };
    vec![(INITIALIZE, text)]
}

/// The annotations of a history with its timeline, its epoch and D.
pub fn history_notes(
    history: &[HistoryEntry],
    timeline: Timeline,
    epoch: u64,
    ttl_ms: u64,
) -> Notes {
    vec![
        (HISTORY, Some(history_text(history))),
        (TIMELINE, Some(timeline.to_string())),
        (EPOCH, Some(epoch.to_string())),
        (TTL_MS, Some(ttl_ms.to_string())),
    ]
}

/// The annotation of a dynamic configuration.
pub fn config_notes(config: &Value) -> Notes {
    vec![(CONFIG, Some(config.to_string()))]
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
