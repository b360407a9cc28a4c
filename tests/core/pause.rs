//! Maintenance mode (G1): what suspends the deadline, what the mark in the record forbids, and what
//! is left alone.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::conditions::{acknowledge, edit_rules, leader, member, releases, shared_seen, tick};
use super::*;
use pgwarden::ha::effect::Stop;
use pgwarden::ha::event::{Ask, Op};
use pgwarden::ha::lock::{FailsafeMap, Mapped, Outcome, Proof, ProofKind};
use pgwarden::ha::pause::FOREVER;
use pgwarden::ha::shared::SharedWrite;

/// The stored configuration says so from now on.
fn set_pause(state: &mut State, pause: bool, now: u64) -> Vec<Effect> {
    edit_rules(state, now, |rules| rules.pause = pause)
}

fn marks(effects: &[Effect]) -> Option<bool> {
    effects.iter().find_map(|effect| match effect {
        Effect::WriteLock { write, .. } => match write {
            LockWrite::Acquire(claim) | LockWrite::Renew { claim, .. } => Some(claim.paused),
            LockWrite::Release { .. } => None,
        },
        _ => None,
    })
}

fn suspends(effects: &[Effect]) -> bool {
    effects.contains(&Effect::SuspendDeadline)
}

/// The record of `a` as its last attempt wrote it, with the mark.
fn marked(by: &str, nonce: u64, version: u64) -> LockSnapshot {
    let LockState::Held(record) = held(by, 5, version).state else {
        unreachable!("held() makes a record that is held");
    };
    let paused = Held {
        paused: true,
        nonce,
        ..record
    };
    snapshot(LockState::Held(paused), version)
}

fn acknowledge_mark(state: &mut State, version: u64, now: u64) -> Vec<Effect> {
    let nonce = state.lease.in_flight.expect("a write is in flight");
    let outcome = Outcome::Done(marked("a", nonce, version));
    step(state, Event::LockWritten { nonce, outcome }, now)
}

/// `a` leads in maintenance mode; no deadline runs.
fn paused_leader() -> (State, u64) {
    let (mut state, sent_at) = leader();
    let armed = Event::DeadlineMoved {
        to: sent_at + 5_350,
    };
    step(&mut state, armed, sent_at + 9);
    let effects = set_pause(&mut state, true, sent_at + 20);
    assert_eq!(marks(&effects), Some(true), "at once: {effects:?}");
    assert!(!suspends(&effects), "not before it is acknowledged");
    let effects = acknowledge_mark(&mut state, 52, sent_at + 30);
    assert!(suspends(&effects), "{effects:?}");
    step(
        &mut state,
        Event::DeadlineMoved { to: FOREVER },
        sent_at + 31,
    );
    (state, sent_at + 31)
}

#[test]
fn a_paused_leader_goes_on_however_long_the_api_is_gone() {
    let (mut state, from) = paused_leader();
    for after_ms in (0..600_000).step_by(250) {
        let mut effects = tick(&mut state, from + after_ms);
        if let Some(nonce) = state.lease.in_flight {
            let why = "timeout".to_owned();
            let outcome = Outcome::Unknown { why };
            let written = Event::LockWritten { nonce, outcome };
            effects.extend(step(&mut state, written, from + after_ms + 1));
        }
        let stops = |effect: &Effect| matches!(effect, Effect::Stop { .. });
        assert!(!effects.iter().any(stops), "after {after_ms} ms");
    }
    assert!(state.holds(from + 600_000));
}

#[test]
fn the_deadline_runs_again_before_the_mark_leaves_the_record() {
    let (mut state, from) = paused_leader();
    let now = from + 100_000;
    let effects = set_pause(&mut state, false, now);
    let arms = |effect: &Effect| *effect == Effect::MoveDeadline { to: now + 5_350 };
    let writes = |effect: &Effect| matches!(effect, Effect::WriteLock { .. });
    let armed = effects.iter().position(arms).expect("it is armed");
    let wrote = effects.iter().position(writes).expect("at once");
    assert!(armed < wrote, "{effects:?}");
    assert_eq!(marks(&effects), Some(false));
    // Nobody answers: as any leader that is cut off, it stops in time.
    step(&mut state, Event::DeadlineMoved { to: now + 5_350 }, now);
    let effects = tick(&mut state, now + 4_500);
    let fast = Effect::Stop { how: Stop::Fast };
    assert!(effects.contains(&fast), "{effects:?}");
}

#[test]
fn a_new_agent_keeps_the_mark_until_it_knows_the_settings() {
    let (old, from) = paused_leader();
    let budgets = Budgets::for_ttl(6_000).unwrap();
    let mut state = State::new(identity("a"), Place::default(), false, rules(), budgets);
    state.lease.next_nonce = 1_000;
    let now = from + 50_000;
    step(&mut state, Event::PostmasterRuns { as_primary: true }, now);
    step(&mut state, Event::DeadlineMoved { to: FOREVER }, now);
    let record = old.lock.snapshot.as_deref().cloned().unwrap();
    let effects = read(&mut state, record, now + 1);
    assert_eq!(marks(&effects), Some(true), "{effects:?}");
    let moves = |effect: &Effect| matches!(effect, Effect::MoveDeadline { .. });
    assert!(!effects.iter().any(moves), "{effects:?}");
}

#[test]
fn a_marked_record_never_grows_old_and_nobody_races_while_it_is_paused() {
    let mut state = replica();
    let lock = marked("b", 7, 50);
    read(&mut state, lock.clone(), START + 10);
    let wrote_at = run_until(&mut state, &lock, START + 10, START + 300_000);
    assert_eq!(wrote_at, None);
    // Whatever becomes of the object.
    let gone = LockSnapshot {
        resource_version: None,
        fields: "absent".into(),
        state: LockState::Absent,
        optime: None,
        slots: SlotRecord::default(),
    };
    let wrote_at = run_until(&mut state, &gone, START + 300_000, START + 400_000);
    assert_eq!(wrote_at, None, "a missing record is no resume");
    // A hand that takes the mark away has armed nobody.
    let LockState::Held(mut bare) = lock.state else {
        unreachable!("it is held");
    };
    bare.paused = false;
    let bare = snapshot(LockState::Held(bare), 53);
    let wrote_at = run_until(&mut state, &bare, START + 400_000, START + 500_000);
    assert_eq!(wrote_at, None, "only its holder takes the mark away");
    // And then it ages as any other.
    let renewed = held("b", 5, 54);
    let wrote_at = run_until(&mut state, &renewed, START + 500_000, START + 520_000);
    assert!(wrote_at.is_some_and(|at| at >= START + 506_000));
}

#[test]
fn in_maintenance_mode_nobody_takes_over_but_who_is_named() {
    for (to, races) in [(None, false), (Some("a"), true), (Some("c"), false)] {
        let mut state = replica();
        set_pause(&mut state, true, START + 5);
        let mut shared = state.shared.as_deref().cloned().unwrap();
        shared.failover.to = to.map(str::to_owned);
        shared.failover.resource_version = Some("9".into());
        shared_seen(&mut state, shared, false, START + 6);
        let lock = snapshot(LockState::Released(release("b", 4)), 50);
        let wrote_at = run_until(&mut state, &lock, START + 10, START + 60_000);
        assert_eq!(wrote_at.is_some(), races, "named: {to:?}");
    }
}

#[test]
fn proof_or_a_persons_word_ends_the_wait_for_a_marked_holder() {
    let silent = |state: &mut State| {
        let lock = marked("b", 7, 50);
        read(state, lock.clone(), START + 10);
        assert_eq!(run_until(state, &lock, START + 10, START + 30_000), None);
        lock
    };
    let mut state = replica();
    let lock = silent(&mut state);
    let kind = ProofKind::Terminated;
    let fields = lock.fields.clone();
    let proof = Event::ProofFound(Proof { fields, kind });
    step(&mut state, proof, START + 30_001);
    assert!(run_until(&mut state, &lock, START + 30_001, START + 40_000).is_some());

    let mut state = replica();
    let lock = silent(&mut state);
    let ask = |state: &mut State, holder: &str, now| {
        let holder = holder.to_owned();
        let ask = Ask::Vouch { holder };
        step(state, Event::Asked { id: 1, ask }, now)
    };
    let answered = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::Answer { done, .. } => Some(*done),
            _ => None,
        })
    };
    let effects = ask(&mut state, "c", START + 30_001);
    assert_eq!(answered(&effects), Some(false), "c holds nothing");
    let effects = ask(&mut state, "b", START + 30_002);
    assert_eq!(answered(&effects), Some(true), "{effects:?}");
    let word = effects.iter().find_map(|effect| match effect {
        Effect::WriteShared(SharedWrite::Dead { holder, .. }) => Some(holder.clone()),
        _ => None,
    });
    let mut shared = state.shared.as_deref().cloned().unwrap();
    shared.failover.dead = Some(word.expect("it is written down"));
    shared_seen(&mut state, shared, true, START + 30_003);
    assert!(run_until(&mut state, &lock, START + 30_003, START + 40_000).is_some());
}

#[test]
fn nobody_vouches_for_the_death_of_one_that_renews() {
    let mut state = replica();
    read(&mut state, marked("b", 7, 50), START + 10);
    let holder = "b".to_owned();
    let ask = Ask::Vouch { holder };
    let effects = step(&mut state, Event::Asked { id: 1, ask }, START + 3_000);
    let refused = effects.iter().any(|effect| {
        matches!(effect, Effect::Answer { done: false, text, .. } if text.contains("not dead"))
    });
    assert!(refused, "{effects:?}");
}

#[test]
fn what_somebody_stopped_is_left_until_a_person_asks_for_it() {
    let (mut state, from) = paused_leader();
    let why = "exited with 0".to_owned();
    step(&mut state, Event::PostmasterGone { why }, from + 10);
    let data = super::conditions::directory(ControlState::ShutDown, false);
    let mut effects = step(&mut state, Event::DataSeen(data), from + 11);
    if state.lease.in_flight.is_some() {
        effects.extend(acknowledge(&mut state, 53, from + 12));
    }
    effects.extend(tick(&mut state, from + 3_000));
    let released = lock_writes(&effects)
        .iter()
        .any(|write| matches!(write, LockWrite::Release { release, .. } if release.verified));
    assert!(released, "{effects:?}");
    let starts = |effects: &[Effect]| {
        let start = |effect: &Effect| {
            matches!(
                effect,
                Effect::StartPrimary { .. } | Effect::StartReplica { .. }
            )
        };
        effects.iter().any(start)
    };
    assert!(!starts(&effects), "{effects:?}");

    // The lock is free, and it is neither taken nor is anything started.
    let mine = snapshot(LockState::Released(release("a", 5)), 60);
    let nonce = state.lease.in_flight.unwrap();
    let outcome = Outcome::Done(mine.clone());
    let written = Event::LockWritten { nonce, outcome };
    step(&mut state, written, from + 3_000);
    let wrote_at = run_until(&mut state, &mine, from + 3_000, from + 60_000);
    assert_eq!(wrote_at, None);
    // A person asks for it.
    let timeout_ms = 60_000;
    let ask = Ask::Restart { timeout_ms };
    step(&mut state, Event::Asked { id: 4, ask }, from + 60_000);
    let wrote_at = run_until(&mut state, &mine, from + 60_000, from + 80_000);
    assert!(wrote_at.is_some(), "{:?}", state.explained);
}

#[test]
fn a_start_that_maintenance_mode_finds_on_its_way_is_waited_for_before_the_lock_goes() {
    // Found by the simulator (seed 114870): the lock was released "with proof" over a start that
    // reached the guardian a moment later, and two were writable.
    let (mut state, sent_at) = leader();
    let why = "killed".to_owned();
    let mut effects = step(&mut state, Event::PostmasterGone { why }, sent_at + 20);
    let data = super::conditions::directory(ControlState::InProduction, false);
    effects.extend(step(&mut state, Event::DataSeen(data), sent_at + 21));
    let starts = |effect: &Effect| matches!(effect, Effect::StartPrimary { .. });
    let mut now = sent_at + 21;
    while !effects.iter().any(starts) {
        now += 100;
        assert!(now < sent_at + 5_000, "it starts: {:?}", state.explained);
        if state.lease.in_flight.is_some() {
            effects.extend(acknowledge(&mut state, now, now));
        }
        effects.extend(tick(&mut state, now));
    }
    let effects = set_pause(&mut state, true, now + 10);
    assert!(!releases(&effects), "at once: {effects:?}");
    for after_ms in (100..2_000).step_by(100) {
        if state.lease.in_flight.is_some() {
            acknowledge(&mut state, now + after_ms, now + after_ms);
        }
        let effects = tick(&mut state, now + after_ms);
        assert!(!releases(&effects), "after {after_ms} ms: {effects:?}");
    }
    let (op, result) = (Op::StartPrimary, Err("not armed".to_owned()));
    let mut effects = step(&mut state, Event::OpDone { op, result }, now + 2_000);
    if state.lease.in_flight.is_some() && !releases(&effects) {
        effects.extend(acknowledge(&mut state, now + 2_001, now + 2_001));
        effects.extend(tick(&mut state, now + 2_100));
    }
    assert!(releases(&effects), "{effects:?}");
}

#[test]
fn a_server_that_does_not_answer_is_left_and_the_lock_kept() {
    let (mut state, from) = paused_leader();
    let mut shared = state.shared.as_deref().cloned().unwrap();
    let replica = member("running", "replica");
    shared.members.insert("b".into(), replica);
    shared_seen(&mut state, shared, false, from + 1);
    let why = "no answer".to_owned();
    let serving = Event::Serving { ok: false, why };
    let mut effects = step(&mut state, serving, from + 10);
    effects.extend(tick(&mut state, from + 20_000));
    let stops = |effect: &Effect| matches!(effect, Effect::Stop { .. });
    assert!(!effects.iter().any(stops), "{effects:?}");
    assert_eq!(marks(&effects), Some(true), "it is renewed");
    acknowledge(&mut state, 60, from + 20_001);
}

#[test]
fn a_resume_that_crosses_the_acknowledgement_arms_all_the_same() {
    // Found by review: the word that the deadline is suspended is on its way to the core.
    let (mut state, sent_at) = leader();
    let to = sent_at + 5_350;
    step(&mut state, Event::DeadlineMoved { to }, sent_at + 9);
    let effects = set_pause(&mut state, true, sent_at + 20);
    assert_eq!(marks(&effects), Some(true), "{effects:?}");
    set_pause(&mut state, false, sent_at + 25);
    let effects = acknowledge_mark(&mut state, 52, sent_at + 30);
    let suspended = effects.iter().position(|e| *e == Effect::SuspendDeadline);
    let arms = |effect: &Effect| matches!(effect, Effect::MoveDeadline { .. });
    let armed = effects.iter().position(arms);
    let writes = |effect: &Effect| matches!(effect, Effect::WriteLock { .. });
    let wrote = effects.iter().position(writes);
    assert_eq!(marks(&effects), Some(false), "{effects:?}");
    assert!(suspended < armed && armed < wrote, "{effects:?}");
}

#[test]
fn a_record_out_of_a_backup_takes_no_mark_away() {
    // Found by review.
    let older = held("b", 5, 6);
    let before = held("c", 4, 5);
    let released = snapshot(LockState::Released(release("c", 4)), 5);
    for old in [older, before, released] {
        let mut state = replica();
        read(&mut state, marked("b", 7, 50), START + 10);
        read(&mut state, old.clone(), START + 20);
        see_the_cluster_again(&mut state, START + 21);
        let wrote_at = run_until(&mut state, &old, START + 30, START + 100_000);
        assert_eq!(wrote_at, None, "{old:?}");
    }
}

#[test]
fn a_restored_store_shows_another_s_record_and_the_marked_one_gives_up_its_own() {
    // Found by the simulator: the others waited for a mark that only its bearer knew to be void,
    // and its bearer waited for a record of a member that was dead.
    let mut state = replica();
    read(&mut state, marked("a", 7, 50), START + 10);
    let older = held("c", 4, 5);
    read(&mut state, older, START + 20);
    see_the_cluster_again(&mut state, START + 21);
    let nonce = state.lease.in_flight.expect("it gave it up at once");
    let outcome = Outcome::Conflict;
    step(
        &mut state,
        Event::LockWritten { nonce, outcome },
        START + 22,
    );
    let wrote = |effect: &Effect| match effect {
        Effect::WriteLock {
            write: LockWrite::Release { release, .. },
            ..
        } => Some(release.clone()),
        _ => None,
    };
    let mut given_up = None;
    for after_ms in (30..20_000).step_by(100) {
        let now = START + after_ms;
        let effects = tick(&mut state, now);
        if let Some(release) = effects.iter().find_map(wrote) {
            given_up = Some((after_ms, release));
            break;
        }
    }
    let (after_ms, release) = given_up.expect("it gives the mark up");
    assert!(!release.verified && release.epoch == 5, "{release:?}");
    assert!(
        after_ms >= 6_020,
        "not before anybody might take it: {after_ms}"
    );
}

/// The first release that it writes by itself under this record, and after how long.
fn gives_up(state: &mut State, lock: &LockSnapshot, until_ms: u64) -> Option<(u64, Released)> {
    (30..until_ms).step_by(100).find_map(|after_ms| {
        let now = START + after_ms;
        let mut effects = tick(state, now);
        effects.extend(read(state, lock.clone(), now));
        lock_writes(&effects).into_iter().find_map(|write| {
            let LockWrite::Release { release, .. } = write else {
                return None;
            };
            Some((after_ms, release.clone()))
        })
    })
}

#[test]
fn a_restored_store_shows_my_own_mapped_record_and_i_give_it_up_though_another_led_since() {
    // Found by the simulator (seed 75637): who bore the mark since waited for the map in my record
    // of before, and everybody else for that mark.
    let mut state = replica();
    read(&mut state, marked("b", 7, 50), START + 10);
    let mut own = held("a", 4, 6);
    if let LockState::Held(record) = &mut own.state {
        record.failsafe = Some(FailsafeMap::from([("c".to_owned(), Mapped::default())]));
    }
    let own = snapshot(own.state, 6);
    read(&mut state, own.clone(), START + 20);
    see_the_cluster_again(&mut state, START + 21);
    let given_up = gives_up(&mut state, &own, 60_000);
    let (after_ms, release) = given_up.expect("it gives the map up");
    assert!(!release.verified && release.epoch == 4, "{release:?}");
    assert!(after_ms >= 18_000, "those in it come first: {after_ms}");
}

#[test]
fn it_says_that_it_is_paused_only_once_that_protects() {
    // Found by an attack: `pause --wait` was satisfied before the mark was acknowledged, and a
    // leader cut off in the next moment was killed all the same.
    let (mut state, sent_at) = leader();
    set_pause(&mut state, true, sent_at + 20);
    assert!(state.rules.pause && !state.is_paused());
    acknowledge_mark(&mut state, 52, sent_at + 30);
    assert!(state.is_paused());
    let mut state = replica();
    set_pause(&mut state, true, START + 20);
    assert!(state.is_paused(), "a replica has nothing to protect");
}
