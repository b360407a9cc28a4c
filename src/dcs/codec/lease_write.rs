//! [`LockWrite`] → the body of the request: the other half of [`super::lease`].

use super::lease::{
    EndNote, IDENTITY, IdentityNote, OPTIME, PlaceNote, RELEASE, ReleaseNote, TTL_MAX_MS,
};
use super::lease::{decode, instant_of};
use super::object::{Notes, create_body, patch_body};
use super::{EncodeError, SCHEMA, annotated, failsafe, slots};
use crate::dcs::dialect::Dialect;
use crate::dcs::names::DcsNames;
use crate::ha::lock::{Claim, EPOCH_MAX, LockSnapshot, LockState, LockWrite, Released};
use crate::ha::model::Lsn;
use serde_json::{Value, json};

/// The body of the request: a merge PATCH that swaps version `expect`, or without it a new object.
///
/// `now` is the wall clock, for people: no reader interprets it. It and the nonce make every
/// renewal a real change (L2).
pub fn encode(
    names: &DcsNames,
    write: &LockWrite,
    expect: Option<&str>,
    now: jiff::Timestamp,
) -> Result<Value, EncodeError> {
    let now = format!("{now:.6}");
    let patronis = names.dialect != Dialect::Lease;
    let (mut notes, spec) = match write {
        LockWrite::Acquire(claim) => claimed(claim, &now, &now, patronis)?,
        LockWrite::Renew {
            claim,
            acquire_time,
        } => claimed(claim, acquire_time, &now, patronis)?,
        LockWrite::Release { release, optime } => given_up(release, *optime, &now)?,
    };
    if patronis {
        annotated::into_notes(&spec, &mut notes);
    }
    let mut body = match expect {
        Some(version) => patch_body(names, &notes, Some(version)),
        None => create_body(names, names.dialect.lock().kind, &names.lock_name(), &notes),
    };
    // L7: whoever had the route has it no more, and the new holder is not promoted yet.
    if names.dialect == Dialect::Endpoints && !matches!(write, LockWrite::Renew { .. }) {
        body["subsets"] = json!([]);
    }
    if patronis {
        return Ok(body);
    }
    body["spec"] = spec;
    if expect.is_none()
        && let Some(spec) = body["spec"].as_object_mut()
    {
        spec.retain(|_, value| !value.is_null());
    }
    Ok(body)
}

/// The record is the one this write asked for: what a lost answer is looked up by.
pub fn is_result_of(snapshot: &LockSnapshot, write: &LockWrite) -> bool {
    match (write, &snapshot.state) {
        (LockWrite::Acquire(claim) | LockWrite::Renew { claim, .. }, LockState::Held(held)) => {
            held.holder == claim.holder && held.epoch == claim.epoch && held.nonce == claim.nonce
        }
        (LockWrite::Release { release, .. }, LockState::Released(stored)) => stored == release,
        _ => false,
    }
}

/// What the object in an answer says.
pub fn decode_answer(dialect: Dialect, object: &Value) -> LockSnapshot {
    decode(dialect, Some(object))
}

/// `patronis`: readers and writers of Patroni may be about.
fn claimed(
    claim: &Claim,
    acquire_time: &str,
    now: &str,
    patronis: bool,
) -> Result<(Notes, Value), EncodeError> {
    let Claim {
        holder,
        epoch,
        ttl_ms,
        place,
        nonce,
        optime,
        slots,
        paused,
        failsafe: map,
        led_last,
    } = claim;
    let seconds = seconds(*ttl_ms)?;
    check_epoch(*epoch)?;
    for (field, text) in [
        ("name", &holder.name),
        ("pod UID", &holder.pod_uid),
        ("incarnation", &holder.incarnation),
    ] {
        if text.is_empty() {
            return Err(EncodeError {
                field,
                why: "is empty; a holder must be named".to_owned(),
            });
        }
    }
    if instant_of(acquire_time).is_none() {
        let why = format!("\"{acquire_time}\" is not a time");
        return Err(EncodeError {
            field: "acquireTime",
            why,
        });
    }
    let note = IdentityNote {
        schema: SCHEMA,
        leader: holder.name.clone(),
        pod_uid: holder.pod_uid.clone(),
        incarnation: holder.incarnation.clone(),
        acquire_time: acquire_time.to_owned(),
        transitions: *epoch,
        ttl_ms: *ttl_ms,
        nonce: *nonce,
        renew_time: patronis.then(|| now.to_owned()),
        place: PlaceNote::from(place),
        paused: *paused,
        failsafe: map.as_ref().map(failsafe::uids),
        led_last: (led_last.as_ref() != Some(&holder.name))
            .then(|| led_last.clone().unwrap_or_default()),
    };
    let mut notes: Notes = vec![
        (IDENTITY, Some(json!(note).to_string())),
        (RELEASE, None),
        (failsafe::ADDRESSES, map.as_ref().map(failsafe::addresses)),
    ];
    notes.extend(slots::notes(slots));
    add_optime(&mut notes, *optime);
    let spec = json!({
        "holderIdentity": holder.name,
        "acquireTime": acquire_time,
        "renewTime": now,
        "leaseDurationSeconds": seconds,
        "leaseTransitions": epoch,
    });
    Ok((notes, spec))
}

fn given_up(
    release: &Released,
    optime: Option<Lsn>,
    now: &str,
) -> Result<(Notes, Value), EncodeError> {
    let Released {
        by,
        epoch,
        ttl_ms,
        verified,
        led_last,
        end,
    } = release;
    let seconds = seconds(*ttl_ms)?;
    check_epoch(*epoch)?;
    let note = ReleaseNote {
        schema: SCHEMA,
        leader: by.name.clone(),
        pod_uid: by.pod_uid.clone(),
        incarnation: by.incarnation.clone(),
        transitions: *epoch,
        ttl_ms: *ttl_ms,
        verified: *verified,
        led_last: led_last.clone(),
        end: end.map(EndNote::from),
    };
    let mut notes: Notes = vec![(RELEASE, Some(json!(note).to_string())), (IDENTITY, None)];
    add_optime(&mut notes, optime);
    // Null, not "": newer API servers refuse an empty holderIdentity.
    let spec = json!({
        "holderIdentity": null,
        "renewTime": now,
        "leaseDurationSeconds": seconds,
        "leaseTransitions": epoch,
    });
    Ok((notes, spec))
}

/// A position that is not known leaves the stored one in place.
fn add_optime(notes: &mut Notes, optime: Option<Lsn>) {
    if let Some(lsn) = optime {
        notes.push((OPTIME, Some(lsn.0.to_string())));
    }
}

fn seconds(ttl_ms: u64) -> Result<u64, EncodeError> {
    if ttl_ms == 0 || ttl_ms > TTL_MAX_MS {
        let why = format!("{ttl_ms} ms cannot be a TTL; right is 1 to {TTL_MAX_MS}");
        return Err(EncodeError { field: "ttl", why });
    }
    Ok(ttl_ms.div_ceil(1000))
}

fn check_epoch(epoch: u64) -> Result<(), EncodeError> {
    if epoch == 0 || epoch > EPOCH_MAX {
        let why = format!("{epoch} cannot be an epoch; right is 1 to {EPOCH_MAX}");
        return Err(EncodeError {
            field: "leaseTransitions",
            why,
        });
    }
    Ok(())
}
