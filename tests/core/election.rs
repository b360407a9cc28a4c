//! Who may take part in an election, and who waits for whom.

use super::conditions::{acknowledge, member, releases, shared_seen, tick};
use super::*;
use pgwarden::ha::event::{Op, PeerStatus};

#[test]
fn patience_with_a_better_member_is_counted_anew_in_every_race() {
    let mut state = replica();
    let mut shared = state.shared.as_deref().cloned().unwrap();
    let mut c = member("running", "replica");
    c.api_url = "http://c".into();
    shared.members.insert("c".into(), c);
    shared_seen(&mut state, shared, true, START + 1);
    let mut now = START + 10;
    for epoch in [4, 5] {
        let lock = held("b", epoch, 50 + epoch);
        read(&mut state, lock.clone(), now);
        let died_at = now;
        // The lock's age is up; `c` is ahead, and leads soon.
        while now < died_at + 8_000 {
            now += 50;
            let effects = tick(&mut state, now);
            let Some(round) = effects.iter().find_map(|effect| match effect {
                Effect::AskPeers { round, .. } => Some(*round),
                _ => None,
            }) else {
                continue;
            };
            let status = PeerStatus {
                primary: false,
                timeline: 1,
                lsn: Lsn(200),
                eligible: true,
                patroni: false,
            };
            let (name, status) = ("c".to_owned(), Some(status));
            let answer = Event::PeerAnswered {
                round,
                name,
                status,
            };
            let effects = step(&mut state, answer, now + 5);
            assert!(!effects.contains(&Effect::ReadLock), "{now}: {effects:?}");
        }
        now += 60_000;
    }
}

#[test]
fn the_allowed_lag_holds_when_the_record_is_gone() {
    let mut state = replica();
    let mut lock = held("b", 4, 50);
    lock.optime = Some(Lsn(10_000_000));
    read(&mut state, lock, START + 10);
    let absent = LockSnapshot {
        resource_version: None,
        fields: "absent".into(),
        state: LockState::Absent,
        optime: None,
        slots: SlotRecord::default(),
    };
    read(&mut state, absent.clone(), START + 20);
    let wrote_at = run_until(&mut state, &absent, START + 20, START + 20_000);
    assert_eq!(wrote_at, None, "10 MB behind, 1 MB is allowed");
}

#[test]
fn who_stood_aside_is_a_candidate_again_once_another_has_led() {
    // Found by the exercise: of three switchovers in a row the third waited for 10 s, since the
    // only synchronous standby had itself handed over a moment ago.
    for led_by_another in [false, true] {
        let mut state = replica();
        state.stand_aside_until = START + 12_000;
        if led_by_another {
            read(&mut state, held("b", 4, 50), START + 10);
        }
        let release = release("b", 4);
        let lock = snapshot(LockState::Released(release), 51);
        read(&mut state, lock.clone(), START + 500);
        let wrote_at = run_until(&mut state, &lock, START + 500, START + 3_000);
        assert_eq!(wrote_at.is_some(), led_by_another, "{wrote_at:?}");
    }
}

#[test]
fn a_leader_of_the_same_name_at_another_address_is_followed_there() {
    // In pods: a leader deleted by force came back as a new pod, won again, and nobody streamed.
    let mut state = replica();
    read(&mut state, held("b", 4, 50), START + 10);
    let mut follows = Vec::new();
    for (now, host) in [(20, "10.0.0.1"), (5_000, "10.0.0.1"), (9_000, "10.0.0.2")] {
        let mut shared = state.shared.as_deref().cloned().unwrap();
        let leader = Member {
            pod_uid: "uid-b".into(),
            host: host.into(),
            port: 5432,
            ..Member::default()
        };
        shared.members.insert("b".into(), leader);
        let quorum = false;
        let mut effects = step(
            &mut state,
            Event::SharedSeen {
                shared: shared.into(),
                quorum,
            },
            START + now,
        );
        effects.extend(step(
            &mut state,
            Event::PgSeen(facts(true)),
            START + now + 10,
        ));
        let follow =
            |effect: &Effect| matches!(effect, Effect::Follow { upstream } if upstream == "b");
        follows.push(effects.iter().any(follow));
        let op = Op::Follow;
        let result = Ok(());
        step(&mut state, Event::OpDone { op, result }, START + now + 20);
        read(&mut state, held("b", 4, 51 + now), START + now + 30);
    }
    assert_eq!(follows[1..], [false, true]);
}

#[test]
fn who_learns_of_a_newer_timeline_after_its_claim_gives_the_lock_back() {
    // Found by simulation (seed 1505): the claim was on its way when the news of another leader's
    // promotion arrived, and timeline 3 was promoted where 5 was noted.
    for newest in [1, 3] {
        let mut state = replica();
        let lock = held("b", 4, 50);
        read(&mut state, lock.clone(), START + 10);
        let sent_at = run_until(&mut state, &lock, START + 10, START + 20_000).expect("a claim");
        let mut shared = state.shared.as_deref().cloned().unwrap();
        shared.config.timeline = Some(newest);
        shared_seen(&mut state, shared.clone(), false, sent_at + 5);
        let mut effects = acknowledge(&mut state, 51, sent_at + 10);
        effects.extend(shared_seen(&mut state, shared, true, sent_at + 20));
        effects.extend(tick(&mut state, sent_at + 30));
        assert_eq!(
            (effects.contains(&promote()), releases(&effects)),
            (newest == 1, newest == 3),
            "timeline {newest} is noted: {effects:?}"
        );
    }
}

fn absent() -> LockSnapshot {
    LockSnapshot {
        resource_version: None,
        fields: "absent".into(),
        state: LockState::Absent,
        optime: None,
        slots: SlotRecord::default(),
    }
}

#[test]
fn an_absence_grows_old_only_while_it_is_looked_at() {
    // Found by simulation: cut off from the API between two looks, a member took the second absence
    // for the first, though another had led in between.
    for (blind, taken) in [(false, true), (true, false)] {
        let mut state = replica();
        read(&mut state, held("b", 4, 50), START + 10);
        read(&mut state, absent(), START + 100);
        let until = START + 6_200;
        let gap = if blind {
            START + 1_000..START + 4_000
        } else {
            0..0
        };
        let mut claims = false;
        for now in (START + 150..until).step_by(50) {
            let effects = tick(&mut state, now);
            claims |= !lock_writes(&effects).is_empty();
            if effects.contains(&Effect::ReadLock) && !gap.contains(&now) {
                let effects = read(&mut state, absent(), now + 10);
                claims |= !lock_writes(&effects).is_empty();
            }
        }
        assert_eq!(claims, taken, "blind {blind}");
    }
}

#[test]
fn an_epoch_that_is_heard_of_starts_the_wait_anew() {
    let mut state = replica();
    read(&mut state, held("b", 4, 50), START + 10);
    read(&mut state, absent(), START + 100);
    let mut shared = state.shared.as_deref().cloned().unwrap();
    shared.config.epoch = 5;
    shared_seen(&mut state, shared, false, START + 5_000);
    assert_eq!(state.lock.changed_at, START + 5_000);
}

#[test]
fn a_race_whose_last_look_is_not_answered_is_run_again() {
    let mut state = replica();
    read(&mut state, held("b", 4, 50), START + 10);
    let mut now = START + 10;
    while state.race.as_ref().is_none_or(|race| !race.confirming) {
        now += 50;
        assert!(now < START + 9_000, "no race is won");
        tick(&mut state, now);
    }
    let (round, call_ms) = (state.rounds, state.budgets.call_ms);
    tick(&mut state, now + call_ms - 1);
    assert!(state.race.is_some());
    tick(&mut state, now + call_ms);
    // The answer of before counts for nothing.
    let effects = read(&mut state, held("b", 4, 50), now + call_ms + 1);
    assert!(lock_writes(&effects).is_empty(), "{effects:?}");
    while state.rounds == round {
        now += 50;
        assert!(now < START + 12_000, "it is not run again");
        tick(&mut state, now);
    }
}
