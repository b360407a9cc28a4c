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

#[test]
fn the_same_timeline_from_another_promotion_is_cloned_over() {
    // Found by simulation (seed 867, twins in a race): two who did not know of each other promoted
    // to timeline 2, and pg_rewind finds nothing to do between equal numbers.
    for (mine, twin) in [(0x100, false), (0x200, true)] {
        let mut state = replica();
        read(&mut state, held("b", 4, 50), START + 10);
        let leader = Member {
            pod_uid: "uid-b".into(),
            role: "primary".into(),
            state: "running".into(),
            timeline: Some(2),
            ..Member::default()
        };
        let shared = Shared {
            config: ConfigRecord {
                rules: Some(rules()),
                initialize: Initialize::Done("7".into()),
                history: fork_at(0x100),
                epoch: 4,
                ..ConfigRecord::default()
            },
            members: BTreeMap::from([("b".to_owned(), leader)]),
            ..Shared::default()
        };
        let event = Event::SharedSeen {
            shared,
            quorum: true,
        };
        step(&mut state, event, START + 20);
        let seen = PgFacts {
            timeline: 2,
            history: fork_at(mine),
            streaming: true,
            ..facts(true)
        };
        let effects = step(&mut state, Event::PgSeen(seen), START + 30);
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
