//! `standby_cluster` of the dynamic configuration: whom a whole cluster follows.

use super::dynamic::Dynamic;
use super::raw::Value;
use super::section::{Section, describe};
use super::slots::is_slot_name;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// `standby_cluster`: the primary of another cluster that this one follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StandbyCluster {
    /// `host`; `None`: the WAL comes from an archive alone.
    pub host: Option<String>,
    /// `port`.
    pub port: u16,
    /// `primary_slot_name`: a slot that somebody made over there.
    pub primary_slot_name: Option<String>,
    /// `restore_command`, `archive_cleanup_command`, `recovery_min_apply_delay`: settings of the
    /// standby leader alone.
    pub recovery: BTreeMap<String, String>,
    /// `create_replica_methods`: how the first copy is made; empty: from the host.
    pub create_replica_methods: Vec<String>,
}

/// Settings of a standby leader's server.
const RECOVERY: [&str; 3] = ["restore_command", "archive_cleanup_command", DELAY];
const DELAY: &str = "recovery_min_apply_delay";

/// A number of milliseconds, or with PostgreSQL's unit.
fn is_delay(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[number.len()..];
    let number = number.trim();
    !number.is_empty()
        && number.chars().all(|c| c.is_ascii_digit() || c == '.')
        && ["", "us", "ms", "s", "min", "h", "d"].contains(&unit)
}

/// `::ffff:10.0.0.1` is `10.0.0.1`, and every spelling of one IPv6 address is that address.
fn canonical(host: &str) -> String {
    let one = |part: &str| {
        let part = part.trim();
        let ip = part.trim_matches(['[', ']']).parse::<IpAddr>();
        ip.map_or_else(|_| part.to_owned(), |ip| ip.to_canonical().to_string())
    };
    let parts: Vec<String> = host.split(',').map(one).collect();
    parts.join(",")
}

/// What names a machine: addresses and names, several of them between commas.
fn is_host(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:%/@".contains(c);
    let named = |part: &str| !part.is_empty() && part.len() <= 253 && part.chars().all(fits);
    text.split(',').map(str::trim).all(named)
}

/// Patroni's rule: it is one as soon as a host, a port or a `restore_command` is given. One that is
/// wrong is no reason to become writable: the one in force stays.
pub(super) fn standby_cluster(section: &Section<'_>, fallback: &Dynamic) -> Option<StandbyCluster> {
    if !section.has("standby_cluster") {
        return None;
    }
    let given = section.section("standby_cluster");
    // What cannot be obeyed takes no running primary down; and where nothing is known of before, it
    // must not make the cluster writable: it follows nobody.
    let kept = fallback.standby_cluster.as_ref();
    let wrong = || match kept {
        None if !fallback.stored => Some(StandbyCluster::default()),
        kept => kept.cloned(),
    };
    if !given.present() {
        return wrong();
    }
    let text = |key: &str| given.text(key, "a text that is not empty");
    let recovery: BTreeMap<String, String> = RECOVERY
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), text(key)?)))
        .collect();
    for key in ["host", "restore_command", "archive_cleanup_command"] {
        if let Some(number) = given
            .get(key)
            .filter(|node| matches!(node.value, Value::Int(_)))
        {
            let words = format!("found {}; expected a text", describe(&number.value));
            given.error(key, words);
            return wrong();
        }
    }
    let (host, slot) = (
        text("host").map(|host| canonical(&host)),
        text("primary_slot_name"),
    );
    let port = given.integer("port", 1, 65_535);
    let follows = ["host", "port", "restore_command"].map(|key| given.has(key));
    match follows {
        [false, false, false] => return None,
        [false, true, false] => {
            let words = "a port without a host; expected the address of the remote primary";
            given.error("host", words);
            return wrong();
        }
        _ => {}
    }
    if let Some(host) = host.as_ref().filter(|host| !is_host(host)) {
        let words = format!("found {host:.60?}; expected an address, or the name of a machine");
        given.error("host", words);
        return wrong();
    }
    if let Some(slot) = &slot
        && !is_slot_name(slot)
    {
        let words = format!("found {slot:?}; expected 1 to 63 small letters, digits, underscores");
        given.error("primary_slot_name", words);
        return wrong();
    }
    if let Some(delay) = recovery.get(DELAY)
        && !is_delay(delay)
    {
        let words = format!("found {delay:?}; expected a time, as 500 (milliseconds) or \"5min\"");
        given.error(DELAY, words);
        return wrong();
    }
    if (given.has("host") && host.is_none()) || (given.has("port") && port.is_none()) {
        return wrong();
    }
    Some(StandbyCluster {
        host,
        port: port
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(5432),
        primary_slot_name: slot,
        recovery,
        create_replica_methods: given.lines("create_replica_methods").unwrap_or_default(),
    })
}
