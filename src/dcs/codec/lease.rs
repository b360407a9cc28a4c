//! The lock object → [`LockSnapshot`]: L1 and L4.
//!
//! Read as a Lease `<scope>`; where the lock lives in annotations, [`annotated`] makes one of them.
//! The spec is what `kubectl` and other tools show; the annotation [`IDENTITY`] says who the holder
//! really is. A record is understood only if both tell the same story; a half-edited one is garble,
//! and garble is waited out, never taken for a release.

use super::object::Meta;
use super::{SCHEMA, annotated, failsafe, patronis};
use crate::dcs::dialect::Dialect;
use crate::ha::lock::{
    EPOCH_BELIEVED_MAX, EPOCH_MAX, Held, LockSnapshot, LockState, Place, Released, WalEnd,
};
use crate::ha::model::{BadLsn, Identity, Lsn, Name, Timeline};
use crate::ha::slots::SlotRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The annotation with the holder's identity.
pub const IDENTITY: &str = "pgwarden.io/identity";
/// The annotation that makes an empty holder a release.
pub const RELEASE: &str = "pgwarden.io/release";
/// The leader's position, decimal, as in Patroni.
pub const OPTIME: &str = "optime";
/// A longer TTL is taken for a typing error: it would forbid every election for that long.
pub const TTL_MAX_MS: u64 = 86_400_000;

/// The annotation [`IDENTITY`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IdentityNote {
    pub(super) schema: u64,
    pub(super) leader: String,
    pub(super) pod_uid: String,
    pub(super) incarnation: String,
    pub(super) acquire_time: String,
    pub(super) transitions: u64,
    pub(super) ttl_ms: u64,
    pub(super) nonce: u64,
    /// Repeated where Patroni may renew under our name and leave this note in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) renew_time: Option<String>,
    #[serde(default)]
    pub(super) place: PlaceNote,
    /// The mark of maintenance mode (G1).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) paused: bool,
    /// The map of failsafe mode (G1): names, and the UIDs of their Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failsafe: Option<BTreeMap<Name, String>>,
    /// Who led last, where that is not the holder; empty: nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) led_last: Option<Name>,
}

/// Where the holder runs; a missing entry is "not known".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PlaceNote {
    node: String,
    machine_id: String,
    boot_id: String,
    pid_ns: String,
    volume: String,
    data_dir: String,
    #[serde(rename = "containerID")]
    container_id: String,
}

/// The annotation [`RELEASE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReleaseNote {
    pub(super) schema: u64,
    pub(super) leader: String,
    pub(super) pod_uid: String,
    pub(super) incarnation: String,
    pub(super) transitions: u64,
    pub(super) ttl_ms: u64,
    pub(super) verified: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) led_last: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<EndNote>,
}

/// Where the released WAL ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EndNote {
    timeline: Timeline,
    lsn: String,
}

impl From<WalEnd> for EndNote {
    fn from(end: WalEnd) -> Self {
        Self {
            timeline: end.timeline,
            lsn: end.lsn.to_string(),
        }
    }
}

impl TryFrom<EndNote> for WalEnd {
    type Error = BadLsn;

    fn try_from(note: EndNote) -> Result<Self, BadLsn> {
        Ok(Self {
            timeline: note.timeline,
            lsn: note.lsn.parse()?,
        })
    }
}

impl From<&Place> for PlaceNote {
    fn from(place: &Place) -> Self {
        let Place {
            node,
            machine_id,
            boot_id,
            pid_ns,
            volume,
            data_dir,
            container_id,
        } = place.clone();
        Self {
            node,
            machine_id,
            boot_id,
            pid_ns,
            volume,
            data_dir,
            container_id,
        }
    }
}

impl From<PlaceNote> for Place {
    fn from(note: PlaceNote) -> Self {
        let PlaceNote {
            node,
            machine_id,
            boot_id,
            pid_ns,
            volume,
            data_dir,
            container_id,
        } = note;
        Self {
            node,
            machine_id,
            boot_id,
            pid_ns,
            volume,
            data_dir,
            container_id,
        }
    }
}

/// What the lock object of this dialect says; `None`: there is no object.
pub fn decode(dialect: Dialect, object: Option<&Value>) -> LockSnapshot {
    let Some(object) = object else {
        let fields = "absent".to_owned();
        return LockSnapshot {
            resource_version: None,
            fields,
            state: LockState::Absent,
            optime: None,
            slots: SlotRecord::default(),
        };
    };
    let bare = annotated::is_bare(dialect, object, &[IDENTITY, RELEASE]);
    let lease = annotated::as_lease(dialect, object);
    let object = &*lease;
    let meta = Meta::of(object);
    let epoch = object["spec"]["leaseTransitions"].as_u64();
    let epoch = epoch.filter(|epoch| *epoch <= EPOCH_BELIEVED_MAX);
    let state = match state(&object["spec"], &meta, &object["metadata"]["annotations"]) {
        _ if bare && meta.version().is_some() => LockState::Absent,
        Ok(state) => state,
        Err(why) => {
            let why = annotated::in_words(dialect, why);
            let theirs = patronis::read(dialect, &object["spec"], &meta);
            theirs.unwrap_or(LockState::Garbled { why, epoch })
        }
    };
    LockSnapshot {
        resource_version: meta.version(),
        fields: fields(object),
        state,
        optime: meta
            .note(OPTIME)
            .and_then(|text| text.parse().ok())
            .map(Lsn),
        slots: super::slots::record(&meta),
    }
}

/// The lock fields as the spec of a Lease, whatever the dialect.
pub fn spec(dialect: Dialect, object: &Value) -> Value {
    annotated::as_lease(dialect, object)["spec"].clone()
}

/// Some lock fields, as the spec of a Lease has them, as a change of the lock object.
pub fn change(dialect: Dialect, spec: &Value) -> Value {
    annotated::as_change(dialect, spec)
}

/// All lock fields of L1 as one text, for equality only. The release annotation belongs to them: it
/// decides what an empty holder means.
fn fields(object: &Value) -> String {
    let (meta, spec) = (&object["metadata"], &object["spec"]);
    let notes = &meta["annotations"];
    serde_json::json!([
        meta["uid"],
        spec["holderIdentity"],
        spec["acquireTime"],
        spec["renewTime"],
        spec["leaseDurationSeconds"],
        spec["leaseTransitions"],
        notes[IDENTITY],
        notes[RELEASE],
    ])
    .to_string()
}

fn state(spec: &Value, meta: &Meta, raw_notes: &Value) -> Result<LockState, String> {
    if meta.version().is_none() {
        return Err("metadata.resourceVersion is missing".to_owned());
    }
    for name in [IDENTITY, RELEASE] {
        if !matches!(raw_notes[name], Value::Null | Value::String(_)) {
            return Err(format!("annotation {name} is not a text"));
        }
    }
    let holder = match &spec["holderIdentity"] {
        Value::Null => "",
        Value::String(name) => name.as_str(),
        other => return Err(format!("holderIdentity is {other}, not a text")),
    };
    let seconds = duration(spec)?;
    let epoch = match spec["leaseTransitions"].as_u64() {
        Some(epoch) if epoch > 0 && epoch < EPOCH_MAX => epoch,
        _ => {
            return Err(format!(
                "leaseTransitions is {}; right is a count below {EPOCH_MAX}",
                spec["leaseTransitions"]
            ));
        }
    };
    if holder.is_empty() {
        return released(spec, meta, seconds, epoch);
    }
    held(spec, meta, holder, seconds, epoch)
}

/// leaseDurationSeconds, if it can be a D.
pub(super) fn duration(spec: &Value) -> Result<u64, String> {
    let raw = &spec["leaseDurationSeconds"];
    match raw.as_u64() {
        Some(seconds) if seconds > 0 && seconds <= TTL_MAX_MS / 1000 => Ok(seconds),
        _ => Err(format!(
            "leaseDurationSeconds is {raw}; right is 1 to {}",
            TTL_MAX_MS / 1000
        )),
    }
}

/// D as our annotation repeats it; the spec carries it rounded up to seconds.
fn same_ttl(ttl_ms: u64, seconds: u64) -> Result<(), String> {
    if ttl_ms > 0 && ttl_ms.div_ceil(1000) == seconds {
        return Ok(());
    }
    Err(format!(
        "leaseDurationSeconds is {seconds}, but its writer set {ttl_ms} ms"
    ))
}

fn held(
    spec: &Value,
    meta: &Meta,
    holder: &str,
    seconds: u64,
    epoch: u64,
) -> Result<LockState, String> {
    let acquire_time = instant(spec, "acquireTime")?;
    let renew_time = instant(spec, "renewTime")?;
    let stranger = |why: &str| format!("\"{holder}\" holds it without an identity of ours: {why}");
    let raw = meta
        .note(IDENTITY)
        .ok_or_else(|| stranger("no annotation"))?;
    let note: IdentityNote = serde_json::from_str(raw)
        .map_err(|error| stranger(&format!("annotation unreadable: {error}")))?;
    if note.schema != SCHEMA {
        return Err(stranger(&format!(
            "schema {} instead of {SCHEMA}",
            note.schema
        )));
    }
    // L1: an annotation about another holder, acquisition or epoch is a left-over, not a statement.
    if note.leader != holder {
        return Err(stranger("the annotation names another leader"));
    }
    if instant_of(&note.acquire_time) != instant_of(acquire_time) {
        return Err(stranger("the annotation is about another acquisition"));
    }
    if note.transitions != epoch {
        return Err(stranger("the annotation is about another epoch"));
    }
    let renewed = note.renew_time.as_deref().map(instant_of);
    if renewed.is_some_and(|renewed| renewed != instant_of(renew_time)) {
        return Err(stranger("somebody else renewed it"));
    }
    if note.pod_uid.is_empty() || note.incarnation.is_empty() {
        return Err(stranger("pod UID or incarnation is empty"));
    }
    same_ttl(note.ttl_ms, seconds)?;
    let map = |uids| failsafe::with_addresses(meta, uids);
    let led_last = note.led_last.unwrap_or_else(|| note.leader.clone());
    Ok(LockState::Held(Held {
        led_last: Some(led_last).filter(|name| !name.is_empty()),
        holder: Identity {
            name: note.leader,
            pod_uid: note.pod_uid,
            incarnation: note.incarnation,
        },
        epoch,
        ttl_ms: note.ttl_ms,
        acquire_time: acquire_time.to_owned(),
        nonce: note.nonce,
        place: note.place.into(),
        paused: note.paused,
        failsafe: note.failsafe.map(map),
    }))
}

fn released(spec: &Value, meta: &Meta, seconds: u64, epoch: u64) -> Result<LockState, String> {
    let empty = |why: &str| format!("nobody holds it, but it was not released: {why}");
    for field in ["acquireTime", "renewTime"] {
        if !spec[field].is_null() {
            instant(spec, field)?;
        }
    }
    let raw = meta
        .note(RELEASE)
        .ok_or_else(|| empty("no release annotation"))?;
    let note: ReleaseNote = serde_json::from_str(raw)
        .map_err(|error| empty(&format!("annotation unreadable: {error}")))?;
    if note.schema != SCHEMA {
        return Err(empty(&format!(
            "schema {} instead of {SCHEMA}",
            note.schema
        )));
    }
    if note.transitions != epoch {
        return Err(empty("the annotation is about another epoch"));
    }
    if note.leader.is_empty() || note.pod_uid.is_empty() || note.incarnation.is_empty() {
        return Err(empty("the annotation does not say by whom"));
    }
    same_ttl(note.ttl_ms, seconds)?;
    let end = note.end.map(WalEnd::try_from).transpose();
    let end = end.map_err(|error| empty(&format!("its end is no position: {error}")))?;
    Ok(LockState::Released(Released {
        by: Identity {
            name: note.leader,
            pod_uid: note.pod_uid,
            incarnation: note.incarnation,
        },
        epoch,
        ttl_ms: note.ttl_ms,
        verified: note.verified,
        led_last: note.led_last,
        end,
    }))
}

/// A timestamp of the spec, as text; it is checked for form and never compared with a clock.
fn instant<'a>(spec: &'a Value, field: &str) -> Result<&'a str, String> {
    let raw = &spec[field];
    raw.as_str()
        .filter(|text| instant_of(text).is_some())
        .ok_or_else(|| format!("{field} is {raw}, not a time"))
}

/// The instant a text means, to the microsecond: a server may write the same one differently.
pub(super) fn instant_of(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_microsecond)
}

#[cfg(test)]
#[path = "lease_tests.rs"]
pub(super) mod tests;

#[cfg(test)]
#[path = "lease_fuzz.rs"]
mod fuzz;
