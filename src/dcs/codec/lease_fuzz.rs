//! Any claim survives the way through the object; no object breaks the reader.

use super::tests::{held_object, names, now, store};
use super::*;
use crate::dcs::codec::lease_write::encode;
use crate::dcs::names::DcsNames;
use crate::ha::lock::{Claim, LockWrite, Mapped};
use proptest::prelude::*;
use serde_json::json;

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
        any::<bool>(),
        proptest::option::of(any_text()),
    );
    let mapped =
        (any_text(), any_text()).prop_map(|(pod_uid, api_url)| Mapped { pod_uid, api_url });
    let failsafe = proptest::option::of(proptest::collection::btree_map(any_text(), mapped, 0..5));
    let claims = (holder, place, numbers, failsafe);
    claims.prop_map(
        |(holder, place, (epoch, ttl_ms, nonce, optime, paused, led_last), failsafe)| Claim {
            holder,
            epoch,
            ttl_ms,
            place,
            nonce,
            optime: optime.map(Lsn),
            slots: crate::ha::slots::SlotRecord::default(),
            paused,
            failsafe,
            led_last: led_last.filter(|name: &String| !name.is_empty()),
        },
    )
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
        for dialect in Dialect::ALL {
            let names = DcsNames { dialect, ..names() };
            let write = LockWrite::Acquire(claim.clone());
            let object = store(encode(&names, &write, None, now()).unwrap(), "1");
            let snapshot = decode(dialect, Some(&object));
            let held = snapshot.held().cloned();
            prop_assert_eq!(held.as_ref().map(|h| (&h.holder, h.epoch, h.ttl_ms, h.nonce, &h.place)),
                Some((&claim.holder, claim.epoch, claim.ttl_ms, claim.nonce, &claim.place)));
            prop_assert_eq!(snapshot.optime, claim.optime);
        }
    }

    #[test]
    fn garbage_in_one_field_is_never_another_holder(at in 0..TELLING.len(), garbage in any_json()) {
        let mut object = held_object();
        let before = decode(Dialect::Lease, Some(&object));
        *object.pointer_mut(TELLING[at]).unwrap() = garbage;
        let after = decode(Dialect::Lease, Some(&object));
        // Either it is no record of a holder, or the change was none in meaning (renewTime, a
        // version).
        if let Some(held) = after.held() {
            prop_assert_eq!(Some(held), before.held());
        }
        prop_assert!(!matches!(after.state, LockState::Released(_) | LockState::Absent));
    }

    #[test]
    fn a_bent_identity_is_never_held_by_another(at in 0_usize..600, byte in any::<u8>()) {
        let mut object = held_object();
        let before = decode(Dialect::Lease, Some(&object));
        let note = object["metadata"]["annotations"][IDENTITY].as_str().unwrap();
        let mut bytes = note.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes.truncate(at);
        bytes.push(byte);
        object["metadata"]["annotations"][IDENTITY] = json!(String::from_utf8_lossy(&bytes));
        let after = decode(Dialect::Lease, Some(&object));
        prop_assert!(after.held().is_none() || after.held() == before.held());
    }

    #[test]
    fn nothing_panics(object in any_json(), spec in any_json(), notes in any_json()) {
        for dialect in Dialect::ALL {
            decode(dialect, Some(&object));
            decode(dialect, Some(&json!({ "metadata": { "resourceVersion": "1", "annotations": notes } })));
        }
        decode(Dialect::Lease, Some(&json!({ "metadata": { "resourceVersion": "1", "annotations": notes }, "spec": spec })));
    }
}

#[test]
fn a_map_edited_by_hand_names_nobody_new_and_loses_addresses_at_most() {
    for edited in ["{", "[]", r#"{"pg-0": 1}"#, r#"{"pg-9": "http://x"}"#, ""] {
        let mut object = held_object();
        object["metadata"]["annotations"]["failsafe"] = json!(edited);
        let snapshot = decode(Dialect::Lease, Some(&object));
        let held = snapshot.held().expect("it is held");
        let map = held.failsafe.clone().expect("a map");
        let uids: Vec<&str> = map.values().map(|mapped| mapped.pod_uid.as_str()).collect();
        assert_eq!(uids, ["uid of pg-0", "uid of pg-1"], "{edited}");
        assert!(
            map.values().all(|mapped| mapped.api_url.is_empty()),
            "{edited}"
        );
    }
}
