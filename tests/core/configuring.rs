//! Changed settings, restarts that people ask for, and standbys with less than their primary had.

use super::conditions::{acknowledge, edit_rules, leader, shared_seen, tick};
use super::*;
use pgwarden::ha::effect::Stop;
use pgwarden::ha::event::{Ask, Op};

fn asks(effects: &[Effect], wanted: &Effect) -> bool {
    effects.contains(wanted)
}

fn stops(effects: &[Effect]) -> bool {
    asks(effects, &Effect::Stop { how: Stop::Fast })
}

fn answer(effects: &[Effect]) -> Option<(bool, String)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Answer { done, text, .. } => Some((*done, text.clone())),
        _ => None,
    })
}

fn restart(state: &mut State, now: u64) -> Vec<Effect> {
    let ask = Ask::Restart { timeout_ms: 30_000 };
    step(state, Event::Asked { id: 7, ask }, now)
}

fn done(state: &mut State, op: Op, now: u64) -> Vec<Effect> {
    step(state, Event::OpDone { op, result: Ok(()) }, now)
}

#[test]
fn a_primary_writes_changed_settings_once_and_again_if_that_failed() {
    let (mut state, now) = leader();
    let effects = step(&mut state, Event::SettingsChanged, now + 20);
    assert!(asks(&effects, &Effect::Configure));
    assert!(
        !asks(&tick(&mut state, now + 30), &Effect::Configure),
        "it is under way"
    );
    let (op, result) = (Op::Configure, Err("no space".into()));
    step(&mut state, Event::OpDone { op, result }, now + 40);
    assert!(
        !asks(&tick(&mut state, now + 50), &Effect::Configure),
        "not at once"
    );
    assert!(asks(&tick(&mut state, now + 1_100), &Effect::Configure));
    done(&mut state, Op::Configure, now + 1_120);
    assert!(!asks(&tick(&mut state, now + 2_500), &Effect::Configure));
}

#[test]
fn a_replica_takes_them_up_by_following_its_leader_anew() {
    let mut state = replica();
    read(&mut state, held("b", 4, 50), START + 10);
    done(&mut state, Op::Follow, START + 20);
    let effects = step(&mut state, Event::SettingsChanged, START + 3_000);
    let follow = Effect::Follow {
        upstream: "b".into(),
    };
    assert!(asks(&effects, &follow), "{effects:?}");
    done(&mut state, Op::Follow, START + 3_010);
    assert!(!asks(&tick(&mut state, START + 5_000), &follow));
}

#[test]
fn a_restart_waits_for_what_is_under_way_and_is_answered_when_the_server_is_back() {
    let (mut state, now) = leader();
    step(&mut state, Event::SettingsChanged, now + 20);
    assert!(
        !stops(&restart(&mut state, now + 30)),
        "the files are being written"
    );
    let second = restart(&mut state, now + 31);
    let told = answer(&second).expect("one at a time");
    assert_eq!(told, (false, "a restart is in progress already".to_owned()));
    assert!(stops(&done(&mut state, Op::Configure, now + 40)));
    let why = "ended with code 0".to_owned();
    let effects = step(&mut state, Event::PostmasterGone { why }, now + 60);
    assert_eq!(answer(&effects), None);
    let data = pgwarden::ha::model::DataFacts {
        system_id: "7".into(),
        state: pgwarden::ha::model::ControlState::ShutDown,
        timeline: 1,
        lsn: Lsn(100),
        standby_signal: false,
        history: Vec::new(),
    };
    let seen = pgwarden::ha::model::DataDir::Present(data);
    step(&mut state, Event::DataSeen(seen), now + 70);
    // L2: a start needs an acknowledgement later than the stop.
    let effects = acknowledge(&mut state, 60, now + 80);
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::StartPrimary { .. })),
        "{effects:?}"
    );
    step(
        &mut state,
        Event::PostmasterRuns { as_primary: true },
        now + 90,
    );
    step(&mut state, Event::PgSeen(facts(false)), now + 95);
    let effects = done(&mut state, Op::StartPrimary, now + 100);
    assert_eq!(
        answer(&effects),
        Some((true, "restarted successfully".to_owned()))
    );
}

#[test]
fn a_restart_into_a_server_that_does_not_start_is_answered_at_once() {
    let (mut state, now) = leader();
    assert!(stops(&restart(&mut state, now + 30)));
    let failed = |state: &mut State, op: Op, at: u64| {
        let result = Err("its log says why".to_owned());
        answer(&step(state, Event::OpDone { op, result }, at))
    };
    assert_eq!(
        failed(&mut state, Op::StartPrimary, now + 40),
        None,
        "of before"
    );
    let why = "ended with code 0".to_owned();
    step(&mut state, Event::PostmasterGone { why }, now + 60);
    assert_eq!(failed(&mut state, Op::Configure, now + 70), None);
    let told = failed(&mut state, Op::StartPrimary, now + 80).expect("it is known");
    assert!(!told.0 && told.1.ends_with("its log says why"), "{told:?}");
    assert_eq!(answer(&tick(&mut state, now + 40_000)), None, "once");
}

#[test]
fn a_restart_that_does_not_come_back_is_answered_too() {
    let (mut state, now) = leader();
    assert!(stops(&restart(&mut state, now + 30)));
    assert_eq!(answer(&tick(&mut state, now + 30_029)), None);
    let told = answer(&tick(&mut state, now + 30_030)).expect("its time is up");
    assert!(!told.0 && told.1.starts_with("restart failed"), "{told:?}");
}

#[test]
fn a_standby_with_less_than_its_primary_is_started_again_before_and_instead_of_a_promotion() {
    let starved = || PgFacts {
        starved: Some("max_connections is 50, the primary had 60".into()),
        ..facts(true)
    };
    let mut state = replica();
    read(&mut state, held("b", 4, 50), START + 10);
    done(&mut state, Op::Follow, START + 20);
    assert!(stops(&step(
        &mut state,
        Event::PgSeen(starved()),
        START + 30
    )));

    let mut state = replica();
    let lock = held("b", 4, 50);
    read(&mut state, lock.clone(), START + 10);
    let sent_at = run_until(&mut state, &lock, START + 10, START + 20_000).expect("it is alone");
    acknowledge(&mut state, 51, sent_at + 5);
    let mut effects = step(&mut state, Event::PgSeen(starved()), sent_at + 6);
    effects.extend(tick(&mut state, sent_at + 20));
    let promoted = asks(&effects, &promote());
    assert!(stops(&effects) && !promoted, "{effects:?}");
}

#[test]
fn nobody_is_promoted_while_replay_stands_still_at_a_target() {
    // Found by review: between two restarts, and in maintenance mode, it was: PostgreSQL throws away
    // what it has received beyond.
    for pause in [false, true] {
        let mut state = replica();
        edit_rules(&mut state, START + 1, |rules| rules.pause = pause);
        let mut shared = state.shared.as_deref().cloned().unwrap();
        shared.failover.to = Some("a".into());
        shared.failover.resource_version = Some("9".into());
        shared_seen(&mut state, shared, false, START + 2);
        let starved = PgFacts {
            starved: Some("recovery_target_lsn is 0/5".into()),
            ..facts(true)
        };
        step(&mut state, Event::PgSeen(starved), START + 3);
        let lock = snapshot(LockState::Released(release("b", 4)), 50);
        let at = run_until(&mut state, &lock, START + 10, START + 60_000).unwrap();
        acknowledge(&mut state, 51, at + 5);
        for after_ms in (10..4_000).step_by(100) {
            let effects = tick(&mut state, at + after_ms);
            assert!(
                !effects.contains(&promote()),
                "after {after_ms} ms, pause: {pause}"
            );
        }
    }
}
