//! The subsets of the lock's Endpoints object: the route where Patroni keeps it (contract §1.4).
//!
//! Lock and route are one object here, so a compare-and-swap of the one is one of the other:
//! whoever reads its own epoch in the object and swaps exactly that version never replaces a later
//! leader's route (L7).

use super::lease;
use super::object::Meta;
use super::route::{RouteTarget, covers};
use crate::dcs::dialect::Dialect;
use crate::dcs::names::DcsNames;
use serde_json::{Value, json};

/// What to do about the stored object.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// It leads there already.
    Nothing,
    /// The lock is not mine under this epoch: hands off.
    NotMine,
    /// Swap it: a merge PATCH.
    Patch(Value),
}

/// Compare the stored object with the wanted route; `None`: nobody leads.
pub fn plan(names: &DcsNames, stored: &Value, epoch: u64, target: Option<&RouteTarget>) -> Plan {
    if !is_mine(names, stored, epoch) {
        return Plan::NotMine;
    }
    let wanted = target.map(|target| subset(names, target));
    let wanted = json!(wanted.into_iter().flatten().collect::<Vec<_>>());
    if covers(&stored["subsets"], &wanted) {
        return Plan::Nothing;
    }
    let version = Meta::of(stored).resource_version;
    Plan::Patch(json!({ "metadata": { "resourceVersion": version }, "subsets": wanted }))
}

/// The lock in this object, or in the ConfigMap, is held by this member under this epoch.
pub fn is_mine(names: &DcsNames, stored: &Value, epoch: u64) -> bool {
    let lock = lease::decode(names.dialect, Some(stored));
    lock.held().is_some_and(|held| {
        (&held.holder.name, held.epoch) == (&names.pod_name, epoch)
            && (names.pod_uid.is_empty() || held.holder.pod_uid == names.pod_uid)
    })
}

/// One subset with one address, as Patroni writes it; an address that is not known is no address.
fn subset(names: &DcsNames, target: &RouteTarget) -> Option<Value> {
    debug_assert_eq!(names.dialect, Dialect::Endpoints, "only they have subsets");
    let mut address = json!({
        "ip": target.ips.first()?.to_string(),
        "targetRef": target.reference(names),
    });
    if let Some(node) = &target.node_name {
        address["nodeName"] = json!(node);
    }
    let ports: Vec<Value> = names.ports.iter().map(port).collect();
    Some(json!({ "addresses": [address], "ports": ports }))
}

fn port(port: &crate::dcs::RoutePort) -> Value {
    let mut value = json!({ "port": port.port, "protocol": "TCP" });
    if !port.name.is_empty() {
        value["name"] = json!(port.name);
    }
    value
}

#[cfg(test)]
#[path = "subsets_tests.rs"]
mod tests;
