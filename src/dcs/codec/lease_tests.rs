use super::*;
use crate::dcs::codec::lease_write::{encode, is_result_of};
use crate::dcs::names::DcsNames;
use crate::ha::lock::{Claim, LockWrite};
use proptest::prelude::*;
use serde_json::json;

fn names() -> DcsNames {
    DcsNames::new("bench", "db", "pg-0", "uid-0")
}

fn now() -> jiff::Timestamp {
    "2026-11-22T18:15:20.383108Z".parse().unwrap()
}

fn claim() -> Claim {
    Claim {
        holder: Identity {
            name: "pg-0".to_owned(),
            pod_uid: "uid-0".to_owned(),
            incarnation: "inc-1".to_owned(),
        },
        epoch: 7,
        ttl_ms: 6000,
        place: Place {
            node: "node-a".to_owned(),
            boot_id: "b".to_owned(),
            ..Place::default()
        },
        nonce: u64::MAX,
        optime: Some(Lsn(67_394_392)),
    }
}

fn release() -> Released {
    Released {
        by: claim().holder,
        epoch: 7,
        ttl_ms: 6000,
        verified: true,
    }
}

/// What a server does with a new object.
fn store(mut object: Value, version: &str) -> Value {
    object["metadata"]["uid"] = json!("object-uid");
    object["metadata"]["resourceVersion"] = json!(version);
    object
}

/// RFC 7386, as the server applies it.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}

fn held_object() -> Value {
    store(
        encode(&names(), &LockWrite::Acquire(claim()), None, now()).unwrap(),
        "10",
    )
}

fn garbled(object: &Value) -> String {
    match decode(Some(object)).state {
        LockState::Garbled { why, .. } => why,
        other => panic!("taken for {other:?}: {object}"),
    }
}

#[test]
fn an_acquired_record_reads_back_whole() {
    let object = held_object();
    let snapshot = decode(Some(&object));
    let held = snapshot.held().expect("it is held").clone();
    let Claim {
        holder,
        epoch,
        ttl_ms,
        place,
        nonce,
        optime,
    } = claim();
    assert_eq!(
        held,
        Held {
            holder,
            epoch,
            ttl_ms,
            acquire_time: "2026-11-22T18:15:20.383108Z".to_owned(),
            nonce,
            place
        }
    );
    assert_eq!(snapshot.optime, optime);
    assert_eq!(snapshot.resource_version.as_deref(), Some("10"));
    assert_eq!(
        object["metadata"]["labels"],
        json!({ "cluster-name": "bench" })
    );
    assert_eq!(object["spec"]["leaseDurationSeconds"], 6);
}

#[test]
fn a_renewal_changes_the_fields_but_neither_acquisition_nor_epoch() {
    let mut object = held_object();
    let before = decode(Some(&object));
    let acquire_time = before.held().unwrap().acquire_time.clone();
    // The same wall clock: the nonce alone must make it a change.
    let claim = Claim {
        nonce: 2,
        ..claim()
    };
    let renew = LockWrite::Renew {
        claim,
        acquire_time,
    };
    let patch = encode(&names(), &renew, Some("10"), now()).unwrap();
    assert_eq!(patch["metadata"]["resourceVersion"], "10");
    merge(&mut object, &patch);
    object["metadata"]["resourceVersion"] = json!("11");
    let after = decode(Some(&object));
    assert_ne!(before.fields, after.fields);
    assert_eq!(
        before.held().unwrap().acquire_time,
        after.held().unwrap().acquire_time
    );
    assert!(is_result_of(&after, &renew));
    assert!(!is_result_of(&before, &renew));
}

#[test]
fn a_changed_version_alone_leaves_the_fields_alone() {
    let mut object = held_object();
    let before = decode(Some(&object));
    object["metadata"]["resourceVersion"] = json!("99");
    object["metadata"]["labels"]["x"] = json!("y");
    object["metadata"]["annotations"]["optime"] = json!("1");
    assert_eq!(before.fields, decode(Some(&object)).fields);
    object["metadata"]["uid"] = json!("another");
    assert_ne!(before.fields, decode(Some(&object)).fields);
}

#[test]
fn a_release_is_read_as_one_and_an_acquisition_removes_it() {
    let mut object = held_object();
    let write = LockWrite::Release {
        release: release(),
        optime: Some(Lsn(9)),
    };
    merge(
        &mut object,
        &encode(&names(), &write, Some("10"), now()).unwrap(),
    );
    assert_eq!(object["spec"].get("holderIdentity"), None);
    let snapshot = decode(Some(&object));
    assert_eq!(snapshot.state, LockState::Released(release()));
    assert_eq!(snapshot.optime, Some(Lsn(9)));
    assert!(is_result_of(&snapshot, &write));

    let next = Claim {
        epoch: 8,
        ..claim()
    };
    merge(
        &mut object,
        &encode(&names(), &LockWrite::Acquire(next), Some("10"), now()).unwrap(),
    );
    assert_eq!(decode(Some(&object)).epoch(), Some(8));
    assert!(decode(Some(&object)).held().is_some());
    assert_eq!(object["metadata"]["annotations"].get(RELEASE), None);
}

#[test]
fn a_released_record_can_be_created() {
    let write = LockWrite::Release {
        release: release(),
        optime: None,
    };
    let object = store(encode(&names(), &write, None, now()).unwrap(), "1");
    assert_eq!(decode(Some(&object)).state, LockState::Released(release()));
}

#[test]
fn absence_is_absent() {
    let snapshot = decode(None);
    assert_eq!(
        (snapshot.state, snapshot.resource_version),
        (LockState::Absent, None)
    );
}

#[test]
fn an_empty_holder_without_a_release_is_garble() {
    let mut object = held_object();
    for empty in [json!(""), Value::Null] {
        object["spec"]["holderIdentity"] = empty;
        assert!(garbled(&object).contains("not released"));
    }
    // client-go's release: an empty holder and a duration of one second.
    object["spec"]["leaseDurationSeconds"] = json!(1);
    garbled(&object);
    assert_eq!(decode(Some(&object)).epoch(), Some(7));
}

#[test]
fn a_release_of_another_epoch_or_ttl_is_garble() {
    let write = LockWrite::Release {
        release: release(),
        optime: None,
    };
    let object = store(encode(&names(), &write, None, now()).unwrap(), "1");
    for (field, value) in [("leaseTransitions", 8), ("leaseDurationSeconds", 1)] {
        let mut edited = object.clone();
        edited["spec"][field] = json!(value);
        garbled(&edited);
    }
}

#[test]
fn an_identity_about_something_else_is_absent() {
    for (field, value, word) in [
        ("holderIdentity", json!("pg-1"), "another leader"),
        (
            "acquireTime",
            json!("2026-11-22T18:15:20.383109Z"),
            "another acquisition",
        ),
        ("leaseTransitions", json!(8), "another epoch"),
    ] {
        let mut object = held_object();
        object["spec"][field] = value;
        let why = garbled(&object);
        assert!(
            why.contains("without an identity of ours") && why.contains(word),
            "{why}"
        );
    }
    let mut object = held_object();
    object["metadata"]["annotations"] = Value::Null;
    assert!(garbled(&object).contains("no annotation"));
}

#[test]
fn a_ttl_edited_by_hand_is_garble() {
    let mut object = held_object();
    object["spec"]["leaseDurationSeconds"] = json!(1);
    assert!(garbled(&object).contains("its writer set 6000 ms"));
    for value in [
        json!(0),
        json!(-30),
        json!(86_401),
        json!(i64::MAX),
        json!(1.5),
        json!("6"),
        json!(null),
    ] {
        object["spec"]["leaseDurationSeconds"] = value;
        assert!(garbled(&object).contains("leaseDurationSeconds is"));
    }
}

#[test]
fn a_server_may_write_the_same_instant_differently() {
    let mut object = held_object();
    object["spec"]["acquireTime"] = json!("2026-11-22T18:15:20.383108+00:00");
    assert!(decode(Some(&object)).held().is_some());
}

#[test]
fn what_the_wire_cannot_carry_is_refused_with_words() {
    let refused = |claim: Claim| {
        encode(&names(), &LockWrite::Acquire(claim), None, now())
            .unwrap_err()
            .to_string()
    };
    assert!(
        refused(Claim {
            epoch: 0,
            ..claim()
        })
        .contains("epoch")
    );
    assert!(
        refused(Claim {
            epoch: 1 << 31,
            ..claim()
        })
        .contains("epoch")
    );
    assert!(
        refused(Claim {
            ttl_ms: 0,
            ..claim()
        })
        .contains("TTL")
    );
    assert!(
        refused(Claim {
            ttl_ms: TTL_MAX_MS + 1,
            ..claim()
        })
        .contains("TTL")
    );
    let mut nameless = claim();
    nameless.holder.incarnation.clear();
    assert!(refused(nameless).contains("incarnation"));
    let renew = LockWrite::Renew {
        claim: claim(),
        acquire_time: "yesterday".to_owned(),
    };
    assert!(encode(&names(), &renew, Some("1"), now()).is_err());
}

fn any_text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[ -~äß\u{0}\"\\\\]{1,12}").unwrap()
}

fn any_claim() -> impl Strategy<Value = Claim> {
    let place = proptest::collection::vec(any_text(), 7).prop_map(|mut texts| Place {
        node: texts.remove(0),
        machine_id: texts.remove(0),
        boot_id: texts.remove(0),
        pid_ns: texts.remove(0),
        volume: texts.remove(0),
        data_dir: texts.remove(0),
        container_id: texts.remove(0),
    });
    let holder =
        (any_text(), any_text(), any_text()).prop_map(|(name, pod_uid, incarnation)| Identity {
            name,
            pod_uid,
            incarnation,
        });
    let numbers = (
        1..=i32::MAX as u64,
        1..=TTL_MAX_MS,
        any::<u64>(),
        any::<Option<u64>>(),
    );
    (holder, place, numbers).prop_map(|(holder, place, (epoch, ttl_ms, nonce, optime))| Claim {
        holder,
        epoch,
        ttl_ms,
        place,
        nonce,
        optime: optime.map(Lsn),
    })
}

/// Values that a hand, a bug or another program may leave in a field.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
        Just(json!("2026-01-01T00:00:00Z")),
        Just(json!("")),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map(any_text(), inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The parts of the record that identify its holder.
const TELLING: [&str; 8] = [
    "/spec/holderIdentity",
    "/spec/acquireTime",
    "/spec/renewTime",
    "/spec/leaseDurationSeconds",
    "/spec/leaseTransitions",
    "/metadata/annotations/pgwarden.io~1identity",
    "/metadata/annotations",
    "/metadata/resourceVersion",
];

proptest! {
    #[test]
    fn every_claim_reads_back(claim in any_claim()) {
        let object = store(encode(&names(), &LockWrite::Acquire(claim.clone()), None, now()).unwrap(), "1");
        let snapshot = decode(Some(&object));
        let held = snapshot.held().cloned();
        prop_assert_eq!(held.as_ref().map(|h| (&h.holder, h.epoch, h.ttl_ms, h.nonce, &h.place)),
            Some((&claim.holder, claim.epoch, claim.ttl_ms, claim.nonce, &claim.place)));
        prop_assert_eq!(snapshot.optime, claim.optime);
    }

    #[test]
    fn garbage_in_one_field_is_never_another_holder(at in 0..TELLING.len(), garbage in any_json()) {
        let mut object = held_object();
        let before = decode(Some(&object));
        *object.pointer_mut(TELLING[at]).unwrap() = garbage;
        let after = decode(Some(&object));
        // Either it is no record of a holder, or the change was none in meaning (renewTime, a version).
        if let Some(held) = after.held() {
            prop_assert_eq!(Some(held), before.held());
        }
        prop_assert!(!matches!(after.state, LockState::Released(_) | LockState::Absent));
    }

    #[test]
    fn a_bent_identity_is_never_held_by_another(at in 0_usize..600, byte in any::<u8>()) {
        let mut object = held_object();
        let before = decode(Some(&object));
        let note = object["metadata"]["annotations"][IDENTITY].as_str().unwrap();
        let mut bytes = note.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes.truncate(at);
        bytes.push(byte);
        object["metadata"]["annotations"][IDENTITY] = json!(String::from_utf8_lossy(&bytes));
        let after = decode(Some(&object));
        prop_assert!(after.held().is_none() || after.held() == before.held());
    }

    #[test]
    fn nothing_panics(object in any_json(), spec in any_json(), notes in any_json()) {
        decode(Some(&object));
        decode(Some(&json!({ "metadata": { "resourceVersion": "1", "annotations": notes }, "spec": spec })));
    }
}
