//! The embedded API as a process has it: restored, stopped and started, relaxed, told what to do
//! over HTTP.

use std::time::Duration;

use pgwarden::playground::kube_api::{KubeApi, Options};
use serde_json::{Value, json};

use crate::bodies::{config_map, endpoints, lease, slice};
use crate::faults::{holder, rig, stored_holder};
use crate::rig::{MERGE, Rig, revision};

#[tokio::test]
async fn a_restored_store_goes_backwards() {
    let rig = rig().await;
    let early = rig.api().snapshot();
    let mut watch = rig.watch("leases", "").await;
    assert_eq!(watch.next_named().await, "ADDED l");
    let changed = rig
        .patch("leases", "l", MERGE, &holder("b"))
        .await
        .expect("patched");
    rig.create("leases", &lease("new")).await.expect("created");
    rig.api().restore(&early);
    assert_eq!(rig.api().revision(), early.revision());
    while let Some((kind, _)) = watch.next().await {
        assert_ne!(kind, "ERROR", "a restore is not announced");
    }
    let read = rig.get("leases", "l").await.expect("read");
    assert_eq!(read["spec"]["holderIdentity"], "a");
    assert!(revision(&read) < revision(&changed));
    assert_eq!(
        rig.get("leases", "new").await.expect_err("never was").code,
        404
    );
    let refused = rig
        .put("leases", "l", &changed)
        .await
        .expect_err("a version of the other life");
    assert_eq!(refused.code, 409);
    let query = format!("resourceVersion={}", revision(&changed) + 5);
    assert_eq!(
        rig.list("leases", &query)
            .await
            .expect_err("the future")
            .code,
        504
    );
}

#[tokio::test]
async fn stop_and_start_again_with_the_same_state() {
    let first = KubeApi::start(Options::default()).await.expect("started");
    let address = first.address();
    let client = first.client("a").expect("a client");
    let path = "/api/v1/namespaces/test/configmaps";
    let body = config_map("c", json!({})).to_string().into_bytes();
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(body);
    client
        .request::<Value>(request.expect("valid"))
        .await
        .expect("created");
    let state = first.stop().await;
    client
        .apiserver_version()
        .await
        .expect_err("nobody listens");

    let options = Options {
        listen: address,
        state: Some(state),
        ..Options::default()
    };
    let second = KubeApi::start(options)
        .await
        .expect("the same address again");
    client
        .apiserver_version()
        .await
        .expect("the same client goes on");
    assert_eq!(second.objects("configmaps", "test").len(), 1);
    assert!(second.edit("configmaps", "test", "c", |it| it["data"] =
        json!({"garbage": "x"})));
    let seen = second.object("configmaps", "test", "c").expect("it exists");
    assert_eq!(seen["data"]["garbage"], "x");
    assert!(second.remove("configmaps", "test", "c"));
    assert!(second.object("configmaps", "test", "c").is_none());
}

#[tokio::test]
async fn loopback_is_allowed_where_asked_for() {
    let rig = Rig::embedded(Options {
        allow_loopback: true,
        ..Options::default()
    })
    .await;
    rig.create("endpoints", &endpoints("e", &["127.0.0.1"]))
        .await
        .expect("allowed");
    rig.create("endpointslices", &slice("s", "IPv4", &["127.0.0.2"]))
        .await
        .expect("allowed");
    rig.create("endpointslices", &slice("t", "IPv6", &["::1"]))
        .await
        .expect("allowed");
    rig.create("endpoints", &endpoints("f", &["0.0.0.0"]))
        .await
        .expect_err("not this one");
}

#[tokio::test]
async fn other_processes_inject_over_http() {
    let rig = rig().await;
    let admin = |method: &'static str, path: &'static str, body: Value| {
        let rig = &rig;
        let path = format!("/pgwarden-faults{path}");
        async move { rig.send(method, &path, "application/json", &body).await }
    };
    let rule = json!({"client": "a", "verbs": ["get"], "resources": ["leases"],
        "fault": {"kind": "answer", "code": 500}});
    let id = admin("POST", "", rule).await.expect("injected")["id"].clone();
    assert_eq!(rig.get("leases", "l").await.expect_err("hit").code, 500);
    let rules = admin("GET", "", Value::Null).await.expect("rules");
    assert_eq!((&rules[0]["id"], &rules[0]["fired"]), (&id, &json!(1)));
    admin("DELETE", "", Value::Null).await.expect("cleared");
    rig.get("leases", "l").await.expect("read");

    admin("POST", "/snapshots/early", Value::Null)
        .await
        .expect("kept");
    rig.patch("leases", "l", MERGE, &holder("b"))
        .await
        .expect("patched");
    admin("POST", "/restore/early", Value::Null)
        .await
        .expect("restored");
    assert_eq!(stored_holder(&rig), "a");
    admin("POST", "/compact", Value::Null)
        .await
        .expect("forgotten");
    let calls = admin("GET", "/calls", Value::Null).await.expect("calls");
    let patches = json!({"client": "a", "verb": "patch", "resource": "leases", "count": 1});
    assert!(
        calls.as_array().expect("a list").contains(&patches),
        "{calls}"
    );
    for (path, body) in [
        ("", json!({"fault": "none"})),
        ("/restore/none", Value::Null),
    ] {
        let path = format!("/pgwarden-faults{path}");
        let body = body.to_string().into_bytes();
        rig.try_send("POST", &path, "application/json", body)
            .await
            .expect_err("refused");
    }
}

#[tokio::test]
async fn dropping_the_handle_ends_the_server() {
    let api = KubeApi::start(Options::default()).await.expect("started");
    let client = api.client("a").expect("a client");
    client.apiserver_version().await.expect("it answers");
    drop(api);
    let gone = async {
        while client.apiserver_version().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone)
        .await
        .expect("it ends");
}
