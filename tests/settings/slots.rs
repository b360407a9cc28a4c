//! `slots` and `ignore_slots` of the dynamic configuration: what people write, and what is wrong
//! with it.

use crate::support::{LEAST, good, has, problems};
use pgwarden::ha::slots::{ClusterType, Permanent, SlotKind};

fn with(dcs: &str) -> String {
    format!("{LEAST}bootstrap: {{dcs: {{{dcs}}}}}\n")
}

fn physical(cluster_type: Option<ClusterType>) -> Permanent {
    Permanent {
        kind: SlotKind::Physical,
        cluster_type,
    }
}

#[test]
fn slots_are_written_in_patronis_ways() {
    let dcs = good(&with(
        "slots: {a: {}, b: 0, c: {type: physical, cluster_type: standby}, d: {type: logical, \
         database: app, plugin: pgoutput}, e: {database: app, plugin: pgoutput}, f: null}",
    ))
    .bootstrap
    .dcs;
    let logical = Permanent {
        kind: SlotKind::Logical {
            database: "app".into(),
            plugin: "pgoutput".into(),
        },
        cluster_type: None,
    };
    let wanted = [
        ("a", physical(None)),
        ("b", physical(None)),
        ("c", physical(Some(ClusterType::Standby))),
        ("d", logical.clone()),
        ("e", logical),
    ];
    let wanted = wanted.map(|(name, slot)| (name.to_owned(), slot));
    assert_eq!(dcs.slots.into_iter().collect::<Vec<_>>(), wanted);
    // The older names count before the newer one.
    let dcs = good(&with("permanent_slots: {old: {}}, slots: {new: {}}")).bootstrap;
    assert!(dcs.dcs.slots.contains_key("old"), "{:?}", dcs.dcs.slots);
    assert!(!dcs.dcs.slots.contains_key("new"), "{:?}", dcs.dcs.slots);
}

#[test]
fn what_is_wrong_with_a_slot_is_named() {
    let long = "x".repeat(64);
    let said = problems(&with(&format!(
        "slots: {{My-Slot: {{}}, {long}: {{}}, a: {{type: both}}, b: {{type: logical}}, \
         c: {{type: logical, database: app}}, d: [1], e: {{type: physical, cluster_type: both}}, \
         f: {{typ: physical}}}}, ignore_slots: [{{}}, 7, {{name: [a]}}, {{nme: a}}]"
    )));
    for (field, word) in [
        ("slots.My-Slot:", "expected 1 to 63 small letters"),
        (&format!("slots.{long}:"), "expected 1 to 63 small letters"),
        ("slots.a.type:", "expected physical or logical"),
        ("slots.b.database:", "expected the name of a database"),
        ("slots.c.plugin:", "expected an output plugin"),
        ("slots.d:", "expected a map"),
        ("slots.e.cluster_type:", "expected primary or standby"),
        ("slots.f.typ:", "unknown key"),
        ("ignore_slots[0]:", "it says nothing"),
        ("ignore_slots[1]:", "expected a map"),
        ("ignore_slots[2].name:", "expected the name of a slot"),
        ("ignore_slots[3]:", "it says nothing"),
    ] {
        let kind = if field.ends_with("typ:") {
            "warning"
        } else {
            "error"
        };
        has(&said, &format!("{kind}: bootstrap.dcs.{field}"), word);
    }
    has(
        &problems(&with("slots: [a]")),
        "error: bootstrap.dcs.slots:",
        "expected a map of slots by name",
    );
}

#[test]
fn a_slot_that_is_not_made_is_warned_of() {
    let logical = "slots: {d: {type: logical, database: app, plugin: pgoutput}}";
    let said = problems(&with(&format!(
        "{logical}, postgresql: {{parameters: {{wal_level: replica}}}}"
    )));
    has(&said, "warning: bootstrap.dcs.slots:", "wal_level");
    let said = problems(&with(&format!(
        "{logical}, postgresql: {{use_slots: false}}"
    )));
    has(&said, "warning: bootstrap.dcs.slots:", "use_slots is false");
}
