//! Switchovers that are planned by the wall clock.

use super::conditions::{leader, shared_seen, tick};
use super::*;
use pgwarden::ha::shared::{Scheduled, SharedWrite};

const WALL: u64 = 1_893_456_000_000;

/// The leader `a` reads both clocks, and sees this plan; the instant of both.
fn planned(from: &str, in_ms: i64) -> (State, u64, Vec<Effect>) {
    let (mut state, sent_at) = leader();
    let now = sent_at + 10;
    step(&mut state, Event::WallClock { wall_ms: WALL }, now);
    let mut shared = state.shared.as_deref().cloned().expect("seen");
    let at_wall_ms = WALL.strict_add_signed(in_ms);
    shared.failover.scheduled = Some(Scheduled {
        from: Some(from.into()),
        to: Some("b".into()),
        at: "a time".into(),
        at_wall_ms,
    });
    shared.failover.resource_version = Some("70".into());
    let effects = shared_seen(&mut state, shared, true, now);
    (state, now, effects)
}

fn written(effects: &[Effect]) -> Vec<(Option<String>, Option<String>)> {
    let write = |effect: &Effect| match effect {
        Effect::WriteShared(SharedWrite::Failover {
            from, to, expect, ..
        }) => {
            assert_eq!(expect.as_deref(), Some("70"), "decided on what was seen");
            Some((from.clone(), to.clone()))
        }
        _ => None,
    };
    effects.iter().filter_map(write).collect()
}

fn request() -> (Option<String>, Option<String>) {
    (Some("a".into()), Some("b".into()))
}

#[test]
fn a_plan_becomes_a_request_when_its_time_has_come() {
    let (mut state, now, effects) = planned("a", 2_000);
    assert!(written(&effects).is_empty());
    assert!(written(&tick(&mut state, now + 1_999)).is_empty());
    assert_eq!(written(&tick(&mut state, now + 2_000)), [request()]);
}

#[test]
fn a_clock_that_is_set_moves_what_is_planned() {
    let (mut state, now, _) = planned("a", 60_000);
    let set = Event::WallClock {
        wall_ms: WALL + 60_000,
    };
    assert_eq!(written(&step(&mut state, set, now + 10)), [request()]);
    let (mut state, now, _) = planned("a", 1_000);
    let set = Event::WallClock {
        wall_ms: WALL - 3_600_000,
    };
    step(&mut state, set, now + 10);
    assert!(written(&tick(&mut state, now + 2_000)).is_empty());
}

#[test]
fn what_is_stale_or_about_another_leader_is_dropped_when_due() {
    let (_, _, effects) = planned("a", -20_000);
    assert_eq!(written(&effects), [(None, None)]);
    assert!(cites(&effects, Rule::Handover), "and it is said");
    let (mut state, now, effects) = planned("c", 1_000);
    assert!(written(&effects).is_empty(), "c may lead again by then");
    assert_eq!(written(&tick(&mut state, now + 1_000)), [(None, None)]);
}

#[test]
fn without_a_clock_nothing_planned_is_done() {
    let (mut state, now, _) = planned("a", -1_000);
    state.wall = None;
    state.writing_shared = false;
    assert!(written(&tick(&mut state, now + 1_000)).is_empty());
}
