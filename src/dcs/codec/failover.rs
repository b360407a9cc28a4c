//! `<scope>-failover`: a switchover or manual failover somebody asked for, or plans.

use super::Problem;
use super::object::{Meta, Notes, unix_ms};
use crate::ha::model::Name;
use crate::ha::shared::{FailoverRecord, Scheduled};

const FROM: &str = "leader";
const TO: &str = "member";
const SCHEDULED: &str = "scheduled_at";
/// Ours: a holder in maintenance mode that a person knows to be dead, as its record names it.
const DEAD: &str = "pgwarden.io/holder-is-dead";

/// Ours: the candidate with whom, as a person has said, acknowledged commits may be lost. By its
/// name, since who knows nothing of this note leaves it behind when another is asked for.
const ACCEPTS_LOSS: &str = "pgwarden.io/accept-data-loss";

/// Decode. What is planned for a time that cannot be read is asked for never, with a problem.
pub fn decode(meta: Option<&Meta>, problems: &mut Vec<Problem>) -> FailoverRecord {
    let Some(meta) = meta else {
        return FailoverRecord::default();
    };
    let resource_version = meta.version();
    let from = meta.note(FROM).map(str::to_owned);
    let to = meta.note(TO).map(str::to_owned);
    let dead = meta.note(DEAD).map(str::to_owned);
    let accepts_loss = to.is_some() && meta.note(ACCEPTS_LOSS) == to.as_deref();
    let Some(at) = meta.note(SCHEDULED) else {
        return FailoverRecord {
            from,
            to,
            accepts_loss,
            dead,
            scheduled: None,
            resource_version,
        };
    };
    let scheduled = unix_ms(at).map(|at_wall_ms| Scheduled {
        from,
        to,
        at: at.to_owned(),
        at_wall_ms,
    });
    if scheduled.is_none() {
        problems.push(Problem {
            place: format!("{}/{SCHEDULED}", meta.name),
            what: format!(
                "found {at:?}; expected a time with its zone, as 2030-01-31T22:00:00+00:00: the \
                 switchover is not executed"
            ),
        });
    }
    FailoverRecord {
        from: None,
        to: None,
        accepts_loss: false,
        dead,
        scheduled,
        resource_version,
    }
}

/// The annotations of a request; both empty: of none.
pub fn notes(from: Option<&Name>, to: Option<&Name>, accepts_loss: bool) -> Notes {
    let mut notes = vec![
        (FROM, from.cloned()),
        (TO, to.cloned()),
        (SCHEDULED, None),
        (ACCEPTS_LOSS, to.filter(|_| accepts_loss).cloned()),
    ];
    // A person's word stands until everything is cleared.
    if from.is_none() && to.is_none() {
        notes.push((DEAD, None));
    }
    notes
}

/// The annotation of a person's word, beside whatever else is asked for.
pub fn dead_notes(holder: &str) -> Notes {
    vec![(DEAD, Some(holder.to_owned()))]
}

/// The annotations of a plan.
pub fn plan_notes(plan: &Scheduled) -> Notes {
    vec![
        (FROM, plan.from.clone()),
        (TO, plan.to.clone()),
        (SCHEDULED, Some(plan.at.clone())),
        (ACCEPTS_LOSS, None),
    ]
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
        for (word, accepts_loss) in [("pg-0", true), ("pg-1", false), ("", false)] {
            let said = json!({ "member": "pg-0", ACCEPTS_LOSS: word });
            assert_eq!(read(said).0.accepts_loss, accepts_loss, "{word}");
        }
        let (record, _) = read(json!({ ACCEPTS_LOSS: "" }));
        assert!(!record.accepts_loss);
        let (record, problems) = read(json!(null));
        assert!(record.is_empty() && problems == 0);
        assert_eq!(record.resource_version.as_deref(), Some("9"));
        assert_eq!(decode(None, &mut Vec::new()), FailoverRecord::default());
    }

    #[test]
    fn a_plan_asks_for_nothing_now() {
        for (at, at_wall_ms) in [
            ("2030-01-01T00:00:00+00:00", 1_893_456_000_000),
            ("2030-01-01T00:00:00.250000+00:00", 1_893_456_000_250),
            ("2030-01-01T02:00:00+02:00", 1_893_456_000_000),
            ("2030-01-01 00:00:00Z", 1_893_456_000_000),
        ] {
            let recorded = json!({ "leader": "pg-2", "member": "pg-0", "scheduled_at": at });
            let (record, problems) = read(recorded);
            assert!(record.is_empty() && problems == 0, "{at}");
            let plan = record.scheduled.expect("a plan");
            assert_eq!(plan.from.as_deref(), Some("pg-2"));
            assert_eq!(plan.to.as_deref(), Some("pg-0"));
            assert_eq!((plan.at.as_str(), plan.at_wall_ms), (at, at_wall_ms));
            let notes: Vec<_> = plan_notes(&plan)
                .into_iter()
                .map(|(_, value)| value)
                .collect();
            assert_eq!(
                notes,
                [
                    Some("pg-2".into()),
                    Some("pg-0".into()),
                    Some(at.to_owned()),
                    None
                ]
            );
        }
    }

    #[test]
    fn a_plan_for_no_time_is_told_and_never_executed() {
        for at in ["tomorrow", "2030-01-01T00:00:00", "1960-01-01T00:00:00Z"] {
            let (record, problems) = read(json!({ "leader": "pg-2", "scheduled_at": at }));
            assert!(record.is_empty() && record.scheduled.is_none(), "{at}");
            assert_eq!(problems, 1, "{at}");
        }
    }
}
