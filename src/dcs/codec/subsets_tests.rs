use super::*;
use crate::dcs::codec::lease_write::encode;
use crate::ha::lock::{Claim, LockWrite, Place};
use crate::ha::model::Identity;

fn names() -> DcsNames {
    DcsNames {
        dialect: Dialect::Endpoints,
        ..DcsNames::new("bench", "db", "pg-0", "u0")
    }
}

fn target() -> RouteTarget {
    RouteTarget {
        ips: vec!["198.18.0.13".parse().unwrap(), "fd00::1".parse().unwrap()],
        pod_name: "pg-0".to_owned(),
        pod_uid: "u0".to_owned(),
        node_name: None,
    }
}

/// The lock as `name` holds it under `epoch`.
fn held(name: &str, uid: &str, epoch: u64) -> Value {
    let claim = Claim {
        holder: Identity {
            name: name.to_owned(),
            pod_uid: uid.to_owned(),
            incarnation: "1".to_owned(),
        },
        epoch,
        ttl_ms: 20_000,
        place: Place::default(),
        nonce: 1,
        optime: None,
        slots: crate::ha::slots::SlotRecord::default(),
        paused: false,
        failsafe: None,
        led_last: None,
    };
    let now = "2026-11-22T18:15:20.383108Z".parse().unwrap();
    let mut object = encode(&names(), &LockWrite::Acquire(claim), None, now).unwrap();
    object["metadata"]["resourceVersion"] = json!("5");
    object
}

#[test]
fn the_holder_writes_one_subset_with_its_address() {
    let Plan::Patch(patch) = plan(&names(), &held("pg-0", "u0", 3), 3, Some(&target())) else {
        panic!("nothing leads anywhere yet")
    };
    assert_eq!(patch["metadata"], json!({ "resourceVersion": "5" }));
    assert_eq!(
        patch["subsets"],
        json!([{
            "addresses": [{ "ip": "198.18.0.13", "targetRef": {
                "kind": "Pod", "namespace": "db", "name": "pg-0", "uid": "u0" } }],
            "ports": [{ "port": 5432, "protocol": "TCP" }],
        }])
    );
}

#[test]
fn whoever_does_not_hold_it_under_this_epoch_keeps_off() {
    for (name, uid, epoch) in [
        ("pg-1", "u1", 3),
        ("pg-0", "u9", 3),
        ("pg-0", "u0", 4),
        ("pg-0", "u0", 2),
    ] {
        for wish in [Some(&target()), None] {
            let plan = plan(&names(), &held(name, uid, epoch), 3, wish);
            assert_eq!(plan, Plan::NotMine, "{name} {uid} {epoch}");
        }
    }
    let bare = json!({ "metadata": { "resourceVersion": "5" } });
    assert_eq!(plan(&names(), &bare, 3, Some(&target())), Plan::NotMine);
}

#[test]
fn the_same_route_is_not_written_again_and_a_disturbed_one_is_repaired() {
    let mut stored = held("pg-0", "u0", 3);
    let Plan::Patch(patch) = plan(&names(), &stored, 3, Some(&target())) else {
        panic!("nothing leads anywhere yet")
    };
    stored["subsets"] = patch["subsets"].clone();
    // What Patroni and the server add.
    stored["subsets"][0]["addresses"][0]["targetRef"]["resourceVersion"] = json!("215");
    assert_eq!(plan(&names(), &stored, 3, Some(&target())), Plan::Nothing);
    stored["subsets"][0]["addresses"][0]["ip"] = json!("198.18.0.99");
    assert!(matches!(
        plan(&names(), &stored, 3, Some(&target())),
        Plan::Patch(_)
    ));
    let Plan::Patch(patch) = plan(&names(), &stored, 3, None) else {
        panic!("the address must go")
    };
    assert_eq!(patch["subsets"], json!([]));
}
