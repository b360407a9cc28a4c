//! What an effect waits for: a fence before a release, an acknowledgement before anything writable,
//! an acknowledged record before the synchronous set is relaxed.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::*;
use pgwarden::ha::effect::Stop;
use pgwarden::ha::event::Op;
use pgwarden::ha::lock::Outcome;
use pgwarden::ha::model::{ControlState, DataDir, DataFacts};
use pgwarden::ha::shared::SharedWrite;
use pgwarden::ha::state::{Handover, HandoverPhase};

pub(crate) fn shared_seen(
    state: &mut State,
    shared: Shared,
    quorum: bool,
    now: u64,
) -> Vec<Effect> {
    step(
        state,
        Event::SharedSeen {
            shared: shared.into(),
            quorum,
        },
        now,
    )
}

/// The stored configuration is another from now on.
pub(crate) fn edit_rules(
    state: &mut State,
    now: u64,
    edit: impl FnOnce(&mut Rules),
) -> Vec<Effect> {
    let mut shared = state.shared.as_deref().cloned().unwrap();
    edit(shared.config.rules.get_or_insert_with(rules));
    let version = shared.config.resource_version.as_deref().unwrap_or("1");
    let version: u64 = version.parse().unwrap();
    shared.config.resource_version = Some((version + 1).to_string());
    shared_seen(state, shared, false, now)
}

pub(crate) fn tick(state: &mut State, now: u64) -> Vec<Effect> {
    step(state, Event::Tick, now)
}

/// The record of `a` as its last attempt wrote it.
fn mine(state: &State, version: u64) -> LockSnapshot {
    let mut mine = held("a", 5, version);
    if let LockState::Held(record) = &mut mine.state {
        record.nonce = state.lease.attempts.last().unwrap().nonce;
    }
    mine.fields = format!("{:?}", mine.state);
    mine
}

/// Acknowledge the attempt in flight.
pub(crate) fn acknowledge(state: &mut State, version: u64, now: u64) -> Vec<Effect> {
    let nonce = state.lease.in_flight.expect("a write is in flight");
    let outcome = Outcome::Done(mine(state, version));
    step(state, Event::LockWritten { nonce, outcome }, now)
}

pub(crate) fn member(state: &str, role: &str) -> Member {
    Member {
        state: state.into(),
        role: role.into(),
        ..Member::default()
    }
}

/// `a` holds epoch 5 and runs as the primary, `b` and `c` are replicas; the instant it was sent.
pub(crate) fn leader() -> (State, u64) {
    let mut state = replica();
    let lock = held("b", 4, 50);
    read(&mut state, lock.clone(), START + 10);
    let sent_at = run_until(&mut state, &lock, START + 10, START + 20_000).unwrap();
    acknowledge(&mut state, 51, sent_at + 5);
    let mut shared = state.shared.as_deref().cloned().unwrap();
    (shared.config.epoch, shared.config.ttl_ms) = (5, 6_000);
    // It has written the set.
    state.sync.inherited = false;
    for name in ["b", "c"] {
        let replica = member("running", "replica");
        shared.members.insert(name.into(), replica);
    }
    shared_seen(&mut state, shared, true, sent_at + 6);
    step(&mut state, Event::PgSeen(facts(false)), sent_at + 7);
    let (op, result) = (Op::Promote, Ok(()));
    step(&mut state, Event::OpDone { op, result }, sent_at + 8);
    (state, sent_at)
}

/// The same after a crash of its server, with this directory.
pub(crate) fn crashed_leader(standby_signal: bool) -> (State, u64) {
    let (mut state, sent_at) = leader();
    let why = "killed".to_owned();
    step(&mut state, Event::PostmasterGone { why }, sent_at + 20);
    let data = directory(ControlState::InProduction, standby_signal);
    step(&mut state, Event::DataSeen(data), sent_at + 21);
    (state, sent_at)
}

/// A data directory of the cluster in this state.
pub(crate) fn directory(state: ControlState, standby_signal: bool) -> DataDir {
    DataDir::Present(DataFacts {
        system_id: "7".into(),
        state,
        timeline: 1,
        lsn: Lsn(100),
        standby_signal,
        history: Vec::new(),
    })
}

pub(crate) fn starts_as_primary(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::StartPrimary { .. }))
}

pub(crate) fn releases(effects: &[Effect]) -> bool {
    lock_writes(effects)
        .iter()
        .any(|write| matches!(write, LockWrite::Release { .. }))
}

#[test]
fn a_start_in_progress_is_no_verified_stop() {
    let (mut state, sent_at) = crashed_leader(false);
    let effects = acknowledge(&mut state, 52, sent_at + 30);
    assert!(starts_as_primary(&effects), "{effects:?}");
    // SIGTERM while the files of the start are written and the guardian is about to fork.
    let effects = step(&mut state, Event::Terminate, sent_at + 31);
    assert!(!releases(&effects), "{effects:?}");
    let runs = Event::PostmasterRuns { as_primary: true };
    let effects = step(&mut state, runs, sent_at + 40);
    assert!(
        effects.iter().any(|e| matches!(e, Effect::Stop { .. })),
        "{effects:?}"
    );
    let why = "stopped".to_owned();
    let effects = step(&mut state, Event::PostmasterGone { why }, sent_at + 90);
    assert!(releases(&effects), "{effects:?}");
}

/// L4: its server does not start, the release for it gets no answer, and it is ready to start again.
pub(crate) fn starts_behind_no_late_release(state: &mut State, sent_at: u64) {
    state.pg.failed_starts = 3;
    let mut now = sent_at + 30;
    let effects = acknowledge(state, 52, now);
    let effects = if releases(&effects) {
        effects
    } else {
        tick(state, now + 1)
    };
    assert!(releases(&effects), "{effects:?}");
    let nonce = state.lease.in_flight.unwrap();
    let why = "timeout".to_owned();
    let outcome = Outcome::Unknown { why };
    now += 750;
    let mut effects = step(state, Event::LockWritten { nonce, outcome }, now);
    let lock = state.lock.snapshot.as_deref().cloned().unwrap();
    for _ in 0..40 {
        now += 50;
        effects.extend(read(state, lock.clone(), now));
    }
    assert!(!starts_as_primary(&effects), "{effects:?}");
    // A later compare-and-swap of mine: the release cannot land any more.
    let effects = acknowledge(state, 53, now + 10);
    assert!(starts_as_primary(&effects), "{effects:?}");
}

#[test]
fn nothing_writable_starts_behind_a_release_that_may_still_land() {
    let (mut state, sent_at) = crashed_leader(false);
    starts_behind_no_late_release(&mut state, sent_at);
}

#[test]
fn a_handover_ends_with_the_lock_it_was_for() {
    let (mut state, sent_at) = leader();
    state.handover = Some(Handover {
        to: None,
        because: "asked".into(),
        phase: HandoverPhase::Stopping,
        until: sent_at + 30_000,
        asked: None,
    });
    // No acknowledgement came; the server stopped, another one leads and is followed.
    let why = "stopped".to_owned();
    step(&mut state, Event::DeadlineLatched, sent_at + 5_400);
    step(&mut state, Event::PostmasterGone { why }, sent_at + 5_500);
    read(&mut state, held("b", 6, 60), sent_at + 12_000);
    tick(&mut state, sent_at + 12_100);
    assert_eq!(state.handover, None);
}

#[test]
fn a_replica_that_does_not_start_under_the_lock_gives_it_up() {
    let (mut state, sent_at) = crashed_leader(true);
    let (mut now, mut version, mut released) = (sent_at + 30, 52, false);
    while now < sent_at + 30_000 && !released {
        now += 100;
        let effects = if state.lease.in_flight.is_some() {
            version += 1;
            acknowledge(&mut state, version, now)
        } else {
            tick(&mut state, now)
        };
        released |= releases(&effects);
        if state.pg.op == Some(Op::StartReplica) {
            let (op, result) = (Op::StartReplica, Err("it ended".to_owned()));
            let effects = step(&mut state, Event::OpDone { op, result }, now + 1);
            released |= releases(&effects);
        }
    }
    assert!(released, "the lock is held for ever: {:?}", state.pg);
}

#[test]
fn a_new_ttl_is_noted_beside_the_lock() {
    // Whoever first sees the lock missing waits for the D noted there (L4).
    let (mut state, sent_at) = leader();
    let mut shared = state.shared.as_deref().cloned().unwrap();
    let mut raised = rules();
    raised.ttl_ms = 15_000;
    shared.config.rules = Some(raised);
    shared.config.resource_version = Some("9".into());
    shared_seen(&mut state, shared, false, sent_at + 100);
    tick(&mut state, sent_at + 1_100);
    let mut mine = mine(&state, 52);
    if let LockState::Held(record) = &mut mine.state {
        record.ttl_ms = 15_000;
    }
    let nonce = state.lease.in_flight.unwrap();
    let outcome = Outcome::Done(mine);
    let written = Event::LockWritten { nonce, outcome };
    let effects = step(&mut state, written, sent_at + 1_110);
    let noted = effects.iter().any(|effect| {
        matches!(
            effect,
            Effect::WriteShared(SharedWrite::History { ttl_ms: 15_000, .. })
        )
    });
    assert!(noted, "{effects:?}");
}

#[test]
fn a_read_that_left_before_my_claim_shows_no_store_that_went_back() {
    // Found by simulation (seed 691): the answer came after the acknowledgement, every view was
    // dropped, and the whole wait began anew.
    let mut state = replica();
    let lock = held("b", 4, 50);
    read(&mut state, lock.clone(), START + 10);
    let sent_at = run_until(&mut state, &lock, START + 10, START + 20_000).unwrap();
    (state.reading_lock, state.lock_reads) = (Some(sent_at), 1);
    acknowledge(&mut state, 51, sent_at + 5);
    let effects = read(&mut state, lock.clone(), sent_at + 8);
    assert!(!cites(&effects, Rule::L4), "{effects:?}");
    assert!(effects.contains(&Effect::ReadLock), "{effects:?}");
    assert!(state.lease.held.is_some());
    // The next one left after it: the store did go back.
    let effects = read(&mut state, lock, sent_at + 20);
    assert!(cites(&effects, Rule::L4), "{effects:?}");
}

#[test]
fn a_replica_that_does_not_stream_compares_its_wal_with_the_leaders() {
    // Found by simulation (seed 1507): two promotions from one position, and equal histories.
    for differs in [false, true] {
        let mut state = replica();
        read(&mut state, held("b", 4, 50), START + 10);
        let leader = Member {
            pod_uid: "uid-b".into(),
            timeline: Some(1),
            ..member("running", "primary")
        };
        let mut shared = state.shared.as_deref().cloned().unwrap();
        shared.members.insert("b".into(), leader);
        shared_seen(&mut state, shared, true, START + 20);
        let mut now = START + 20;
        let mut compared = None;
        while compared.is_none() && now < START + 60_000 {
            now += 1_000;
            let lock = held("b", 4, now);
            let mut effects = read(&mut state, lock, now);
            let seen = PgFacts {
                streaming: false,
                ..facts(true)
            };
            effects.extend(step(&mut state, Event::PgSeen(seen), now));
            let with = "b".to_owned();
            let compares = effects.contains(&Effect::CompareWal { with });
            compared = compares.then_some(now);
        }
        let now = compared.expect("a comparison");
        assert!(now >= START + 10_000, "not at once: {now}");
        let with = "b".to_owned();
        let effects = step(&mut state, Event::WalCompared { with, differs }, now + 1);
        let stops = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Stop { .. }));
        assert_eq!(stops, differs, "{effects:?}");
    }
}

#[test]
fn what_does_not_serve_is_fenced_and_released_only_where_another_can_serve() {
    for candidate in [false, true] {
        let (mut state, sent_at) = leader();
        if !candidate {
            let mut shared = state.shared.as_deref().cloned().unwrap();
            shared.members.clear();
            shared_seen(&mut state, shared, true, sent_at + 10);
        }
        let hung = Event::Serving {
            ok: false,
            why: "no answer of the server".into(),
        };
        let effects = step(&mut state, hung, sent_at + 20);
        assert!(
            effects.contains(&Effect::Stop { how: Stop::Kill }),
            "{effects:?}"
        );
        assert!(lock_writes(&effects).is_empty(), "fence first: {effects:?}");
        let why = "killed".to_owned();
        let effects = step(&mut state, Event::PostmasterGone { why }, sent_at + 30);
        let released = matches!(lock_writes(&effects)[..], [LockWrite::Release { .. }]);
        assert_eq!(released, candidate, "{effects:?}");
    }
}

/// A former primary that holds the lock under epoch 5 and is about to start as the primary.
fn starting_as_primary() -> (State, u64) {
    let mut state = replica();
    let lock = held("b", 4, 50);
    read(&mut state, lock.clone(), START + 10);
    let sent_at = run_until(&mut state, &lock, START + 10, START + 20_000).expect("a claim");
    let attempt = state.lease.attempts.last().expect("an attempt").nonce;
    let gone = Event::PostmasterGone {
        why: "it crashed".into(),
    };
    step(&mut state, gone, sent_at);
    let mut mine = held("a", 5, 51);
    if let LockState::Held(record) = &mut mine.state {
        record.nonce = attempt;
    }
    let now = sent_at + 5;
    let written = Event::LockWritten {
        nonce: attempt,
        outcome: Outcome::Done(mine.clone()),
    };
    step(&mut state, written, now);
    read(&mut state, mine, now);
    let shared = state
        .shared
        .as_deref()
        .cloned()
        .expect("the cluster is known");
    step(
        &mut state,
        Event::SharedSeen {
            shared: shared.into(),
            quorum: true,
        },
        now,
    );
    let data = DataDir::Present(DataFacts {
        system_id: "7".into(),
        state: ControlState::ShutDown,
        timeline: 1,
        lsn: Lsn(100),
        standby_signal: false,
        history: Vec::new(),
    });
    let effects = step(&mut state, Event::DataSeen(data), now + 1);
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::StartPrimary { .. })),
        "{effects:?}"
    );
    (state, now + 1)
}

#[test]
fn the_lock_is_not_released_under_a_start_that_is_on_its_way() {
    let (mut state, now) = starting_as_primary();
    let mut effects = step(&mut state, Event::Terminate, now + 1);
    effects.extend(step(&mut state, Event::Tick, now + 20));
    let written = lock_writes(&effects);
    assert!(
        written.is_empty(),
        "the guardian may be asked to start it any moment: {written:?}"
    );
    // It runs: it is stopped, and only then the lock goes.
    let runs = Event::PostmasterRuns { as_primary: true };
    let effects = step(&mut state, runs, now + 30);
    assert!(lock_writes(&effects).is_empty());
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Stop { .. })),
        "{effects:?}"
    );
    let gone = Event::PostmasterGone {
        why: "stopped".into(),
    };
    let effects = step(&mut state, gone, now + 40);
    assert!(matches!(
        lock_writes(&effects)[..],
        [LockWrite::Release { .. }]
    ));
    // A start that has failed keeps nobody either.
    let (mut state, now) = starting_as_primary();
    step(&mut state, Event::Terminate, now + 1);
    let failed = Event::OpDone {
        op: Op::StartPrimary,
        result: Err("refused".into()),
    };
    let effects = step(&mut state, failed, now + 2);
    assert!(matches!(
        lock_writes(&effects)[..],
        [LockWrite::Release { .. }]
    ));
}

#[test]
fn a_request_waits_a_moment_for_a_standby_that_is_about_to_stream() {
    // Found by the exercise: the standby streamed again, and the leader's last look was older.
    let (mut state, sent_at) = leader();
    let mut shared = state.shared.as_deref().cloned().unwrap();
    shared.failover.from = Some("a".into());
    shared.failover.to = Some("b".into());
    shared.failover.resource_version = Some("70".into());
    let refuses = |effects: &[Effect]| {
        effects.iter().any(|effect| {
            matches!(
                effect,
                Effect::WriteShared(SharedWrite::Failover { to: None, .. })
            )
        })
    };
    let mut effects = shared_seen(&mut state, shared, true, sent_at + 10);
    effects.extend(tick(&mut state, sent_at + 500));
    assert!(!refuses(&effects), "{effects:?}");
    let mut late = false;
    for ms in (600..5_000).step_by(100) {
        state.lease.held.as_mut().unwrap().until = u64::MAX;
        late |= refuses(&tick(&mut state, sent_at + ms));
    }
    assert!(
        late,
        "a request that nobody can follow is refused in the end"
    );
}
