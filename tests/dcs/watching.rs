//! What the watch delivers, and that it survives what happens to watches.

use super::support::{
    NAMESPACE, PATIENCE, SCOPE, acquire, acquired, api, create, create_pod, done, lock_until,
    member, renew, role, version, view_until,
};
use pgwarden::dcs::{DcsError, Seen, WatchOptions};
use pgwarden::ha::lock::LockState;
use pgwarden::playground::kube_api::{Fault, Rule, Verb};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

fn options() -> WatchOptions {
    WatchOptions {
        renew_ms: 5000,
        queue: 16,
    }
}

/// R so short that silence is noticed within a test.
fn impatient() -> WatchOptions {
    WatchOptions {
        renew_ms: 100,
        queue: 16,
    }
}

fn nonce(snapshot: &pgwarden::ha::lock::LockSnapshot) -> u64 {
    snapshot.held().map_or(0, |held| held.nonce)
}

#[tokio::test]
async fn renewals_are_seen_in_order_and_a_deletion_as_absence() {
    let api = api().await;
    let (leader, other) = (
        member(&api, "pg-0", 5000).await,
        member(&api, "pg-1", 5000).await,
    );
    let mut watching = other.watch(options());
    lock_until(&mut watching, "absence", |lock| {
        lock.state == LockState::Absent
    })
    .await;
    let mut last = acquired(&leader, "pg-0").await;
    let mut seen = nonce(&lock_until(&mut watching, "the acquisition", |l| nonce(l) == 1).await);
    for number in 2..=30 {
        last = done(
            leader
                .write_lock(&renew("pg-0", number, &last), version(&last))
                .await,
        );
    }
    while seen < 30 {
        let next = nonce(&lock_until(&mut watching, "a renewal", |_| true).await);
        assert!(next > seen, "{next} after {seen}");
        seen = next;
    }
    assert!(api.remove("leases", NAMESPACE, SCOPE));
    lock_until(&mut watching, "the deletion", |lock| {
        lock.state == LockState::Absent
    })
    .await;
}

#[tokio::test]
async fn the_view_follows_pods_and_objects() {
    let api = api().await;
    create_pod(&api, "pg-0").await;
    let dcs = member(&api, "pg-0", 5000).await;
    let mut watching = dcs.watch(options());
    view_until(&mut watching, "the first pod", |view| {
        view.shared.members.len() == 1
    })
    .await;
    create_pod(&api, "pg-1").await;
    view_until(&mut watching, "the second pod", |view| {
        view.shared.members.len() == 2
    })
    .await;
    api.edit("pods", NAMESPACE, "pg-1", |pod| {
        let waiting = json!({ "reason": "ErrImagePull", "message": "no such image" });
        pod["status"]["containerStatuses"] = json!([{ "state": { "waiting": waiting } }]);
    });
    view_until(&mut watching, "the kubelet's reason", |view| {
        let member = &view.shared.members["pg-1"];
        member.trouble.starts_with("ErrImagePull: no such image; ")
    })
    .await;
    api.edit("pods", NAMESPACE, "pg-1", |pod| {
        pod["status"]["phase"] = json!("Failed");
    });
    view_until(&mut watching, "the eviction", |view| {
        view.shared.members.len() == 1
    })
    .await;

    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "demo-config", "labels": { "cluster-name": SCOPE },
            "annotations": { "config": "{\"ttl\":6}" } },
    });
    create(&api, "api/v1", "configmaps", &map).await;
    let good = view_until(&mut watching, "the rules", |view| view.config_raw.is_some()).await;
    assert_eq!(
        good.shared.config.rules.as_ref().map(|rules| rules.ttl_ms),
        Some(6000)
    );
    api.edit("configmaps", NAMESPACE, "demo-config", |map| {
        map["metadata"]["annotations"]["config"] = json!("{");
    });
    let bad = view_until(&mut watching, "the problem", |view| {
        !view.problems.is_empty()
    })
    .await;
    assert_eq!(
        bad.shared.config.rules, good.shared.config.rules,
        "the last good rules stand"
    );
    assert!(api.remove("configmaps", NAMESPACE, "demo-config"));
    view_until(&mut watching, "the deletion", |view| {
        view.shared.config.rules.is_none()
    })
    .await;
}

#[tokio::test]
async fn a_foreign_change_of_the_own_pod_is_repaired() {
    let api = api().await;
    create_pod(&api, "pg-0").await;
    let dcs = member(&api, "pg-0", 5000).await;
    let mut watching = dcs.watch(options());
    assert!(done(dcs.set_labels(&role(Some("replica"))).await));
    api.edit("pods", NAMESPACE, "pg-0", |pod| {
        pod["metadata"]["labels"]["role"] = json!("primary");
        pod["metadata"]["annotations"] = json!({ "status": "{\"state\":\"touched\"}" });
    });
    view_until(&mut watching, "the touch", |view| {
        view.shared.members["pg-0"].state == "touched"
    })
    .await;
    assert!(
        done(dcs.set_labels(&role(Some("replica"))).await),
        "the watch has seen that it differs"
    );
}

#[tokio::test]
async fn a_forgotten_version_is_listed_anew() {
    let api = api().await;
    let (leader, other) = (
        member(&api, "pg-0", 5000).await,
        member(&api, "pg-1", 5000).await,
    );
    let first = acquired(&leader, "pg-0").await;
    let mut watching = other.watch(options());
    lock_until(&mut watching, "the holder", |lock| nonce(lock) == 1).await;
    let gone = Rule::new(Fault::WatchGone)
        .client("pg-1")
        .resource("leases")
        .times(1);
    let rule = api.inject(gone);
    let lists = api.calls("pg-1", Verb::List, "leases");
    let second = done(
        leader
            .write_lock(&renew("pg-0", 2, &first), version(&first))
            .await,
    );
    lock_until(&mut watching, "the renewal after 410", |lock| {
        nonce(lock) == 2
    })
    .await;
    let wait = async {
        while api.fired(rule) == 0 || api.calls("pg-1", Verb::List, "leases") == lists {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("410 leads to a list");
    api.compact();
    done(
        leader
            .write_lock(&renew("pg-0", 3, &second), version(&second))
            .await,
    );
    lock_until(&mut watching, "the renewal after the list", |lock| {
        nonce(lock) == 3
    })
    .await;
}

#[tokio::test]
async fn a_cut_is_survived() {
    let api = api().await;
    let (leader, other) = (
        member(&api, "pg-0", 5000).await,
        member(&api, "pg-1", 300).await,
    );
    let first = acquired(&leader, "pg-0").await;
    let mut watching = other.watch(impatient());
    lock_until(&mut watching, "the holder", |lock| nonce(lock) == 1).await;
    for reset in [true, false] {
        let cut = api.inject(Rule::new(Fault::Cut { reset }).client("pg-1"));
        let last = leader.read_lock().await.unwrap();
        let number = nonce(&last) + 1;
        let read = other.read_lock().await;
        assert!(
            matches!(read, Err(DcsError::Unavailable { .. })),
            "{read:?}"
        );
        done(
            leader
                .write_lock(&renew("pg-0", number, &last), version(&last))
                .await,
        );
        api.clear(cut);
        lock_until(&mut watching, "the renewal after the cut", |lock| {
            nonce(lock) == number
        })
        .await;
    }
    assert_eq!(nonce(&first), 1);
}

#[tokio::test]
async fn a_silent_stall_is_found_by_the_missing_renewals() {
    let api = api().await;
    let (leader, other) = (
        member(&api, "pg-0", 5000).await,
        member(&api, "pg-1", 5000).await,
    );
    let first = acquired(&leader, "pg-0").await;
    let mut watching = other.watch(impatient());
    lock_until(&mut watching, "the holder", |lock| nonce(lock) == 1).await;
    // No error, no end, no bookmark: only the renewals are missing. It is never healed.
    api.inject(Rule::new(Fault::WatchStall).client("pg-1"));
    let mut last = first;
    for number in 2..=4 {
        last = done(
            leader
                .write_lock(&renew("pg-0", number, &last), version(&last))
                .await,
        );
        lock_until(&mut watching, "a renewal", |lock| nonce(lock) == number).await;
    }
}

#[tokio::test]
async fn a_restored_store_is_followed_backwards() {
    let api = api().await;
    let (leader, other) = (
        member(&api, "pg-0", 5000).await,
        member(&api, "pg-1", 5000).await,
    );
    let first = acquired(&leader, "pg-0").await;
    let old = api.snapshot();
    let second = done(
        leader
            .write_lock(&renew("pg-0", 2, &first), version(&first))
            .await,
    );
    let mut watching = other.watch(options());
    lock_until(&mut watching, "the renewal", |lock| nonce(lock) == 2).await;
    assert_eq!(other.read_lock().await.unwrap(), second);
    api.restore(&old);
    assert_eq!(other.read_lock().await.unwrap(), first);
    lock_until(&mut watching, "the restored record", |lock| {
        nonce(lock) == 1
    })
    .await;
    let third = done(
        leader
            .write_lock(&acquire("pg-0", 2, 7), version(&first))
            .await,
    );
    let seen = lock_until(&mut watching, "a write to the restored store", |lock| {
        nonce(lock) == 7
    })
    .await;
    assert_eq!(seen, third);
}

#[tokio::test]
async fn an_api_that_comes_late_is_waited_for_and_a_dropped_reader_ends_the_delivery() {
    let api = api().await;
    let dcs = member(&api, "pg-0", 300).await;
    let cut = api.inject(Rule::new(Fault::Cut { reset: true }));
    let mut watching = dcs.watch(options());
    let early = timeout(Duration::from_millis(100), watching.seen.recv()).await;
    assert!(
        early.is_err(),
        "nothing may be told before the API was read: {early:?}"
    );
    api.clear(cut);
    let first = timeout(PATIENCE, watching.seen.recv())
        .await
        .expect("in time")
        .expect("open");
    assert!(matches!(first, Seen::Lock(_) | Seen::Shared(_)));
    drop(watching.seen);
    let ended = timeout(PATIENCE, watching.tasks.join_next())
        .await
        .expect("in time");
    assert!(ended.expect("a task").is_ok());
    watching.tasks.shutdown().await;
}
