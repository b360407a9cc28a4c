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
        let mut shared = state.shared.clone().unwrap();
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
        shared.config = state.shared.clone().unwrap().config;
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
