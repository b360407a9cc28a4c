//! Failsafe mode (G1): whose promises move the deadline, who promises, and whom age never admits.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::conditions::{acknowledge, edit_rules, leader, member, shared_seen, tick};
use super::*;
use pgwarden::ha::event::Ask;
use pgwarden::ha::lock::{FailsafeMap, Mapped, Outcome, Proof, ProofKind};
use pgwarden::ha::shared::SharedWrite;
use std::collections::BTreeMap;

/// F of a D of 6 s.
const KILL_MS: u64 = 5_350;

fn map_of(names: &[&str]) -> FailsafeMap {
    let mapped = |name: &&str| {
        let mapped = Mapped {
            pod_uid: format!("uid-{name}"),
            api_url: format!("http://{name}:8008/patroni"),
        };
        ((*name).to_owned(), mapped)
    };
    names.iter().map(mapped).collect()
}

/// The record of this holder, with a map of these.
fn mapped(by: &str, names: &[&str], version: u64) -> LockSnapshot {
    let LockState::Held(record) = held(by, 5, version).state else {
        unreachable!("held() makes a record that is held");
    };
    let failsafe = Some(map_of(names));
    snapshot(LockState::Held(Held { failsafe, ..record }), version)
}

/// The members as their Pods show them, and failsafe mode.
fn with_members(state: &mut State, names: &[&str], now: u64) -> Vec<Effect> {
    let mut shared = state.shared.as_deref().cloned().unwrap();
    shared.members = BTreeMap::new();
    for name in names {
        let published = Member {
            pod_uid: format!("uid-{name}"),
            api_url: format!("http://{name}:8008/patroni"),
            ..member("running", "replica")
        };
        shared.members.insert((*name).to_owned(), published);
    }
    shared.config.rules.get_or_insert_with(rules).failsafe = true;
    shared_seen(state, shared, false, now)
}

/// `a` leads with an acknowledged map; when the last acknowledged renewal left.
fn failsafe_leader(names: &[&str]) -> (State, u64) {
    let (mut state, sent_at) = leader();
    let armed = |at: u64| Event::DeadlineMoved { to: at + KILL_MS };
    step(&mut state, armed(sent_at), sent_at + 9);
    with_members(&mut state, names, sent_at + 10);
    let renews_at = sent_at + 1_000;
    let effects = tick(&mut state, renews_at);
    let maps = lock_writes(&effects).into_iter().map(|write| match write {
        LockWrite::Renew { claim, .. } => claim.failsafe.clone(),
        other => unreachable!("a leader renews: {other:?}"),
    });
    assert_eq!(maps.collect::<Vec<_>>(), [Some(map_of(names))]);
    acknowledge(&mut state, 60, renews_at + 5);
    step(&mut state, armed(renews_at), renews_at + 6);
    (state, renews_at)
}

/// Nobody answers a write of the lock.
fn time_out(state: &mut State, now: u64) -> Vec<Effect> {
    let Some(nonce) = state.lease.in_flight else {
        return Vec::new();
    };
    let outcome = Outcome::Unknown {
        why: "timeout".into(),
    };
    step(state, Event::LockWritten { nonce, outcome }, now)
}

fn asked(effects: &[Effect]) -> Option<(u64, Vec<String>)> {
    effects.iter().find_map(|effect| match effect {
        Effect::AskPromises { round, peers, .. } => Some((*round, peers.keys().cloned().collect())),
        _ => None,
    })
}

fn promised(state: &mut State, round: u64, name: &str, now: u64) -> Vec<Effect> {
    let (name, refused) = (name.to_owned(), None);
    let event = Event::Promised {
        round,
        name,
        refused,
    };
    step(state, event, now)
}

fn stops(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::Stop { .. }))
}

/// The API is gone; `answer` says what a peer says. When it stops, if it does within 10 minutes.
fn outage(
    state: &mut State,
    from: u64,
    mut answer: impl FnMut(u64, &str) -> Option<Option<String>>,
) -> Option<u64> {
    for after_ms in (0..600_000).step_by(50) {
        let now = from + after_ms;
        let mut effects = tick(state, now);
        effects.extend(time_out(state, now));
        if let Some((round, names)) = asked(&effects) {
            for name in names {
                let Some(refused) = answer(after_ms, &name) else {
                    continue;
                };
                let said = Event::Promised {
                    round,
                    name,
                    refused,
                };
                effects.extend(step(state, said, now + 3));
            }
        }
        let moved = effects.iter().filter_map(|effect| match effect {
            Effect::MoveDeadline { to } => Some(*to),
            _ => None,
        });
        for to in moved.collect::<Vec<_>>() {
            assert!(
                to <= now + KILL_MS,
                "from before the question: {to} at {now}"
            );
            step(state, Event::DeadlineMoved { to }, now + 4);
        }
        if stops(&effects) {
            return Some(after_ms);
        }
    }
    None
}

#[test]
fn a_leader_goes_on_for_as_long_as_all_promise() {
    for names in [&["a", "b", "c"][..], &["a"][..]] {
        let (mut state, from) = failsafe_leader(names);
        assert_eq!(
            outage(&mut state, from, |_, _| Some(None)),
            None,
            "{names:?}"
        );
        assert!(state.failsafe_is_active(from + 600_000));
        // The API is back.
        let now = from + 600_050;
        tick(&mut state, now);
        acknowledge(&mut state, 61, now + 5);
        assert!(!state.failsafe_is_active(now + 6));
    }
}

#[test]
fn one_that_refuses_or_is_silent_is_enough_to_stop_it_in_time() {
    let refuses = |after_ms: u64, name: &str| match name {
        "c" if after_ms > 60_000 => Some(Some("I lead".to_owned())),
        _ => Some(None),
    };
    let silent = |after_ms: u64, name: &str| (name == "b" || after_ms < 60_000).then_some(None);
    for answer in [
        &refuses as &dyn Fn(u64, &str) -> Option<Option<String>>,
        &silent,
    ] {
        let (mut state, from) = failsafe_leader(&["a", "b", "c"]);
        let stopped = outage(&mut state, from, answer).expect("it stops");
        let latest = 60_000 + 4_500 + 50;
        assert!((60_000..=latest).contains(&stopped), "after {stopped} ms");
    }
}

#[test]
fn answers_to_an_older_question_and_of_others_move_nothing() {
    let (mut state, from) = failsafe_leader(&["a", "b", "c"]);
    tick(&mut state, from + 1_000);
    let (first, _) = asked(&tick(&mut state, from + 1_750)).expect("it asks");
    promised(&mut state, first, "b", from + 1_760);
    promised(&mut state, first, "b", from + 1_761);
    promised(&mut state, first, "a stranger", from + 1_762);
    let (second, _) = asked(&tick(&mut state, from + 2_500)).expect("again");
    for name in ["b", "c"] {
        let effects = promised(&mut state, first, name, from + 2_510);
        assert!(
            !effects
                .iter()
                .any(|e| matches!(e, Effect::MoveDeadline { .. }))
        );
    }
    promised(&mut state, second, "b", from + 2_520);
    let effects = promised(&mut state, second, "c", from + 2_600);
    let to = from + 2_500 + KILL_MS;
    assert!(
        effects.contains(&Effect::MoveDeadline { to }),
        "{effects:?}"
    );
}

#[test]
fn a_write_without_a_map_that_may_be_stored_ends_it() {
    let (mut state, from) = failsafe_leader(&["a", "b", "c"]);
    edit_rules(&mut state, from + 10, |rules| rules.failsafe = false);
    let stopped = outage(&mut state, from, |_, _| Some(None));
    assert!(stopped.is_some_and(|at| at <= 4_550), "{stopped:?}");
}

#[test]
fn whoever_may_find_itself_in_a_map_is_asked() {
    let (mut state, from) = failsafe_leader(&["a", "b"]);
    with_members(&mut state, &["a", "c"], from + 10);
    // The renewal that names `c` leaves, and nobody knows whether it was stored.
    tick(&mut state, from + 1_000);
    time_out(&mut state, from + 1_700);
    let (_, names) = asked(&tick(&mut state, from + 1_750)).expect("it asks");
    assert_eq!(names, ["b", "c"]);
}

fn ask(state: &mut State, from: &str, epoch: u64, now: u64) -> Result<(), String> {
    let ask = Ask::Promise {
        holder: identity(from),
        epoch,
        ttl_ms: 6_000,
    };
    let effects = step(state, Event::Asked { id: 3, ask }, now);
    let answer = effects.iter().find_map(|effect| match effect {
        Effect::Answer {
            done: true, text, ..
        } if text == "Accepted" => Some(Ok(())),
        Effect::Answer { text, .. } => Some(Err(text.clone())),
        _ => None,
    });
    answer.expect("an answer")
}

#[test]
fn who_promised_takes_the_lock_no_earlier_than_a_whole_d_after_it() {
    let record = mapped("b", &["a", "b"], 50);
    let mut state = replica();
    read(&mut state, record.clone(), START + 10);
    assert_eq!(ask(&mut state, "b", 5, START + 5_900), Ok(()));
    assert!(state.failsafe_is_active(START + 5_900));
    let claimed_at = run_until(&mut state, &record, START + 5_900, START + 30_000).unwrap();
    assert!(claimed_at >= START + 11_900, "{claimed_at}");
    // Proof that the holder is dead is worth more than a promise.
    let mut state = replica();
    read(&mut state, record.clone(), START + 10);
    assert_eq!(ask(&mut state, "b", 5, START + 20), Ok(()));
    let proof = Proof {
        fields: record.fields.clone(),
        kind: ProofKind::Terminated,
    };
    step(&mut state, Event::ProofFound(proof), START + 30);
    assert!(run_until(&mut state, &record, START + 30, START + 2_000).is_some());
}

#[test]
fn nobody_promises_what_it_may_break() {
    let record = mapped("b", &["a", "b"], 50);
    let refusal = |state: &mut State, from: &str, epoch: u64, now: u64| {
        ask(state, from, epoch, now).expect_err("no promise")
    };
    // To a leader of before, or to another one than leads.
    let mut state = replica();
    read(&mut state, record.clone(), START + 10);
    assert!(refusal(&mut state, "b", 4, START + 20).contains("epoch 5"));
    assert!(refusal(&mut state, "c", 5, START + 20).contains("leads epoch 5"));
    // Who has sent a claim.
    let claimed_at = run_until(&mut state, &record, START + 30, START + 30_000).unwrap();
    assert!(refusal(&mut state, "b", 5, claimed_at + 10).contains("taking the lock"));
    // Who leads.
    let (mut state, from) = leader();
    assert_eq!(refusal(&mut state, "b", 9, from + 20), "I lead");
    // To one that has given the lock up.
    let mut state = replica();
    read(
        &mut state,
        snapshot(LockState::Released(release("b", 5)), 51),
        START + 10,
    );
    assert!(refusal(&mut state, "b", 5, START + 20).contains("released"));
}

#[test]
fn a_member_outside_the_map_waits_for_proof_or_a_person() {
    let record = mapped("b", &["b", "c"], 50);
    let gone = snapshot(LockState::Absent, 51);
    for shown in [record.clone(), gone] {
        let mut state = replica();
        with_members(&mut state, &["a", "b", "c"], START + 5);
        read(&mut state, record.clone(), START + 10);
        let claimed = run_until(&mut state, &shown, START + 10, START + 200_000);
        assert_eq!(claimed, None, "{shown:?}");
        // That the Pods were deleted says nothing of what runs in them.
        with_members(&mut state, &["a"], START + 200_001);
        let claimed = run_until(&mut state, &shown, START + 200_001, START + 230_000);
        assert_eq!(claimed, None, "{shown:?}");
        assert!(
            state
                .for_people()
                .is_some_and(|words| words.contains("--holder-is-dead b"))
        );
        let ask = Ask::Vouch { holder: "b".into() };
        let effects = step(&mut state, Event::Asked { id: 1, ask }, START + 230_001);
        let word = effects.iter().find_map(|effect| match effect {
            Effect::WriteShared(SharedWrite::Dead { holder, .. }) => Some(holder.clone()),
            _ => None,
        });
        let mut shared = state.shared.as_deref().cloned().unwrap();
        shared.failover.dead = Some(word.expect("it is written down"));
        shared_seen(&mut state, shared, true, START + 230_002);
        let claimed = run_until(&mut state, &shown, START + 230_002, START + 240_000);
        assert!(claimed.is_some(), "{shown:?}");
    }
    // The same name is not the same Pod.
    let mut state = replica();
    with_members(&mut state, &["a", "b", "c"], START + 5);
    let mut other = mapped("b", &["a", "b"], 50);
    if let LockState::Held(held) = &mut other.state {
        let map = held.failsafe.as_mut().unwrap();
        map.get_mut("a").unwrap().pod_uid = "uid of before".into();
    }
    read(&mut state, other.clone(), START + 10);
    let claimed = run_until(&mut state, &other, START + 10, START + 100_000);
    assert_eq!(claimed, None);
}

#[test]
fn a_later_record_without_a_map_admits_everybody_again() {
    let mut state = replica();
    with_members(&mut state, &["a", "b", "c"], START + 5);
    read(&mut state, mapped("b", &["b", "c"], 50), START + 10);
    let later = held("b", 5, 51);
    assert!(run_until(&mut state, &later, START + 20, START + 30_000).is_some());
}

#[test]
fn what_is_older_than_who_asked_or_is_remembered_proves_nothing() {
    // Found by review: a store restored to an old release, before an agent that had just started.
    let old = snapshot(LockState::Released(release("c", 3)), 40);
    let mut state = replica();
    assert_eq!(ask(&mut state, "b", 5, START + 5), Ok(()));
    read(&mut state, old.clone(), START + 10);
    see_the_cluster_again(&mut state, START + 11);
    let claimed_at = run_until(&mut state, &old, START + 11, START + 30_000);
    assert!(
        claimed_at.is_none_or(|at| at >= START + 6_005),
        "{claimed_at:?}"
    );

    let mut before = replica();
    with_members(&mut before, &["a", "b"], START + 5);
    read(&mut before, mapped("b", &["b", "c"], 50), START + 10);
    let mut state = replica();
    state.lock.recall(before.lock.memory());
    read(&mut state, old.clone(), START + 10);
    see_the_cluster_again(&mut state, START + 11);
    let claimed = run_until(&mut state, &old, START + 11, START + 100_000);
    assert_eq!(claimed, None, "it waits for proof about b, or a person");
}

#[test]
fn a_d_that_is_lowered_ends_the_questions_under_the_larger_one() {
    // Found by review.
    let (mut state, from) = failsafe_leader(&["a", "b"]);
    edit_rules(&mut state, from + 10, |rules| rules.ttl_ms = 15_000);
    tick(&mut state, from + 1_000);
    acknowledge_d(&mut state, 15_000, from + 1_010);
    let asked_at = from + 1_000 + 3_000 + 2_000;
    for at in [from + 4_000, asked_at] {
        tick(&mut state, at);
    }
    let round = state.failsafe.round.clone().expect("it asks");
    edit_rules(&mut state, asked_at + 10, |rules| rules.ttl_ms = 6_000);
    time_out(&mut state, asked_at + 20);
    for after_ms in (30..2_000).step_by(50) {
        tick(&mut state, asked_at + after_ms);
        let lowered = state.holds_until().expect("it leads");
        promised(&mut state, round.number, "b", asked_at + after_ms + 1);
        let now = state.holds_until().expect("it leads");
        if state.budgets.ttl_ms == 6_000 {
            assert!(now <= lowered, "not raised again: {lowered} to {now}");
            return;
        }
    }
    panic!("the lower ttl is not written");
}

/// The attempt in flight is stored, with this D.
fn acknowledge_d(state: &mut State, ttl_ms: u64, now: u64) {
    let nonce = state.lease.in_flight.expect("a write is in flight");
    let mut lock = held("a", 5, 70);
    if let LockState::Held(record) = &mut lock.state {
        (record.nonce, record.ttl_ms) = (nonce, ttl_ms);
    }
    let outcome = Outcome::Done(lock);
    step(state, Event::LockWritten { nonce, outcome }, now);
}

#[test]
fn a_name_that_stands_for_two_pods_ends_it() {
    // Found by review: only one of them would be asked.
    let (mut state, from) = failsafe_leader(&["a", "b"]);
    let mut shared = state.shared.as_deref().cloned().unwrap();
    shared.members.get_mut("b").unwrap().pod_uid = "another uid".into();
    shared_seen(&mut state, shared, false, from + 10);
    let stopped = outage(&mut state, from, |_, _| Some(None));
    assert!(stopped.is_some_and(|at| at <= 4_550), "{stopped:?}");
}

#[test]
fn nobody_s_word_counts_about_one_that_asks_for_promises() {
    // Found by review: its record is still by design.
    let record = mapped("b", &["b", "c"], 50);
    let mut state = replica();
    read(&mut state, record, START + 10);
    assert_eq!(ask(&mut state, "b", 5, START + 20_000), Ok(()));
    let vouch = Ask::Vouch { holder: "b".into() };
    let effects = step(
        &mut state,
        Event::Asked { id: 1, ask: vouch },
        START + 21_000,
    );
    let refused = effects.iter().any(|effect| {
        matches!(effect, Effect::Answer { done: false, text, .. } if text.contains("not dead"))
    });
    assert!(refused, "{effects:?}");
}

#[test]
fn a_promise_is_not_longer_than_any_d_that_is_known() {
    let mut state = replica();
    read(&mut state, mapped("b", &["a", "b"], 50), START + 10);
    for (epoch, ttl_ms) in [(5, 3_600_000), (u64::MAX, 6_000)] {
        let ask = Ask::Promise {
            holder: identity("b"),
            epoch,
            ttl_ms,
        };
        let effects = step(&mut state, Event::Asked { id: 3, ask }, START + 20);
        let refused = |e: &Effect| matches!(e, Effect::Answer { done: false, .. });
        assert!(effects.iter().any(refused), "{epoch} {ttl_ms}: {effects:?}");
    }
}

#[test]
fn a_stranger_gets_no_promise_from_whoever_sees_the_lock() {
    // A leader that took the lock while nobody could look is believed.
    for (looked_ago_ms, promised) in [(100, false), (1_900, false), (2_100, true)] {
        let mut state = replica();
        read(&mut state, mapped("b", &["a", "b"], 50), START + 10);
        let ask = Ask::Promise {
            holder: identity("evil"),
            epoch: 1_000,
            ttl_ms: 6_000,
        };
        let asked = Event::Asked { id: 3, ask };
        let effects = step(&mut state, asked, START + 10 + looked_ago_ms);
        let answer = effects.iter().find_map(|effect| match effect {
            Effect::Answer { done, .. } => Some(*done),
            _ => None,
        });
        assert_eq!(answer, Some(promised), "{looked_ago_ms}: {effects:?}");
    }
}

#[test]
fn a_hand_that_takes_the_map_away_admits_nobody() {
    // Found by reading: the mark of maintenance mode was kept against the same hand.
    let mut state = replica();
    with_members(&mut state, &["a", "b", "c"], START + 5);
    read(&mut state, mapped("b", &["b", "c"], 50), START + 10);
    let edited = LockSnapshot {
        resource_version: Some("51".into()),
        ..held("b", 5, 50)
    };
    let claimed = run_until(&mut state, &edited, START + 20, START + 100_000);
    assert_eq!(claimed, None);
}
