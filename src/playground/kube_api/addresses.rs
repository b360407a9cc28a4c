//! Endpoints and EndpointSlices: addresses that traffic may be sent to, and their ports.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::kinds::{items, text};
use super::names;
use super::status::Cause;
use super::validate::{Relaxed, note};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const ADDRESS_TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];

pub(super) fn endpoints(
    object: &Value,
    before: Option<&Value>,
    relaxed: Relaxed,
    causes: &mut Vec<Cause>,
) {
    // Addresses that were stored once are not looked at again.
    if before.is_some_and(|it| it["subsets"] == object["subsets"]) {
        return;
    }
    for (index, subset) in items(object, "subsets") {
        let path = format!("subsets[{index}]");
        let lists = ["addresses", "notReadyAddresses"];
        if lists
            .iter()
            .all(|list| items(subset, list).next().is_none())
        {
            let must = "must specify `addresses` or `notReadyAddresses`";
            causes.push(Cause::required(path.clone(), must));
        }
        for list in lists {
            for (at, address) in items(subset, list) {
                let path = format!("{path}.{list}[{at}]");
                let hostname = text(address, "hostname");
                if !hostname.is_empty() {
                    let field = format!("{path}.hostname");
                    note(causes, field, hostname, names::dns_label(hostname));
                }
                ip(&format!("{path}.ip"), text(address, "ip"), relaxed, causes);
            }
        }
        ports(
            subset,
            &path,
            items(subset, "ports").count() > 1,
            true,
            causes,
        );
    }
}

pub(super) fn slice(
    object: &Value,
    before: Option<&Value>,
    relaxed: Relaxed,
    causes: &mut Vec<Cause>,
) {
    let family = text(object, "addressType");
    if family.is_empty() {
        causes.push(Cause::required("addressType", ""));
    } else if !ADDRESS_TYPES.contains(&family) {
        causes.push(Cause::unsupported("addressType", family, &ADDRESS_TYPES));
    }
    ports(object, "", false, false, causes);
    if before.is_none_or(|it| it["endpoints"] != object["endpoints"]) {
        for (index, endpoint) in items(object, "endpoints") {
            slice_endpoint(
                &format!("endpoints[{index}]"),
                endpoint,
                family,
                relaxed,
                causes,
            );
        }
    }
    if before.is_some_and(|it| it["addressType"] != object["addressType"]) {
        causes.push(Cause::invalid(
            "addressType",
            &family.into(),
            "field is immutable",
        ));
    }
}

fn slice_endpoint(
    path: &str,
    endpoint: &Value,
    family: &str,
    relaxed: Relaxed,
    causes: &mut Vec<Cause>,
) {
    let list = format!("{path}.addresses");
    if items(endpoint, "addresses").next().is_none() {
        causes.push(Cause::required(
            list.clone(),
            "must contain at least 1 address",
        ));
    }
    for (index, address) in items(endpoint, "addresses") {
        let address = address.as_str().unwrap_or_default();
        let field = format!("{list}[{index}]");
        match family {
            "FQDN" => note(causes, field, address, names::dns_subdomain(address)),
            "IPv4" | "IPv6" => {
                if let Some(parsed) = ip(&field, address, relaxed, causes)
                    && parsed.is_ipv4() != (family == "IPv4")
                {
                    let must = format!("must be an {family} address");
                    causes.push(Cause::invalid(list.clone(), &address.into(), &must));
                }
            }
            // Refused already; what it should look like nobody knows.
            _ => {}
        }
    }
    let hostname = text(endpoint, "hostname");
    if !hostname.is_empty() {
        note(
            causes,
            format!("{path}.hostname"),
            hostname,
            names::dns_label(hostname),
        );
    }
}

fn ports(object: &Value, path: &str, named: bool, numbered: bool, causes: &mut Vec<Cause>) {
    let mut seen = Vec::new();
    for (index, port) in items(object, "ports") {
        let path = if path.is_empty() {
            "ports".to_owned()
        } else {
            format!("{path}.ports")
        };
        let path = format!("{path}[{index}]");
        let name = text(port, "name");
        if !name.is_empty() {
            note(causes, format!("{path}.name"), name, names::dns_label(name));
        } else if named {
            causes.push(Cause::required(format!("{path}.name"), ""));
        }
        if !numbered && seen.contains(&name) {
            let message = "duplicate port name";
            causes.push(Cause::invalid(
                format!("{path}.name"),
                &name.into(),
                message,
            ));
        }
        seen.push(name);
        let number = port["port"].as_i64().unwrap_or_default();
        if numbered && !(1..=65535).contains(&number) {
            let must = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("{path}.port"), &number.into(), must));
        }
        let protocol = text(port, "protocol");
        if !PROTOCOLS.contains(&protocol) {
            causes.push(Cause::unsupported(
                format!("{path}.protocol"),
                protocol,
                &PROTOCOLS,
            ));
        }
    }
}

/// An address that traffic may be sent to; the answer is for further checks.
fn ip(field: &str, address: &str, relaxed: Relaxed, causes: &mut Vec<Cause>) -> Option<IpAddr> {
    let Ok(parsed) = address.parse::<IpAddr>() else {
        let must = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        causes.push(Cause::invalid(field, &address.into(), must));
        return None;
    };
    let (link_local, link_local_multicast) = match parsed {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (
            v6.segments()[0] & 0xffc0 == 0xfe80,
            v6.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    let wrong = if parsed.is_unspecified() {
        format!("may not be unspecified ({address})")
    } else if parsed.is_loopback() && !relaxed.loopback {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
    } else if link_local_multicast {
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
    } else {
        return Some(parsed);
    };
    causes.push(Cause::invalid(field, &address.into(), &wrong));
    None
}

/// The address a Service of this name gets: fixed by its name, so that a run can be repeated.
pub(super) fn cluster_ip(namespace: &str, name: &str) -> String {
    let mut hash: u32 = 2_166_136_261;
    for byte in namespace.bytes().chain([b'/']).chain(name.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    }
    let host = (hash % 65_000) as u16 + 100;
    let [high, low] = host.to_be_bytes();
    Ipv4Addr::new(10, 96, high, low).to_string()
}
