//! A standby cluster: what its leader may do without being armed, and whom it follows.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::conditions::{acknowledge, directory, edit_rules, leader, member, shared_seen, tick};
use super::synchronous::{published_names, set_of};
use super::*;
use pgwarden::ha::effect::Stop;
use pgwarden::ha::event::Op;
use pgwarden::ha::lock::MadeAnew;
use pgwarden::ha::model::DataDir;
use pgwarden::ha::remote::{REMOTE, RemoteFacts, Standby};
use pgwarden::ha::shared::Initialize;

fn set_standby(state: &mut State, standby: Option<Standby>, now: u64) -> Vec<Effect> {
    edit_rules(state, now, |rules| rules.standby = standby)
}

pub(super) fn elsewhere() -> Standby {
    Standby {
        host: Some("elsewhere".into()),
        port: 5432,
    }
}

fn arms(effects: &[Effect]) -> bool {
    let arm = |effect: &Effect| matches!(effect, Effect::MoveDeadline { .. });
    effects.iter().any(arm)
}

/// `a` holds the lock of a standby cluster, and its server follows the remote primary.
fn standby_leader() -> (State, u64) {
    let mut state = replica();
    set_standby(&mut state, Some(elsewhere()), START + 1);
    let lock = held("b", 4, 50);
    read(&mut state, lock.clone(), START + 10);
    let sent_at = run_until(&mut state, &lock, START + 10, START + 20_000).unwrap();
    let effects = acknowledge(&mut state, 51, sent_at + 5);
    assert!(!arms(&effects), "nothing is writable: {effects:?}");
    let shared = state.shared.as_deref().cloned().unwrap();
    let effects = shared_seen(&mut state, shared, true, sent_at + 6);
    let upstream = REMOTE.to_owned();
    let follow = Effect::Follow { upstream };
    assert!(effects.contains(&follow), "{effects:?}");
    let done = Event::OpDone {
        op: Op::Follow,
        result: Ok(()),
    };
    step(&mut state, done, sent_at + 7);
    (state, sent_at)
}

#[test]
fn a_standby_leader_is_not_armed_and_no_outage_stops_it() {
    let (mut state, sent_at) = standby_leader();
    assert!(state.is_standby_leader());
    for after_ms in (0..60_000).step_by(100) {
        let effects = tick(&mut state, sent_at + 100 + after_ms);
        let stops = |effect: &Effect| matches!(effect, Effect::Stop { .. });
        assert!(
            !effects.iter().any(stops),
            "after {after_ms} ms: {effects:?}"
        );
        assert!(!arms(&effects), "after {after_ms} ms: {effects:?}");
    }
}

#[test]
fn a_promoted_cluster_is_armed_by_the_last_acknowledgement_first() {
    let (mut state, sent_at) = standby_leader();
    let effects = set_standby(&mut state, None, sent_at + 500);
    // G1: from none only by that request's own sent_at.
    let to = sent_at + 5_350;
    let armed = Effect::MoveDeadline { to };
    let armed = effects.iter().position(|effect| *effect == armed);
    let promoted = effects.iter().position(|effect| *effect == promote());
    assert!(armed.is_some() && armed < promoted, "{effects:?}");
}

#[test]
fn a_demoted_primary_stops_and_starts_as_a_follower_of_the_remote_one() {
    let (mut state, sent_at) = leader();
    // Whoever cannot be reached is followed all the same, after a moment.
    let effects = set_standby(&mut state, Some(elsewhere()), sent_at + 100);
    let fast = Effect::Stop { how: Stop::Fast };
    assert!(effects.contains(&Effect::AskRemote), "{effects:?}");
    assert!(!effects.contains(&fast), "{effects:?}");
    let mut answered = state.clone();
    let heard = Event::RemoteSeen(remote(2, 100));
    let effects = step(&mut answered, heard, sent_at + 150);
    assert!(effects.contains(&fast), "{effects:?}");
    let effects = tick(&mut state, sent_at + 3_099);
    assert!(!effects.contains(&fast), "{effects:?}");
    let effects = tick(&mut state, sent_at + 3_100);
    assert!(effects.contains(&fast), "{effects:?}");
    let why = "stopped".to_owned();
    step(&mut state, Event::PostmasterGone { why }, sent_at + 3_200);
    let data = directory(ControlState::ShutDown, false);
    let effects = step(&mut state, Event::DataSeen(data), sent_at + 3_201);
    let upstream = Some(REMOTE.to_owned());
    let start = Effect::StartReplica { upstream };
    assert!(effects.contains(&start), "{effects:?}");
}

/// What the remote primary says, of this timeline with one fork.
pub(super) fn remote(timeline: u32, switch_lsn: u64) -> RemoteFacts {
    let entry = HistoryEntry {
        timeline: 1,
        switch_lsn: Lsn(switch_lsn),
        reason: "no recovery target specified".into(),
        at: None,
        new_leader: None,
    };
    RemoteFacts {
        member: None,
        asked: elsewhere(),
        system_id: "7".into(),
        in_recovery: false,
        timeline,
        history: vec![entry],
    }
}

#[test]
fn what_left_the_remote_primarys_history_is_rewound_to_it() {
    let (mut state, sent_at) = standby_leader();
    let mut facts = facts(true);
    facts.streaming = false;
    let effects = step(&mut state, Event::PgSeen(facts), sent_at + 1_000);
    assert!(effects.contains(&Effect::AskRemote), "{effects:?}");
    // It forked behind my position: nothing is given up.
    let ahead = Event::RemoteSeen(remote(2, 100));
    let effects = step(&mut state, ahead, sent_at + 1_001);
    let stops = |effect: &Effect| matches!(effect, Effect::Stop { .. });
    assert!(!effects.iter().any(stops), "{effects:?}");
    // Before it.
    let before = Event::RemoteSeen(remote(2, 90));
    let effects = step(&mut state, before, sent_at + 1_002);
    assert!(effects.iter().any(stops), "{effects:?}");
    let why = "stopped".to_owned();
    step(&mut state, Event::PostmasterGone { why }, sent_at + 1_100);
    let data = directory(ControlState::ShutDownInRecovery, true);
    let effects = step(&mut state, Event::DataSeen(data), sent_at + 1_101);
    let from = REMOTE.to_owned();
    assert!(effects.contains(&Effect::Rewind { from }), "{effects:?}");
}

#[test]
fn another_cluster_is_not_followed_and_nothing_is_given_up_for_it() {
    let (mut state, sent_at) = standby_leader();
    let mut facts = facts(true);
    facts.streaming = false;
    step(&mut state, Event::PgSeen(facts), sent_at + 1_000);
    let stranger = RemoteFacts {
        system_id: "8".into(),
        ..remote(9, 1)
    };
    let effects = step(&mut state, Event::RemoteSeen(stranger), sent_at + 1_001);
    let stops = |effect: &Effect| matches!(effect, Effect::Stop { .. });
    assert!(!effects.iter().any(stops), "{effects:?}");
    let told = state.pg.left_to_people.as_deref().unwrap_or_default();
    assert!(told.contains("another cluster's"), "{told}");
}

#[test]
fn a_cluster_does_not_follow_a_member_of_its_own() {
    let (state, sent_at) = standby_leader();
    let mut shared = state.shared.as_deref().cloned().unwrap();
    shared.sync = set_of("a", &[]);
    let own = Member {
        host: "10.0.0.7".into(),
        port: 5432,
        ..member("running", "replica")
    };
    shared.members.insert("c".into(), own);
    // One of several is left out, and what it sends counts for nothing.
    for (hosts, alone) in [("10.0.0.7", true), ("elsewhere, 10.0.0.7", false)] {
        let (mut state, shared) = (state.clone(), shared.clone());
        shared_seen(&mut state, shared, true, sent_at + 50);
        let itself = Standby {
            host: Some(hosts.into()),
            port: 5432,
        };
        let effects = set_standby(&mut state, Some(itself), sent_at + 100);
        let follows = |effect: &Effect| matches!(effect, Effect::Follow { .. });
        assert!(!effects.iter().any(follows), "{effects:?}");
        if !alone {
            assert_eq!(state.pg.left_to_people, None);
            let mut seen = facts(true);
            seen.sender = Some(("10.0.0.7".into(), 5432));
            state.writing_shared = false;
            let effects = step(&mut state, Event::PgSeen(seen.clone()), sent_at + 101);
            assert_eq!(published_names(&effects), None, "{effects:?}");
            let told = state.pg.left_to_people.take();
            assert!(told.is_some_and(|told| told.contains("lead to c")));
            // The remote primary's own WAL does.
            seen.sender = Some(("elsewhere".into(), 5432));
            state.writing_shared = false;
            let effects = step(&mut state, Event::PgSeen(seen), sent_at + 102);
            assert!(published_names(&effects).is_some(), "{effects:?}");
            continue;
        }
        let told = state.pg.left_to_people.as_deref().unwrap_or_default();
        assert!(told.contains("lead to c"), "{told}");
    }
}

#[test]
fn a_primary_does_not_go_down_for_itself_or_for_another_database() {
    let itself = RemoteFacts {
        member: Some("a".into()),
        ..remote(1, 100)
    };
    let stranger = RemoteFacts {
        system_id: "8".into(),
        ..remote(1, 100)
    };
    for (said, words) in [(itself, "lead to a"), (stranger, "another cluster's")] {
        let (mut state, sent_at) = leader();
        let mut effects = set_standby(&mut state, Some(elsewhere()), sent_at + 100);
        effects.extend(step(&mut state, Event::RemoteSeen(said), sent_at + 200));
        // Also while it is silent for long.
        for at in (sent_at + 300..sent_at + 30_000).step_by(100) {
            if state.lease.in_flight.is_some() {
                acknowledge(&mut state, at, at);
            }
            effects.extend(step(&mut state, Event::PgSeen(facts(false)), at));
        }
        let stops = |effect: &Effect| matches!(effect, Effect::Stop { .. });
        assert!(!effects.iter().any(stops), "{effects:?}");
        let told = state.pg.left_to_people.as_deref().unwrap_or_default();
        assert!(told.contains(words), "{told}");
        // Nor is it left down after a crash.
        let (at, why) = (sent_at + 30_100, "killed".to_owned());
        step(&mut state, Event::PostmasterGone { why }, at);
        let data = directory(ControlState::InProduction, false);
        let mut effects = step(&mut state, Event::DataSeen(data), at + 1);
        if state.lease.in_flight.is_some() {
            effects.extend(acknowledge(&mut state, at, at + 10));
        }
        let starts = |effect: &Effect| matches!(effect, Effect::StartPrimary { .. });
        assert!(effects.iter().any(starts), "{effects:?}");
    }
}

#[test]
fn the_set_of_a_standby_cluster_names_nobody_of_a_quorum_before_it_who_may_lack_commits() {
    // Found by the simulator (seed 109530): who took over what had been a primary's cluster named
    // all that had been in the quorum, and when the cluster was promoted, one of them led that had
    // confirmed nothing for a while: acknowledged commits were gone.
    for (quorum, named) in [(0, vec!["b", "c"]), (1, vec!["b"])] {
        let mut state = replica();
        set_standby(&mut state, Some(elsewhere()), START + 1);
        let mut shared = state.shared.as_deref().cloned().unwrap();
        shared.config.rules.as_mut().unwrap().synchronous_mode = true;
        shared.sync = set_of("b", &["a", "c"]);
        shared.sync.quorum = quorum;
        shared_seen(&mut state, shared.clone(), false, START + 2);
        read(&mut state, held("b", 4, 50), START + 3);
        step(&mut state, Event::PgSeen(facts(true)), START + 4);
        let lock = super::released::released(1, 100);
        read(&mut state, lock.clone(), START + 10);
        let sent_at = run_until(&mut state, &lock, START + 10, START + 20_000).unwrap();
        acknowledge(&mut state, 51, sent_at + 5);
        let effects = shared_seen(&mut state, shared, true, sent_at + 6);
        let named: Vec<_> = named.into_iter().map(str::to_owned).collect();
        assert_eq!(published_names(&effects), Some(named), "{effects:?}");
    }
}

#[test]
fn who_led_a_standby_cluster_without_being_admitted_writes_itself_into_no_set() {
    // Found by the simulator (seed 118312): the claim was made under a view that lagged. The set
    // named nobody any more, and its writer was promoted by the one that it wrote itself.
    // With the mode off a set that nobody has unpublished says the same (found by review).
    let seen = [
        (true, &["a"][..], true),
        (true, &[], false),
        (false, &["a"], true),
        (false, &["c"], false),
    ];
    for (synchronous_mode, listed, may) in seen {
        let mut state = replica();
        set_standby(&mut state, Some(elsewhere()), START + 1);
        let mut shared = state.shared.as_deref().cloned().unwrap();
        if let Some(rules) = &mut shared.config.rules {
            rules.synchronous_mode = synchronous_mode;
        }
        shared.sync = set_of("b", &["a"]);
        shared_seen(&mut state, shared.clone(), false, START + 2);
        let lock = held("b", 4, 50);
        read(&mut state, lock.clone(), START + 10);
        let sent_at = run_until(&mut state, &lock, START + 10, START + 20_000).unwrap();
        acknowledge(&mut state, 51, sent_at + 5);
        shared.sync = set_of("b", listed);
        let effects = shared_seen(&mut state, shared, true, sent_at + 6);
        let becomes = published_names(&effects);
        let expected = may.then(|| vec!["b".to_owned()]);
        assert_eq!(
            becomes, expected,
            "{synchronous_mode} {listed:?}: {effects:?}"
        );
    }
}

#[test]
fn a_copy_made_anew_is_not_proven_by_leading_a_standby_cluster() {
    // Found by review: its volume was lost and filled again, one change switched synchronous mode
    // off and made a standby cluster, and to lead that was taken for having every commit.
    for made_anew in [true, false] {
        let (mut state, now) = standby_leader();
        let mut shared = state.shared.as_deref().cloned().unwrap();
        shared.sync = set_of("b", &["a"]);
        let mut seen = facts(true);
        seen.streaming = false;
        step(&mut state, Event::PgSeen(seen), now + 8);
        state.lock.made_anew = made_anew.then(MadeAnew::default);
        state.pg.led_in = None;
        let effects = shared_seen(&mut state, shared.clone(), true, now + 9);
        let unproven = state.lock.made_anew.is_some();
        assert_eq!(unproven, made_anew, "{effects:?}");
        let admitted = state.pg.led_in.is_some();
        assert_eq!(admitted, !made_anew, "{effects:?}");
        // Where the remote primary's WAL arrives, that is what counts, and the set says so.
        let mut seen = facts(true);
        seen.sender = Some(("elsewhere".into(), 5432));
        step(&mut state, Event::PgSeen(seen), now + 10);
        assert_eq!(state.lock.made_anew.is_some(), made_anew);
        shared.sync = set_of("a", &[]);
        shared_seen(&mut state, shared, true, now + 11);
        assert_eq!(state.lock.made_anew, None);
    }
}

#[test]
fn what_no_rewind_to_the_remote_primary_can_finish_is_copied_from_it() {
    // Found by review: its WAL was gone, each member gave the lock to the next and lost its
    // directory in turn, and the remote primary was there to be copied. A rewind takes its time.
    // Found by review: alone it gave the lock up, and never got it back with such a directory.
    for (system_id, failed, another, copies) in [
        ("7", 0, true, true),
        ("7", 3, true, false),
        ("8", 0, true, false),
        ("7", 3, false, true),
        ("8", 0, false, false),
    ] {
        let (mut state, sent_at) = standby_leader();
        let mut shared = state.shared.as_deref().cloned().unwrap();
        shared.members.clear();
        if another {
            let replica = member("running", "replica");
            shared.members.insert("b".into(), replica);
        }
        shared.config.initialize = Initialize::Done("7".into());
        shared_seen(&mut state, shared, true, sent_at + 8);
        let mut said = remote(2, 90);
        said.system_id = system_id.into();
        step(&mut state, Event::RemoteSeen(said), sent_at + 10);
        let why = "stopped".to_owned();
        step(&mut state, Event::PostmasterGone { why }, sent_at + 11);
        let (mut now, mut copied) = (sent_at + 12, false);
        while now < sent_at + 60_000 {
            now += 500;
            tick(&mut state, now);
            if state.lease.in_flight.is_some() {
                acknowledge(&mut state, now, now + 5);
            }
        }
        assert!(state.lease.held.is_some(), "it leads all the while");
        // Nobody else has led meanwhile.
        state.pg.failed_clones = (failed, None);
        let unfinished = Event::DataSeen(DataDir::Unfinished);
        for effects in [
            step(&mut state, unfinished, now + 6),
            tick(&mut state, now + 7),
        ] {
            let from = REMOTE.to_owned();
            copied |= effects.contains(&Effect::Clone { from });
        }
        assert_eq!(copied, copies, "{system_id} {failed} {another}");
        // Else another may be able to.
        let given_up = state.stand_aside_until > now;
        assert_eq!(given_up, !copies && another, "{system_id} {failed}");
    }
}

#[test]
fn a_copy_by_which_a_standby_cluster_began_counts_and_its_first_set_lists_nobody() {
    // Found by review: without a stream from one host, it would never have been promoted; and who
    // was listed before anybody had data kept others from beginning again.
    // Nor does it wait for a stream where the remote primary answered and the set names it alone.
    for (host, creates, answered, listed, counts) in [
        ("elsewhere", true, false, &[][..], true),
        ("elsewhere", true, false, &["b"], false),
        ("elsewhere", false, false, &[], false),
        ("elsewhere", false, true, &[], true),
        ("elsewhere", false, true, &["b"], false),
        ("first, elsewhere", false, false, &[], true),
    ] {
        let (mut state, now) = standby_leader();
        let mut shared = state.shared.as_deref().cloned().unwrap();
        let wanted = shared.config.rules.as_mut().unwrap();
        wanted.synchronous_mode = true;
        wanted.standby = Some(Standby {
            host: Some(host.into()),
            port: 5432,
        });
        shared.config.initialize = if creates {
            Initialize::Running(identity("a").to_string())
        } else {
            Initialize::Done("7".into())
        };
        shared.sync = set_of("a", listed);
        let mut seen = facts(true);
        seen.sender = (host != "elsewhere").then(|| ("elsewhere".into(), 5432));
        step(&mut state, Event::PgSeen(seen.clone()), now + 8);
        if answered {
            step(&mut state, Event::RemoteSeen(remote(1, 90)), now + 8);
        }
        state.lock.made_anew = Some(MadeAnew::default());
        shared_seen(&mut state, shared.clone(), true, now + 9);
        let found = state.lock.made_anew.is_none();
        assert_eq!(found, counts, "{host} {creates} {answered} {listed:?}");
        if creates && listed.is_empty() {
            seen.sender = Some(("elsewhere".into(), 5432));
            shared
                .members
                .insert("b".into(), member("running", "replica"));
            shared_seen(&mut state, shared, true, now + 10);
            let effects = step(&mut state, Event::PgSeen(seen), now + 11);
            assert_eq!(published_names(&effects), None, "{effects:?}");
        }
    }
}
