//! ConfigMap `<scope>-failover`: a switchover or manual failover somebody asked for.

use super::Problem;
use super::object::{Meta, Notes};
use crate::ha::model::Name;
use crate::ha::shared::FailoverRecord;

const FROM: &str = "leader";
const TO: &str = "member";
const SCHEDULED: &str = "scheduled_at";

/// Decode. A request for a later time is not executed early: it reads as none, with a problem.
pub fn decode(meta: Option<&Meta>, problems: &mut Vec<Problem>) -> FailoverRecord {
    let Some(meta) = meta else {
        return FailoverRecord::default();
    };
    let resource_version = meta.version();
    if let Some(at) = meta.note(SCHEDULED) {
        let what =
            format!("a switchover scheduled for {at} is not executed: schedules are not supported");
        problems.push(Problem {
            place: format!("{}/{SCHEDULED}", meta.name),
            what,
        });
        return FailoverRecord {
            resource_version,
            ..FailoverRecord::default()
        };
    }
    FailoverRecord {
        from: meta.note(FROM).map(str::to_owned),
        to: meta.note(TO).map(str::to_owned),
        resource_version,
    }
}

/// The annotations of a request; both empty: of none.
pub fn notes(from: Option<&Name>, to: Option<&Name>) -> Notes {
    vec![(FROM, from.cloned()), (TO, to.cloned()), (SCHEDULED, None)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs::codec::object::Slim;
    use serde_json::json;

    fn read(annotations: serde_json::Value) -> (FailoverRecord, usize) {
        let object = json!({ "metadata": {
            "name": "bench-failover", "resourceVersion": "9", "annotations": annotations } });
        let meta = serde_json::from_value::<Slim>(object).unwrap().metadata;
        let mut problems = Vec::new();
        (decode(Some(&meta), &mut problems), problems.len())
    }

    #[test]
    fn switchover_failover_and_nothing() {
        let (record, _) = read(json!({ "leader": "pg-2", "member": "pg-0" }));
        assert_eq!(
            (record.from.as_deref(), record.to.as_deref()),
            (Some("pg-2"), Some("pg-0"))
        );
        let (record, _) = read(json!({ "leader": "", "member": "pg-0" }));
        assert_eq!(
            (record.from.as_deref(), record.to.as_deref()),
            (None, Some("pg-0"))
        );
        let (record, problems) = read(json!(null));
        assert!(record.is_empty() && problems == 0);
        assert_eq!(record.resource_version.as_deref(), Some("9"));
        assert_eq!(decode(None, &mut Vec::new()), FailoverRecord::default());
    }

    #[test]
    fn a_scheduled_switchover_is_not_executed_now() {
        let recorded = json!({ "leader": "pg-2", "member": "pg-0", "scheduled_at": "2099-01-01T00:00:00+00:00" });
        let (record, problems) = read(recorded);
        assert!(record.is_empty());
        assert_eq!(problems, 1);
    }
}
