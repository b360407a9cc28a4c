use super::*;
use crate::dcs::codec::object::Slim;
use crate::ha::model::Lsn;
use crate::ha::shared::Repair;
use proptest::prelude::*;

fn meta(annotations: Value) -> Meta {
    let object = json!({ "metadata": { "name": "bench-config", "resourceVersion": "5", "annotations": annotations } });
    serde_json::from_value::<Slim>(object).unwrap().metadata
}

/// A resolver that knows one key, as the settings layer knows many.
fn resolve(value: &Value) -> Option<Rules> {
    Some(Rules {
        ttl_ms: value["ttl"].as_u64()? * 1000,
        maximum_lag_on_failover_bytes: 1 << 20,
        synchronous_mode: false,
        sync: crate::ha::shared::SyncRules::default(),
        check_timeline: false,
        primary_start_timeout_ms: 300_000,
        primary_stop_timeout_ms: None,
        member_slots_ttl_ms: 1_800_000,
        slots: crate::ha::slots::SlotRules::default(),
        repair: Repair::default(),
        pause: false,
        standby: None,
        failsafe: false,
    })
}

fn read(annotations: Value, last: &ConfigView) -> (ConfigView, Vec<Problem>) {
    let mut problems = Vec::new();
    let view = decode(Some(&meta(annotations)), last, &resolve, &mut problems);
    (view, problems)
}

fn recorded() -> Value {
    json!({
        "config": "{\"loop_wait\":10,\"maximum_lag_on_failover\":1048576,\"retry_timeout\":10,\"ttl\":30}",
        "history": "[[1,67393936,\"no recovery target specified\",\"2026-11-22T18:15:20.383108+00:00\",\"pg-0\"]]",
        "initialize": "7711060383094632475",
    })
}

#[test]
fn reads_what_patroni_writes() {
    let (view, problems) = read(recorded(), &ConfigView::default());
    assert_eq!(problems, []);
    assert_eq!(
        view.record.rules.as_ref().map(|rules| rules.ttl_ms),
        Some(30_000)
    );
    assert!(view.raw.unwrap().starts_with("{\"loop_wait\""));
    assert_eq!(
        view.record.initialize,
        Initialize::Done("7711060383094632475".to_owned())
    );
    assert_eq!(view.record.history.len(), 1);
    assert_eq!(view.record.history[0].new_leader.as_deref(), Some("pg-0"));
    assert_eq!(view.record.history[0].switch_lsn, Lsn(67_393_936));
    assert_eq!((view.record.epoch, view.record.ttl_ms), (0, 0));
    assert_eq!(view.record.resource_version.as_deref(), Some("5"));
}

#[test]
fn a_missing_object_or_annotation_is_missing() {
    let (last, _) = read(recorded(), &ConfigView::default());
    assert_eq!(
        decode(None, &last, &resolve, &mut Vec::new()),
        ConfigView::default()
    );
    let (view, problems) = read(json!(null), &last);
    assert_eq!(
        (view.record.rules, view.record.history.len(), problems.len()),
        (None, 0, 0)
    );
    assert_eq!(view.record.initialize, Initialize::Never);
}

#[test]
fn malformed_annotations_keep_the_last_good_value_and_say_so() {
    let (last, _) = read(recorded(), &ConfigView::default());
    let mut bad = recorded();
    for (key, value) in [
        ("config", "{\"ttl\":"),
        ("history", "[[1]]"),
        ("pgwarden.io/timeline", "-1"),
        ("pgwarden.io/epoch", "many"),
        ("pgwarden.io/ttl-ms", "99999999999"),
    ] {
        bad[key] = json!(value);
    }
    let (view, problems) = read(bad, &last);
    assert_eq!(view.record.rules, last.record.rules);
    assert_eq!(view.raw, last.raw);
    assert_eq!(view.record.history, last.record.history);
    let places: Vec<_> = problems
        .iter()
        .map(|problem| problem.place.as_str())
        .collect();
    assert_eq!(
        places,
        [
            "bench-config/config",
            "bench-config/history",
            "bench-config/pgwarden.io/timeline",
            "bench-config/pgwarden.io/epoch",
            "bench-config/pgwarden.io/ttl-ms"
        ]
    );
    for config in ["[]", "7", "{\"ttl\":\"x\"}"] {
        let (view, problems) = read(json!({ "config": config }), &last);
        assert_eq!(
            (view.record.rules, problems.len()),
            (last.record.rules.clone(), 1),
            "{config}"
        );
    }
}

#[test]
fn initialize_names_the_bootstrapper_or_the_system() {
    for (text, expected) in [
        ("", Initialize::Running(String::new())),
        (
            "pg-0 (pod u, incarnation i)",
            Initialize::Running("pg-0 (pod u, incarnation i)".to_owned()),
        ),
        (
            "7711060383094632475",
            Initialize::Done("7711060383094632475".to_owned()),
        ),
    ] {
        let (view, _) = read(json!({ "initialize": text }), &ConfigView::default());
        assert_eq!(view.record.initialize, expected);
        assert_eq!(
            initialize_notes(&expected),
            [(INITIALIZE, Some(text.to_owned()))]
        );
    }
    assert_eq!(initialize_notes(&Initialize::Never), [(INITIALIZE, None)]);
}

#[test]
fn history_entries_of_three_four_and_five_elements() {
    let list = history("[[1,10,\"a\"],[2,20,\"b\",\"t\"],[3,30,\"c\",\"t\",\"pg-1\"]]").unwrap();
    assert_eq!(list.len(), 3);
    assert_eq!(
        (&list[0].at, &list[1].at, &list[1].new_leader),
        (&None, &Some("t".to_owned()), &None)
    );
    assert_eq!(
        history_text(&list),
        "[[1,10,\"a\"],[2,20,\"b\",\"t\"],[3,30,\"c\",\"t\",\"pg-1\"]]"
    );
    for bad in [
        "",
        "{}",
        "[1]",
        "[[1,2]]",
        "[[0,1,\"a\"]]",
        "[[1,-1,\"a\"]]",
        "[[1,1,2]]",
        "[[1,1,\"a\",1]]",
    ] {
        assert!(history(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn every_history_reads_back(
        lines in proptest::collection::vec(
            (1_u32.., any::<u64>(), any::<String>(), any::<Option<String>>(), any::<Option<String>>()), 0..5)
    ) {
        let list: Vec<HistoryEntry> = lines.into_iter().map(|(timeline, lsn, reason, at, new_leader)| {
            HistoryEntry { timeline, switch_lsn: Lsn(lsn), reason, at, new_leader }
        }).collect();
        prop_assert_eq!(history(&history_text(&list)), Ok(list));
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let garbage = json!({ "config": text, "history": text, "pgwarden.io/epoch": text });
        read(garbage, &ConfigView::default());
    }
}

#[test]
fn an_epoch_that_nobody_elects_to_keeps_the_last_good_one() {
    let (last, _) = read(recorded(), &ConfigView::default());
    let mut bad = recorded();
    bad["pgwarden.io/epoch"] = json!("2147483647");
    let (view, problems) = read(bad, &last);
    assert_eq!(view.record.epoch, last.record.epoch);
    assert_eq!(problems.len(), 1, "{problems:?}");
}
