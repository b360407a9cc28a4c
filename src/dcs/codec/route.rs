//! EndpointSlices of the leader Service: one per address family, with the epoch of their writer
//! (L7).

use super::object::Meta;
use crate::dcs::names::DcsNames;
use serde_json::{Value, json};
use std::net::IpAddr;

/// The annotation with the epoch of the writer.
pub const EPOCH: &str = "pgwarden.io/epoch";
/// The API group and kind.
pub const KIND: (&str, &str) = ("discovery.k8s.io/v1", "EndpointSlice");
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const MANAGER_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "pgwarden.io";

/// An address family: the type of an EndpointSlice cannot be changed, so each has its own object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The object's name.
    pub fn object_name(self, scope: &str) -> String {
        match self {
            Self::V4 => format!("{scope}-pgwarden-ipv4"),
            Self::V6 => format!("{scope}-pgwarden-ipv6"),
        }
    }

    fn address_type(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn holds(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == (self == Self::V4)
    }
}

/// Where the leader's clients go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTarget {
    /// The pod's addresses, of one or two families.
    pub ips: Vec<IpAddr>,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's UID.
    pub pod_uid: String,
    /// Its node.
    pub node_name: Option<String>,
}

impl RouteTarget {
    /// The pod, as an address of either kind of object names it.
    pub(super) fn reference(&self, names: &DcsNames) -> Value {
        json!({
            "kind": "Pod",
            "name": self.pod_name,
            "namespace": names.namespace,
            "uid": self.pod_uid,
        })
    }
}

/// Selects every slice of the leader Service.
pub fn of_service(scope: &str) -> String {
    format!("{SERVICE_LABEL}={scope}")
}

/// The names of slices in this list that are not ours and lead somewhere.
pub fn strays(scope: &str, list: &Value) -> Vec<String> {
    let items = list["items"].as_array().map(Vec::as_slice);
    let leads = |slice: &&Value| {
        let endpoints = slice["endpoints"].as_array();
        endpoints.is_some_and(|endpoints| !endpoints.is_empty())
    };
    let names = items.unwrap_or_default().iter().filter(leads);
    let names = names.filter_map(|slice| slice["metadata"]["name"].as_str());
    let ours = Family::ALL.map(|family| family.object_name(scope));
    names
        .filter(|name| !ours.iter().any(|own| own == name))
        .map(str::to_owned)
        .collect()
}

/// What to do about a slice.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// It is as it should be.
    Nothing,
    /// A later leader wrote it: hands off.
    HigherEpoch(u64),
    /// Create it.
    Create(Value),
    /// Swap it: a merge PATCH.
    Patch(Value),
}

/// Compare the stored slice with the wanted route.
pub fn plan(
    names: &DcsNames,
    family: Family,
    stored: Option<&Value>,
    epoch: u64,
    target: Option<&RouteTarget>,
) -> Plan {
    let stored_epoch = stored.and_then(epoch_of);
    if let Some(higher) = stored_epoch.filter(|stored_epoch| *stored_epoch > epoch) {
        return Plan::HigherEpoch(higher);
    }
    repair(names, family, stored, epoch, target)
}

fn epoch_of(slice: &Value) -> Option<u64> {
    Meta::of(slice).note(EPOCH)?.parse().ok()
}

/// The same whatever epoch the slice carries: for one whose epoch is known to be nobody's.
pub fn repair(
    names: &DcsNames,
    family: Family,
    stored: Option<&Value>,
    epoch: u64,
    target: Option<&RouteTarget>,
) -> Plan {
    let endpoints = endpoints(names, family, target);
    let Some(stored) = stored else {
        // Nothing to withdraw from, and a family without an address needs no object.
        return if endpoints.is_empty() {
            Plan::Nothing
        } else {
            Plan::Create(whole(names, family, epoch, &endpoints, true))
        };
    };
    let meta = Meta::of(stored);
    let wanted = whole(names, family, epoch, &endpoints, false);
    if epoch_of(stored) == Some(epoch) && covers(stored, &wanted) {
        return Plan::Nothing;
    }
    let mut patch = wanted;
    patch["metadata"]["resourceVersion"] = json!(meta.resource_version);
    Plan::Patch(patch)
}

/// Every field of `wanted` is in `stored` with the same value; lists in full. Null and missing are
/// equal, so are fields the server adds.
pub(super) fn covers(stored: &Value, wanted: &Value) -> bool {
    match (stored, wanted) {
        (Value::Object(stored), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| covers(stored.get(key).unwrap_or(&Value::Null), value)),
        (Value::Array(stored), Value::Array(wanted)) => {
            stored.len() == wanted.len() && stored.iter().zip(wanted).all(|(s, w)| covers(s, w))
        }
        // A server may leave an empty list out.
        (Value::Null, Value::Array(wanted)) => wanted.is_empty(),
        (stored, wanted) => stored == wanted,
    }
}

fn endpoints(names: &DcsNames, family: Family, target: Option<&RouteTarget>) -> Vec<Value> {
    let Some(target) = target else {
        return Vec::new();
    };
    let addresses: Vec<String> = target
        .ips
        .iter()
        .filter(|ip| family.holds(**ip))
        .map(ToString::to_string)
        .collect();
    // One address each: consumers use only the first of a list.
    addresses
        .iter()
        .map(|address| {
            let mut endpoint = json!({
                "addresses": [address],
                "conditions": { "ready": true },
                "targetRef": target.reference(names),
            });
            if let Some(node) = &target.node_name {
                endpoint["nodeName"] = json!(node);
            }
            endpoint
        })
        .collect()
}

fn whole(names: &DcsNames, family: Family, epoch: u64, endpoints: &[Value], create: bool) -> Value {
    let mut labels = names.object_labels();
    labels.insert(SERVICE_LABEL.to_owned(), names.scope.clone());
    labels.insert(MANAGER_LABEL.to_owned(), MANAGER.to_owned());
    let ports: Vec<Value> = names
        .ports
        .iter()
        .map(|port| json!({ "name": port.name, "port": port.port, "protocol": "TCP" }))
        .collect();
    let mut slice = json!({
        "metadata": { "labels": labels, "annotations": { EPOCH: epoch.to_string() } },
        "endpoints": endpoints,
        "ports": ports,
    });
    if create {
        slice["apiVersion"] = json!(KIND.0);
        slice["kind"] = json!(KIND.1);
        slice["metadata"]["name"] = json!(family.object_name(&names.scope));
        slice["metadata"]["namespace"] = json!(names.namespace);
        slice["addressType"] = json!(family.address_type());
    }
    slice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> DcsNames {
        DcsNames::new("bench", "db", "pg-0", "u0")
    }

    fn target() -> RouteTarget {
        RouteTarget {
            ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            pod_name: "pg-0".to_owned(),
            pod_uid: "u0".to_owned(),
            node_name: Some("node-a".to_owned()),
        }
    }

    fn created(family: Family, epoch: u64) -> Value {
        let Plan::Create(mut slice) = plan(&names(), family, None, epoch, Some(&target())) else {
            panic!("nothing stored: it is created")
        };
        slice["metadata"]["resourceVersion"] = json!("5");
        slice
    }

    #[test]
    fn each_family_has_its_own_slice() {
        let v4 = created(Family::V4, 3);
        assert_eq!(v4["addressType"], "IPv4");
        assert_eq!(v4["endpoints"][0]["addresses"], json!(["10.0.0.1"]));
        assert_eq!(
            v4["metadata"]["labels"]["kubernetes.io/service-name"],
            "bench"
        );
        assert_eq!(v4["metadata"]["name"], "bench-pgwarden-ipv4");
        let v6 = created(Family::V6, 3);
        assert_eq!(v6["endpoints"].as_array().unwrap().len(), 1);
        assert_eq!(v6["endpoints"][0]["addresses"], json!(["fd00::1"]));
    }

    #[test]
    fn a_higher_epoch_is_never_replaced_not_even_to_withdraw() {
        let stored = created(Family::V4, 4);
        for wish in [Some(&target()), None] {
            assert_eq!(
                plan(&names(), Family::V4, Some(&stored), 3, wish),
                Plan::HigherEpoch(4)
            );
        }
    }

    #[test]
    fn the_same_route_is_not_written_again_and_a_disturbed_one_is_repaired() {
        let mut stored = created(Family::V4, 3);
        stored["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        let again = plan(&names(), Family::V4, Some(&stored), 3, Some(&target()));
        assert_eq!(again, Plan::Nothing);
        stored["endpoints"][0]["addresses"] = json!(["10.0.0.9"]);
        let Plan::Patch(patch) = plan(&names(), Family::V4, Some(&stored), 3, Some(&target()))
        else {
            panic!("a foreign address must be repaired")
        };
        assert_eq!(patch["metadata"]["resourceVersion"], "5");
        assert_eq!(patch["endpoints"][0]["addresses"], json!(["10.0.0.1"]));
        assert_eq!(
            patch["addressType"],
            Value::Null,
            "the type cannot be changed"
        );
    }

    #[test]
    fn withdrawing_empties_what_is_there_and_creates_nothing() {
        let stored = created(Family::V4, 3);
        let Plan::Patch(patch) = plan(&names(), Family::V4, Some(&stored), 3, None) else {
            panic!("the address must go")
        };
        assert_eq!(patch["endpoints"], json!([]));
        assert_eq!(plan(&names(), Family::V4, None, 3, None), Plan::Nothing);
        let mut empty = stored;
        empty["endpoints"] = Value::Null;
        assert_eq!(
            plan(&names(), Family::V4, Some(&empty), 3, None),
            Plan::Nothing
        );
    }

    #[test]
    fn a_new_epoch_is_written_even_if_the_address_is_the_same() {
        let stored = created(Family::V4, 3);
        let next = plan(&names(), Family::V4, Some(&stored), 4, Some(&target()));
        assert!(matches!(next, Plan::Patch(_)));
    }
}
