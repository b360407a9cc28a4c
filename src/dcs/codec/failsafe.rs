//! The map of failsafe mode in the lock object: who may take the lock by its age.
//!
//! The identity annotation says whose Pods they are, and decides; Patroni's annotation `failsafe`
//! says where they are asked. Anybody may edit the addresses: who answers there has to say who it
//! is.

use super::object::Meta;
use crate::ha::lock::{FailsafeMap, Mapped};
use crate::ha::model::Name;
use serde_json::json;
use std::collections::BTreeMap;

/// Names and REST addresses, compact JSON, as in Patroni.
pub(super) const ADDRESSES: &str = "failsafe";

pub(super) fn uids(map: &FailsafeMap) -> BTreeMap<Name, String> {
    let uids = map.iter();
    uids.map(|(name, mapped)| (name.clone(), mapped.pod_uid.clone()))
        .collect()
}

pub(super) fn addresses(map: &FailsafeMap) -> String {
    let urls = map.iter();
    let urls: BTreeMap<&Name, &String> =
        urls.map(|(name, mapped)| (name, &mapped.api_url)).collect();
    json!(urls).to_string()
}

/// The map that a Patroni wrote: names and addresses are all it knows.
pub(super) fn of_patroni(meta: &Meta) -> Option<FailsafeMap> {
    let urls: BTreeMap<Name, String> = serde_json::from_str(meta.note(ADDRESSES)?).ok()?;
    let mapped = |(name, api_url)| {
        let pod_uid = String::new();
        (name, Mapped { pod_uid, api_url })
    };
    Some(urls.into_iter().map(mapped).collect())
}

pub(super) fn with_addresses(meta: &Meta, uids: BTreeMap<Name, String>) -> FailsafeMap {
    let raw = meta.note(ADDRESSES).unwrap_or_default();
    let mut urls: BTreeMap<Name, String> = serde_json::from_str(raw).unwrap_or_default();
    let mapped = |(name, pod_uid): (Name, String)| {
        let api_url = urls.remove(&name).unwrap_or_default();
        (name, Mapped { pod_uid, api_url })
    };
    uids.into_iter().map(mapped).collect()
}
