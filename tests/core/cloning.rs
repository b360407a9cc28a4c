//! Copies of the leader, and what happens when they fail.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::conditions::{member, shared_seen, tick};
use super::*;
use pgwarden::ha::event::Op;

/// `b` leads this epoch.
fn led_by_b(state: &mut State, epoch: u64, now: u64) -> Vec<Effect> {
    let mut shared = state.shared.as_deref().cloned().unwrap();
    let b = Member {
        pod_uid: identity("b").pod_uid,
        timeline: Some(1),
        ..member("running", "primary")
    };
    shared.members.insert("b".into(), b);
    let mut effects = shared_seen(state, shared, true, now);
    effects.extend(read(state, held("b", epoch, now), now));
    effects
}

pub(crate) fn clones(effects: &[Effect]) -> bool {
    let clone = |effect: &Effect| matches!(effect, Effect::Clone { .. });
    effects.iter().any(clone)
}

#[test]
fn a_clone_that_fails_again_and_again_burdens_the_leader_less_and_less() {
    let mut state = replica();
    let why = "gone".to_owned();
    step(&mut state, Event::PostmasterGone { why }, START + 1);
    step(&mut state, Event::DataSeen(DataDir::Empty), START + 2);
    let (mut now, mut began) = (START + 3, Vec::new());
    let mut effects = led_by_b(&mut state, 4, now);
    while began.len() < 9 {
        if clones(&effects) {
            began.push(now);
            let (op, result) = (Op::Clone, Err("no room".to_owned()));
            step(&mut state, Event::OpDone { op, result }, now + 1);
            step(&mut state, Event::DataSeen(DataDir::Empty), now + 2);
        }
        now += 100;
        assert!(now < START + 600_000, "{began:?}");
        effects = tick(&mut state, now);
        // The leader is alive.
        effects.extend(read(&mut state, held("b", 4, now), now));
    }
    let pauses: Vec<_> = began.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.is_sorted() && pauses[0] <= 3_000, "{pauses:?}");
    assert!(pauses[4] >= 15_000 && pauses[7] <= 61_000, "{pauses:?}");
    // Another leader is asked at once.
    let mut effects = led_by_b(&mut state, 5, now + 200);
    effects.extend(tick(&mut state, now + 300));
    assert!(clones(&effects), "{effects:?}");
}

#[test]
fn without_data_and_without_a_leader_people_are_told_what_to_do() {
    let mut state = replica();
    let why = "gone".to_owned();
    step(&mut state, Event::PostmasterGone { why }, START + 1);
    step(&mut state, Event::DataSeen(DataDir::Empty), START + 2);
    let nobody = LockSnapshot {
        state: LockState::Absent,
        ..held("b", 4, 50)
    };
    read(&mut state, nobody, START + 10);
    tick(&mut state, START + 17_000);
    assert_eq!(state.pg.left_to_people, None, "a leader may only be late");
    tick(&mut state, START + 18_100);
    let words = state.pg.left_to_people.clone().expect("it takes a person");
    assert!(words.contains("the cluster 7 has existed"), "{words}");
    let effects = led_by_b(&mut state, 5, START + 20_000);
    assert!(clones(&effects), "{effects:?}");
    assert_eq!(state.pg.left_to_people, None);
}

#[test]
fn what_cannot_be_used_is_looked_at_again() {
    let mut state = replica();
    let why = "gone".to_owned();
    step(&mut state, Event::PostmasterGone { why }, START + 1);
    let odd = || Event::DataSeen(DataDir::Unusable("half a directory".into()));
    step(&mut state, odd(), START + 2);
    read(&mut state, held("b", 4, 50), START + 10);
    let looks = |effects: &[Effect]| effects.contains(&Effect::Inspect);
    assert!(looks(&tick(&mut state, START + 5_000)));
    step(&mut state, odd(), START + 5_010);
    assert!(
        !looks(&tick(&mut state, START + 14_900)),
        "not all the time"
    );
    assert!(looks(&tick(&mut state, START + 15_000)));
}
