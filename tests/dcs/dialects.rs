//! Patroni's two dialects: the lock in annotations, the route in the subsets or in the pods' label.

use super::support::{
    NAMESPACE, SCOPE, acquire, api, claim, create, create_pod, done, lock_until, member_of, renew,
    target, version,
};
use pgwarden::dcs::codec::lease_write::is_result_of;
use pgwarden::dcs::{DcsError, Dialect, WatchOptions};
use pgwarden::ha::lock::{LockState, LockWrite, Outcome, Released};
use pgwarden::ha::shared::{SharedWrite, SyncRecord};
use pgwarden::playground::kube_api::{Fault, Rule, Verb};
use serde_json::json;

const PATRONIS: [Dialect; 2] = [Dialect::Endpoints, Dialect::ConfigMap];

fn plural(dialect: Dialect) -> &'static str {
    dialect.lock().resource
}

#[tokio::test]
async fn an_object_that_a_chart_made_beforehand_is_taken_over() {
    for dialect in PATRONIS {
        let api = api().await;
        let (name, place) = (dialect.lock_name(SCOPE), dialect.lock());
        let made = json!({
            "apiVersion": "v1", "kind": place.kind.1,
            "metadata": { "name": name, "labels": { "team": "a" } },
        });
        create(&api, "api/v1", place.resource, &made).await;
        let dcs = member_of(&api, dialect, "pg-0").await;
        let bare = dcs.read_lock().await.unwrap();
        assert_eq!(bare.state, LockState::Absent);
        let write = acquire("pg-0", 1, 1);
        let held = done(dcs.write_lock(&write, version(&bare)).await);
        assert!(is_result_of(&held, &write));
        let stored = api.object(place.resource, NAMESPACE, &name).unwrap();
        assert_eq!(
            stored["metadata"]["labels"],
            json!({ "team": "a", "cluster-name": SCOPE })
        );
    }
}

#[tokio::test]
async fn a_lost_answer_is_found_again_by_its_number() {
    for dialect in PATRONIS {
        let api = api().await;
        let dcs = member_of(&api, dialect, "pg-0").await;
        let first = done(dcs.write_lock(&acquire("pg-0", 1, 1), None).await);
        let lost = Rule::new(Fault::LoseAnswer { hang: false }).client("pg-0");
        api.inject(lost.resource(plural(dialect)).times(1));
        let write = renew("pg-0", 2, &first);
        let outcome = dcs.write_lock(&write, version(&first)).await;
        assert!(is_result_of(&done(outcome), &write), "{dialect:?}");
    }
}

#[tokio::test]
async fn a_watch_shows_the_lock_beside_the_shared_objects() {
    for dialect in PATRONIS {
        let api = api().await;
        let (a, b) = (
            member_of(&api, dialect, "pg-0").await,
            member_of(&api, dialect, "pg-1").await,
        );
        let mut watching = b.watch(WatchOptions {
            renew_ms: 1000,
            queue: 16,
        });
        let first = done(a.write_lock(&acquire("pg-0", 1, 1), None).await);
        lock_until(&mut watching, "the acquisition", |lock| *lock == first).await;
        let sync = SharedWrite::Sync {
            leader: "pg-0".to_owned(),
            standbys: vec!["pg-1".to_owned()],
            quorum: 0,
            expect: None,
        };
        done(a.write_shared(&sync).await);
        let record = a.read_shared().await.unwrap().shared.sync;
        let SyncRecord {
            leader, standbys, ..
        } = record;
        assert_eq!(
            (leader.as_deref(), &standbys[..]),
            (Some("pg-0"), &["pg-1".to_owned()][..])
        );
        assert!(
            api.object(dialect.state().resource, NAMESPACE, "demo-sync")
                .is_some()
        );
        let second = done(
            a.write_lock(&renew("pg-0", 2, &first), version(&first))
                .await,
        );
        lock_until(&mut watching, "the renewal", |lock| *lock == second).await;
        assert!(api.remove(plural(dialect), NAMESPACE, &dialect.lock_name(SCOPE)));
        lock_until(&mut watching, "the deletion", |lock| {
            lock.state == LockState::Absent
        })
        .await;
    }
}

#[tokio::test]
async fn the_subsets_lead_to_the_holder_from_its_promotion_to_its_release() {
    let api = api().await;
    let dialect = Dialect::Endpoints;
    let (a, b) = (
        member_of(&api, dialect, "pg-0").await,
        member_of(&api, dialect, "pg-1").await,
    );
    let subsets = || api.object("endpoints", NAMESPACE, SCOPE).unwrap()["subsets"].clone();
    let ip = |subsets: &serde_json::Value| subsets[0]["addresses"][0]["ip"].clone();
    let first = done(a.write_lock(&acquire("pg-0", 1, 1), None).await);
    assert_eq!(
        ip(&subsets()),
        json!(null),
        "L7: not before the promotion has ended"
    );
    let (to_a, to_b) = (target("10.0.0.1", "pg-0"), target("10.0.0.2", "pg-1"));
    assert!(done(a.publish_route(1, Some(&to_a)).await));
    assert!(
        !done(a.publish_route(1, Some(&to_a)).await),
        "it was so already"
    );
    assert_eq!(ip(&subsets()), "10.0.0.1");

    // The route's write is one of the lock object, of no lock field.
    let stale = a
        .write_lock(&renew("pg-0", 2, &first), version(&first))
        .await;
    assert_eq!(stale, Outcome::Conflict);
    let now = a.read_lock().await.unwrap();
    assert_eq!(now.fields, first.fields);
    let second = done(a.write_lock(&renew("pg-0", 2, &now), version(&now)).await);
    assert_eq!(ip(&subsets()), "10.0.0.1", "a renewal leaves it alone");
    assert_eq!(
        b.publish_route(1, Some(&to_b)).await,
        Outcome::Conflict,
        "not the holder"
    );

    let third = done(b.write_lock(&acquire("pg-1", 2, 3), version(&second)).await);
    assert_eq!(ip(&subsets()), json!(null), "with the lock goes the route");
    assert_eq!(
        a.publish_route(1, Some(&to_a)).await,
        Outcome::Conflict,
        "a later leader's"
    );
    assert!(done(b.publish_route(2, Some(&to_b)).await));
    let held = b.read_lock().await.unwrap();
    let release = LockWrite::Release {
        release: Released {
            by: third.held().unwrap().holder.clone(),
            epoch: 2,
            ttl_ms: 6000,
            verified: true,
            led_last: None,
            end: None,
        },
        optime: None,
    };
    done(b.write_lock(&release, version(&held)).await);
    assert_eq!(ip(&subsets()), json!(null), "a release withdraws it");
}

#[tokio::test]
async fn only_the_holders_pod_carries_the_leaders_label() {
    let api = api().await;
    for pod in ["pg-0", "pg-1", "pg-2"] {
        create_pod(&api, pod).await;
        let role = if pod == "pg-1" { "primary" } else { "replica" };
        api.edit("pods", NAMESPACE, pod, |pod| {
            pod["metadata"]["labels"]["role"] = json!(role);
        });
    }
    let pod = |pod: &str| api.object("pods", NAMESPACE, pod).unwrap();
    let labels =
        || ["pg-0", "pg-1", "pg-2"].map(|name| pod(name)["metadata"]["labels"]["role"].clone());
    let dcs = member_of(&api, Dialect::ConfigMap, "pg-0").await;
    let aim = target("10.0.0.1", "pg-0");
    assert_eq!(
        dcs.publish_route(1, Some(&aim)).await,
        Outcome::Conflict,
        "nobody leads"
    );
    let mut claim = claim("pg-0", 1, 1);
    claim.holder.pod_uid = dcs.names().pod_uid.clone();
    done(dcs.write_lock(&LockWrite::Acquire(claim), None).await);
    assert_eq!(
        dcs.publish_route(2, Some(&aim)).await,
        Outcome::Conflict,
        "another epoch"
    );
    assert_eq!(
        labels(),
        [json!("replica"), json!("primary"), json!("replica")]
    );
    assert!(done(dcs.publish_route(1, Some(&aim)).await));
    assert_eq!(labels(), [json!("primary"), json!(null), json!("replica")]);
    assert!(!done(dcs.publish_route(1, Some(&aim)).await));

    // L7: what was decided on an older sight of a pod is refused when it arrives.
    api.edit("pods", NAMESPACE, "pg-0", |pod| {
        pod["metadata"]["labels"]["role"] = json!("replica");
    });
    let late = Rule::new(Fault::DelayBefore { ms: 300 }).client("pg-0");
    api.inject(late.verbs(&[Verb::Patch]).resource("pods").times(1));
    let publishing = dcs.publish_route(1, Some(&aim));
    let meanwhile = async {
        while api.calls("pg-0", Verb::Patch, "pods") < 3 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        api.edit("pods", NAMESPACE, "pg-0", |pod| {
            pod["metadata"]["labels"]["seen"] = json!("by the next leader");
        });
        assert!(api.remove("configmaps", NAMESPACE, "demo-leader"));
    };
    let (outcome, ()) = tokio::join!(publishing, meanwhile);
    assert_eq!(outcome, Outcome::Conflict);
    assert_eq!(labels()[0], json!("replica"));
}

#[tokio::test]
async fn each_dialect_refuses_to_run_beside_anothers_leader() {
    for ruling in Dialect::ALL {
        let api = api().await;
        let place = ruling.lock();
        let mut lock = json!({
            "apiVersion": place.kind.0, "kind": place.kind.1,
            "metadata": { "name": ruling.lock_name(SCOPE), "annotations": { "leader": "pg-9" } },
        });
        if ruling == Dialect::Lease {
            lock["spec"] = json!({ "holderIdentity": "pg-9" });
        }
        create(&api, place.group, place.resource, &lock).await;
        for dialect in Dialect::ALL {
            let checked = member_of(&api, dialect, "pg-0").await.check_service().await;
            match checked {
                Ok(_) => assert_eq!(dialect, ruling),
                Err(DcsError::OtherDialect {
                    leader, setting, ..
                }) => {
                    assert_ne!(dialect, ruling);
                    assert_eq!((leader.as_str(), setting), ("pg-9", ruling.setting()));
                }
                Err(other) => panic!("{dialect:?} beside {ruling:?}: {other}"),
            }
        }
    }
}

#[tokio::test]
async fn the_configurations_endpoints_get_their_service_and_a_role_made_for_patroni_is_enough() {
    let api = api().await;
    let dcs = member_of(&api, Dialect::Endpoints, "pg-0").await;
    dcs.check_service().await.unwrap();
    let service = api.object("services", NAMESPACE, "demo-config").unwrap();
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(service["metadata"]["labels"]["cluster-name"], SCOPE);
    dcs.check_service().await.unwrap();

    // Reads of Services and Leases and Events are beyond Patroni's rights: nobody misses them.
    for (verb, resource) in [
        (Verb::Get, "services"),
        (Verb::Create, "services"),
        (Verb::Get, "leases"),
        (Verb::Create, "events"),
    ] {
        let refused = Rule::new(Fault::Answer {
            code: 403,
            retry_after_s: None,
        })
        .client("pg-0");
        api.inject(refused.verbs(&[verb]).resource(resource));
    }
    let checked = dcs.check_service().await.unwrap();
    assert_eq!(checked.warnings, Vec::<String>::new());
    assert!(dcs.create_event("Test", "words", false).await.is_some());
    assert_eq!(dcs.forbidden(), None);
}
