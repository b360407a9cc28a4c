//! The leader's slots in the lock object, as Patroni has them: how far each is, and which members'
//! are kept although the member is away.
//!
//! They are no lock fields: what cannot be read is as if it were not there, and slots stay where
//! they are.

use super::object::Meta;
use crate::ha::model::Lsn;
use crate::ha::slots::SlotRecord;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Positions by slot, decimal, compact JSON.
const POSITIONS: &str = "slots";
/// The members' slots that are kept, a JSON list.
const RETAINED: &str = "retain_slots";

pub(super) fn record(meta: &Meta) -> SlotRecord {
    let positions = meta.note(POSITIONS).unwrap_or_default();
    let positions: BTreeMap<String, u64> = serde_json::from_str(positions).unwrap_or_default();
    let retained = meta.note(RETAINED).unwrap_or_default();
    let retained: BTreeSet<String> = serde_json::from_str(retained).unwrap_or_default();
    let positions = positions.into_iter().map(|(slot, lsn)| (slot, Lsn(lsn)));
    SlotRecord {
        positions: positions.collect(),
        retained,
    }
}

/// Nothing to say takes an annotation away.
pub(super) fn notes(record: &SlotRecord) -> [(&'static str, Option<String>); 2] {
    let positions = record.positions.iter().map(|(slot, lsn)| (slot, lsn.0));
    let positions: BTreeMap<&String, u64> = positions.collect();
    let told = |empty: bool, value: serde_json::Value| (!empty).then(|| value.to_string());
    [
        (POSITIONS, told(positions.is_empty(), json!(positions))),
        (
            RETAINED,
            told(record.retained.is_empty(), json!(record.retained)),
        ),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::dcs::codec) fn some() -> SlotRecord {
        SlotRecord {
            positions: [("pg_1".to_owned(), Lsn(67_394_392))].into(),
            retained: ["pg_0".to_owned(), "pg_1".to_owned()].into(),
        }
    }

    #[test]
    fn patronis_notes_are_understood_and_damaged_ones_are_none() {
        let object = json!({ "metadata": { "annotations": {
            "slots": r#"{"pg_1":67394392,"pg_0":67394392}"#,
            "retain_slots": r#"["pg_0", "pg_1"]"#,
        } } });
        let found = record(&Meta::of(&object));
        assert_eq!(found.positions["pg_1"], Lsn(67_394_392));
        assert!(found.retained.contains("pg_0") && found.retained.len() == 2);
        let [(_, positions), (_, retained)] = notes(&found);
        let positions = positions.expect("there are some");
        assert_eq!(positions, r#"{"pg_0":67394392,"pg_1":67394392}"#);
        assert_eq!(retained.expect("there are some"), r#"["pg_0","pg_1"]"#);
        for damaged in ["", "7", "[", r#"{"a":-1}"#, r#"{"a":"0/1"}"#] {
            let object = json!({ "metadata": { "annotations": {
                "slots": damaged, "retain_slots": damaged,
            } } });
            assert!(record(&Meta::of(&object)).is_empty(), "{damaged}");
        }
        assert!(
            notes(&SlotRecord::default())
                .iter()
                .all(|(_, note)| note.is_none())
        );
    }
}
