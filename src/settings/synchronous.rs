//! `synchronous_mode` and how many standbys it asks for.

use super::raw::Value;
use super::section::{Section, as_bool, describe};
use serde::Serialize;

/// `synchronous_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    /// No synchronous standby is asked for.
    Off,
    /// Named standbys confirm every commit; without a candidate commits go on alone.
    On,
    /// Any of the standbys do.
    Quorum,
}

pub(super) fn node_count(section: &Section<'_>, kept: usize) -> usize {
    if !section.has("synchronous_node_count") {
        return 1;
    }
    let count = section.integer("synchronous_node_count", 1, 1_000);
    count
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(kept)
}

pub(super) fn sync_mode(section: &Section<'_>, kept: SyncMode) -> SyncMode {
    let Some(node) = section.get("synchronous_mode") else {
        return SyncMode::Off;
    };
    match (as_bool(&node.value), &node.value) {
        (Some(true), _) => SyncMode::On,
        (Some(false), _) => SyncMode::Off,
        (None, Value::Text(text)) if text.eq_ignore_ascii_case("quorum") => SyncMode::Quorum,
        (None, other) => {
            section.error(
                "synchronous_mode",
                format!("found {}; expected on, off or quorum", describe(other)),
            );
            kept
        }
    }
}
