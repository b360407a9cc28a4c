//! A new copy of the leader because a person asked for it.

use super::conditions::{leader, member, shared_seen, tick};
use super::*;
use pgwarden::ha::effect::Stop;
use pgwarden::ha::event::{Ask, Op};

/// A replica `a` that streams from the running primary `b`, which holds the lock.
fn follower() -> (State, u64) {
    let mut state = replica();
    let mut shared = state.shared.as_deref().cloned().expect("seen");
    let leader = Member {
        pod_uid: "uid-b".into(),
        timeline: Some(1),
        ..member("running", "primary")
    };
    shared.members.insert("b".into(), leader);
    shared_seen(&mut state, shared, true, START + 5);
    read(&mut state, held("b", 4, 50), START + 10);
    let (op, result) = (Op::Follow, Ok(()));
    step(&mut state, Event::OpDone { op, result }, START + 20);
    (state, START + 20)
}

fn reinitialize(state: &mut State, force: bool, now: u64) -> Vec<Effect> {
    let ask = Ask::Reinitialize { force };
    step(state, Event::Asked { id: 7, ask }, now)
}

fn answer(effects: &[Effect]) -> (bool, String) {
    let said = effects.iter().find_map(|effect| match effect {
        Effect::Answer { done, text, .. } => Some((*done, text.clone())),
        _ => None,
    });
    said.expect("it is answered at once")
}

/// The server stops, and its directory is looked at.
fn stopped(state: &mut State, now: u64) -> Vec<Effect> {
    let why = "ended with code 0".to_owned();
    step(state, Event::PostmasterGone { why }, now);
    look(state, now + 1)
}

fn look(state: &mut State, now: u64) -> Vec<Effect> {
    let data = DataFacts {
        system_id: "7".into(),
        state: ControlState::ShutDownInRecovery,
        timeline: 1,
        lsn: Lsn(100),
        standby_signal: true,
        history: Vec::new(),
    };
    step(state, Event::DataSeen(DataDir::Present(data)), now)
}

fn copies() -> Effect {
    Effect::Clone { from: "b".into() }
}

fn starts(effects: &[Effect]) -> bool {
    let start = |effect: &Effect| matches!(effect, Effect::StartReplica { .. });
    effects.iter().any(start)
}

#[test]
fn the_server_stops_and_the_leader_is_copied() {
    for (force, how) in [(false, Stop::Fast), (true, Stop::Immediate)] {
        let (mut state, now) = follower();
        let effects = reinitialize(&mut state, force, now + 10);
        assert_eq!(answer(&effects), (true, "reinitialize started".into()));
        let effects = tick(&mut state, now + 11);
        assert!(
            effects.contains(&Effect::Stop { how }) || state.pg.stopping == Some(how),
            "{effects:?}"
        );
        let effects = stopped(&mut state, now + 50);
        assert!(effects.contains(&copies()), "{effects:?}");
        let shown = state.public_member(&Member::default()).state;
        assert_eq!(shown, "creating replica");
        let again = reinitialize(&mut state, true, now + 60);
        assert_eq!(
            answer(&again),
            (false, "reinitialize already in progress".into())
        );
        let (op, result) = (Op::Clone, Ok(()));
        step(&mut state, Event::OpDone { op, result }, now + 90);
        assert_eq!(state.rebuild, None);
        let effects = look(&mut state, now + 100);
        assert!(starts(&effects), "{effects:?}");
    }
}

#[test]
fn without_a_leader_to_copy_the_old_data_go_on() {
    let (mut state, now) = follower();
    reinitialize(&mut state, false, now + 10);
    let mut shared = state.shared.as_deref().cloned().expect("seen");
    shared
        .members
        .insert("b".into(), member("stopped", "demoted"));
    shared_seen(&mut state, shared, true, now + 20);
    let effects = stopped(&mut state, now + 50);
    assert!(!effects.contains(&copies()), "{effects:?}");
    assert!(starts(&effects), "{effects:?}");
    assert_eq!(state.rebuild, None);
}

#[test]
fn a_copy_that_fails_again_and_again_leaves_the_old_data() {
    let (mut state, now) = follower();
    reinitialize(&mut state, false, now + 10);
    let mut effects = stopped(&mut state, now + 50);
    let mut at = now + 60;
    for failure in 1..=3 {
        assert!(effects.contains(&copies()), "try {failure}: {effects:?}");
        let (op, result) = (Op::Clone, Err("no route".into()));
        step(&mut state, Event::OpDone { op, result }, at);
        // The lock is renewed meanwhile.
        read(&mut state, held("b", 4, 60 + at), at + 1);
        effects = Vec::new();
        for _ in 0..200 {
            at += 100;
            effects.extend(read(&mut state, held("b", 4, 60 + at), at));
            effects.extend(look(&mut state, at));
            if effects.contains(&copies()) || starts(&effects) {
                break;
            }
        }
    }
    assert!(starts(&effects), "{effects:?}");
    assert_eq!(state.rebuild, None);
}

#[test]
fn neither_the_leader_nor_who_has_none_is_rebuilt() {
    let (mut state, sent_at) = leader();
    let effects = reinitialize(&mut state, true, sent_at + 20);
    assert_eq!(
        answer(&effects),
        (false, "I am the leader, can not reinitialize".into())
    );
    let mut state = replica();
    let effects = reinitialize(&mut state, true, START + 20);
    assert_eq!(
        answer(&effects),
        (false, "Cluster has no leader, can not reinitialize".into())
    );
}

#[test]
fn what_is_no_directory_of_this_cluster_is_not_replaced() {
    let (mut state, now) = follower();
    reinitialize(&mut state, false, now + 10);
    let why = "ended with code 0".to_owned();
    step(&mut state, Event::PostmasterGone { why }, now + 20);
    let odd = DataDir::Unusable("it holds somebody's files".into());
    let effects = step(&mut state, Event::DataSeen(odd), now + 30);
    assert!(!effects.contains(&copies()), "{effects:?}");
    assert_eq!(state.rebuild, None);
    let effects = reinitialize(&mut state, true, now + 40);
    assert_eq!(
        answer(&effects),
        (false, "it holds somebody's files".into())
    );
}

#[test]
fn who_has_become_the_leader_forgets_the_order() {
    let (mut state, sent_at) = leader();
    state.rebuild = Some(pgwarden::ha::rebuild::Rebuild::default());
    tick(&mut state, sent_at + 30);
    assert_eq!(state.rebuild, None);
}
