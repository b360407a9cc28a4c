//! Logical slots of the leader on a replica: when they are fetched, when its server restarts for
//! them, and what a promotion says.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::conditions::{acknowledge, directory, edit_rules, shared_seen, tick};
use super::slots::{advance, changes, feed, logical, publish, replica_of_b, rules_with, see, slot};
use super::*;
use pgwarden::ha::effect::Stop;
use pgwarden::ha::event::Op;
use pgwarden::ha::slots::{SlotChange, SlotFacts, SlotKind};
use std::collections::{BTreeMap, BTreeSet};

const SECOND: u64 = 1_000;

fn names(slots: &[&str]) -> BTreeSet<String> {
    slots.iter().map(|name| (*name).to_owned()).collect()
}

/// A replica of `b`, which has a logical slot.
fn replica_without_feed() -> State {
    let mut state = replica_of_b();
    let slots = rules_with(&[("feed", logical())]);
    edit_rules(&mut state, START + 12, |rules| rules.slots = slots);
    publish(
        &mut state,
        &[("b", 95), ("c", 60), ("feed", 90)],
        51,
        START + 15,
    );
    state
}

fn members() -> Vec<SlotFacts> {
    let slot = |name: &str, at| SlotFacts {
        name: name.into(),
        kind: SlotKind::Physical,
        ..feed(at)
    };
    vec![slot("b", 95), slot("c", 60), slot("d", 50)]
}

/// A reading of the running replica, whose leader renews.
fn look(state: &mut State, more: Vec<SlotFacts>, now: u64) -> Vec<Effect> {
    let version = 52 + now - START;
    let mut effects = publish(state, &[("b", 95), ("c", 60), ("feed", 90)], version, now);
    let slots = members().into_iter().chain(more).collect();
    effects.extend(see(state, true, slots, now));
    effects
}

fn fetched(effects: &[Effect]) -> Option<(&str, Lsn)> {
    effects.iter().find_map(|effect| match effect {
        Effect::FetchSlots { from, reached, .. } => Some((from.as_str(), *reached)),
        _ => None,
    })
}

fn given(state: &mut State, slots: &[&str], now: u64) -> Vec<Effect> {
    let slots = names(slots);
    let failed = slots.is_empty().then(|| "its WAL is not here".to_owned());
    step(state, Event::SlotsFetched { slots, failed }, now)
}

fn stops(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Stop { how: Stop::Fast })
}

/// When it stops for a copy, counted from the first look; every question is answered at once.
fn restarts_after(state: &mut State, until_s: u64) -> Option<u64> {
    for second in 0..until_s {
        let now = START + (100 + second) * SECOND;
        let mut effects = look(state, vec![], now);
        if fetched(&effects).is_some() {
            effects.extend(given(state, &["feed"], now + 1));
        }
        if stops(&effects) {
            return Some(second);
        }
    }
    None
}

#[test]
fn what_can_be_copied_is_worth_one_restart_and_what_cannot_is_worth_none() {
    let mut state = replica_without_feed();
    let effects = look(&mut state, vec![], START + 20);
    assert_eq!(fetched(&effects), Some(("b", Lsn(100))));
    assert!(!stops(&effects), "not before it is known what there is");
    let effects = given(&mut state, &[], START + 30);
    assert!(
        cites(&effects, Rule::Slots) && !stops(&effects),
        "{effects:?}"
    );
    // It is tried again, not at every look.
    assert_eq!(fetched(&look(&mut state, vec![], START + 5 * SECOND)), None);
    let effects = look(&mut state, vec![], START + 20 * SECOND);
    assert!(fetched(&effects).is_some());
    let effects = given(&mut state, &["feed"], START + 20 * SECOND + 10);
    let stopped = effects
        .into_iter()
        .chain(look(&mut state, vec![], START + 21 * SECOND))
        .collect::<Vec<_>>();
    assert!(stops(&stopped), "{stopped:?}");

    // Down: the copies first, then the start.
    let at = START + 22 * SECOND;
    let why = "asked".to_owned();
    step(&mut state, Event::PostmasterGone { why }, at);
    let data = directory(ControlState::ShutDownInRecovery, true);
    let effects = step(&mut state, Event::DataSeen(data), at + 1);
    let put = Effect::PutSlots {
        slots: names(&["feed"]),
    };
    assert!(effects.contains(&put), "{effects:?}");
    let starts = |effects: &[Effect]| {
        let start = |effect: &Effect| matches!(effect, Effect::StartReplica { .. });
        effects.iter().any(start)
    };
    assert!(!starts(&effects));
    let (op, result) = (Op::PutSlots, Err("the disk is full".to_owned()));
    let effects = step(&mut state, Event::OpDone { op, result }, at + 20);
    assert!(starts(&effects), "whatever became of them: {effects:?}");

    // The slot did not come with it: not again for a while.
    step(
        &mut state,
        Event::PostmasterRuns { as_primary: false },
        at + 30,
    );
    let (op, result) = (Op::StartReplica, Ok(()));
    step(&mut state, Event::OpDone { op, result }, at + 40);
    let restarted = restarts_after(&mut state, 900).unwrap();
    assert!((500..=620).contains(&restarted), "after {restarted} s");
}

#[test]
fn replicas_restart_one_after_the_other_and_the_only_synchronous_one_last() {
    let mut first = replica_without_feed();
    assert_eq!(restarts_after(&mut first, 100), Some(0));

    let mut second = replica_without_feed();
    let mut shared = second.shared.as_deref().cloned().unwrap();
    let other = shared.members.remove("c").unwrap();
    shared.members.insert("Z".into(), other);
    shared_seen(&mut second, shared, true, START + 16);
    let after = restarts_after(&mut second, 100).unwrap();
    assert!((15..=20).contains(&after), "after {after} s");

    let mut alone = replica_without_feed();
    let mut shared = alone.shared.as_deref().cloned().unwrap();
    shared.sync.leader = Some("b".into());
    shared.sync.standbys = vec!["a".into()];
    let rules = shared.config.rules.as_mut().unwrap();
    rules.synchronous_mode = true;
    shared_seen(&mut alone, shared, true, START + 16);
    let after = restarts_after(&mut alone, 200).unwrap();
    assert!((60..=70).contains(&after), "after {after} s");
}

#[test]
fn nobody_restarts_while_another_is_down_a_failover_is_asked_for_or_all_is_paused() {
    let restarts = |change: fn(&mut Shared)| {
        let mut state = replica_without_feed();
        let mut shared = state.shared.as_deref().cloned().unwrap();
        change(&mut shared);
        shared_seen(&mut state, shared, true, START + 16);
        restarts_after(&mut state, 100).is_some()
    };
    assert!(restarts(|_| ()));
    assert!(!restarts(|shared| {
        shared.members.get_mut("c").unwrap().state = "stopped".into();
    }));
    assert!(!restarts(|shared| shared.failover.to = Some("c".into())));
    assert!(!restarts(|shared| {
        shared.config.rules.as_mut().unwrap().pause = true;
    }));
}

#[test]
fn a_replica_that_starts_anyway_brings_copies_with_it() {
    let mut state = replica_without_feed();
    let why = "killed".to_owned();
    step(&mut state, Event::PostmasterGone { why }, START + 20);
    let data = directory(ControlState::ShutDownInRecovery, true);
    let effects = step(&mut state, Event::DataSeen(data), START + 21);
    assert_eq!(fetched(&effects), Some(("b", Lsn(100))));
    // An answer that does not come is no reason to stay down.
    let starts = |effects: &[Effect]| {
        let start = |effect: &Effect| matches!(effect, Effect::StartReplica { .. });
        effects.iter().any(start)
    };
    assert!(!starts(&effects) && !starts(&tick(&mut state, START + 500)));
    for second in 1..6 {
        publish(
            &mut state,
            &[("feed", 90)],
            60 + second,
            START + second * SECOND,
        );
    }
    publish(&mut state, &[("feed", 90)], 70, START + 9 * SECOND);
    let effects = tick(&mut state, START + 10_100);
    assert!(starts(&effects), "{effects:?}");
}

#[test]
fn a_copy_is_moved_where_its_consumer_has_come_and_one_of_no_use_is_replaced() {
    let mut state = replica_without_feed();
    let effects = look(&mut state, vec![feed(70)], START + 20);
    let moved = SlotChange::Advance {
        name: "feed".into(),
        database: Some("app".into()),
        to: Lsn(90),
    };
    assert_eq!(changes(&effects), [moved]);
    assert_eq!(fetched(&effects), None);
    let (broken, failed) = (names(&["feed"]), None);
    step(&mut state, Event::SlotsSet { broken, failed }, START + 30);
    let effects = look(&mut state, vec![feed(70)], START + 2 * SECOND);
    let name = "feed".to_owned();
    assert_eq!(changes(&effects), [SlotChange::Drop { name }]);
    // On a primary it is nobody's copy.
    assert!(!state.slots.broken.contains("feed"));
    assert_ne!(changes(&effects), [advance("feed", 90)]);
}

#[test]
fn a_promotion_says_which_logical_slots_may_not_be_trusted() {
    // Confirmed, and past where the leader's was then; not past it; never confirmed; not there.
    let cases = [
        (Some(80), vec![feed(85)], None),
        (Some(88), vec![feed(85)], Some("copied a moment ago, feed")),
        (None, vec![feed(85)], Some("copied a moment ago, feed")),
        (None, vec![], Some("never copied here, feed")),
    ];
    for (confirmed, slots, told) in cases {
        let mut state = replica_without_feed();
        let effects = look(&mut state, slots.clone(), START + 20);
        let asked = effects.iter().any(|effect| {
            matches!(effect, Effect::ConfirmSlots { with, through, .. } if with == "b" && through == "a")
        });
        assert_eq!(asked, !slots.is_empty(), "{effects:?}");
        if let Some(at) = confirmed {
            let positions = BTreeMap::from([("feed".to_owned(), Lsn(at))]);
            step(&mut state, Event::SlotsConfirmed { positions }, START + 30);
            look(&mut state, slots, START + 40);
        }
        let released = snapshot(LockState::Released(release("b", 4)), 999_000);
        read(&mut state, released.clone(), START + 500);
        let effects = read(&mut state, released, START + 505);
        assert!(!lock_writes(&effects).is_empty(), "{effects:?}");
        acknowledge(&mut state, 999_001, START + 510);
        let shared = state.shared.as_deref().cloned().unwrap();
        let effects = shared_seen(&mut state, shared, true, START + 515);
        assert!(effects.contains(&promote()), "{effects:?}");
        let words: Vec<&String> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Explain {
                    rule: Rule::Slots,
                    words,
                } => Some(words),
                _ => None,
            })
            .collect();
        match told {
            None => assert!(words.is_empty(), "{words:?}"),
            Some(told) => assert!(words.iter().any(|w| w.contains(told)), "{words:?}"),
        }
    }
}
#[test]
fn slots_that_the_server_itself_brings_are_left_to_it() {
    let mut state = replica_of_b();
    state.rules.slots = rules_with(&[("feed", logical())]);
    publish(
        &mut state,
        &[("b", 95), ("c", 60), ("feed", 90)],
        51,
        START + 15,
    );
    let own = SlotFacts {
        by_server: true,
        ..feed(10)
    };
    let there = vec![own, slot("b", 95), slot("c", 60), slot("d", 60)];
    let effects = see(&mut state, true, there, START + 20);
    assert_eq!(changes(&effects), []);
    let stops = |effect: &Effect| matches!(effect, Effect::Stop { how: Stop::Fast });
    assert!(!effects.iter().any(stops));
    assert_eq!(state.pg.op, None::<Op>);
}
