use super::*;
use crate::dcs::codec::lease_write::{encode, is_result_of};
use crate::dcs::names::DcsNames;
use crate::ha::lock::{Claim, FailsafeMap, LockWrite, Mapped};
use serde_json::json;

/// As the most tests here mean it; the other dialects' are in `annotated_tests.rs`.
pub(super) fn decode(object: Option<&Value>) -> LockSnapshot {
    super::decode(Dialect::Lease, object)
}

pub(super) fn names() -> DcsNames {
    DcsNames::new("bench", "db", "pg-0", "uid-0")
}

pub(in crate::dcs::codec) fn now() -> jiff::Timestamp {
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
        slots: crate::dcs::codec::slots::tests::some(),
        paused: true,
        failsafe: Some(map()),
        led_last: Some("pg-9".to_owned()),
    }
}

fn map() -> FailsafeMap {
    let mapped = |name: &str| {
        let mapped = Mapped {
            pod_uid: format!("uid of {name}"),
            api_url: format!("http://{name}:8008/patroni"),
        };
        (name.to_owned(), mapped)
    };
    ["pg-0", "pg-1"].map(mapped).into()
}

fn release() -> Released {
    Released {
        by: claim().holder,
        epoch: 7,
        ttl_ms: 6000,
        verified: true,
        led_last: Some("pg-0".to_owned()),
        end: Some(WalEnd {
            timeline: 3,
            lsn: Lsn(0x1_0300_0028),
        }),
    }
}

/// A stored release whose annotation was changed.
fn released_with(edit: impl FnOnce(&mut Value)) -> Value {
    let write = LockWrite::Release {
        release: release(),
        optime: None,
    };
    let mut object = store(encode(&names(), &write, None, now()).unwrap(), "1");
    let note = object["metadata"]["annotations"][RELEASE].as_str().unwrap();
    let mut note: Value = serde_json::from_str(note).unwrap();
    edit(&mut note);
    object["metadata"]["annotations"][RELEASE] = json!(note.to_string());
    object
}

#[test]
fn a_release_may_leave_out_where_its_wal_ends() {
    let without = released_with(|note| {
        assert_eq!(note["end"], json!({"timeline": 3, "lsn": "1/3000028"}));
        note.as_object_mut().unwrap().remove("end");
    });
    let expected = Released {
        end: None,
        ..release()
    };
    assert_eq!(decode(Some(&without)).state, LockState::Released(expected));
    let wrong = released_with(|note| note["end"]["lsn"] = json!("far"));
    assert!(garbled(&wrong).contains("\"far\" is not an LSN"));
}

/// What a server does with a new object.
pub(super) fn store(mut object: Value, version: &str) -> Value {
    object["metadata"]["uid"] = json!("object-uid");
    object["metadata"]["resourceVersion"] = json!(version);
    object
}

/// RFC 7386, as the server applies it.
pub(in crate::dcs::codec) fn merge(target: &mut Value, patch: &Value) {
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

pub(super) fn held_object() -> Value {
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
    let Claim {
        holder,
        epoch,
        ttl_ms,
        place,
        nonce,
        optime,
        slots,
        paused,
        failsafe,
        led_last,
    } = claim();
    assert_eq!(
        *snapshot.held().expect("it is held"),
        Held {
            holder,
            epoch,
            ttl_ms,
            acquire_time: "2026-11-22T18:15:20.383108Z".to_owned(),
            nonce,
            place,
            paused,
            failsafe,
            led_last,
        }
    );
    let urls = json!({ "pg-0": "http://pg-0:8008/patroni", "pg-1": "http://pg-1:8008/patroni" });
    let shown = object["metadata"]["annotations"]["failsafe"].as_str();
    assert_eq!(shown, Some(urls.to_string().as_str()), "as Patroni's");
    assert_eq!((snapshot.optime, snapshot.slots), (optime, slots));
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

#[test]
fn an_epoch_that_leaves_none_to_claim_does_not_count() {
    // Found by an attack: the greatest count in a damaged record ended every later election.
    for epoch in [i64::from(i32::MAX), (1 << 30) + 1] {
        let mut object = held_object();
        object["spec"]["leaseTransitions"] = json!(epoch);
        let LockState::Garbled { epoch, .. } = decode(Some(&object)).state else {
            panic!("{epoch} transitions are no record of a holder");
        };
        assert_eq!(epoch, None);
    }
}
