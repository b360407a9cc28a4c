//! Health checks: every path, every kind of member; lag, tags; the recorded bodies.

use crate::harness::start;
use crate::recorded::{NOW_MS, recorded, view};
use pgwarden::api::{Limits, PeerStatus, View, Xlog};
use pgwarden::ha::model::Lsn;
use serde_json::{Value, json};
use std::sync::Arc;

fn with(mut view: View, change: impl FnOnce(&mut View)) -> View {
    change(&mut view);
    view
}

/// The columns of the table below.
fn members() -> [(&'static str, View); 10] {
    let leader = || view("synchronous", "leader");
    let replica = || view("running", "replica");
    [
        ("leader", leader()),
        (
            "lock expired",
            with(leader(), |v| v.lock_until_ms = Some(NOW_MS)),
        ),
        ("replica", replica()),
        (
            "sync",
            with(replica(), |v| {
                v.sync_standbys = vec![v.identity.name.clone()];
            }),
        ),
        (
            "noloadbalance",
            with(replica(), |v| {
                v.tags.insert("noloadbalance".to_owned(), "true".to_owned());
            }),
        ),
        ("starting", with(replica(), |v| v.state = "starting".into())),
        (
            "2 MB behind",
            with(replica(), |v| {
                v.optime = v.optime.map(|l| Lsn(l.0 + (2 << 20)));
            }),
        ),
        (
            "stopped",
            with(replica(), |v| {
                v.state = "stopped".into();
                v.role = "demoted".into();
                v.xlog = None;
                v.replication_state = None;
            }),
        ),
        (
            "loop dead",
            with(replica(), |v| v.beat_ms = NOW_MS - 60_000),
        ),
        (
            "standby leader",
            with(replica(), |v| {
                v.role = "standby_leader".into();
                v.lock_until_ms = Some(NOW_MS + 1);
            }),
        ),
    ]
}

/// One letter a member, in the order above: `+` is 200, `.` is 503.
const TABLE: [(&str, &str); 25] = [
    ("/", "+........."),
    ("/primary", "+........."),
    ("/master", "+........."),
    ("/read-write", "+........."),
    ("/leader", "+........+"),
    ("/standby-leader", ".........+"),
    ("/standby_leader", ".........+"),
    ("/replica", "..++..+.+."),
    ("/read-only", "+.++..+.++"),
    ("/synchronous", "...+......"),
    ("/sync", "...+......"),
    ("/read-only-sync", "+..+.....+"),
    ("/asynchronous", "..+...+.+."),
    ("/async", "..+...+.+."),
    ("/health", "+++++.+.++"),
    ("/replica?lag=1MB", "..++....+."),
    ("/replica?lag=nonsense", "..++..+.+."),
    ("/liveness", "++++++++.+"),
    ("/readiness", "+.+++...++"),
    ("/readiness?lag=4MB", "+.+++.+.++"),
    ("/readiness?lag=nonsense", "+.+++...++"),
    ("/patroni", "++++++++++"),
    ("/cluster", "++++++++++"),
    ("/history", "++++++++++"),
    ("/nosuch", ".........."),
];

#[tokio::test]
async fn every_check_answers_by_role_and_state() {
    let server = start(members()[0].1.clone(), Limits::default(), None).await;
    for (column, (name, view)) in members().into_iter().enumerate() {
        server.view.send_replace(Arc::new(view));
        for (path, row) in TABLE {
            let wanted = if row.as_bytes()[column] == b'+' {
                200
            } else {
                503
            };
            let answer = server.ask("GET", path).await;
            assert_eq!(answer.status, wanted, "GET {path} of {name}");
            let status_only = path.starts_with("/liveness") || path.starts_with("/readiness");
            assert_eq!(
                answer.body.is_empty(),
                status_only,
                "body of {path} of {name}"
            );
            // HEAD and OPTIONS know the health checks only.
            let check = !status_only && !["/patroni", "/cluster", "/history"].contains(&path);
            for method in ["HEAD", "OPTIONS"] {
                let answer = server.ask(method, path).await;
                assert_eq!(
                    answer.status,
                    if check { wanted } else { 503 },
                    "{method} {path}"
                );
                assert_eq!(answer.body, "", "{method} {path}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn tags_states_and_positions_filter_replicas() {
    let replica = with(view("running", "replica"), |v| {
        v.tags.insert("zone".to_owned(), "a b".to_owned());
        v.tags.insert("clonefrom".to_owned(), "true".to_owned());
        let written = Lsn(67_108_864);
        let replayed = Lsn(written.0 - (3 << 20));
        v.xlog = Some(Xlog::Replica {
            received: written,
            replayed,
            replayed_timestamp: None,
            paused: false,
            latest_end: Some(written),
        });
        v.optime = Some(replayed);
    });
    let server = start(replica, Limits::default(), None).await;
    for (path, wanted) in [
        ("/replica?tag_zone=a%20b&tag_clonefrom=true", 200),
        ("/replica?tag_zone=a+b", 200),
        ("/replica?tag_zone=b", 503),
        ("/replica?tag_none=1", 503),
        ("/read-only?tag_zone=b", 503),
        ("/replica?replication_state=streaming", 200),
        ("/replica?replication_state=in%20archive%20recovery", 503),
        // The sender told of more than the leader published: 3 MB are not replayed yet.
        ("/replica?lag=2MB", 503),
        ("/replica?lag=3072kB", 200),
        ("/readiness?lag=2MB", 503),
        ("/readiness?lag=2MB&mode=write", 200),
        ("/replica/ignored/segments?lag=3MB", 200),
    ] {
        assert_eq!(server.ask("GET", path).await.status, wanted, "{path}");
    }
    let leader = view("running", "leader");
    server.view.send_replace(Arc::new(leader));
    assert_eq!(
        server.ask("GET", "/primary?tag_zone=b").await.status,
        200,
        "not for the leader"
    );
    server.stop().await;
}

#[tokio::test]
async fn bodies_are_those_of_patroni() {
    let server = start(view("running", "leader"), Limits::default(), None).await;
    for state in ["running", "synchronous", "after-switchover"] {
        for who in ["leader", "replica"] {
            server.view.send_replace(Arc::new(view(state, who)));
            let mut status: Value =
                serde_json::from_str(&server.ask("GET", "/patroni").await.body).unwrap();
            let own = status.as_object_mut().unwrap().remove("pgwarden").unwrap();
            assert_eq!(
                own,
                json!({"pod_uid": "uid-1", "incarnation": "inc-1", "epoch": 7})
            );
            assert_eq!(
                status,
                recorded(state, &format!("patroni {who}")),
                "{state} {who}"
            );
            for path in ["cluster", "history"] {
                let body = server.ask("GET", &format!("/{path}")).await.body;
                let body: Value = serde_json::from_str(&body).unwrap();
                assert_eq!(body, recorded(state, path), "{state} {who} {path}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_known_is_left_out_or_called_unknown() {
    let mut fresh = view("running", "replica");
    fresh.leader = None;
    fresh
        .tags
        .insert("nofailover".to_owned(), "true".to_owned());
    fresh.tags.insert("priority".to_owned(), "100".to_owned());
    fresh.xlog = None;
    fresh.sync_standbys = vec!["pg-1".to_owned(), "pg-0".to_owned()];
    let dead = fresh.members.get_mut("pg-1").unwrap();
    dead.state = "stopped".to_owned();
    dead.lsn = None;
    let server = start(fresh, Limits::default(), None).await;
    let status: Value = serde_json::from_str(&server.ask("GET", "/nosuch").await.body).unwrap();
    assert_eq!(status["cluster_unlocked"], true);
    assert_eq!(status["tags"], json!({"nofailover": true, "priority": 100}));
    assert!(
        status.get("xlog").is_none(),
        "a silent PostgreSQL has no position"
    );
    let body: Value = serde_json::from_str(&server.ask("GET", "/cluster").await.body).unwrap();
    assert_eq!(body["members"][1]["lsn"], "unknown");
    assert_eq!(body["members"][1]["lag"], "unknown");
    assert_eq!(
        body["members"][1]["role"], "replica",
        "no dead member is a sync_standby"
    );
    assert_eq!(body["members"][0]["role"], "sync_standby");
    server.stop().await;
}

#[tokio::test]
async fn what_stands_in_the_way_is_told_beside_patronis_keys() {
    let mut troubled = view("running", "replica");
    let server = start(troubled.clone(), Limits::default(), None).await;
    let well: Value = serde_json::from_str(&server.ask("GET", "/cluster").await.body).unwrap();
    assert_eq!(well.get("pgwarden"), None);
    let member = troubled.members.get_mut("pg-1").unwrap();
    member.trouble = "ImagePullBackOff: no such image".to_owned();
    server.view.send_replace(std::sync::Arc::new(troubled));
    let body: Value = serde_json::from_str(&server.ask("GET", "/cluster").await.body).unwrap();
    assert_eq!(
        body["members"], well["members"],
        "no other client sees a change"
    );
    let troubles = json!({ "pg-1": "ImagePullBackOff: no such image" });
    assert_eq!(body["pgwarden"]["troubles"], troubles);
    server.stop().await;
}

#[test]
fn peers_of_both_kinds_are_understood() {
    let decode = |value: &Value| PeerStatus::decode(value.to_string().as_bytes()).unwrap();
    let leader = decode(&recorded("running", "patroni leader"));
    assert!(!leader.in_recovery());
    assert_eq!(leader.lsn(), Some(Lsn(67_108_864)));
    assert_eq!((leader.name.as_str(), leader.timeline), ("pg-2", Some(1)));
    assert_eq!(leader.pgwarden, None);
    let replica = decode(&recorded("after-switchover", "patroni replica"));
    assert!(replica.in_recovery());
    let old = decode(&json!({"role": "master", "wal": {"received_location": 5,
        "replayed_location": 9}, "tags": {"nofailover": true}, "later": {"a": 1}}));
    assert!(!old.in_recovery(), "the old word for a primary");
    assert_eq!(old.lsn(), Some(Lsn(9)));
    assert!(old.nofailover());
    assert_eq!(
        decode(&json!({"state": "starting", "role": "replica"})).lsn(),
        None
    );
    assert!(PeerStatus::decode(b"<html>").is_err());
}

#[tokio::test]
async fn a_replica_that_the_others_do_not_see_is_not_ready() {
    // Found by a review: without the right to say what it is, a new pod was ready, and the rolling
    // update took the next one.
    let server = start(view("running", "replica"), Limits::default(), None).await;
    for (what, wanted) in [("known", 200), ("another pod's", 503), ("gone", 503)] {
        let mut view = view("running", "replica");
        let name = view.identity.name.clone();
        match what {
            "another pod's" => view.members.get_mut(&name).unwrap().pod_uid = "other".into(),
            "gone" => drop(view.members.remove(&name)),
            _ => {}
        }
        server.view.send_replace(Arc::new(view));
        let status = server.ask("GET", "/readiness").await.status;
        assert_eq!(status, wanted, "{what}");
    }
    server.stop().await;
}
