//! Pods that come and go by plan: who is preferred, and what a leader that is to go waits for.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::conditions::{acknowledge, edit_rules, leader, member, shared_seen, tick};
use super::synchronous::{enforces_b, probe, published, written};
use super::*;
use pgwarden::ha::effect::Stop;
use pgwarden::ha::event::{Op, PeerStatus};
use pgwarden::ha::lock::Outcome;
use pgwarden::ha::shared::SharedWrite;

fn pod(created: &str, revision: &str) -> Member {
    Member {
        created: created.into(),
        revision: revision.into(),
        ..member("running", "replica")
    }
}

/// `a` leads, `b` is enforced and published, `c` streams as well; the pods as given.
fn with_pods(b: Member, c: Member) -> (State, u64) {
    let (mut state, what, sent_at) = enforces_b();
    written(&mut state, what, Outcome::Done("61".into()), sent_at + 20);
    let mut shared = state.shared.as_deref().cloned().unwrap();
    shared.members.insert("a".into(), pod("1", "old"));
    shared.members.insert("b".into(), b);
    shared.members.insert("c".into(), c);
    shared_seen(&mut state, shared, true, sent_at + 30);
    (state, sent_at)
}

fn enforces(effects: &[Effect], wanted: &[&str]) -> bool {
    effects.iter().any(
        |effect| matches!(effect, Effect::SetSync { wanted: setting } if setting.names == wanted),
    )
}

/// The server carries out what it was last asked for.
fn carry_out(state: &mut State, now: u64) -> Vec<Effect> {
    let set = Event::SyncSet {
        wanted: state.sync.asked.clone(),
        lsn: Lsn(90),
        shown: String::new(),
    };
    step(state, set, now)
}

#[test]
fn the_synchronous_set_moves_to_a_pod_that_stays() {
    let leaving = |pod: Member| Member {
        leaving: true,
        ..pod
    };
    let cases = [
        ("nothing planned", pod("1", "old"), pod("1", "old"), false),
        (
            "b is deleted",
            leaving(pod("1", "old")),
            pod("1", "old"),
            true,
        ),
        ("c is renewed", pod("1", "old"), pod("2", "new"), true),
        ("both are", pod("3", "new"), pod("2", "new"), false),
        (
            "c is renewed, and goes",
            pod("1", "old"),
            leaving(pod("2", "new")),
            false,
        ),
    ];
    for (what, b, c, moves) in cases {
        let (mut state, sent_at) = with_pods(b, c);
        let effects = probe(&mut state, &["b", "c"], sent_at + 40);
        assert_eq!(published(&effects), None, "{what}: {effects:?}");
        assert_eq!(
            enforces(&effects, &["b", "c"]),
            moves,
            "{what}: {effects:?}"
        );
        if !moves {
            continue;
        }
        // Both confirm; then the other is published; only then the first is relaxed.
        let effects = carry_out(&mut state, sent_at + 50);
        let what = published(&effects).expect("both are enforced");
        assert!(matches!(&what, SharedWrite::Sync { standbys, .. } if *standbys == ["c"]));
        assert!(!enforces(&effects, &["c"]), "{effects:?}");
        let effects = written(&mut state, what, Outcome::Done("62".into()), sent_at + 60);
        assert!(enforces(&effects, &["c"]), "{effects:?}");
    }
}

#[test]
fn a_renewed_pod_that_lags_holds_no_commits() {
    let (mut state, sent_at) = with_pods(pod("1", "old"), pod("2", "new"));
    let sender = |name: &str, lsn| Walsender {
        client_addr: None,
        name: name.into(),
        state: "streaming".into(),
        sync_state: "sync".into(),
        sent_lsn: Lsn(lsn),
        flush_lsn: Lsn(lsn),
        replay_lsn: Lsn(lsn),
    };
    let seen = PgFacts {
        lsn: Lsn(10_000_000),
        walsenders: vec![sender("b", 9_000_000), sender("c", 100)],
        ..facts(false)
    };
    let effects = step(&mut state, Event::PgSeen(seen), sent_at + 40);
    assert!(!enforces(&effects, &["b", "c"]), "{effects:?}");
}

fn checkpoints(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Checkpoint)
}

#[test]
fn a_leader_that_is_to_go_waits_for_an_heir_that_stays() {
    let going = Member {
        leaving: true,
        ..pod("1", "old")
    };
    for heir_comes in [true, false] {
        let (mut state, sent_at) = with_pods(going.clone(), pod("1", "old"));
        let now = sent_at + 40;
        let mut effects = probe(&mut state, &["b", "c"], now);
        effects.extend(step(&mut state, Event::Terminate, now));
        assert!(!checkpoints(&effects), "{effects:?}");
        assert!(enforces(&effects, &["b", "c"]), "{effects:?}");
        if heir_comes {
            effects = carry_out(&mut state, now + 10);
            assert!(!checkpoints(&effects), "{effects:?}");
            let what = published(&effects).expect("c is enforced beside b");
            effects = written(&mut state, what, Outcome::Done("62".into()), now + 30);
        } else {
            // The server does not enforce it: the lock is renewed and waited, but not for ever.
            effects.clear();
            let (mut at, mut version) = (now + 10, 52);
            while at < now + 12_000 && !checkpoints(&effects) {
                at += 100;
                effects = tick(&mut state, at);
                if state.lease.in_flight.is_some() {
                    version += 1;
                    acknowledge(&mut state, version, at);
                }
            }
            assert!(at >= now + 10_000, "gave up after {} ms", at - now);
        }
        assert!(
            checkpoints(&effects),
            "heir comes {heir_comes}: {effects:?}"
        );
    }
}

#[test]
fn of_equals_the_one_that_stays_goes_first() {
    // (what is planned for me, for `c`) and whether I, who sort first, let `c` go first.
    let stays = pod("1", "old");
    let leaving = Member {
        leaving: true,
        ..stays.clone()
    };
    let cases = [
        (stays.clone(), stays.clone(), false),
        (leaving.clone(), stays.clone(), true),
        (stays.clone(), pod("2", "new"), true),
        (stays, leaving, false),
    ];
    for (mine, theirs, defers) in cases {
        let mut state = replica();
        let mut shared = state.shared.as_deref().cloned().unwrap();
        let words = format!("mine {mine:?}, theirs {theirs:?}");
        shared.members.insert("a".into(), mine);
        let api_url = "http://c".to_owned();
        shared
            .members
            .insert("c".into(), Member { api_url, ..theirs });
        shared_seen(&mut state, shared, true, START + 1);
        read(&mut state, held("b", 4, 50), START + 10);
        let release = release("b", 4);
        let lock = snapshot(LockState::Released(release), 51);
        let effects = read(&mut state, lock, START + 500);
        let asked = effects.iter().find_map(|effect| match effect {
            Effect::AskPeers { round, .. } => Some(*round),
            _ => None,
        });
        let (timeline, lsn) = state.position().unwrap();
        let status = PeerStatus {
            primary: false,
            timeline,
            lsn,
            eligible: true,
            patroni: false,
        };
        let answer = Event::PeerAnswered {
            round: asked.expect("c is asked"),
            name: "c".into(),
            status: Some(status),
        };
        let effects = step(&mut state, answer, START + 505);
        let goes = effects.contains(&Effect::ReadLock);
        assert_eq!(goes, !defers, "{words}: {effects:?}");
    }
}

#[test]
fn who_hands_over_stays_until_its_successor_is_reached() {
    // Found in pods: clients that were sent to an address of nobody hung for their time-out of 2 s.
    for comes in [true, false] {
        let (mut state, sent_at) = leader();
        step(&mut state, Event::Terminate, sent_at + 20);
        let (op, result) = (Op::Checkpoint, Ok(()));
        step(&mut state, Event::OpDone { op, result }, sent_at + 30);
        let why = "stopped".to_owned();
        let effects = step(&mut state, Event::PostmasterGone { why }, sent_at + 40);
        assert!(!lock_writes(&effects).is_empty(), "released: {effects:?}");
        let release = release("a", 5);
        let released_at = sent_at + 50;
        let outcome = Outcome::Done(snapshot(LockState::Released(release), 60));
        let nonce = state.lease.in_flight.unwrap();
        let mut effects = step(
            &mut state,
            Event::LockWritten { nonce, outcome },
            released_at,
        );
        assert!(!effects.contains(&Effect::Bye), "{effects:?}");
        if comes {
            read(&mut state, held("b", 6, 61), released_at + 100);
            let mut shared = state.shared.as_deref().cloned().unwrap();
            shared
                .members
                .insert("b".into(), member("running", "primary"));
            shared_seen(&mut state, shared, false, released_at + 300);
        }
        let until = released_at + if comes { 300 + 1_500 } else { 5_000 };
        effects = tick(&mut state, until - 1);
        assert!(
            !effects.contains(&Effect::Bye),
            "comes {comes}: {effects:?}"
        );
        effects = tick(&mut state, until);
        assert!(effects.contains(&Effect::Bye), "comes {comes}: {effects:?}");
    }
}

#[test]
fn a_slot_outlives_its_pod_as_long_as_asked() {
    let (mut state, sent_at) = with_pods(pod("1", "old"), pod("1", "old"));
    probe(&mut state, &["b", "c"], sent_at + 40);
    let mut shared = state.shared.as_deref().cloned().unwrap();
    shared.members.remove("c");
    shared.config.rules.as_mut().unwrap().member_slots_ttl_ms = 1_000;
    shared_seen(&mut state, shared, true, sent_at + 50);
    for (now, kept) in [(sent_at + 900, true), (sent_at + 1_100, false)] {
        probe(&mut state, &["b"], now);
        assert_eq!(state.slots.seen.contains_key("c"), kept, "{now}");
    }
    assert!(state.slots.seen.contains_key("b"));
}

#[test]
fn the_stop_of_a_primary_has_a_limit_of_its_own_in_synchronous_mode() {
    for (synchronous, pressed) in [(true, true), (false, false)] {
        let (mut state, sent_at) = leader();
        step(&mut state, Event::Terminate, sent_at + 20);
        let (op, result) = (Op::Checkpoint, Ok(()));
        step(&mut state, Event::OpDone { op, result }, sent_at + 30);
        edit_rules(&mut state, sent_at + 40, |rules| {
            rules.synchronous_mode = synchronous;
            rules.primary_stop_timeout_ms = Some(2_000);
        });
        let stops = |effects: &[Effect], how: Stop| effects.contains(&Effect::Stop { how });
        assert_eq!(state.pg.stopping, Some(Stop::Fast));
        let since = state.pg.stopping_since;
        let effects = tick(&mut state, since + 1_999);
        assert!(!stops(&effects, Stop::Kill), "{effects:?}");
        let effects = tick(&mut state, since + 2_000);
        assert_eq!(stops(&effects, Stop::Kill), pressed, "{effects:?}");
    }
}

#[test]
fn a_full_volume_is_left_while_another_has_room() {
    let full = |pod: Member| Member { full: true, ..pod };
    let cases = [
        (
            "both have room",
            true,
            pod("1", "old"),
            pod("1", "old"),
            Some("b"),
        ),
        (
            "b is full too",
            true,
            full(pod("1", "old")),
            pod("1", "old"),
            None,
        ),
        (
            "mine has room",
            false,
            pod("1", "old"),
            pod("1", "old"),
            None,
        ),
    ];
    for (words, mine, b, c, to) in cases {
        let (mut state, sent_at) = with_pods(b, c);
        probe(&mut state, &["b", "c"], sent_at + 40);
        let volume = Event::Volume { full: mine };
        let mut effects = step(&mut state, volume, sent_at + 50);
        effects.extend(tick(&mut state, sent_at + 60));
        // In synchronous mode only `b` is in the set, so `c` is no candidate.
        let handover = state.handover.as_ref().and_then(|it| it.to.as_deref());
        assert_eq!(handover, to, "{words}: {effects:?}");
        assert_eq!(checkpoints(&effects), to.is_some(), "{words}: in order");
        let told = effects.iter().any(
            |effect| matches!(effect, Effect::Explain { words, .. } if words.ends_with("I go on")),
        );
        assert_eq!(told, mine && to.is_none(), "{words}: {effects:?}");
    }
}
