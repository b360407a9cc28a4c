//! A server, members that talk to it, and waiting for what they see.

use pgwarden::dcs::codec::lease_write::is_result_of;
use pgwarden::dcs::codec::route::RouteTarget;
use pgwarden::dcs::{
    ApiAccess, Dcs, DcsNames, DcsOptions, Dialect, Seen, SharedView, Watching, connect,
};
use pgwarden::ha::lock::{Claim, LockSnapshot, LockWrite, Outcome, Place};
use pgwarden::ha::model::{Identity, Lsn};
use pgwarden::ha::shared::{Repair, Rules};
use pgwarden::playground::kube_api::{Handle, KubeApi, Options};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const NAMESPACE: &str = "db";
pub(crate) const SCOPE: &str = "demo";
/// Only a hung test meets it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn api() -> Handle {
    let options = Options {
        bookmark_interval: Duration::from_millis(200),
        ..Options::default()
    };
    KubeApi::start(options).await.expect("a free loopback port")
}

pub(crate) fn rules(value: &Value) -> Option<Rules> {
    Some(Rules {
        ttl_ms: value["ttl"].as_u64()? * 1000,
        maximum_lag_on_failover_bytes: 1 << 20,
        synchronous_mode: false,
        sync: pgwarden::ha::shared::SyncRules::default(),
        check_timeline: false,
        primary_start_timeout_ms: 300_000,
        primary_stop_timeout_ms: None,
        member_slots_ttl_ms: 1_800_000,
        slots: pgwarden::ha::slots::SlotRules::default(),
        repair: Repair::default(),
        pause: false,
        standby: None,
        failsafe: false,
    })
}

/// The role's label, or none.
pub(crate) fn role(value: Option<&str>) -> BTreeMap<String, Option<String>> {
    BTreeMap::from([("role".to_owned(), value.map(str::to_owned))])
}

/// A member called `name`, also towards the server's faults.
pub(crate) async fn member(api: &Handle, name: &str, call_ms: u64) -> Dcs {
    made(api, Dialect::Lease, name, call_ms).await
}

/// The same in another dialect.
pub(crate) async fn member_of(api: &Handle, dialect: Dialect, name: &str) -> Dcs {
    made(api, dialect, name, 5000).await
}

async fn made(api: &Handle, dialect: Dialect, name: &str, call_ms: u64) -> Dcs {
    let token = Some(name.to_owned());
    let access = ApiAccess::Url {
        url: api.url(),
        token,
        token_file: None,
    };
    let client = connect(&access, call_ms).await.expect("a good address");
    let names = DcsNames {
        dialect,
        ..DcsNames::new(SCOPE, NAMESPACE, name, &uid(api, name))
    };
    let initial_config = json!({ "ttl": 30 });
    let options = DcsOptions {
        call_ms,
        resolve: Arc::new(rules),
        initial_config,
        servers: None,
    };
    Dcs::new(client, names, options).expect("good names")
}

/// The UID of a stored pod, or an invented one.
fn uid(api: &Handle, pod: &str) -> String {
    let stored = api.object("pods", NAMESPACE, pod);
    let uid = stored
        .as_ref()
        .and_then(|pod| pod["metadata"]["uid"].as_str());
    uid.map_or_else(|| format!("uid-of-{pod}"), str::to_owned)
}

/// POST an object as somebody else.
pub(crate) async fn create(api: &Handle, group: &str, resource: &str, object: &Value) {
    let client = api.client("admin").expect("a client");
    let path = format!("/{group}/namespaces/{NAMESPACE}/{resource}");
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(object.to_string().into_bytes())
        .expect("a request");
    client
        .request::<Value>(request)
        .await
        .expect("the object is good");
}

pub(crate) async fn create_pod(api: &Handle, name: &str) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "cluster-name": SCOPE } },
        "spec": { "nodeName": "node-a", "containers": [{ "name": "postgres", "image": "x" }] },
    });
    create(api, "api/v1", "pods", &pod).await;
}

pub(crate) fn claim(name: &str, epoch: u64, nonce: u64) -> Claim {
    Claim {
        holder: Identity {
            name: name.to_owned(),
            pod_uid: format!("uid-of-{name}"),
            incarnation: "1".to_owned(),
        },
        epoch,
        ttl_ms: 6000,
        place: Place::default(),
        nonce,
        optime: Some(Lsn(nonce)),
        slots: pgwarden::ha::slots::SlotRecord::default(),
        paused: false,
        failsafe: None,
        led_last: None,
    }
}

pub(crate) fn acquire(name: &str, epoch: u64, nonce: u64) -> LockWrite {
    LockWrite::Acquire(claim(name, epoch, nonce))
}

pub(crate) fn renew(name: &str, nonce: u64, last: &LockSnapshot) -> LockWrite {
    let held = last.held().expect("it is held");
    LockWrite::Renew {
        claim: claim(name, held.epoch, nonce),
        acquire_time: held.acquire_time.clone(),
    }
}

/// A pod to lead clients to.
pub(crate) fn target(ip: &str, name: &str) -> RouteTarget {
    RouteTarget {
        ips: vec![ip.parse().expect("an address")],
        pod_name: name.to_owned(),
        pod_uid: format!("uid-of-{name}"),
        node_name: None,
    }
}

/// The value of an acknowledged write.
pub(crate) fn done<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Done(value) => value,
        other => panic!("not done: {other:?}"),
    }
}

/// Acquire a lock that does not exist.
pub(crate) async fn acquired(dcs: &Dcs, name: &str) -> LockSnapshot {
    let write = acquire(name, 1, 1);
    let snapshot = done(dcs.write_lock(&write, None).await);
    assert!(is_result_of(&snapshot, &write));
    snapshot
}

pub(crate) fn version(snapshot: &LockSnapshot) -> Option<&str> {
    snapshot.resource_version.as_deref()
}

/// Wait for a sight of the lock that is so.
pub(crate) async fn lock_until(
    watching: &mut Watching,
    what: &str,
    so: impl Fn(&LockSnapshot) -> bool,
) -> LockSnapshot {
    let wait = async {
        loop {
            match watching.seen.recv().await.expect("the watch ended") {
                Seen::Lock(snapshot) if so(&snapshot) => return snapshot,
                Seen::Lock(_) | Seen::Shared(_) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("never seen: {what}"))
}

/// Wait for a view that is so.
pub(crate) async fn view_until(
    watching: &mut Watching,
    what: &str,
    so: impl Fn(&SharedView) -> bool,
) -> SharedView {
    let wait = async {
        loop {
            match watching.seen.recv().await.expect("the watch ended") {
                Seen::Shared(view) if so(&view) => return *view,
                Seen::Lock(_) | Seen::Shared(_) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("never seen: {what}"))
}
