//! ConfigMap `<scope>-sync`: who holds every acknowledged commit.

use super::Problem;
use super::object::{Meta, Notes};
use crate::ha::model::Name;
use crate::ha::shared::SyncRecord;
use std::collections::BTreeSet;

const LEADER: &str = "leader";
const STANDBYS: &str = "sync_standby";
const QUORUM: &str = "quorum";
const WRITE: &str = "pgwarden.io/write";

/// Decode; `last` is the last good record.
///
/// Standbys without a leader were never written by anybody: whoever promotes relies on this object,
/// so a half-erased one keeps its last good content instead of reading as "nobody is synchronous".
pub fn decode(meta: Option<&Meta>, last: &SyncRecord, problems: &mut Vec<Problem>) -> SyncRecord {
    let Some(meta) = meta else {
        return SyncRecord::default();
    };
    let leader = meta.note(LEADER).map(str::to_owned);
    let standbys = names(meta.note(STANDBYS).unwrap_or_default());
    let resource_version = meta.version();
    if leader.is_none() && !standbys.is_empty() {
        let what = "standbys without a leader; the last good set stands".to_owned();
        problems.push(Problem {
            place: format!("{}/{LEADER}", meta.name),
            what,
        });
        if last.leader.is_some() {
            return SyncRecord {
                resource_version,
                ..last.clone()
            };
        }
    }
    let quorum = quorum(meta, standbys.len(), problems);
    SyncRecord {
        leader,
        standbys,
        quorum,
        resource_version,
    }
}

/// The votes that a standby needs. What cannot be read, or asks for more than there are others,
/// needs all of them: fewer might elect one that lacks a commit.
fn quorum(meta: &Meta, standbys: usize, problems: &mut Vec<Problem>) -> usize {
    let Some(text) = meta.note(QUORUM) else {
        return 0;
    };
    let most = standbys.saturating_sub(1);
    match text.trim().parse::<usize>() {
        Ok(quorum) if quorum <= most => quorum,
        _ if standbys == 0 => 0,
        _ => {
            problems.push(Problem {
                place: format!("{}/{QUORUM}", meta.name),
                what: format!("found {text:?}; expected a number from 0 to {most}: {most} counts"),
            });
            most
        }
    }
}

/// Split at commas, trim, drop empty ones, sort, each once.
fn names(text: &str) -> Vec<Name> {
    let set: BTreeSet<_> = text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    set.into_iter().collect()
}

/// The annotations of a set. `write` is another one with every write: an object that would stay as
/// it is keeps its version, and then a write of an agent before, expecting that one, could still land.
pub fn notes(leader: &str, standbys: &[Name], quorum: usize, write: String) -> Notes {
    let list = names(&standbys.join(","));
    vec![
        (LEADER, Some(leader.to_owned())),
        (STANDBYS, (!list.is_empty()).then(|| list.join(","))),
        (QUORUM, Some(quorum.to_string())),
        (WRITE, Some(write)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs::codec::object::Slim;
    use serde_json::json;

    fn meta(annotations: serde_json::Value) -> Meta {
        let object = json!({ "metadata": {
            "name": "bench-sync", "resourceVersion": "7", "annotations": annotations } });
        serde_json::from_value::<Slim>(object).unwrap().metadata
    }

    fn read(annotations: serde_json::Value, last: &SyncRecord) -> (SyncRecord, Vec<Problem>) {
        let mut problems = Vec::new();
        let record = decode(Some(&meta(annotations)), last, &mut problems);
        (record, problems)
    }

    #[test]
    fn reads_what_patroni_writes() {
        let recorded = json!({ "leader": "pg-2", "quorum": "0", "sync_standby": "pg-1" });
        let (record, problems) = read(recorded, &SyncRecord::default());
        assert_eq!(record.leader.as_deref(), Some("pg-2"));
        assert_eq!(record.standbys, ["pg-1"]);
        assert_eq!(record.resource_version.as_deref(), Some("7"));
        assert_eq!(problems, []);
    }

    #[test]
    fn a_deleted_set_is_empty_and_a_missing_object_has_no_version() {
        let (record, problems) = read(json!(null), &SyncRecord::default());
        assert_eq!(
            (record.leader, record.standbys, problems),
            (None, vec![], vec![])
        );
        assert_eq!(
            decode(None, &record_of("a", &["b"]), &mut Vec::new()),
            SyncRecord::default()
        );
    }

    #[test]
    fn a_half_erased_set_keeps_its_last_good_content() {
        let last = record_of("pg-2", &["pg-1"]);
        let (record, problems) = read(json!({ "sync_standby": "pg-0" }), &last);
        assert_eq!(
            (record.leader.as_deref(), record.standbys.as_slice()),
            (Some("pg-2"), &["pg-1".to_owned()][..])
        );
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn names_are_trimmed_sorted_and_unique() {
        let (record, _) = read(
            json!({ "leader": "a", "sync_standby": " c,b ,,c" }),
            &SyncRecord::default(),
        );
        assert_eq!(record.standbys, ["b", "c"]);
        let once = || "uid 1".to_owned();
        let written = notes("a", &["c".to_owned(), "b".to_owned()], 0, once());
        assert_eq!(written[1], ("sync_standby", Some("b,c".to_owned())));
        assert_eq!(notes("a", &[], 0, once())[1], ("sync_standby", None));
    }

    fn record_of(leader: &str, standbys: &[&str]) -> SyncRecord {
        SyncRecord {
            leader: Some(leader.to_owned()),
            standbys: standbys.iter().map(|name| (*name).to_owned()).collect(),
            quorum: 0,
            resource_version: Some("3".to_owned()),
        }
    }
}
