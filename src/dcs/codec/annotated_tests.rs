use super::*;
use crate::dcs::codec::lease::tests::{merge, now};
use crate::dcs::codec::lease::{IDENTITY, RELEASE, decode};
use crate::dcs::codec::lease_write::{encode, is_result_of};
use crate::dcs::names::DcsNames;
use crate::ha::lock::{Claim, LockState, LockWrite, Place, Released};
use crate::ha::model::{Identity, Lsn};

const PATRONIS: [Dialect; 2] = [Dialect::Endpoints, Dialect::ConfigMap];

fn names(dialect: Dialect) -> DcsNames {
    DcsNames {
        dialect,
        ..DcsNames::new("bench", "db", "pg-0", "uid-0")
    }
}

fn claim(nonce: u64) -> Claim {
    Claim {
        holder: Identity {
            name: "pg-0".to_owned(),
            pod_uid: "uid-0".to_owned(),
            incarnation: "inc-1".to_owned(),
        },
        epoch: 7,
        ttl_ms: 19_500,
        place: Place::default(),
        nonce,
        optime: Some(Lsn(67_108_960)),
        slots: crate::ha::slots::SlotRecord::default(),
        paused: false,
        failsafe: None,
    }
}

fn release() -> LockWrite {
    LockWrite::Release {
        release: Released {
            by: claim(1).holder,
            epoch: 7,
            ttl_ms: 19_500,
            verified: true,
            led_last: None,
            end: None,
        },
        optime: Some(Lsn(67_109_000)),
    }
}

/// What a server has stored after these writes.
fn stored(dialect: Dialect, writes: &[LockWrite]) -> Value {
    let mut object = json!({ "metadata": { "uid": "o", "resourceVersion": "10" } });
    for write in writes {
        let body = encode(&names(dialect), write, Some("10"), now()).unwrap();
        merge(&mut object, &body);
    }
    object
}

#[test]
fn patronis_readers_find_their_fields_and_ours_read_back_whole() {
    for dialect in PATRONIS {
        let acquire = LockWrite::Acquire(claim(1));
        let object = stored(dialect, std::slice::from_ref(&acquire));
        let notes = &object["metadata"]["annotations"];
        for (note, text) in [
            ("leader", "pg-0"),
            ("ttl", "20"),
            ("transitions", "7"),
            ("optime", "67108960"),
            ("acquireTime", "2026-11-22T18:15:20.383108+00:00"),
            ("renewTime", "2026-11-22T18:15:20.383108+00:00"),
        ] {
            assert_eq!(notes[note], text, "{note}");
        }
        assert_eq!(object["spec"], Value::Null, "nothing but annotations");
        let snapshot = decode(dialect, Some(&object));
        assert!(is_result_of(&snapshot, &acquire), "{snapshot:?}");
        assert_eq!(snapshot.held().map(|held| held.ttl_ms), Some(19_500));
        let acquire_time = snapshot.held().unwrap().acquire_time.clone();
        let renew = LockWrite::Renew {
            claim: claim(2),
            acquire_time,
        };
        let after = stored(dialect, &[acquire, renew.clone()]);
        let after = decode(dialect, Some(&after));
        assert!(is_result_of(&after, &renew), "{after:?}");
        assert_ne!(after.fields, snapshot.fields);
    }
}

#[test]
fn a_new_object_is_of_the_dialects_kind_and_under_its_name() {
    for (dialect, kind, name) in [
        (Dialect::Lease, "Lease", "bench"),
        (Dialect::Endpoints, "Endpoints", "bench"),
        (Dialect::ConfigMap, "ConfigMap", "bench-leader"),
    ] {
        let write = LockWrite::Acquire(claim(1));
        let body = encode(&names(dialect), &write, None, now()).unwrap();
        assert_eq!(
            (&body["kind"], &body["metadata"]["name"]),
            (&json!(kind), &json!(name))
        );
        assert_eq!(body["metadata"]["labels"]["cluster-name"], "bench");
    }
}

#[test]
fn a_release_is_patronis_and_ours() {
    for dialect in PATRONIS {
        let object = stored(dialect, &[LockWrite::Acquire(claim(1)), release()]);
        let notes = &object["metadata"]["annotations"];
        assert_eq!(
            (&notes["leader"], &notes[IDENTITY]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(notes["optime"], "67109000");
        // What Patroni leaves standing when it gives the lock up.
        for note in ["acquireTime", "renewTime", "ttl", "transitions"] {
            assert!(notes[note].is_string(), "{note}");
        }
        assert!(is_result_of(&decode(dialect, Some(&object)), &release()));
    }
}

#[test]
fn only_endpoints_carry_a_route_and_only_a_renewal_leaves_it_alone() {
    let renew = LockWrite::Renew {
        claim: claim(2),
        acquire_time: now().to_string(),
    };
    for (write, withdrawn) in [
        (LockWrite::Acquire(claim(1)), true),
        (release(), true),
        (renew, false),
    ] {
        let body = encode(&names(Dialect::Endpoints), &write, Some("1"), now()).unwrap();
        assert_eq!(
            body.get("subsets"),
            withdrawn.then_some(&json!([])),
            "{write:?}"
        );
        let body = encode(&names(Dialect::ConfigMap), &write, Some("1"), now()).unwrap();
        assert_eq!(body.get("subsets"), None);
    }
}

#[test]
fn an_object_nobody_wrote_a_lock_into_is_as_good_as_none() {
    for dialect in PATRONIS {
        for annotations in [json!(null), json!({}), json!({ "note": "of the operator" })] {
            let object = json!({ "metadata": {
                "uid": "o", "resourceVersion": "4", "annotations": annotations } });
            let snapshot = decode(dialect, Some(&object));
            assert_eq!(snapshot.state, LockState::Absent);
            assert_eq!(
                snapshot.resource_version.as_deref(),
                Some("4"),
                "it is swapped"
            );
            assert_ne!(
                snapshot.fields,
                decode(dialect, None).fields,
                "L4: a change"
            );
        }
        for note in ["leader", "ttl", "transitions", IDENTITY, RELEASE] {
            let mut object = json!({ "metadata": { "resourceVersion": "4" } });
            object["metadata"]["annotations"][note] = json!("x");
            let state = decode(dialect, Some(&object)).state;
            assert!(
                matches!(state, LockState::Garbled { .. }),
                "{note}: {state:?}"
            );
        }
    }
    let lease = json!({ "metadata": { "resourceVersion": "4" } });
    let state = decode(Dialect::Lease, Some(&lease)).state;
    assert!(matches!(state, LockState::Garbled { .. }));
}

/// L1: Patroni patches its own annotations and leaves ours standing.
#[test]
fn an_identity_that_patroni_wrote_past_is_absent() {
    for dialect in PATRONIS {
        let ours = stored(dialect, &[LockWrite::Acquire(claim(1))]);
        for (note, text) in [
            ("leader", "pg-1"),
            ("acquireTime", "2026-11-22T18:15:21.000000+00:00"),
            ("transitions", "8"),
            // A Patroni of the same name renews what it finds under it.
            ("renewTime", "2026-11-22T18:15:29.100000+00:00"),
        ] {
            let mut object = ours.clone();
            object["metadata"]["annotations"][note] = json!(text);
            let LockState::Garbled { why, epoch } = decode(dialect, Some(&object)).state else {
                panic!("{note}: not taken for a stranger's")
            };
            assert!(why.contains("without an identity of ours"), "{why}");
            assert!(epoch >= Some(7));
        }
    }
}

#[test]
fn what_a_live_patroni_wrote_is_a_strangers_record_and_its_release_is_none_of_ours() {
    let annotations = json!({
        "acquireTime": "2026-11-22T18:08:47.535669+00:00", "leader": "pg-2",
        "optime": "67108960", "renewTime": "2026-11-22T18:09:17.444590+00:00",
        "transitions": "0", "ttl": "30",
    });
    for dialect in PATRONIS {
        let mut object = json!({ "metadata": {
            "uid": "o", "resourceVersion": "215", "annotations": annotations } });
        let snapshot = decode(dialect, Some(&object));
        let LockState::Garbled { why, .. } = &snapshot.state else {
            panic!("taken for {:?}", snapshot.state)
        };
        assert!(
            why.contains("transitions is 0"),
            "the names people see: {why}"
        );
        assert_eq!(snapshot.optime, Some(Lsn(67_108_960)));
        object["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .remove("leader");
        object["metadata"]["annotations"]["transitions"] = json!("3");
        let LockState::Garbled { why, .. } = decode(dialect, Some(&object)).state else {
            panic!("taken for a release")
        };
        assert!(why.contains("was not released"), "{why}");
    }
}

#[test]
fn counts_that_are_none_are_named_as_they_are_called_here() {
    let ours = stored(Dialect::ConfigMap, &[LockWrite::Acquire(claim(1))]);
    for (note, raw) in [
        ("ttl", json!("x")),
        ("ttl", json!("-3")),
        ("ttl", json!("")),
        ("ttl", json!("99999999999999999999")),
        ("transitions", json!("7.0")),
        ("transitions", json!("4294967296")),
    ] {
        let mut object = ours.clone();
        object["metadata"]["annotations"][note] = raw.clone();
        let LockState::Garbled { why, .. } = decode(Dialect::ConfigMap, Some(&object)).state else {
            panic!("{note}={raw} was understood")
        };
        assert!(
            why.starts_with(&format!("{note} is")),
            "{note}={raw}: {why}"
        );
    }
}
