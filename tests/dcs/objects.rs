//! The shared objects, the own pod, the route, the checks at start.

use super::support::{
    NAMESPACE, SCOPE, api, claim, create, create_pod, done, member, role, target,
};
use pgwarden::dcs::codec::pod::terminated_proof;
use pgwarden::dcs::{DcsError, SharedPart};
use pgwarden::ha::lock::{LockWrite, Outcome};
use pgwarden::ha::model::{HistoryEntry, Lsn, Member};
use pgwarden::ha::shared::{ConfigRecord, Initialize, SharedWrite};
use pgwarden::playground::kube_api::Verb;
use serde_json::{Value, json};

fn config(part: SharedPart) -> ConfigRecord {
    match part {
        SharedPart::Config(record) => record,
        other => panic!("not the configuration: {other:?}"),
    }
}

#[tokio::test]
async fn one_bootstrapper_wins_and_the_rest_is_built_on_its_object() {
    let api = api().await;
    let (a, b) = (
        member(&api, "pg-0", 5000).await,
        member(&api, "pg-1", 5000).await,
    );
    let claim = |name: &str| SharedWrite::Initialize {
        value: Initialize::Running(format!("{name} (pod u, incarnation 1)")),
        expect: None,
    };
    let (write_a, write_b) = (claim("pg-0"), claim("pg-1"));
    let race = tokio::join!(a.write_shared(&write_a), b.write_shared(&write_b));
    let won = match race {
        (Outcome::Done(part), Outcome::Conflict) | (Outcome::Conflict, Outcome::Done(part)) => part,
        other => panic!("{other:?}"),
    };
    let expect = config(won).resource_version;

    let done_with = Initialize::Done("7711060383094632475".to_owned());
    let write = SharedWrite::Initialize {
        value: done_with.clone(),
        expect: expect.clone(),
    };
    let record = config(done(a.write_shared(&write).await));
    assert_eq!(record.initialize, done_with);
    assert_eq!(
        a.write_shared(&write).await,
        Outcome::Conflict,
        "the version has moved on"
    );

    let entry = HistoryEntry {
        timeline: 1,
        switch_lsn: Lsn(67_393_936),
        reason: "no recovery target specified".to_owned(),
        at: Some("2026-11-22T18:15:20.383108+00:00".to_owned()),
        new_leader: Some("pg-0".to_owned()),
    };
    let expect = record.resource_version;
    let history = vec![entry];
    let write = SharedWrite::History {
        history: history.clone(),
        timeline: 4,
        epoch: 2,
        ttl_ms: 6000,
        expect,
    };
    let record = config(done(a.write_shared(&write).await));
    assert_eq!(
        (record.history, record.timeline, record.epoch, record.ttl_ms),
        (history, Some(4), 2, 6000)
    );

    let write = SharedWrite::Config {
        expect: record.resource_version,
    };
    let record = config(done(a.write_shared(&write).await));
    assert_eq!(record.rules.map(|rules| rules.ttl_ms), Some(30_000));
    assert_eq!(record.initialize, done_with, "the other annotations stay");

    let view = b.read_shared().await.unwrap();
    assert_eq!(view.config_raw.as_deref(), Some("{\"ttl\":30}"));
    assert_eq!(view.shared.config.epoch, 2);
    let stored = api.object("configmaps", NAMESPACE, "demo-config").unwrap();
    assert_eq!(stored["metadata"]["labels"]["cluster-name"], SCOPE);
}

fn sync(standbys: &[&str], expect: Option<String>) -> SharedWrite {
    SharedWrite::Sync {
        leader: "pg-0".to_owned(),
        standbys: standbys.iter().map(|name| (*name).to_owned()).collect(),
        quorum: 0,
        expect,
    }
}

#[tokio::test]
async fn a_set_that_is_written_again_shuts_out_an_older_write_of_it() {
    // Kubernetes keeps the version of an object that would stay as it is.
    let api = api().await;
    let dcs = member(&api, "pg-0", 5000).await;
    let SharedPart::Sync(first) = done(dcs.write_shared(&sync(&["pg-1"], None)).await) else {
        panic!("not the set")
    };
    let again = sync(&["pg-1"], first.resource_version.clone());
    done(dcs.write_shared(&again).await);
    let late = sync(&["pg-2"], first.resource_version);
    assert_eq!(dcs.write_shared(&late).await, Outcome::Conflict);
    let stored = dcs.read_shared().await.unwrap().shared.sync;
    assert_eq!(stored.standbys, ["pg-1"]);
}

#[tokio::test]
async fn the_synchronous_set_and_the_failover_request() {
    let api = api().await;
    let dcs = member(&api, "pg-0", 5000).await;
    let SharedPart::Sync(record) = done(dcs.write_shared(&sync(&["pg-1"], None)).await) else {
        panic!("not the set")
    };
    assert_eq!(record.standbys, ["pg-1"]);
    done(
        dcs.write_shared(&sync(&[], record.resource_version.clone()))
            .await,
    );
    let late = sync(&["pg-2"], record.resource_version);
    assert_eq!(dcs.write_shared(&late).await, Outcome::Conflict);
    assert_eq!(
        dcs.read_shared().await.unwrap().shared.sync.standbys,
        Vec::<String>::new()
    );

    let to = Some("pg-1".to_owned());
    let ask = SharedWrite::Failover {
        from: None,
        to: to.clone(),
        accepts_loss: true,
        expect: None,
    };
    let SharedPart::Failover(record) = done(dcs.write_shared(&ask).await) else {
        panic!("not the request")
    };
    assert_eq!((record.from, record.to), (None, to));
    assert!(record.accepts_loss);
    let clear = SharedWrite::Failover {
        from: None,
        to: None,
        accepts_loss: false,
        expect: record.resource_version,
    };
    done(dcs.write_shared(&clear).await);
    let cleared = dcs.read_shared().await.unwrap().shared.failover;
    assert!(cleared.is_empty() && !cleared.accepts_loss);
    let nothing = SharedWrite::Failover {
        from: None,
        to: None,
        accepts_loss: false,
        expect: None,
    };
    done(dcs.write_shared(&nothing).await);
}

#[tokio::test]
async fn the_own_pod_is_patched_only_when_it_differs() {
    let api = api().await;
    create_pod(&api, "pg-0").await;
    let dcs = member(&api, "pg-0", 5000).await;
    let mut me = Member {
        host: "10.0.0.1".to_owned(),
        port: 5432,
        state: "running".to_owned(),
        role: "replica".to_owned(),
        lsn: Some(Lsn(5)),
        system_id: Some("77".to_owned()),
        ..Member::default()
    };
    assert!(done(dcs.publish_member(&me).await));
    assert!(!done(dcs.publish_member(&me).await));
    assert!(done(dcs.set_labels(&role(Some("replica"))).await));
    assert!(!done(dcs.set_labels(&role(Some("replica"))).await));
    assert_eq!(api.calls("pg-0", Verb::Patch, "pods"), 2);
    me.lsn = Some(Lsn(6));
    assert!(done(dcs.publish_member(&me).await));

    let seen = dcs.read_shared().await.unwrap().shared.members;
    me.pod_uid.clone_from(&dcs.names().pod_uid);
    // What the platform says of the Pod comes with it.
    let pod = api.object("pods", NAMESPACE, "pg-0").unwrap();
    let created = pod["metadata"]["creationTimestamp"].as_str().unwrap();
    me.created = created.to_owned();
    assert_eq!(seen["pg-0"], me);
    let label = |api: &pgwarden::playground::kube_api::Handle| {
        api.object("pods", NAMESPACE, "pg-0").unwrap()["metadata"]["labels"]["role"].clone()
    };
    assert_eq!(label(&api), "replica");
    assert!(done(dcs.set_labels(&role(None)).await));
    assert_eq!(label(&api), json!(null));
}

#[tokio::test]
async fn a_namesakes_pod_is_not_touched() {
    let api = api().await;
    let dcs = member(&api, "pg-0", 1000).await;
    create_pod(&api, "pg-0").await;
    let outcome = dcs.set_labels(&role(Some("primary"))).await;
    assert!(
        matches!(outcome, Outcome::Conflict | Outcome::Refused { .. }),
        "{outcome:?}"
    );
    let pod = api.object("pods", NAMESPACE, "pg-0").unwrap();
    assert_eq!(pod["metadata"]["labels"]["role"], json!(null));
}

#[tokio::test]
async fn the_route_follows_the_highest_epoch() {
    let api = api().await;
    let (a, b) = (
        member(&api, "pg-0", 5000).await,
        member(&api, "pg-1", 5000).await,
    );
    let slice = || {
        api.object("endpointslices", NAMESPACE, "demo-pgwarden-ipv4")
            .unwrap()
    };
    assert!(!done(a.publish_route(1, None).await), "nothing to withdraw");
    assert!(done(
        a.publish_route(1, Some(&target("10.0.0.1", "pg-0"))).await
    ));
    assert!(!done(
        a.publish_route(1, Some(&target("10.0.0.1", "pg-0"))).await
    ));
    assert_eq!(slice()["endpoints"][0]["addresses"], json!(["10.0.0.1"]));
    assert_eq!(
        slice()["metadata"]["labels"]["kubernetes.io/service-name"],
        SCOPE
    );

    assert!(done(
        b.publish_route(2, Some(&target("10.0.0.2", "pg-1"))).await
    ));
    let late = a.publish_route(1, Some(&target("10.0.0.1", "pg-0"))).await;
    assert_eq!(late, Outcome::Conflict);
    assert_eq!(a.publish_route(1, None).await, Outcome::Conflict);
    assert_eq!(slice()["endpoints"][0]["addresses"], json!(["10.0.0.2"]));

    api.edit("endpointslices", NAMESPACE, "demo-pgwarden-ipv4", |slice| {
        slice["endpoints"][0]["addresses"] = json!(["10.9.9.9"]);
    });
    assert!(
        done(b.publish_route(2, Some(&target("10.0.0.2", "pg-1"))).await),
        "repaired"
    );
    // A hand wrote an epoch that nobody has taken the lock under: the lock, read later, tells.
    api.edit("endpointslices", NAMESPACE, "demo-pgwarden-ipv4", |slice| {
        slice["endpoints"][0]["addresses"] = json!(["10.9.9.9"]);
        slice["metadata"]["annotations"]["pgwarden.io/epoch"] = json!("1000000");
    });
    let to_b = target("10.0.0.2", "pg-1");
    let nobody_leads = b.publish_route(2, Some(&to_b)).await;
    assert_eq!(nobody_leads, Outcome::Conflict, "the lock does not tell");
    let write = LockWrite::Acquire(claim("pg-1", 2, 1));
    assert!(matches!(b.write_lock(&write, None).await, Outcome::Done(_)));
    assert!(done(b.publish_route(2, Some(&to_b)).await), "overruled");
    assert_eq!(slice()["endpoints"][0]["addresses"], json!(["10.0.0.2"]));
    assert!(done(b.publish_route(2, None).await));
    assert_eq!(slice()["endpoints"].as_array().map_or(0, Vec::len), 0);

    assert!(done(
        b.publish_route(2, Some(&target("fd00::2", "pg-1"))).await
    ));
    let v6 = api
        .object("endpointslices", NAMESPACE, "demo-pgwarden-ipv6")
        .unwrap();
    assert_eq!(v6["addressType"], "IPv6");
}

#[tokio::test]
async fn the_leader_service_must_have_no_selector_and_no_other_dialect_may_rule() {
    let api = api().await;
    let dcs = member(&api, "pg-0", 5000).await;
    assert_eq!(
        dcs.check_service().await.unwrap().warnings.len(),
        1,
        "no Service yet"
    );
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": SCOPE },
        "spec": { "ports": [{ "port": 5432 }] },
    });
    create(&api, "api/v1", "services", &service).await;
    assert_eq!(
        dcs.check_service().await.unwrap().warnings,
        Vec::<String>::new()
    );
    api.edit("services", NAMESPACE, SCOPE, |service| {
        service["spec"]["selector"] = json!({ "role": "primary" });
    });
    assert!(matches!(
        dcs.check_service().await,
        Err(DcsError::ServiceSelector { .. })
    ));
    api.edit("services", NAMESPACE, SCOPE, |service| {
        service["spec"]["selector"] = json!(null);
    });

    let leader = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "demo-leader", "annotations": { "leader": "pg-9", "ttl": "30" } },
    });
    create(&api, "api/v1", "configmaps", &leader).await;
    let error = dcs.check_service().await.unwrap_err();
    assert!(error.to_string().contains("pg-9"), "{error}");
    api.edit("configmaps", NAMESPACE, "demo-leader", |map| {
        map["metadata"]["annotations"] = json!({ "ttl": "30" });
    });
    assert_eq!(
        dcs.check_service().await.unwrap().warnings,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn what_leads_past_the_leader_is_named_and_the_route_itself_is_not() {
    let api = api().await;
    let dcs = member(&api, "pg-0", 5000).await;
    assert!(done(
        dcs.publish_route(1, Some(&target("10.0.0.1", "pg-0")))
            .await
    ));
    let none = Vec::<String>::new();
    assert_eq!(dcs.other_ways().await.unwrap(), none, "no Service yet");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": SCOPE },
        "spec": { "ports": [{ "port": 5432 }], "selector": { "role": "any" } },
    });
    create(&api, "api/v1", "services", &service).await;
    let slice = |name: &str, of: &str, endpoints: &Value| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": name, "labels": { "kubernetes.io/service-name": of } },
            "endpoints": endpoints,
        })
    };
    let somewhere = json!([{ "addresses": ["10.0.0.9"] }]);
    for (name, of, endpoints) in [
        ("demo-stray", SCOPE, &somewhere),
        ("demo-empty", SCOPE, &json!([])),
        ("other-slice", "other", &somewhere),
    ] {
        let slice = slice(name, of, endpoints);
        create(&api, "apis/discovery.k8s.io/v1", "endpointslices", &slice).await;
    }
    let ways = dcs.other_ways().await.unwrap();
    assert!(
        matches!(&ways[..], [selector, stray]
            if selector.contains("remove spec.selector") && stray.contains("demo-stray")),
        "{ways:?}"
    );
}

#[tokio::test]
async fn the_kubelets_word_is_read_from_the_pod() {
    let api = api().await;
    create_pod(&api, "pg-0").await;
    let dcs = member(&api, "pg-0", 5000).await;
    let uid = dcs.names().pod_uid.clone();
    let id = "containerd://abc";
    let facts = dcs.read_pod("pg-0").await.unwrap();
    assert!(terminated_proof(&facts, &uid, id).is_err());
    api.edit("pods", NAMESPACE, "pg-0", |pod| {
        pod["status"]["containerStatuses"] = json!([{ "name": "postgres", "lastState": { "terminated": {
            "containerID": id, "reason": "Error", "finishedAt": "2026-01-01T00:00:00Z" } } }]);
    });
    let facts = dcs.read_pod("pg-0").await.unwrap();
    assert_eq!(terminated_proof(&facts, &uid, id), Ok(()));
    assert!(matches!(
        dcs.read_pod("pg-7").await,
        Err(DcsError::Missing { .. })
    ));
}

#[tokio::test]
async fn events_are_told() {
    let api = api().await;
    let dcs = member(&api, "pg-0", 5000).await;
    let told = dcs.create_event("Promoted", "epoch 2, timeline 2", false);
    assert!(matches!(told.await, Some(Outcome::Done(()))));
    let events = api.objects("events", NAMESPACE);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["involvedObject"]["name"], "pg-0");
}
