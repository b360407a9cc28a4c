//! What people write into the objects by hand, and the leader writes back.

use super::conditions::{leader, shared_seen};
use super::*;
use pgwarden::ha::lock::Outcome;
use pgwarden::ha::shared::SharedWrite;

#[test]
fn what_a_hand_wrote_into_the_cluster_s_own_record_is_written_back() {
    let edits: [fn(&mut ConfigRecord); 2] = [
        |config| config.initialize = Initialize::Done("4711".into()),
        |config| {
            config.history = vec![HistoryEntry {
                timeline: 1,
                switch_lsn: Lsn(0xff),
                reason: String::new(),
                at: None,
                new_leader: None,
            }];
        },
    ];
    for edit in edits {
        let (mut state, sent_at) = leader();
        let mut own = facts(false);
        own.timeline = 2;
        own.history = vec![HistoryEntry {
            timeline: 1,
            switch_lsn: Lsn(0x100),
            reason: String::new(),
            at: None,
            new_leader: None,
        }];
        let mut shared = state.shared.as_deref().cloned().unwrap();
        shared_seen(&mut state, shared.clone(), true, sent_at + 10);
        let mut now = sent_at + 20;
        let mut effects = step(&mut state, Event::PgSeen(own.clone()), now);
        // Until everything is as it should be.
        while let Some(what) = effects.iter().find_map(|effect| match effect {
            Effect::WriteShared(what) => Some(what.clone()),
            _ => None,
        }) {
            now += 10;
            let outcome = Outcome::Done(format!("{now}"));
            effects = step(&mut state, Event::SharedWritten { what, outcome }, now);
        }
        shared.config = state.shared.as_deref().cloned().unwrap().config;
        assert_eq!(shared.config.history.len(), 1);
        edit(&mut shared.config);
        shared.config.resource_version = Some(format!("{}", now + 1));
        let effects = shared_seen(&mut state, shared, false, now + 2);
        let writes = effects.iter().any(|effect| {
            matches!(
                effect,
                Effect::WriteShared(SharedWrite::Initialize { .. } | SharedWrite::History { .. })
            )
        });
        assert!(writes, "{effects:?}");
    }
}

#[test]
fn a_history_that_is_not_there_yet_is_not_published_as_empty() {
    // Found by a rolling update: the server named its timeline before the history file was there,
    // an empty history was published, and the former leader never learnt how to come back.
    let (mut state, sent_at) = super::conditions::leader();
    let fork = |timeline, lsn| HistoryEntry {
        timeline,
        switch_lsn: Lsn(lsn),
        reason: String::new(),
        at: None,
        new_leader: None,
    };
    let mut shared = state.shared.as_deref().cloned().expect("seen");
    shared.config.history = vec![fork(1, 50)];
    super::conditions::shared_seen(&mut state, shared, true, sent_at + 9);
    let histories = |effects: &[Effect]| -> Vec<usize> {
        let written = |effect: &Effect| match effect {
            Effect::WriteShared(SharedWrite::History { history, .. }) => Some(history.len()),
            _ => None,
        };
        effects.iter().filter_map(written).collect()
    };
    state.writing_shared = false;
    let seen = PgFacts {
        timeline: 3,
        ..facts(false)
    };
    let effects = step(&mut state, Event::PgSeen(seen), sent_at + 10);
    assert!(histories(&effects).is_empty(), "{effects:?}");
    let seen = PgFacts {
        timeline: 3,
        history: vec![fork(1, 50), fork(2, 90)],
        ..facts(false)
    };
    let effects = step(&mut state, Event::PgSeen(seen), sent_at + 20);
    assert_eq!(histories(&effects), [2], "{effects:?}");
}

#[test]
fn a_long_history_is_published_by_its_end_and_written_once() {
    let (mut state, sent_at) = super::conditions::leader();
    let entries = 1..=2_000_u32;
    let history: Vec<_> = entries
        .map(|timeline| HistoryEntry {
            timeline,
            switch_lsn: Lsn(u64::from(timeline)),
            reason: "no recovery target specified".into(),
            at: None,
            new_leader: None,
        })
        .collect();
    let seen = PgFacts {
        timeline: 2_001,
        history,
        ..facts(false)
    };
    state.writing_shared = false;
    let effects = step(&mut state, Event::PgSeen(seen.clone()), sent_at + 10);
    let written = effects.iter().find_map(|effect| match effect {
        Effect::WriteShared(what @ SharedWrite::History { history, .. }) => {
            Some((what.clone(), history.clone()))
        }
        _ => None,
    });
    let (what, published) = written.expect("it is published");
    assert_eq!(published.last().map(|entry| entry.timeline), Some(2_000));
    let text = pgwarden::dcs::codec::config::history_text(&published);
    assert!(text.len() < 128 * 1024, "{} bytes", text.len());
    assert!(published.len() > 300, "{} entries", published.len());
    let outcome = Outcome::Done("80".to_owned());
    step(
        &mut state,
        Event::SharedWritten { what, outcome },
        sent_at + 20,
    );
    let effects = step(&mut state, Event::PgSeen(seen), sent_at + 30);
    let again =
        |effect: &Effect| matches!(effect, Effect::WriteShared(SharedWrite::History { .. }));
    assert!(!effects.iter().any(again), "{effects:?}");
}

#[test]
fn a_timeline_may_have_any_older_one_for_its_parent_and_a_request_is_cleared_meanwhile() {
    // An archive that knows more timelines than the cluster: the promotion took the number after.
    let (mut state, sent_at) = super::conditions::leader();
    let mut shared = state.shared.as_deref().cloned().expect("seen");
    shared.failover.to = Some("a".into());
    shared.failover.resource_version = Some("70".into());
    state.writing_shared = false;
    let seen = |history| {
        Event::PgSeen(PgFacts {
            timeline: 3,
            history,
            ..facts(false)
        })
    };
    let writes = |effects: &[Effect]| -> Vec<SharedWrite> {
        let write = |effect: &Effect| match effect {
            Effect::WriteShared(what) => Some(what.clone()),
            _ => None,
        };
        effects.iter().filter_map(write).collect()
    };
    step(&mut state, seen(vec![]), sent_at + 9);
    state.writing_shared = false;
    let effects = super::conditions::shared_seen(&mut state, shared, true, sent_at + 10);
    assert!(
        matches!(
            writes(&effects)[..],
            [SharedWrite::Failover { to: None, .. }]
        ),
        "{effects:?}"
    );
    state.writing_shared = false;
    let first = HistoryEntry {
        timeline: 1,
        switch_lsn: Lsn(50),
        reason: String::new(),
        at: None,
        new_leader: None,
    };
    let effects = step(&mut state, seen(vec![first]), sent_at + 20);
    assert!(
        matches!(&writes(&effects)[..], [SharedWrite::History { history, .. }] if history.len() == 1),
        "{effects:?}"
    );
}
