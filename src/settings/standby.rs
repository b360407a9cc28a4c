//! `standby_cluster` of the dynamic configuration: whom a whole cluster follows.

use super::section::Section;
use serde::Serialize;
use std::collections::BTreeMap;

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
}

/// Settings of a standby leader's server.
const RECOVERY: [&str; 3] = [
    "restore_command",
    "archive_cleanup_command",
    "recovery_min_apply_delay",
];

/// Patroni's rule: it is one as soon as a host, a port or a `restore_command` is given. One that is
/// wrong is no reason to become writable: the one in force stays.
pub(super) fn standby_cluster(
    section: &Section<'_>,
    kept: Option<&StandbyCluster>,
) -> Option<StandbyCluster> {
    if !section.has("standby_cluster") {
        return None;
    }
    let given = section.section("standby_cluster");
    // What cannot be obeyed must not make the cluster writable: it follows nobody.
    let wrong = || kept.cloned().or_else(|| Some(StandbyCluster::default()));
    if !given.present() {
        return wrong();
    }
    let text = |key: &str| given.text(key, "a text that is not empty");
    let recovery: BTreeMap<String, String> = RECOVERY
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), text(key)?)))
        .collect();
    let (host, slot) = (text("host"), text("primary_slot_name"));
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
    })
}
