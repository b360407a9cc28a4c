//! Members whose history is not the leader's, though the numbers say so.

use super::*;
use std::collections::BTreeMap;

/// Line 2 of this cluster left the first one here.
fn fork_at(lsn: u64) -> Vec<HistoryEntry> {
    vec![HistoryEntry {
        timeline: 1,
        switch_lsn: Lsn(lsn),
        reason: String::new(),
        at: None,
        new_leader: None,
    }]
}

/// The leader's own history, where it was asked for.
fn leader_says(state: &mut State, effects: &[Effect], differs: bool) -> Vec<Effect> {
    let asked = effects
        .iter()
        .any(|effect| matches!(effect, Effect::CompareHistory { .. }));
    if !asked {
        return Vec::new();
    }
    let with = "b".to_owned();
    step(state, Event::HistoryCompared { with, differs }, START + 31)
}

#[test]
fn the_same_timeline_from_another_promotion_is_cloned_over() {
    // Found by simulation (seed 867, twins in a race): two who did not know of each other promoted
    // to timeline 2, and pg_rewind finds nothing to do between equal numbers.
    for (mine, twin) in [(0x100, false), (0x200, true)] {
        let mut state = follows_b(fork_at(0x100));
        let seen = PgFacts {
            timeline: 2,
            history: fork_at(mine),
            streaming: true,
            ..facts(true)
        };
        let mut effects = step(&mut state, Event::PgSeen(seen), START + 30);
        effects.extend(leader_says(&mut state, &effects.clone(), true));
        let stops = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Stop { .. }));
        assert_eq!(stops, twin, "{effects:?}");
        if !twin {
            continue;
        }
        step(
            &mut state,
            Event::PostmasterGone {
                why: "stopped".into(),
            },
            START + 40,
        );
        let data = DataFacts {
            system_id: "7".into(),
            state: ControlState::ShutDownInRecovery,
            timeline: 2,
            lsn: Lsn(0x1000),
            standby_signal: true,
            history: fork_at(mine),
        };
        let effects = step(
            &mut state,
            Event::DataSeen(DataDir::Present(data)),
            START + 50,
        );
        let clones = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Clone { .. }));
        assert!(clones, "{effects:?}");
    }
}

/// Follows `b`, which leads timeline 2 and has published this history.
fn follows_b(history: Vec<HistoryEntry>) -> State {
    follows_b_on(2, None, history)
}

/// The same on another timeline, which the history is said to lead to.
fn follows_b_on(timeline: u32, told: Option<u32>, history: Vec<HistoryEntry>) -> State {
    let mut state = replica();
    read(&mut state, held("b", 4, 50), START + 10);
    let leader = Member {
        pod_uid: "uid-b".into(),
        role: "primary".into(),
        state: "running".into(),
        timeline: Some(timeline),
        ..Member::default()
    };
    let shared = Shared {
        config: ConfigRecord {
            rules: Some(rules()),
            initialize: Initialize::Done("7".into()),
            history,
            timeline: told,
            epoch: 4,
            ..ConfigRecord::default()
        },
        members: BTreeMap::from([("b".to_owned(), leader)]),
        ..Shared::default()
    };
    let event = Event::SharedSeen {
        shared: shared.into(),
        quorum: true,
    };
    step(&mut state, event, START + 20);
    state
}

fn gives_up(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::Stop { .. } | Effect::Clone { .. }))
}

#[test]
fn an_edited_history_replaces_no_copy() {
    let mut state = follows_b(fork_at(0x0ff));
    let seen = PgFacts {
        timeline: 2,
        history: fork_at(0x100),
        ..facts(true)
    };
    let effects = step(&mut state, Event::PgSeen(seen.clone()), START + 30);
    assert!(!gives_up(&effects), "{effects:?}");
    let answer = leader_says(&mut state, &effects, false);
    assert!(
        cites(&answer, Rule::Replica),
        "the leader is asked: {effects:?}"
    );
    assert!(!gives_up(&answer), "{answer:?}");
    let effects = step(&mut state, Event::PgSeen(seen), START + 3_000);
    assert!(!gives_up(&effects), "{effects:?}");
}

#[test]
fn a_copy_that_is_down_is_not_replaced_either() {
    let mut state = follows_b(fork_at(0x0ff));
    let why = "killed".to_owned();
    step(&mut state, Event::PostmasterGone { why }, START + 30);
    let data = DataFacts {
        system_id: "7".into(),
        state: ControlState::ShutDownInRecovery,
        timeline: 2,
        lsn: Lsn(0x1000),
        standby_signal: true,
        history: fork_at(0x100),
    };
    let present = Event::DataSeen(DataDir::Present(data));
    let effects = step(&mut state, present, START + 40);
    assert!(!gives_up(&effects), "{effects:?}");
    let answer = leader_says(&mut state, &effects, false);
    let starts = answer
        .iter()
        .any(|effect| matches!(effect, Effect::StartReplica { .. }));
    assert!(starts && !gives_up(&answer), "{answer:?}");
}

/// What a former primary that ended on this timeline is made to do.
fn former_primary(state: &mut State, timeline: u32, lsn: u64) -> Vec<Effect> {
    let why = "stopped".to_owned();
    step(state, Event::PostmasterGone { why }, START + 30);
    let data = DataFacts {
        system_id: "7".into(),
        state: ControlState::ShutDown,
        timeline,
        lsn: Lsn(lsn),
        standby_signal: false,
        history: if timeline > 1 { fork_at(0x200) } else { vec![] },
    };
    let present = Event::DataSeen(DataDir::Present(data));
    step(state, present, START + 40)
}

#[test]
fn a_leader_whose_timeline_skipped_a_number_is_rejoined() {
    // The number between was taken by a promotion that reached the archive and got no further.
    let leads = |told| follows_b_on(3, told, fork_at(0x200));
    let starts = |effect: &Effect| matches!(effect, Effect::StartReplica { .. });
    let rewinds = |effect: &Effect| matches!(effect, Effect::Rewind { .. });
    let before = former_primary(&mut leads(Some(3)), 1, 0x100);
    assert!(before.iter().any(starts), "{before:?}");
    let behind_it = former_primary(&mut leads(Some(3)), 1, 0x300);
    assert!(behind_it.iter().any(rewinds), "{behind_it:?}");
    let between = former_primary(&mut leads(Some(3)), 2, 0x300);
    assert!(between.iter().any(rewinds), "{between:?}");
    // Where nobody says so, it may be the history of a timeline before.
    for told in [None, Some(2)] {
        let waits = former_primary(&mut leads(told), 1, 0x300);
        assert!(
            !waits.iter().any(|effect| starts(effect) || rewinds(effect)),
            "{waits:?}"
        );
    }
}

#[test]
fn what_may_not_be_replaced_is_left_to_people() {
    let twin = |repair: Repair| {
        let mut state = follows_b_on(2, Some(2), fork_at(0x200));
        state.rules.repair = repair;
        let effects = former_primary(&mut state, 2, 0x300);
        (gives_up(&effects), state.pg.left_to_people)
    };
    assert_eq!(twin(Repair::default()), (true, None));
    let (copies, left) = twin(Repair {
        copy_when_diverged: false,
        ..Repair::default()
    });
    let words = left.expect("a person is told");
    assert!(!copies && words.contains("ctl reinit"), "{words}");

    let forked = |repair: Repair| {
        let mut state = follows_b_on(2, Some(2), fork_at(0x100));
        state.rules.repair = repair;
        let effects = former_primary(&mut state, 1, 0x300);
        let rewinds = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Rewind { .. }));
        (rewinds, gives_up(&effects))
    };
    let without = |copy_when_diverged| Repair {
        rewind: false,
        copy_when_diverged,
        ..Repair::default()
    };
    assert_eq!(forked(Repair::default()), (true, false));
    assert_eq!(forked(without(true)), (false, true));
    assert_eq!(forked(without(false)), (false, false));
}
