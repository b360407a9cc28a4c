//! A release that says where its WAL ends, and whom it admits.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::panic, clippy::unwrap_used)]

use super::conditions::{acknowledge, leader, shared_seen};
use super::synchronous::{after_the_leader, enforces_b, set_of, written};
use super::*;
use pgwarden::ha::event::Op;
use pgwarden::ha::lock::{MadeAnew, Outcome, WalEnd};
use pgwarden::ha::shared::SharedWrite;

/// `b` released epoch 4, and says that its WAL ends here.
pub(super) fn released(timeline: u32, lsn: u64) -> LockSnapshot {
    let release = Released {
        end: Some(WalEnd {
            timeline,
            lsn: Lsn(lsn),
        }),
        ..release("b", 4)
    };
    snapshot(LockState::Released(release), 51)
}

#[test]
fn who_has_all_that_was_released_may_lead_though_it_is_not_listed() {
    // Found in pods: a leader and its standby were scaled away in one moment, and the one that was
    // left, with every byte, waited for a person. (What was released, and whether `a`, at 100 on
    // timeline 1, may lead.)
    let cases = [
        ("all of it", released(1, 99), true),
        ("up to its very end", released(1, 100), true),
        ("one byte is missing", released(1, 101), false),
        ("another timeline", released(2, 100), false),
    ];
    for (what, lock, leads) in cases {
        let (mut state, _) = after_the_leader(&set_of("b", &["c"]), false);
        // It was seen to stream from `b` under epoch 4.
        step(&mut state, Event::PgSeen(facts(true)), START + 40);
        read(&mut state, lock.clone(), START + 50);
        let claims = run_until(&mut state, &lock, START + 50, START + 20_000).is_some();
        assert_eq!(claims, leads, "{what}");
    }
}

#[test]
fn a_release_admits_nobody_who_did_not_stream_from_that_leader() {
    let (mut state, _) = after_the_leader(&set_of("b", &["c"]), false);
    let lock = released(1, 100);
    read(&mut state, lock.clone(), START + 50);
    step(&mut state, Event::PgSeen(facts(true)), START + 60);
    assert!(run_until(&mut state, &lock, START + 60, START + 20_000).is_none());
}

/// Found in pods: three handovers in a rolling update. The standby that was chosen to follow knew its
/// position of half a second ago, took itself for behind, and the next pod to be deleted led.
#[test]
fn a_listed_standby_looks_at_its_position_again_and_goes_before_one_that_is_not_listed() {
    let claim = |listed: &str, fresh_at: Option<u64>| {
        let (mut state, _) = after_the_leader(&set_of("b", &[listed]), false);
        step(&mut state, Event::PgSeen(facts(true)), START + 40);
        // `a` stands at 100 as far as it knows.
        let lock = released(1, if listed == "a" { 140 } else { 100 });
        read(&mut state, lock.clone(), START + 50);
        let mut from = START + 50;
        if let Some(at) = fresh_at {
            let lsn = Lsn(150);
            step(
                &mut state,
                Event::PgSeen(PgFacts { lsn, ..facts(true) }),
                at,
            );
            from = at;
        }
        run_until(&mut state, &lock, from, START + 20_000).expect("a claim") - START - 50
    };
    assert!(
        claim("a", Some(START + 60)) < 100,
        "at once with a fresh position"
    );
    assert!(
        (300..600).contains(&claim("a", None)),
        "not for ever without one"
    );
    assert!(
        (100..300).contains(&claim("c", None)),
        "not listed: after the one that is"
    );
}

#[test]
fn what_was_released_admits_after_the_claim_too() {
    let (mut state, _) = after_the_leader(&set_of("b", &["c"]), false);
    step(&mut state, Event::PgSeen(facts(true)), START + 40);
    // Found by the simulator (seed 13246): it had a copy that was not proven, died before its
    // promotion, and did not trust the set that named it, which nobody else was in.
    state.lock.made_anew = Some(MadeAnew::default());
    let lock = released(1, 100);
    read(&mut state, lock.clone(), START + 50);
    assert!(state.lock.made_anew.is_some(), "not proven by a sight");
    let sent_at = run_until(&mut state, &lock, START + 50, START + 20_000).expect("a claim");
    let mut effects = acknowledge(&mut state, 52, sent_at + 5);
    let shared = state.shared.as_deref().cloned().unwrap();
    effects.extend(shared_seen(&mut state, shared, true, sent_at + 10));
    let sync = effects.iter().find_map(|effect| match effect {
        Effect::WriteShared(what @ SharedWrite::Sync { .. }) => Some(what.clone()),
        _ => None,
    });
    let sync = sync.unwrap_or_else(|| panic!("the set is made mine first: {effects:?}"));
    assert!(matches!(&sync, SharedWrite::Sync { leader, .. } if leader == "a"));
    assert_eq!(state.lock.made_anew, None, "it is remembered before that");
    let effects = written(&mut state, sync, Outcome::Done("70".into()), sent_at + 20);
    assert!(effects.contains(&promote()), "{effects:?}");
}

/// `a` leads, is told to go and stops; what it releases after this sight of its directory.
fn releases(mut state: State, sent_at: u64, data: Option<DataDir>) -> (Option<WalEnd>, u64) {
    let mut now = sent_at + 100;
    let mut effects = step(&mut state, Event::Terminate, now);
    while !effects.contains(&Effect::Checkpoint) {
        now += 100;
        effects = step(&mut state, Event::Tick, now);
        if state.lease.in_flight.is_some() {
            acknowledge(&mut state, now, now);
        }
        assert!(now < sent_at + 20_000, "no checkpoint: {effects:?}");
    }
    let (op, result) = (Op::Checkpoint, Ok(()));
    step(&mut state, Event::OpDone { op, result }, now + 10);
    let why = "stopped".to_owned();
    let gone_at = now + 20;
    let mut effects = step(&mut state, Event::PostmasterGone { why }, gone_at);
    now = gone_at;
    if let Some(data) = data {
        assert!(lock_writes(&effects).is_empty(), "{effects:?}");
        effects = step(&mut state, Event::DataSeen(data), gone_at + 5);
    }
    while lock_writes(&effects).is_empty() {
        now += 50;
        assert!(now < gone_at + 2_000, "no release: {effects:?}");
        effects = step(&mut state, Event::Tick, now);
    }
    match lock_writes(&effects)[..] {
        [LockWrite::Release { release, .. }] => (release.end, now - gone_at),
        _ => panic!("{effects:?}"),
    }
}

#[test]
fn a_release_says_where_the_wal_ends_after_a_clean_stop_only() {
    let data = |state| {
        let data = DataFacts {
            system_id: "7".into(),
            state,
            timeline: 1,
            lsn: Lsn(120),
            standby_signal: false,
            history: vec![],
        };
        Some(DataDir::Present(data))
    };
    let end = WalEnd {
        timeline: 1,
        lsn: Lsn(120),
    };
    let cases = [
        ("clean", data(ControlState::ShutDown), Some(end)),
        ("crashed", data(ControlState::InProduction), None),
        ("it cannot be seen", None, None),
    ];
    for (what, data, expected) in cases {
        let (mut state, published, sent_at) = enforces_b();
        written(
            &mut state,
            published,
            Outcome::Done("61".into()),
            sent_at + 20,
        );
        let waits = data.is_none();
        let (end, after_ms) = releases(state, sent_at, data);
        assert_eq!(end, expected, "{what}");
        assert_eq!(after_ms >= 500, waits, "{what}: after {after_ms} ms");
    }
    // Nobody waits for it where it would help nobody.
    let (state, sent_at) = leader();
    assert_eq!(releases(state, sent_at, None), (None, 0), "asynchronous");
}
