//! Tier 1: a state and an event, and exactly what follows. Scenarios that the simulator or a real
//! cluster has shown to matter, each in its shortest form.

use pgwarden::ha::budgets::Budgets;
use pgwarden::ha::effect::{Effect, Rule};
use pgwarden::ha::event::{Event, PgFacts};
use pgwarden::ha::lock::{Held, LockSnapshot, LockState, LockWrite, Place, Released};
use pgwarden::ha::model::{
    ControlState, DataDir, DataFacts, HistoryEntry, Identity, Lsn, Member, Walsender,
};
use pgwarden::ha::quorum::SyncSetting;
use pgwarden::ha::shared::{ConfigRecord, Initialize, Repair, Rules, Shared, SyncRules};
use pgwarden::ha::slots::SlotRecord;
use pgwarden::ha::state::State;
use pgwarden::ha::step::step;

#[path = "core/asked.rs"]
mod asked;
#[path = "core/cascade.rs"]
mod cascade;
#[path = "core/claimed.rs"]
mod claimed;
#[path = "core/cloning.rs"]
mod cloning;
#[path = "core/conditions.rs"]
mod conditions;
#[path = "core/configuring.rs"]
mod configuring;
#[path = "core/divergence.rs"]
mod divergence;
#[path = "core/doubts.rs"]
mod doubts;
#[path = "core/edited.rs"]
mod edited;
#[path = "core/election.rs"]
mod election;
#[path = "core/failsafe.rs"]
mod failsafe;
#[path = "core/hooks.rs"]
mod hooks;
#[path = "core/leaving.rs"]
mod leaving;
#[path = "core/mixed.rs"]
mod mixed;
#[path = "core/pause.rs"]
mod pause;
#[path = "core/planned.rs"]
mod planned;
#[path = "core/quorum.rs"]
mod quorum;
#[path = "core/rebuilding.rs"]
mod rebuilding;
#[path = "core/released.rs"]
mod released;
#[path = "core/remote.rs"]
mod remote;
#[path = "core/slot_copies.rs"]
mod slot_copies;
#[path = "core/slots.rs"]
mod slots;
#[path = "core/synchronous.rs"]
mod synchronous;

const START: u64 = 1_000_000;

fn identity(name: &str) -> Identity {
    Identity {
        name: name.into(),
        pod_uid: format!("uid-{name}"),
        incarnation: format!("life-{name}"),
    }
}

/// With nothing enforced from the first commit.
fn promote() -> Effect {
    let sync = SyncSetting::default();
    Effect::Promote { sync }
}

fn enforce_all(names: &[String]) -> Effect {
    let wanted = SyncSetting::all(names.iter().cloned());
    Effect::SetSync { wanted }
}

fn rules() -> Rules {
    Rules {
        ttl_ms: 6_000,
        maximum_lag_on_failover_bytes: 1_048_576,
        synchronous_mode: false,
        sync: SyncRules::default(),
        check_timeline: true,
        primary_start_timeout_ms: 300_000,
        primary_stop_timeout_ms: None,
        member_slots_ttl_ms: 1_800_000,
        slots: pgwarden::ha::slots::SlotRules::default(),
        repair: Repair::default(),
        pause: false,
        standby: None,
        failsafe: false,
    }
}

/// A replica that streams, and knows the cluster.
fn replica() -> State {
    let budgets = Budgets::for_ttl(6_000).expect("a row of G3");
    let mut state = State::new(identity("a"), Place::default(), false, rules(), budgets);
    state.pg.upstream = Some("b".into());
    step(
        &mut state,
        Event::PostmasterRuns { as_primary: false },
        START,
    );
    step(&mut state, Event::PgSeen(facts(true)), START);
    let shared = Shared {
        config: ConfigRecord {
            rules: Some(rules()),
            initialize: Initialize::Done("7".into()),
            timeline: Some(1),
            resource_version: Some("1".into()),
            ..ConfigRecord::default()
        },
        ..Shared::default()
    };
    step(
        &mut state,
        Event::SharedSeen {
            shared: shared.into(),
            quorum: true,
        },
        START,
    );
    state
}

fn facts(in_recovery: bool) -> PgFacts {
    PgFacts {
        in_recovery,
        timeline: 1,
        lsn: Lsn(100),
        system_id: "7".into(),
        streaming: in_recovery,
        checkpointed: true,
        ..PgFacts::default()
    }
}

fn held(by: &str, epoch: u64, version: u64) -> LockSnapshot {
    let record = Held {
        led_last: Some(by.to_owned()),
        holder: identity(by),
        epoch,
        ttl_ms: 6_000,
        acquire_time: "then".into(),
        nonce: version,
        place: Place::default(),
        paused: false,
        failsafe: None,
    };
    snapshot(LockState::Held(record), version)
}

/// `by` released this epoch after a verified stop.
fn release(by: &str, epoch: u64) -> Released {
    Released {
        by: identity(by),
        epoch,
        ttl_ms: 6_000,
        verified: true,
        led_last: None,
        end: None,
    }
}

fn snapshot(state: LockState, version: u64) -> LockSnapshot {
    LockSnapshot {
        resource_version: Some(version.to_string()),
        fields: format!("{state:?}"),
        state,
        optime: None,
        slots: SlotRecord::default(),
    }
}

fn read(state: &mut State, lock: LockSnapshot, now: u64) -> Vec<Effect> {
    step(state, Event::LockSeen { lock, quorum: true }, now)
}

fn lock_writes(effects: &[Effect]) -> Vec<&LockWrite> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::WriteLock { write, .. } => Some(write),
            _ => None,
        })
        .collect()
}

fn cites(effects: &[Effect], wanted: Rule) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::Explain { rule, .. } if *rule == wanted))
}

/// Let the state run on its own ticks, with every read answered by this record.
fn run_until(state: &mut State, lock: &LockSnapshot, from: u64, until: u64) -> Option<u64> {
    let mut now = from;
    while now < until {
        now += 50;
        let mut effects = step(state, Event::Tick, now);
        effects.extend(read(state, lock.clone(), now));
        if !lock_writes(&effects).is_empty() {
            return Some(now);
        }
    }
    None
}

/// A restored store drops every view: without this one no member is a candidate at all.
fn see_the_cluster_again(state: &mut State, now: u64) {
    let shared = Shared {
        config: ConfigRecord {
            rules: Some(rules()),
            initialize: Initialize::Done("7".into()),
            timeline: Some(1),
            ..ConfigRecord::default()
        },
        ..Shared::default()
    };
    let event = Event::SharedSeen {
        shared: shared.into(),
        quorum: true,
    };
    step(state, event, now);
}

#[test]
fn a_record_of_mine_out_of_a_backup_is_not_adopted() {
    // Found by simulation (bug `timeline`, seed 183): I led epoch 2, another leads epoch 4, and the
    // store comes back from a backup that shows my own old record.
    let mut state = replica();
    read(&mut state, held("b", 4, 50), START + 10);
    let old = held("a", 2, 20);
    let effects = read(&mut state, old.clone(), START + 1_000);
    assert!(cites(&effects, Rule::L4), "{effects:?}");
    assert_eq!(lock_writes(&effects), Vec::<&LockWrite>::new());
    see_the_cluster_again(&mut state, START + 1_010);
    let wrote_at = run_until(&mut state, &old, START + 1_010, START + 20_000);
    let wrote_at = wrote_at.expect("after the full wait the lock may be taken");
    assert!(wrote_at >= START + 1_000 + 6_000, "claimed at {wrote_at}");
}

#[test]
fn a_release_out_of_a_backup_proves_nothing() {
    let mut state = replica();
    read(&mut state, held("b", 4, 50), START + 10);
    let release = release("c", 3);
    let old = snapshot(LockState::Released(release), 30);
    read(&mut state, old.clone(), START + 1_000);
    see_the_cluster_again(&mut state, START + 1_010);
    let wrote_at = run_until(&mut state, &old, START + 1_010, START + 6_900);
    assert_eq!(wrote_at, None);
    let wrote_at = run_until(&mut state, &old, START + 6_900, START + 20_000);
    assert!(wrote_at.is_some(), "after the full wait it may be taken");
}

/// A record of b with that D, written by that attempt.
fn held_for(ttl_ms: u64, nonce: u64, version: u64) -> LockSnapshot {
    let LockState::Held(held) = held("b", 4, version).state else {
        unreachable!("held() makes a record that is held");
    };
    let held = Held {
        ttl_ms,
        nonce,
        ..held
    };
    snapshot(LockState::Held(held), version)
}

#[test]
fn a_ttl_lowered_by_hand_shortens_no_wait() {
    for seen_before in [true, false] {
        let mut state = replica();
        if seen_before {
            read(&mut state, held_for(6_000, 7, 50), START + 10);
            read(&mut state, held_for(6_000, 8, 51), START + 20);
        }
        let lowered = held_for(1_000, 8, 52);
        read(&mut state, lowered.clone(), START + 1_000);
        see_the_cluster_again(&mut state, START + 1_010);
        let wrote_at = run_until(&mut state, &lowered, START + 1_010, START + 6_900);
        assert_eq!(wrote_at, None, "seen before: {seen_before}");
    }
}

#[test]
fn a_ttl_that_its_holder_renews_under_counts() {
    let mut state = replica();
    read(&mut state, held_for(15_000, 7, 50), START + 10);
    read(&mut state, held_for(6_000, 8, 51), START + 20);
    let renewed = held_for(6_000, 9, 52);
    read(&mut state, renewed.clone(), START + 1_000);
    see_the_cluster_again(&mut state, START + 1_010);
    let wrote_at = run_until(&mut state, &renewed, START + 1_010, START + 10_000);
    assert!(
        wrote_at.is_some_and(|at| at >= START + 7_000),
        "{wrote_at:?}"
    );
}

#[test]
fn a_verified_release_is_claimed_without_a_wait() {
    let mut state = replica();
    read(&mut state, held("b", 4, 50), START + 10);
    let release = release("b", 4);
    let lock = snapshot(LockState::Released(release), 51);
    let effects = read(&mut state, lock.clone(), START + 500);
    assert!(
        effects.contains(&Effect::ReadLock),
        "confirm by quorum first: {effects:?}"
    );
    let effects = read(&mut state, lock, START + 505);
    let writes = lock_writes(&effects);
    let [LockWrite::Acquire(claim)] = writes.as_slice() else {
        panic!("{effects:?}");
    };
    assert_eq!(claim.epoch, 5, "one more than everything ever seen (L1)");
}

#[test]
fn a_stranger_with_my_name_is_waited_for() {
    let mut state = replica();
    let mut stranger = held("a", 2, 20);
    if let LockState::Held(record) = &mut stranger.state {
        record.holder.pod_uid = "another pod".into();
        stranger.fields = format!("{:?}", stranger.state);
    }
    read(&mut state, stranger.clone(), START + 10);
    assert_eq!(
        run_until(&mut state, &stranger, START + 10, START + 5_900),
        None
    );
    assert!(run_until(&mut state, &stranger, START + 5_900, START + 12_000).is_some());
}

#[test]
fn absence_is_waited_for_from_its_first_sight() {
    let mut state = replica();
    read(&mut state, held("b", 4, 50), START + 10);
    let absent = LockSnapshot {
        resource_version: None,
        fields: "absent".into(),
        state: LockState::Absent,
        optime: None,
        slots: SlotRecord::default(),
    };
    let seen_at = START + 5_900;
    step(
        &mut state,
        Event::LockSeen {
            lock: absent.clone(),
            quorum: false,
        },
        seen_at,
    );
    assert_eq!(
        run_until(&mut state, &absent, seen_at, seen_at + 5_900),
        None
    );
    assert!(run_until(&mut state, &absent, seen_at + 5_900, seen_at + 9_000).is_some());
}

#[test]
fn a_new_agent_adopts_its_own_record_only_while_the_deadline_runs() {
    let budgets = Budgets::for_ttl(6_000).expect("a row of G3");
    for (armed, adopts) in [(true, true), (false, false)] {
        let mut state = State::new(identity("a"), Place::default(), false, rules(), budgets);
        step(
            &mut state,
            Event::PostmasterRuns { as_primary: true },
            START,
        );
        if armed {
            step(
                &mut state,
                Event::DeadlineMoved { to: START + 4_000 },
                START,
            );
        }
        let effects = read(&mut state, held("a", 2, 20), START + 10);
        let renews = matches!(lock_writes(&effects).as_slice(), [LockWrite::Renew { .. }]);
        assert_eq!(renews, adopts, "armed {armed}: {effects:?}");
        let stops = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Stop { .. }));
        assert_eq!(stops, !adopts, "armed {armed}: {effects:?}");
    }
}

#[test]
fn the_deadline_counts_from_before_the_request_left() {
    let mut state = replica();
    let lock = held("b", 4, 50);
    read(&mut state, lock.clone(), START + 10);
    let sent_at = run_until(&mut state, &lock, START + 10, START + 20_000).unwrap();
    let attempt = state.lease.attempts.last().unwrap().nonce;
    let mut mine = held("a", 5, 51);
    if let LockState::Held(record) = &mut mine.state {
        record.nonce = attempt;
    }
    let effects = read(&mut state, mine, sent_at + 700);
    assert!(
        effects.contains(&Effect::MoveDeadline {
            to: sent_at + 5_350
        }),
        "learnt by reading, credited from sent_at (G1): {effects:?}"
    );
}

/// A leader in synchronous mode, with a member `b` in this state; and when it came to be.
fn synchronous_leader(member_state: &str, published: &[&str]) -> (State, u64) {
    let mut state = replica();
    let lock = held("b", 4, 50);
    read(&mut state, lock.clone(), START + 10);
    let sent_at = run_until(&mut state, &lock, START + 10, START + 20_000).expect("a claim");
    let attempt = state.lease.attempts.last().expect("an attempt").nonce;
    let mut mine = held("a", 5, 51);
    if let LockState::Held(record) = &mut mine.state {
        record.nonce = attempt;
    }
    read(&mut state, mine, sent_at + 5);
    // It has written the set.
    state.sync.inherited = false;
    let mut shared = state.shared.as_deref().cloned().expect("seen above");
    shared.config.rules = Some(Rules {
        synchronous_mode: true,
        ..rules()
    });
    shared.sync.leader = Some("a".into());
    shared.sync.standbys = published.iter().map(|&name| name.into()).collect();
    let member = Member {
        state: member_state.into(),
        role: "replica".into(),
        ..Member::default()
    };
    shared.members.insert("b".into(), member);
    step(
        &mut state,
        Event::SharedSeen {
            shared: shared.into(),
            quorum: true,
        },
        sent_at + 6,
    );
    (state, sent_at + 6)
}

/// What the primary's server shows: `b` streams and has flushed this far.
fn with_standby(flushed: u64, sync_state: &str, sync_setting: &str) -> Event {
    let sender = Walsender {
        client_addr: None,
        name: "b".into(),
        state: "streaming".into(),
        sync_state: sync_state.into(),
        sent_lsn: Lsn(flushed),
        flush_lsn: Lsn(flushed),
        replay_lsn: Lsn(flushed),
    };
    Event::PgSeen(PgFacts {
        walsenders: vec![sender],
        sync_setting: sync_setting.into(),
        ..facts(false)
    })
}

fn asks_to_enforce(member_state: &str, flushed: u64) -> Option<Vec<String>> {
    let (mut state, now) = synchronous_leader(member_state, &[]);
    let effects = step(&mut state, with_standby(flushed, "async", ""), now + 1);
    effects.into_iter().find_map(|effect| match effect {
        Effect::SetSync { wanted } => Some(wanted.names),
        _ => None,
    })
}

#[test]
fn a_base_backup_is_no_synchronous_standby() {
    // Found by the exercise: commits hung for as long as a clone took.
    assert_eq!(asks_to_enforce("running", 90), Some(vec!["b".to_owned()]));
    assert_eq!(asks_to_enforce("creating replica", 0), Some(vec![]));
    assert_eq!(asks_to_enforce("running", 0), Some(vec![]));
}
