//! The environment under Patroni's names (contract §3.5): it wins over the file, so that pods take
//! passwords from a Secret, and operators set what differs from pod to pod.
//!
//! A variable is its key in capitals after `PATRONI_` and the section's name; the table says where
//! the sections are. Empty variables count as unset.

use super::known::USER_KEYS;
use super::problem::Problem;
use super::raw::{Node, Place, Value};
use super::resolve::Env;
use super::section::Problems;
use super::yaml;
use std::sync::Arc;

/// Variables of one prefix whose keys are below one path.
struct Group {
    prefix: &'static str,
    path: &'static [&'static str],
    keys: &'static [&'static str],
}

const fn group(
    prefix: &'static str,
    path: &'static [&'static str],
    keys: &'static [&'static str],
) -> Group {
    Group { prefix, path, keys }
}

const LOGIN: &[&str] = &["username", "password"];

const GROUPS: [Group; 14] = [
    group(
        "",
        &[],
        &[
            "name",
            "namespace",
            "scope",
            "thread_pool_size",
            "thread_stack_size",
        ],
    ),
    group(
        "LOG_",
        &["log"],
        &[
            "type",
            "level",
            "traceback_level",
            "format",
            "dateformat",
            "static_fields",
            "max_queue_size",
            "dir",
            "mode",
            "file_num",
            "file_size",
            "loggers",
            "deduplicate_heartbeat_logs",
        ],
    ),
    group("RESTAPI_", &["restapi", "authentication"], LOGIN),
    group(
        "RESTAPI_",
        &["restapi"],
        &[
            "listen",
            "connect_address",
            "certfile",
            "keyfile",
            "keyfile_password",
            "cafile",
            "ciphers",
            "verify_client",
            "allowlist",
            "allowlist_include_members",
            "http_extra_headers",
            "https_extra_headers",
            "request_queue_size",
            "server_tokens",
        ],
    ),
    group("CTL_", &["ctl", "authentication"], LOGIN),
    group(
        "CTL_",
        &["ctl"],
        &[
            "insecure",
            "cacert",
            "certfile",
            "keyfile",
            "keyfile_password",
        ],
    ),
    group(
        "POSTGRESQL_",
        &["postgresql"],
        &[
            "listen",
            "connect_address",
            "proxy_address",
            "config_dir",
            "data_dir",
            "pgpass",
            "bin_dir",
        ],
    ),
    group(
        "POSTGRESQL_BIN_",
        &["postgresql", "bin_name"],
        &[
            "pg_ctl",
            "initdb",
            "pg_controldata",
            "pg_basebackup",
            "postgres",
            "pg_isready",
            "pg_rewind",
        ],
    ),
    group(
        "SUPERUSER_",
        &["postgresql", "authentication", "superuser"],
        USER_KEYS,
    ),
    group(
        "REPLICATION_",
        &["postgresql", "authentication", "replication"],
        USER_KEYS,
    ),
    group(
        "REWIND_",
        &["postgresql", "authentication", "rewind"],
        USER_KEYS,
    ),
    group(
        "KUBERNETES_",
        &["kubernetes"],
        &[
            "namespace",
            "labels",
            "scope_label",
            "role_label",
            "leader_label_value",
            "follower_label_value",
            "standby_leader_label_value",
            "tmp_role_label",
            "bootstrap_labels",
            "use_endpoints",
            "pod_ip",
            "ports",
            "cacert",
            "bypass_api_service",
            "retriable_http_codes",
            "context",
        ],
    ),
    group("CITUS_", &["citus"], &["group", "database"]),
    // The names of before Patroni 2.
    group("LOG", &["log"], &["level", "format"]),
];

/// Values that are more than a text: YAML, of which JSON is a part.
const STRUCTURED: [&str; 7] = [
    "labels",
    "bootstrap_labels",
    "ports",
    "static_fields",
    "loggers",
    "http_extra_headers",
    "https_extra_headers",
];

/// Every variable that is read, and the path of its key.
fn variables() -> impl Iterator<Item = (String, Vec<&'static str>)> {
    GROUPS.iter().flat_map(|group| {
        group.keys.iter().map(|key| {
            let name = format!("PATRONI_{}{}", group.prefix, key.to_uppercase());
            let path = group.path.iter().chain([key]).copied().collect();
            (name, path)
        })
    })
}

/// Lays the variables that are set, and not empty, over what the file says.
pub(super) fn overlay(node: &mut Node, env: Env<'_>, out: &Problems) {
    // The older name first: the newer one wins.
    let mut all: Vec<_> = variables().collect();
    all.reverse();
    for (variable, path) in all {
        let Some(text) = env(&variable).filter(|text| !text.is_empty()) else {
            continue;
        };
        let file: Arc<str> = Arc::from(format!("environment {variable}"));
        let place = Place {
            file: Some(Arc::clone(&file)),
            line: 0,
        };
        let last = path.last().copied().unwrap_or_default();
        let value = if STRUCTURED.contains(&last) {
            match yaml::parse(text.as_bytes()) {
                Ok(mut value) => {
                    value.belongs_to(&file);
                    value
                }
                Err(bad) => {
                    let message = format!("{}; expected YAML or JSON", bad.message);
                    out.push(Problem::error(path.join("."), message).at(&place));
                    continue;
                }
            }
        } else {
            Node {
                place: place.clone(),
                value: Value::Text(text),
            }
        };
        let nested = path.iter().rev().fold(value, |inner, key| Node {
            place: place.clone(),
            value: Value::Map(vec![((*key).to_owned(), inner)]),
        });
        node.merge(nested);
    }
}

#[cfg(test)]
mod tests {
    use super::super::known;
    use super::*;

    #[test]
    fn every_variable_names_a_known_key_once() {
        let mut seen = std::collections::BTreeSet::new();
        for (variable, path) in variables() {
            assert!(seen.insert(variable.clone()), "{variable} twice");
            let (last, above) = path.split_last().expect("a path has an end");
            let above = above.join(".");
            if above == "citus" {
                continue;
            }
            let known = known::children(&above);
            let open = above == "postgresql.bin_name";
            assert!(
                open || known.iter().any(|(name, _, _)| name == last),
                "{variable}: {above}.{last}"
            );
        }
    }
}
