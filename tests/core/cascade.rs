//! `replicatefrom`, `nostream`, `clonefrom`: whom a replica streams from, and whom it copies.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::conditions::{leader, shared_seen};
use super::slots::{carried_out, changes, see, slot};
use super::*;
use pgwarden::ha::cascade::StreamTags;
use std::collections::BTreeMap;

fn member(role: &str, timeline: u32) -> Member {
    let streams = role == "replica";
    Member {
        host: "10.0.0.9".into(),
        port: 5432,
        state: "running".into(),
        role: role.into(),
        timeline: Some(timeline),
        replication_state: streams.then(|| "streaming".into()),
        ..Member::default()
    }
}

fn tagged(member: Member, tag: &str, value: &str) -> Member {
    let tags = BTreeMap::from([(tag.to_owned(), value.to_owned())]);
    Member { tags, ..member }
}

/// `a` with these tags, whose leader is `b`, and a replica `c`.
fn under(tags: StreamTags, c: Member) -> (State, Vec<Effect>) {
    let mut state = replica();
    state.pg.upstream = None;
    state.stream = tags;
    let mut shared = state.shared.as_deref().cloned().unwrap();
    let leader = Member {
        pod_uid: "uid-b".into(),
        ..member("primary", 1)
    };
    shared.members.insert("b".into(), leader);
    shared.members.insert("c".into(), c);
    shared_seen(&mut state, shared, true, START + 10);
    let effects = read(&mut state, held("b", 4, 50), START + 20);
    (state, effects)
}

fn from(name: &str) -> StreamTags {
    StreamTags {
        replicatefrom: Some(name.into()),
        nostream: false,
    }
}

fn followed(state: &State) -> Option<&str> {
    state.pg.upstream.as_deref()
}

#[test]
fn a_replica_follows_whom_its_tag_names() {
    let (state, _) = under(from("c"), member("replica", 1));
    assert_eq!(followed(&state), Some("c"));
    let (state, _) = under(StreamTags::default(), member("replica", 1));
    assert_eq!(followed(&state), Some("b"));
}

#[test]
fn the_leader_is_followed_where_that_member_cannot_feed() {
    let stopped = Member {
        state: "stopped".into(),
        ..member("replica", 1)
    };
    let mute = Member {
        replication_state: None,
        ..member("replica", 1)
    };
    let back = tagged(member("replica", 1), "replicatefrom", "a");
    for c in [stopped, mute, back, member("replica", 7)] {
        let (state, effects) = under(from("c"), c.clone());
        assert_eq!(followed(&state), Some("b"), "{c:?}");
        assert!(cites(&effects, Rule::Replica), "{effects:?}");
    }
    let (state, _) = under(from("nobody"), member("replica", 1));
    assert_eq!(followed(&state), Some("b"));
}

#[test]
fn one_that_gives_nothing_is_left_for_the_leader() {
    let (mut state, _) = under(from("c"), member("replica", 1));
    assert_eq!(followed(&state), Some("c"));
    let mut now = START + 30;
    while now < START + 5_000 {
        let silent = PgFacts {
            streaming: false,
            ..facts(true)
        };
        state.pg.op = None;
        step(&mut state, Event::PgSeen(silent), now);
        read(&mut state, held("b", 4, now), now);
        now += 500;
    }
    assert_eq!(followed(&state), Some("c"), "not before it had the time");
    while now < START + 14_000 {
        state.pg.op = None;
        read(&mut state, held("b", 4, now), now);
        now += 500;
    }
    assert_eq!(followed(&state), Some("b"));
}

#[test]
fn a_member_that_does_not_stream_stops_its_receiver() {
    let nostream = StreamTags {
        nostream: true,
        replicatefrom: None,
    };
    let (mut state, effects) = under(nostream, member("replica", 1));
    assert!(
        !effects.iter().any(|e| matches!(e, Effect::Follow { .. })),
        "{effects:?}"
    );
    let receives = PgFacts {
        sender: Some(("10.0.0.9".into(), 5432)),
        ..facts(true)
    };
    let effects = step(&mut state, Event::PgSeen(receives), START + 30);
    assert!(effects.contains(&Effect::StopReceiver), "{effects:?}");
}

#[test]
fn an_empty_member_copies_a_replica_that_offers_itself_then_the_leader() {
    let offers = tagged(member("replica", 1), "clonefrom", "true");
    let (mut state, _) = under(StreamTags::default(), offers);
    let gone = Event::PostmasterGone {
        why: "wiped".into(),
    };
    step(&mut state, gone, START + 30);
    let effects = step(&mut state, Event::DataSeen(DataDir::Empty), START + 31);
    let copies = |effects: &[Effect], name: &str| {
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Clone { from } if from == name))
    };
    assert!(copies(&effects, "c"), "{effects:?}");
    let failed = Event::OpDone {
        op: pgwarden::ha::event::Op::Clone,
        result: Err("it went away".into()),
    };
    step(&mut state, failed, START + 1_000);
    step(&mut state, Event::DataSeen(DataDir::Empty), START + 1_001);
    let effects = read(&mut state, held("b", 4, 60), START + 4_000);
    assert!(copies(&effects, "b"), "{effects:?}");
}

#[test]
fn no_slot_waits_for_a_member_that_takes_its_wal_from_an_archive() {
    // Found by an attack: it never moved, and the WAL that it held filled the leader's disk.
    let (mut state, sent_at) = leader();
    let mut shared = state.shared.as_deref().cloned().unwrap();
    let c = shared.members.remove("c").unwrap();
    shared
        .members
        .insert("c".into(), tagged(c, "nostream", "true"));
    shared_seen(&mut state, shared, true, sent_at + 10);
    let effects = see(&mut state, false, vec![], sent_at + 20);
    let made: Vec<String> = changes(&effects).iter().map(ToString::to_string).collect();
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(made[0].contains('b'), "{made:?}");
    carried_out(&mut state, sent_at + 30);
    let mut of_c = slot("c", 7);
    state.slots.owned.insert("c".into());
    let there = vec![slot("b", 90), of_c.clone()];
    let made = changes(&see(&mut state, false, there, sent_at + 3_000));
    assert_eq!(made.len(), 1, "one that is left from before goes: {made:?}");
    of_c.active = true;
    carried_out(&mut state, sent_at + 3_010);
    let there = vec![slot("b", 90), of_c];
    let made = changes(&see(&mut state, false, there, sent_at + 6_000));
    assert!(made.is_empty(), "while it is used it stays: {made:?}");
}
