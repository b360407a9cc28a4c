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
        led_last: None,
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

/// L1, L10: a hand at one annotation of our record makes it nobody's.
#[test]
fn an_identity_that_somebody_wrote_past_is_absent() {
    for dialect in PATRONIS {
        let ours = stored(dialect, &[LockWrite::Acquire(claim(1))]);
        for (note, text) in [
            ("leader", "pg-1"),
            ("acquireTime", "2026-11-22T18:15:21.000000+00:00"),
            ("transitions", "8"),
        ] {
            let object = with_notes(&ours, &[(note, Some(text))]);
            let LockState::Garbled { why, epoch } = decode(dialect, Some(&object)).state else {
                panic!("{note}: not taken for damage")
            };
            assert!(why.contains("without an identity of ours"), "{why}");
            assert!(epoch >= Some(7));
        }
    }
}

/// Changes of annotations as a Patroni's PATCH makes them: `None` removes.
fn with_notes(object: &Value, notes: &[(&str, Option<&str>)]) -> Value {
    let mut object = object.clone();
    for (note, text) in notes {
        object["metadata"]["annotations"][note] = json!(text);
    }
    object
}

fn patroni_holds(dialect: Dialect, object: &Value) -> Option<(String, u64, u64)> {
    let snapshot = decode(dialect, Some(object));
    let held = snapshot.held().filter(|held| held.holder.is_patronis())?;
    assert_eq!(held.place, Place::default(), "nothing proves its death");
    Some((held.holder.name.clone(), held.epoch, held.ttl_ms))
}

#[test]
fn what_a_live_patroni_wrote_is_its_record_beside_ours_of_before() {
    let renewed = ("renewTime", Some("2026-11-22T18:15:29.100000+00:00"));
    let acquired = ("acquireTime", Some("2026-11-22T18:15:29.000000+00:00"));
    for dialect in PATRONIS {
        let first = json!({ "metadata": { "uid": "o", "resourceVersion": "215", "annotations": {
            "acquireTime": "2026-11-22T18:08:47.535669+00:00", "leader": "pg-2",
            "optime": "67108960", "renewTime": "2026-11-22T18:09:17.444590+00:00",
            "transitions": "0", "ttl": "30",
        } } });
        let of_first = Some(("pg-2".to_owned(), 0, 30_000));
        assert_eq!(patroni_holds(dialect, &first), of_first);
        let position = decode(dialect, Some(&first)).optime;
        assert_eq!(position, Some(Lsn(67_108_960)));
        let ours = stored(dialect, &[LockWrite::Acquire(claim(1))]);
        let released = stored(dialect, &[LockWrite::Acquire(claim(1)), release()]);
        let taken = [
            ("leader", Some("pg-1")),
            ("transitions", Some("8")),
            acquired,
            renewed,
        ];
        let next = Some(("pg-1".to_owned(), 8, 20_000));
        // After the holder's time was up, and after its release.
        assert_eq!(patroni_holds(dialect, &with_notes(&ours, &taken)), next);
        assert_eq!(patroni_holds(dialect, &with_notes(&released, &taken)), next);
        // A Patroni of the same name goes on with what it finds under it.
        let same = Some(("pg-0".to_owned(), 7, 20_000));
        assert_eq!(patroni_holds(dialect, &with_notes(&ours, &[renewed])), same);
    }
    let lease = json!({ "metadata": { "resourceVersion": "1" }, "spec": {
        "holderIdentity": "pg-2", "acquireTime": "2026-11-22T18:08:47.535669Z",
        "renewTime": "2026-11-22T18:08:47.535669Z", "leaseDurationSeconds": 30,
        "leaseTransitions": 3 } });
    assert_eq!(patroni_holds(Dialect::Lease, &lease), None);
}

#[test]
fn a_renewal_of_a_patroni_is_a_change_that_nobody_reads_as_a_time() {
    let record = |renewed: &str| {
        let object = json!({ "metadata": { "uid": "o", "resourceVersion": "215", "annotations": {
            "acquireTime": "2026-11-22T18:08:47.535669+00:00", "leader": "pg-2",
            "renewTime": renewed, "transitions": "4", "ttl": "30",
            "failsafe": "{\"pg-2\":\"http://pg-2:8008/patroni\"}" } } });
        decode(Dialect::Endpoints, Some(&object))
    };
    let (one, two) = (
        record("2026-11-22T18:09:17.444590+00:00"),
        record("2026-11-22T18:09:27.444591+00:00"),
    );
    assert_ne!(one.fields, two.fields);
    let nonces = [&one, &two].map(|lock| lock.held().unwrap().nonce);
    assert!(nonces[0] < nonces[1]);
    let map = one.held().unwrap().failsafe.clone().unwrap();
    assert_eq!(map["pg-2"].api_url, "http://pg-2:8008/patroni");
    assert_eq!(map["pg-2"].pod_uid, "");
}

#[test]
fn an_empty_record_is_a_patronis_release_only_beside_nothing_of_ours() {
    let gone = ("leader", None);
    for dialect in PATRONIS {
        let released = |object: &Value| {
            let state = decode(dialect, Some(object)).state;
            matches!(state, LockState::Released(released) if released.by.is_patronis())
        };
        let first = json!({ "metadata": { "uid": "o", "resourceVersion": "215", "annotations": {
            "acquireTime": "2026-11-22T18:08:47.535669+00:00",
            "renewTime": "2026-11-22T18:09:17.444590+00:00", "transitions": "3", "ttl": "30" } } });
        assert!(released(&first));
        assert!(!released(&with_notes(&first, &[("renewTime", None)])));
        assert!(!released(&with_notes(
            &first,
            &[("transitions", Some("x"))]
        )));
        let ours = stored(dialect, &[LockWrite::Acquire(claim(1))]);
        // A hand that empties our record.
        assert!(!released(&with_notes(&ours, &[gone])));
        let taken_and_given = [
            ("leader", None),
            ("transitions", Some("8")),
            ("acquireTime", Some("2026-11-22T18:15:29.000000+00:00")),
        ];
        assert!(released(&with_notes(&ours, &taken_and_given)));
        let after_ours = stored(dialect, &[LockWrite::Acquire(claim(1)), release()]);
        assert!(released(&with_notes(&after_ours, &taken_and_given)));
        assert!(!released(&after_ours), "our own says more");
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
