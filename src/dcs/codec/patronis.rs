//! What a live Patroni wrote into the lock object (L10): the five annotations and none of ours.
//!
//! Read only where our own reading has failed. Patroni leaves foreign annotations in place, so an
//! identity of ours may stand beside its record: it has to be of an earlier acquisition, or else a
//! hand has edited our own record, and a damaged record is nobody's.

use super::failsafe;
use super::lease::{IDENTITY, IdentityNote, RELEASE, ReleaseNote, duration, instant_of};
use super::object::Meta;
use crate::dcs::dialect::Dialect;
use crate::ha::lock::{EPOCH_BELIEVED_MAX, Held, LockState, Place, Released};
use crate::ha::model::Identity;
use serde_json::Value;

/// The record as the spec of a Lease would say it, read as a Patroni's; `None`: it is none.
pub(super) fn read(dialect: Dialect, spec: &Value, meta: &Meta) -> Option<LockState> {
    // There is no Patroni that knows Leases.
    if dialect == Dialect::Lease || meta.version().is_none() {
        return None;
    }
    let epoch = spec["leaseTransitions"].as_u64();
    let epoch = epoch.filter(|epoch| *epoch <= EPOCH_BELIEVED_MAX)?;
    let ttl_ms = duration(spec).ok()? * 1000;
    let acquire_time = spec["acquireTime"].as_str()?;
    let times = (
        instant_of(acquire_time)?,
        instant_of(spec["renewTime"].as_str()?)?,
    );
    let holder = match &spec["holderIdentity"] {
        Value::Null => "",
        Value::String(name) => name,
        _ => return None,
    };
    let earlier = |found: Option<u64>| found.is_some_and(|found| found < epoch);
    let mut past = true;
    if let Some(raw) = meta.note(IDENTITY) {
        let note: IdentityNote = serde_json::from_str(raw).ok()?;
        past = is_past(&note, holder, epoch, times);
    }
    if let Some(raw) = meta.note(RELEASE) {
        let note: Option<ReleaseNote> = serde_json::from_str(raw).ok();
        past &= earlier(note.map(|note| note.transitions));
    }
    if !past {
        return None;
    }
    if holder.is_empty() {
        return Some(LockState::Released(Released {
            by: Identity::of_patroni(String::new()),
            epoch,
            ttl_ms,
            verified: true,
            led_last: None,
            end: None,
        }));
    }
    Some(LockState::Held(Held {
        led_last: Some(holder.to_owned()),
        holder: Identity::of_patroni(holder.to_owned()),
        epoch,
        ttl_ms,
        acquire_time: acquire_time.to_owned(),
        // What changes with every renewal; no instant to anybody.
        nonce: u64::try_from(times.1).ok()?,
        place: Place::default(),
        paused: false,
        failsafe: failsafe::of_patroni(meta),
    }))
}

/// An identity of ours says nothing of this record: another member has acquired the lock since, in
/// a later epoch; or a Patroni of the same name goes on with it, which keeps all but the renewal.
fn is_past(note: &IdentityNote, holder: &str, epoch: u64, times: (i64, i64)) -> bool {
    let renewed = note.renew_time.as_deref().and_then(instant_of);
    let same = instant_of(&note.acquire_time) == Some(times.0);
    let by_name = holder.is_empty() || holder == note.leader;
    let went_on = note.transitions == epoch && same && by_name && renewed != Some(times.1);
    went_on || (note.transitions < epoch && !same)
}
