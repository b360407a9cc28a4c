//! Replication slots: what is made, moved, dropped and published, and by whom.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::conditions::{acknowledge, edit_rules, leader, member, shared_seen, tick};
use super::*;
use pgwarden::ha::slots::{
    ClusterType, Permanent, SlotChange, SlotFacts, SlotKind, SlotPattern, SlotRules,
};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn logical() -> SlotKind {
    SlotKind::Logical {
        database: "app".into(),
        plugin: "pgoutput".into(),
    }
}

pub(crate) fn slot(name: &str, position: u64) -> SlotFacts {
    SlotFacts {
        name: name.into(),
        kind: SlotKind::Physical,
        active: false,
        position: Some(Lsn(position)),
        lost: false,
        holds_xmin: false,
        by_server: false,
    }
}

pub(crate) fn feed(position: u64) -> SlotFacts {
    SlotFacts {
        kind: logical(),
        ..slot("feed", position)
    }
}

fn used(name: &str, position: u64) -> SlotFacts {
    SlotFacts {
        active: true,
        ..slot(name, position)
    }
}

pub(crate) fn rules_with(slots: &[(&str, SlotKind)]) -> SlotRules {
    let permanent = slots.iter().map(|(name, kind)| {
        let slot = Permanent {
            kind: kind.clone(),
            cluster_type: None,
        };
        ((*name).to_owned(), slot)
    });
    SlotRules {
        permanent: permanent.collect(),
        ..SlotRules::default()
    }
}

/// The probe shows these slots; what is ordered.
pub(crate) fn see(
    state: &mut State,
    in_recovery: bool,
    slots: Vec<SlotFacts>,
    now: u64,
) -> Vec<Effect> {
    let facts = PgFacts {
        slots: Some(slots),
        replay_lsn: in_recovery.then_some(Lsn(100)),
        asked_at: now,
        ..facts(in_recovery)
    };
    if let Some(held) = &mut state.lease.held {
        held.until = u64::MAX;
    }
    step(state, Event::PgSeen(facts), now)
}

pub(crate) fn changes(effects: &[Effect]) -> Vec<SlotChange> {
    let found = effects.iter().find_map(|effect| match effect {
        Effect::SetSlots { changes } => Some(changes.clone()),
        _ => None,
    });
    found.unwrap_or_default()
}

/// The order is carried out.
pub(crate) fn carried_out(state: &mut State, now: u64) {
    let (broken, failed) = (BTreeSet::new(), None);
    step(state, Event::SlotsSet { broken, failed }, now);
}

fn create(name: &str, kind: SlotKind) -> SlotChange {
    let name = name.into();
    SlotChange::Create { name, kind }
}

fn discard(name: &str) -> SlotChange {
    SlotChange::Drop { name: name.into() }
}

pub(crate) fn advance(name: &str, to: u64) -> SlotChange {
    SlotChange::Advance {
        name: name.into(),
        database: None,
        to: Lsn(to),
    }
}

#[test]
fn a_leader_makes_what_is_missing_and_touches_nothing_of_others() {
    let (mut state, sent_at) = leader();
    let slots = rules_with(&[("site_b", SlotKind::Physical), ("feed", logical())]);
    edit_rules(&mut state, sent_at + 10, |rules| rules.slots = slots);
    let strangers = SlotFacts {
        holds_xmin: true,
        ..slot("strangers", 7)
    };
    let effects = see(&mut state, false, vec![strangers.clone()], sent_at + 20);
    let made = [
        create("b", SlotKind::Physical),
        create("c", SlotKind::Physical),
        create("site_b", SlotKind::Physical),
        // What may wait for transactions does not hold up the others.
        create("feed", logical()),
    ];
    assert_eq!(changes(&effects), made);
    let owned: Vec<&str> = state.slots.owned.iter().map(String::as_str).collect();
    assert_eq!(
        owned,
        ["b", "c", "feed", "site_b"],
        "known before they are there"
    );
    // Nothing more is ordered before that is answered, nor on a reading from before.
    let effects = see(&mut state, false, vec![strangers.clone()], sent_at + 2_000);
    assert_eq!(changes(&effects), []);
    carried_out(&mut state, sent_at + 3_000);
    let members = [used("b", 90), used("c", 90)];
    let mut there = vec![strangers, slot("site_b", 80), feed(70)];
    there.extend(members);
    let effects = see(&mut state, false, there, sent_at + 3_100);
    assert_eq!(changes(&effects), []);
}

#[test]
fn the_slot_of_a_member_that_is_gone_is_kept_for_a_while() {
    let (mut state, sent_at) = leader();
    let mut shared = state.shared.as_deref().cloned().unwrap();
    shared.members.remove("b");
    let there = || vec![slot("b", 50), used("c", 90)];
    see(&mut state, false, there(), sent_at + 10);
    shared_seen(&mut state, shared, true, sent_at + 11);
    for minute in 1..40 {
        let effects = see(&mut state, false, there(), sent_at + minute * 60_000);
        let kept = changes(&effects).is_empty();
        assert_eq!(kept, minute <= 30, "minute {minute}: {effects:?}");
        carried_out(&mut state, sent_at + minute * 60_000 + 1);
    }
}

#[test]
fn no_slot_is_kept_for_a_member_that_took_its_wal_from_an_archive() {
    // Found by review: when its Pod went, a slot was made for it that nothing would move.
    let (mut state, sent_at) = leader();
    let mut shared = state.shared.as_deref().cloned().unwrap();
    let tags = [("nostream".to_owned(), "true".to_owned())];
    shared.members.get_mut("b").unwrap().tags = tags.into();
    state.lock.slots.retained = ["b".to_owned()].into();
    state.slots.seen_in = None;
    shared_seen(&mut state, shared.clone(), true, sent_at + 10);
    see(&mut state, false, vec![used("c", 90)], sent_at + 20);
    shared.members.remove("b");
    shared_seen(&mut state, shared, true, sent_at + 30);
    let effects = see(&mut state, false, vec![used("c", 90)], sent_at + 2_000);
    assert_eq!(changes(&effects), []);
    assert!(!state.slots.seen.contains_key("b"), "nor told to others");
}

#[test]
fn a_new_leader_keeps_what_the_one_before_kept() {
    let (mut state, sent_at) = leader();
    // Published by the leader before; "d" has had no Pod for a while.
    state.lock.slots.retained = ["b", "d"].map(str::to_owned).into();
    state.slots.seen_in = None;
    let effects = see(
        &mut state,
        false,
        vec![used("b", 9), used("c", 9), slot("d", 9)],
        sent_at + 9,
    );
    assert_eq!(changes(&effects), []);
    assert!(state.slots.seen.contains_key("d"));
    // My own publication of it does not keep it for ever.
    state.lock.slots.retained.insert("d".into());
    let late = sent_at + 1_900_000;
    let effects = see(
        &mut state,
        false,
        vec![used("b", 9), used("c", 9), slot("d", 9)],
        late,
    );
    assert_eq!(changes(&effects), [discard("d")]);
}

#[test]
fn what_is_ours_and_not_wanted_goes_unless_it_is_used_ignored_or_all_is_paused() {
    let (mut state, sent_at) = leader();
    let old = || vec![used("b", 9), used("c", 9), slot("old", 9)];
    // After a restart of the agent: it was made here, or a leader published it.
    for by_file in [true, false] {
        let mut state = state.clone();
        if by_file {
            state.slots.owned.insert("old".into());
        } else {
            state.lock.slots.positions.insert("old".into(), Lsn(9));
        }
        let mut in_use = state.clone();
        let effects = see(&mut state, false, old(), sent_at + 20);
        assert_eq!(changes(&effects), [discard("old")], "by file: {by_file}");
        let slots = vec![used("b", 9), used("c", 9), used("old", 9)];
        let effects = see(&mut in_use, false, slots, sent_at + 20);
        assert_eq!(changes(&effects), []);
    }
    let effects = see(&mut state.clone(), false, old(), sent_at + 20);
    assert_eq!(changes(&effects), [], "a stranger's");
    state.slots.owned.insert("old".into());
    let mut paused = state.clone();
    paused.rules.pause = true;
    assert_eq!(changes(&see(&mut paused, false, old(), sent_at + 20)), []);
    let pattern = SlotPattern {
        name: Some("old".into()),
        ..SlotPattern::default()
    };
    state.rules.slots.ignore = vec![pattern];
    assert_eq!(changes(&see(&mut state, false, old(), sent_at + 20)), []);
}

#[test]
fn what_was_invalidated_begins_anew_and_is_said_once() {
    let (mut state, sent_at) = leader();
    state.rules.slots = rules_with(&[("feed", logical())]);
    let lost = |facts: SlotFacts| SlotFacts {
        lost: true,
        ..facts
    };
    let slots = vec![lost(slot("b", 9)), used("c", 9), lost(feed(9))];
    let effects = see(&mut state, false, slots, sent_at + 20);
    let anew = [
        discard("b"),
        create("b", SlotKind::Physical),
        discard("feed"),
        create("feed", logical()),
    ];
    assert_eq!(changes(&effects), anew);
    let said = |effects: &[Effect], what: &str| {
        let says = |effect: &&Effect| matches!(effect, Effect::Explain { words, .. } if words.contains(what));
        effects.iter().filter(says).count()
    };
    assert_eq!(said(&effects, "has missed changes"), 1, "{effects:?}");
    let slots = vec![slot("b", 99), used("c", 9), feed(99)];
    carried_out(&mut state, sent_at + 2_000);
    let effects = see(&mut state, false, slots, sent_at + 2_001);
    assert_eq!((changes(&effects), said(&effects, "slot")), (vec![], 0));
}

#[test]
fn what_a_standby_of_before_left_in_a_slot_holds_no_vacuum_back() {
    let holds = |facts: SlotFacts| SlotFacts {
        holds_xmin: true,
        ..facts
    };
    let cleared = [discard("b"), create("b", SlotKind::Physical)];
    let (mut state, sent_at) = leader();
    let slots = || vec![holds(slot("b", 90)), holds(used("c", 90))];
    // Just promoted: its standbys are on their way.
    assert_eq!(changes(&see(&mut state, false, slots(), sent_at + 20)), []);
    let effects = see(&mut state, false, slots(), sent_at + 13_000);
    assert_eq!(changes(&effects), cleared);
    carried_out(&mut state, sent_at + 13_030);
    // Who has streamed from me and is away for a moment keeps its own.
    let slots = vec![used("b", 90), holds(slot("c", 90))];
    assert_eq!(
        changes(&see(&mut state, false, slots, sent_at + 20_000)),
        []
    );
    // A former leader that follows: the same.
    let mut replica = replica_of_b();
    let slots = vec![holds(slot("b", 90)), slot("c", 90), slot("d", 90)];
    assert_eq!(
        changes(&see(&mut replica, true, slots, START + 200)),
        cleared
    );
}

/// `b` leads and publishes; `a` and `c` follow.
pub(crate) fn replica_of_b() -> State {
    let mut state = replica();
    let mut shared = state.shared.as_deref().cloned().unwrap();
    (shared.config.epoch, shared.config.ttl_ms) = (4, 6_000);
    for (name, role) in [("a", "replica"), ("b", "primary"), ("c", "replica")] {
        let facts = Member {
            pod_uid: format!("uid-{name}"),
            timeline: Some(1),
            ..member("running", role)
        };
        shared.members.insert(name.into(), facts);
    }
    shared_seen(&mut state, shared, true, START + 5);
    publish(
        &mut state,
        &[("a", 80), ("b", 95), ("c", 60)],
        50,
        START + 10,
    );
    state
}

/// The leader renews, with these positions.
pub(crate) fn publish(
    state: &mut State,
    positions: &[(&str, u64)],
    version: u64,
    now: u64,
) -> Vec<Effect> {
    let mut lock = held("b", 4, version);
    for (name, at) in positions {
        lock.slots.positions.insert((*name).into(), Lsn(*at));
    }
    lock.slots.retained = ["a", "b", "c", "d"].map(str::to_owned).into();
    read(state, lock, now)
}

#[test]
fn a_replica_has_the_slots_of_the_others_and_moves_them_where_the_leader_says() {
    let mut state = replica_of_b();
    let slots = rules_with(&[("site_b", SlotKind::Physical)]);
    edit_rules(&mut state, START + 15, |rules| rules.slots = slots);
    let effects = see(&mut state, true, vec![], START + 20);
    let made = ["b", "c", "d", "site_b"].map(|name| create(name, SlotKind::Physical));
    assert_eq!(changes(&effects), made, "mine is on the others");
    carried_out(&mut state, START + 30);
    publish(
        &mut state,
        &[("b", 120), ("c", 60), ("site_b", 40)],
        51,
        START + 40,
    );
    let there = vec![
        slot("b", 50),
        slot("c", 50),
        used("d", 10),
        slot("site_b", 55),
    ];
    let effects = see(&mut state, true, there, START + 2_000);
    // No further than I have replayed, never back, and nothing that is in use.
    assert_eq!(changes(&effects), [advance("b", 100), advance("c", 60)]);
    carried_out(&mut state, START + 2_100);
    // Gone from the record and from the members.
    let mut shared = state.shared.as_deref().cloned().unwrap();
    shared.members.remove("c");
    shared_seen(&mut state, shared, true, START + 2_200);
    let mut lock = held("b", 4, 52);
    lock.slots.retained = ["a", "b"].map(str::to_owned).into();
    read(&mut state, lock, START + 2_300);
    let there = vec![slot("b", 100), slot("c", 60), slot("site_b", 55)];
    let effects = see(&mut state, true, there, START + 4_000);
    assert_eq!(changes(&effects), [discard("c")]);
}

#[test]
fn without_a_leader_and_with_slots_off_nothing_is_changed() {
    let mut state = replica_of_b();
    state.rules.slots.off = true;
    assert_eq!(changes(&see(&mut state, true, vec![], START + 20)), []);
    let mut state = replica();
    assert_eq!(changes(&see(&mut state, true, vec![], START + 20)), []);
    let (mut state, sent_at) = leader();
    state.rules.slots.off = true;
    state.slots.owned.insert("b".into());
    assert_eq!(
        changes(&see(&mut state, false, vec![slot("b", 9)], sent_at + 20)),
        []
    );
}

#[test]
fn a_leader_publishes_how_far_each_slot_is_and_its_own_position() {
    let (mut state, sent_at) = leader();
    state.rules.slots = rules_with(&[("site_b", SlotKind::Physical), ("feed", logical())]);
    let lost = SlotFacts {
        lost: true,
        ..slot("site_b", 1)
    };
    let slots = vec![
        used("b", 90),
        slot("c", 80),
        feed(70),
        lost,
        slot("strangers", 5),
    ];
    std::sync::Arc::make_mut(state.shared.as_mut().unwrap())
        .members
        .insert("a".into(), member("running", "primary"));
    see(&mut state, false, slots, sent_at + 20);
    let effects = tick(&mut state, sent_at + 1_100);
    let writes = lock_writes(&effects);
    let [LockWrite::Renew { claim, .. }] = writes[..] else {
        panic!("{effects:?}");
    };
    let expected: BTreeMap<String, Lsn> = [("a", 100), ("b", 90), ("c", 80), ("feed", 70)]
        .map(|(name, at)| (name.to_owned(), Lsn(at)))
        .into();
    assert_eq!(claim.slots.positions, expected);
    let retained: Vec<&str> = claim.slots.retained.iter().map(String::as_str).collect();
    assert_eq!(retained, ["a", "b", "c"]);
    acknowledge(&mut state, 52, sent_at + 1_110);
    // While its server does not run, what was published stands.
    let published = claim.slots.clone();
    state.lock.slots = published.clone();
    let why = "killed".to_owned();
    step(&mut state, Event::PostmasterGone { why }, sent_at + 1_200);
    let effects = tick(&mut state, sent_at + 2_300);
    for write in lock_writes(&effects) {
        if let LockWrite::Renew { claim, .. } = write {
            assert_eq!(claim.slots, published);
        }
    }
}

#[test]
fn a_permanent_slot_is_made_in_its_kind_of_cluster_and_never_for_myself() {
    let (mut state, sent_at) = leader();
    let mut slots = rules_with(&[("there", SlotKind::Physical), ("a", SlotKind::Physical)]);
    slots.permanent.get_mut("there").unwrap().cluster_type = Some(ClusterType::Standby);
    state.rules.slots = slots;
    let there = || vec![used("b", 9), used("c", 9)];
    assert_eq!(changes(&see(&mut state, false, there(), sent_at + 20)), []);
    let only = Some(ClusterType::Primary);
    let slots = &mut state.rules.slots.permanent;
    slots.get_mut("there").unwrap().cluster_type = only;
    let effects = see(&mut state, false, there(), sent_at + 2_000);
    assert_eq!(changes(&effects), [create("there", SlotKind::Physical)]);
}

#[test]
fn another_slot_under_the_name_is_replaced_only_if_it_is_ours() {
    let (mut state, sent_at) = leader();
    state.rules.slots = rules_with(&[("feed", logical())]);
    let there = || vec![used("b", 9), used("c", 9), slot("feed", 9)];
    let mut ours = state.clone();
    let effects = see(&mut state, false, there(), sent_at + 20);
    assert_eq!(changes(&effects), []);
    assert!(cites(&effects, Rule::Slots), "people are told: {effects:?}");
    let effects = see(&mut state, false, there(), sent_at + 2_000);
    assert!(!cites(&effects, Rule::Slots), "once: {effects:?}");
    ours.slots.owned.insert("feed".into());
    let effects = see(&mut ours, false, there(), sent_at + 20);
    let replaced = [discard("feed"), create("feed", logical())];
    assert_eq!(changes(&effects), replaced);
}

#[test]
fn names_that_clash_are_told_and_a_member_comes_first() {
    let (mut state, sent_at) = leader();
    let slots = rules_with(&[("b", logical())]);
    edit_rules(&mut state, sent_at + 9, |rules| rules.slots = slots);
    let mut shared = state.shared.as_deref().cloned().unwrap();
    shared
        .members
        .insert("C".into(), member("running", "replica"));
    let mut effects = shared_seen(&mut state, shared, true, sent_at + 10);
    effects.extend(see(&mut state, false, vec![], sent_at + 20));
    let made = ["b", "c"].map(|name| create(name, SlotKind::Physical));
    assert_eq!(changes(&effects), made);
    let told = |what: &str| {
        effects
            .iter()
            .any(|e| matches!(e, Effect::Explain { words, .. } if words.contains(what)))
    };
    assert!(told("C and c would both use"), "{effects:?}");
    assert!(told("slots.b"), "{effects:?}");
}

#[test]
fn a_member_that_another_one_feeds_holds_no_wal_back_here() {
    let (mut state, sent_at) = leader();
    let mut shared = state.shared.as_deref().cloned().unwrap();
    let fed = shared.members.get_mut("c").unwrap();
    fed.tags.insert("replicatefrom".into(), "b".into());
    fed.replication_state = Some("streaming".into());
    fed.receive_lsn = Some(Lsn(95));
    shared_seen(&mut state, shared, true, sent_at + 10);
    let there = vec![used("b", 97), slot("c", 40)];
    let effects = see(&mut state, false, there, sent_at + 20);
    assert_eq!(changes(&effects), [advance("c", 95)]);
}
