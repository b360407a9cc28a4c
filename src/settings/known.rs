//! Every key that is known: of which kind, and whether this version uses it. The table is the one
//! place that says so; the warnings, the nearest-name hints and the tests of the JSON schema read it.

use Kind::{Any, Bool, Int, List, Open, Section, Text};
use Status::{Ignored, Later, Refused, Used};

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A map whose keys are in the table.
    Section,
    /// A map with keys of the user's choice.
    Open,
    Text,
    Bool,
    Int,
    List,
    /// More than one shape is accepted.
    Any,
}

/// What this version does with a key, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Used,
    /// Has no meaning here and never will.
    Ignored(&'static str),
    /// Patroni knows it, this version does not yet; running without it is safe.
    Later(&'static str),
    /// As above, but running without it would break a promise: refused.
    Refused(&'static str),
}

/// One known key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) status: Status,
}

const fn key(path: &'static str, kind: Kind, status: Status) -> Key {
    Key { path, kind, status }
}

const TLS: &str = "the interface would answer without TLS where the file asks for it; remove the \
                   key and put TLS in front, or wait for the release that has it";
const ALLOW: &str = "requests would be answered that the file wants refused; remove the key and \
                     use restapi.authentication or a NetworkPolicy";
const OTHER_DCS: &str = "the lock lives in Kubernetes only; remove the section";
const SCRIPT: &str = "no command is run for it";

const TOP: &[Key] = &[
    key("scope", Text, Used),
    key("name", Text, Used),
    key(
        "namespace",
        Text,
        Ignored("it is a path prefix of other stores; see kubernetes.namespace"),
    ),
    key(
        "thread_pool_size",
        Any,
        Ignored("there is no pool of threads"),
    ),
    key(
        "thread_stack_size",
        Any,
        Ignored("there is no pool of threads"),
    ),
    key("etcd", Any, Ignored(OTHER_DCS)),
    key("etcd3", Any, Ignored(OTHER_DCS)),
    key("consul", Any, Ignored(OTHER_DCS)),
    key("zookeeper", Any, Ignored(OTHER_DCS)),
    key("exhibitor", Any, Ignored(OTHER_DCS)),
    key("raft", Any, Ignored(OTHER_DCS)),
    key(
        "citus",
        Any,
        Refused("the member would not join its Citus group; remove the section"),
    ),
    key("tags", Open, Used),
    key(
        "watchdog",
        Any,
        Ignored("the guardian process fences PostgreSQL, no device is needed"),
    ),
];

const PGWARDEN: &[Key] = &[
    key("pgwarden", Section, Used),
    key("pgwarden.renew_ms", Int, Used),
    key("pgwarden.call_ms", Int, Used),
    key("pgwarden.election_ms", Int, Used),
    key("pgwarden.fast_stop_ms", Int, Used),
    key("pgwarden.immediate_stop_ms", Int, Used),
    key("pgwarden.kill_ms", Int, Used),
    key("pgwarden.kill_budget_ms", Int, Used),
];

const LOG: &[Key] = &[
    key("log", Section, Used),
    key("log.type", Text, Used),
    key("log.level", Text, Used),
    key(
        "log.traceback_level",
        Text,
        Ignored("errors carry their causes in one line"),
    ),
    key("log.format", Any, Ignored("the format follows log.type")),
    key("log.dateformat", Text, Ignored("times are RFC 3339")),
    key(
        "log.static_fields",
        Open,
        Later("add them where the lines are collected"),
    ),
    key(
        "log.max_queue_size",
        Int,
        Ignored("lines are written at once"),
    ),
    key("log.dir", Text, Later("lines go to standard error")),
    key("log.mode", Any, Later("lines go to standard error")),
    key("log.file_num", Int, Later("lines go to standard error")),
    key("log.file_size", Int, Later("lines go to standard error")),
    key(
        "log.loggers",
        Open,
        Ignored("the loggers of Python are not here"),
    ),
    key(
        "log.deduplicate_heartbeat_logs",
        Bool,
        Ignored("only changes are logged"),
    ),
];

const RESTAPI: &[Key] = &[
    key("restapi", Section, Used),
    key("restapi.listen", Text, Used),
    key("restapi.connect_address", Text, Used),
    key("restapi.authentication", Section, Used),
    key("restapi.authentication.username", Text, Used),
    key("restapi.authentication.password", Text, Used),
    key("restapi.certfile", Text, Refused(TLS)),
    key("restapi.keyfile", Text, Refused(TLS)),
    key("restapi.keyfile_password", Text, Refused(TLS)),
    key("restapi.cafile", Text, Refused(TLS)),
    key("restapi.ciphers", Text, Refused(TLS)),
    key("restapi.verify_client", Text, Refused(TLS)),
    key("restapi.allowlist", Any, Refused(ALLOW)),
    key("restapi.allowlist_include_members", Bool, Refused(ALLOW)),
    key(
        "restapi.http_extra_headers",
        Open,
        Later("answers carry only the usual headers"),
    ),
    key(
        "restapi.https_extra_headers",
        Open,
        Later("answers carry only the usual headers"),
    ),
    key(
        "restapi.request_queue_size",
        Int,
        Ignored("the queue follows the system"),
    ),
    key(
        "restapi.server_tokens",
        Text,
        Ignored("no Server header is sent"),
    ),
    key("ctl", Section, Used),
    key("ctl.authentication", Section, Used),
    key("ctl.authentication.username", Text, Used),
    key("ctl.authentication.password", Text, Used),
    key(
        "ctl.insecure",
        Bool,
        Later("members are asked over plain HTTP"),
    ),
    key(
        "ctl.cacert",
        Text,
        Later("members are asked over plain HTTP"),
    ),
    key(
        "ctl.certfile",
        Text,
        Later("members are asked over plain HTTP"),
    ),
    key(
        "ctl.keyfile",
        Text,
        Later("members are asked over plain HTTP"),
    ),
    key(
        "ctl.keyfile_password",
        Text,
        Later("members are asked over plain HTTP"),
    ),
];

const KUBERNETES: &[Key] = &[
    key("kubernetes", Section, Used),
    key("kubernetes.lock", Text, Used),
    key("kubernetes.use_endpoints", Bool, Used),
    key("kubernetes.namespace", Text, Used),
    key("kubernetes.labels", Open, Used),
    key("kubernetes.scope_label", Text, Used),
    key("kubernetes.role_label", Text, Used),
    key("kubernetes.leader_label_value", Text, Used),
    key("kubernetes.follower_label_value", Text, Used),
    key(
        "kubernetes.standby_leader_label_value",
        Text,
        Later("there are no standby clusters yet"),
    ),
    key(
        "kubernetes.tmp_role_label",
        Text,
        Later("only role_label is written"),
    ),
    key(
        "kubernetes.bootstrap_labels",
        Open,
        Later("only role_label is written"),
    ),
    key("kubernetes.pod_ip", Text, Used),
    key("kubernetes.pod_uid", Text, Used),
    key("kubernetes.ports", List, Used),
    key("kubernetes.cacert", Text, Used),
    key("kubernetes.kubeconfig", Text, Used),
    key("kubernetes.context", Text, Used),
    key(
        "kubernetes.bypass_api_service",
        Bool,
        Later("the API is reached through its Service"),
    ),
    key(
        "kubernetes.retriable_http_codes",
        Any,
        Ignored("every answer has its meaning built in"),
    ),
];

const BOOTSTRAP: &[Key] = &[
    key("bootstrap", Section, Used),
    key("bootstrap.method", Text, Used),
    key("bootstrap.initdb", Any, Used),
    key("bootstrap.pg_hba", List, Used),
    key(
        "bootstrap.users",
        Any,
        Ignored("Patroni 4 removed it too; create users with SQL"),
    ),
    key("bootstrap.post_bootstrap", Text, Later(SCRIPT)),
    key("bootstrap.post_init", Text, Later(SCRIPT)),
    key("bootstrap.dcs", Section, Used),
    key("bootstrap.dcs.ttl", Int, Used),
    key("bootstrap.dcs.loop_wait", Int, Used),
    key("bootstrap.dcs.retry_timeout", Int, Used),
    key("bootstrap.dcs.maximum_lag_on_failover", Int, Used),
    key("bootstrap.dcs.maximum_lag_on_syncnode", Int, Used),
    key(
        "bootstrap.dcs.max_timelines_history",
        Int,
        Later("the whole history is kept"),
    ),
    key("bootstrap.dcs.primary_start_timeout", Int, Used),
    key("bootstrap.dcs.master_start_timeout", Int, Used),
    key("bootstrap.dcs.primary_stop_timeout", Int, Used),
    key("bootstrap.dcs.master_stop_timeout", Int, Used),
    key(
        "bootstrap.dcs.primary_race_backoff",
        Int,
        Later("every eligible replica races at once"),
    ),
    key("bootstrap.dcs.synchronous_mode", Any, Used),
    key("bootstrap.dcs.synchronous_mode_strict", Bool, Used),
    key("bootstrap.dcs.synchronous_node_count", Int, Used),
    key(
        "bootstrap.dcs.failsafe_mode",
        Bool,
        Later("a primary cut from the API stops in time"),
    ),
    key("bootstrap.dcs.check_timeline", Bool, Used),
    key(
        "bootstrap.dcs.member_slots_ttl",
        Any,
        Later("slots of missing members follow the agent"),
    ),
    key(
        "bootstrap.dcs.pause",
        Bool,
        Later("there is no maintenance mode yet"),
    ),
    key(
        "bootstrap.dcs.slots",
        Open,
        Later("permanent slots are not managed; create them by SQL"),
    ),
    key(
        "bootstrap.dcs.permanent_slots",
        Open,
        Later("permanent slots are not managed"),
    ),
    key(
        "bootstrap.dcs.permanent_replication_slots",
        Open,
        Later("they are not managed"),
    ),
    key(
        "bootstrap.dcs.ignore_slots",
        List,
        Later("slots of others are never touched"),
    ),
    key(
        "bootstrap.dcs.standby_cluster",
        Open,
        Refused("a writable cluster would start where a standby cluster is wanted"),
    ),
    key("bootstrap.dcs.postgresql", Section, Used),
];

/// Keys of `postgresql`, of which some may stand in `bootstrap.dcs.postgresql` as well.
const POSTGRESQL: &[Key] = &[
    key("postgresql", Section, Used),
    key("postgresql.listen", Text, Used),
    key("postgresql.connect_address", Text, Used),
    key(
        "postgresql.proxy_address",
        Text,
        Later("the address of a proxy is not published"),
    ),
    key("postgresql.data_dir", Text, Used),
    key(
        "postgresql.config_dir",
        Text,
        Refused("the configuration lives in data_dir; remove it"),
    ),
    key("postgresql.bin_dir", Text, Used),
    key("postgresql.bin_name", Open, Used),
    key("postgresql.pgpass", Text, Used),
    key("postgresql.database", Text, Used),
    key("postgresql.authentication", Section, Used),
    key("postgresql.authentication.superuser", Section, Used),
    key("postgresql.authentication.replication", Section, Used),
    key("postgresql.authentication.rewind", Section, Used),
    key("postgresql.callbacks", Open, Later(SCRIPT)),
    key("postgresql.create_replica_methods", List, Used),
    key("postgresql.create_replica_method", List, Used),
    key("postgresql.basebackup", Any, Used),
    key("postgresql.parameters", Open, Used),
    key("postgresql.pg_hba", List, Used),
    key("postgresql.pg_ident", List, Used),
    key(
        "postgresql.recovery_conf",
        Open,
        Later("restore_command belongs into parameters"),
    ),
    key(
        "postgresql.custom_conf",
        Text,
        Later("use postgresql.parameters"),
    ),
    key(
        "postgresql.config_base_name",
        Text,
        Later("it is postgresql.conf"),
    ),
    key("postgresql.pg_ctl_timeout", Int, Used),
    key("postgresql.use_pg_rewind", Bool, Used),
    key("postgresql.use_slots", Bool, Used),
    key(
        "postgresql.remove_data_directory_on_rewind_failure",
        Bool,
        Used,
    ),
    key(
        "postgresql.remove_data_directory_on_diverged_timelines",
        Bool,
        Used,
    ),
    key("postgresql.use_unix_socket", Bool, Used),
    key(
        "postgresql.use_unix_socket_repl",
        Bool,
        Later("replicas connect over TCP"),
    ),
    key("postgresql.pre_promote", Text, Later(SCRIPT)),
    key("postgresql.before_stop", Text, Later(SCRIPT)),
    key(
        "postgresql.krbsrvname",
        Text,
        Later("Kerberos is not configured"),
    ),
    key(
        "postgresql.rewind",
        Any,
        Later("pg_rewind runs with its usual options"),
    ),
    key(
        "postgresql.parameters_primary",
        Open,
        Later("one set of parameters serves every role"),
    ),
    key(
        "postgresql.parameters_replica",
        Open,
        Later("one set of parameters serves every role"),
    ),
    key(
        "postgresql.parameters_standby_leader",
        Open,
        Later("there are no standby clusters"),
    ),
    key(
        "postgresql.pg_hba_primary",
        List,
        Later("one pg_hba serves every role"),
    ),
    key(
        "postgresql.pg_hba_replica",
        List,
        Later("one pg_hba serves every role"),
    ),
    key(
        "postgresql.pg_hba_standby_leader",
        List,
        Later("there are no standby clusters"),
    ),
    key(
        "postgresql.pg_ident_primary",
        List,
        Later("one pg_ident serves every role"),
    ),
    key(
        "postgresql.pg_ident_replica",
        List,
        Later("one pg_ident serves every role"),
    ),
    key(
        "postgresql.pg_ident_standby_leader",
        List,
        Later("there are no standby clusters"),
    ),
];

/// Keys of one user under `postgresql.authentication`; all but the first two are libpq's own.
pub(super) const USER_KEYS: &[&str] = &[
    "username",
    "password",
    "sslmode",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "gssencmode",
    "channel_binding",
    "sslnegotiation",
];

/// Keys of `postgresql` that mean something in the dynamic configuration too.
const DYNAMIC_POSTGRESQL: &[&str] = &[
    "parameters",
    "pg_hba",
    "pg_ident",
    "use_pg_rewind",
    "use_slots",
    "remove_data_directory_on_rewind_failure",
    "remove_data_directory_on_diverged_timelines",
];

const LOCAL_ONLY: &str = "it counts only in the file of a member, not in the dynamic configuration";

/// The keys directly below a path, in the table's order; none for an open map or a leaf.
pub(super) fn children(path: &str) -> Vec<(&'static str, Kind, Status)> {
    if let Some(user) = path.strip_prefix("postgresql.authentication.") {
        let known = matches!(user, "superuser" | "replication" | "rewind");
        let keys = if known { USER_KEYS } else { &[] };
        return keys.iter().map(|name| (*name, Text, Used)).collect();
    }
    if path == "bootstrap.dcs.postgresql" {
        return children("postgresql").into_iter().map(in_dynamic).collect();
    }
    [
        TOP, PGWARDEN, LOG, RESTAPI, KUBERNETES, BOOTSTRAP, POSTGRESQL,
    ]
    .iter()
    .flat_map(|section| section.iter())
    .filter_map(|key| {
        let rest = match path {
            "" => key.path,
            _ => key.path.strip_prefix(path)?.strip_prefix('.')?,
        };
        (!rest.contains('.')).then_some((rest, key.kind, key.status))
    })
    .collect()
}

/// A key of `postgresql` as it counts in `bootstrap.dcs.postgresql`.
fn in_dynamic(key: (&'static str, Kind, Status)) -> (&'static str, Kind, Status) {
    let (name, _, status) = key;
    match status {
        Used if !DYNAMIC_POSTGRESQL.contains(&name) => (name, Any, Ignored(LOCAL_ONLY)),
        _ => key,
    }
}

/// The known name nearest to a misspelt one, if it is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).clamp(1, 4);
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let distance = edit_distance(&name.to_lowercase(), candidate);
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// How many letters must be put in, left out, changed or swapped with their neighbour.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// What the schema may say of a kind.
    fn types(kind: Kind) -> Option<&'static [&'static str]> {
        match kind {
            Section | Open => Some(&["object"]),
            Text => Some(&["string", "integer"]),
            Bool => Some(&["boolean", "string"]),
            Int => Some(&["integer", "string"]),
            List => Some(&["array"]),
            Any => None,
        }
    }

    fn compare(path: &str, schema: &Value, wrong: &mut Vec<String>) {
        let empty = serde_json::Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        let known = children(path);
        for name in properties.keys() {
            if !known.iter().any(|(key, ..)| key == name) {
                wrong.push(format!("{path}.{name} is in the schema, not in the table"));
            }
        }
        for (name, kind, status) in known {
            let below = super::super::raw::join(path, name);
            let Some(schema) = properties.get(name) else {
                wrong.push(format!("{below} is in the table, not in the schema"));
                continue;
            };
            let said: Vec<&str> = match &schema["type"] {
                Value::String(one) => vec![one],
                Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            };
            let may = types(kind).unwrap_or(&[]);
            if said.is_empty() != may.is_empty() || said.iter().any(|t| !may.contains(t)) {
                wrong.push(format!(
                    "{below}: the schema says {said:?}, the table {kind:?}"
                ));
            }
            let described = schema["description"].as_str().unwrap_or("");
            if let Ignored(why) | Later(why) | Refused(why) = status
                && !described.contains(why)
            {
                wrong.push(format!(
                    "{below}: the schema does not say why it is not used"
                ));
            }
            if kind == Section {
                compare(&below, schema, wrong);
            }
        }
    }

    #[test]
    fn the_schema_and_the_table_agree() {
        let schema: Value = serde_json::from_str(crate::settings::embedded::SCHEMA).unwrap();
        let mut wrong = Vec::new();
        compare("", &schema, &mut wrong);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn no_key_stands_twice_and_every_parent_is_a_section() {
        let all: Vec<&Key> = [
            TOP, PGWARDEN, LOG, RESTAPI, KUBERNETES, BOOTSTRAP, POSTGRESQL,
        ]
        .into_iter()
        .flatten()
        .collect();
        for (index, key) in all.iter().enumerate() {
            assert!(
                !all[..index].iter().any(|k| k.path == key.path),
                "{} twice",
                key.path
            );
            if let Some((parent, _)) = key.path.rsplit_once('.') {
                let found = all.iter().find(|k| k.path == parent);
                assert!(
                    found.is_some_and(|k| k.kind == Section),
                    "{} has no section",
                    key.path
                );
            }
        }
    }

    #[test]
    fn the_nearest_name_is_meant_or_none() {
        let names = [
            "ttl",
            "loop_wait",
            "retry_timeout",
            "synchronous_mode",
            "postgresql",
        ];
        let near = |name| nearest(name, names.into_iter());
        assert_eq!(near("tll"), Some("ttl"));
        assert_eq!(near("loopwait"), Some("loop_wait"));
        assert_eq!(near("Postgresql"), Some("postgresql"));
        assert_eq!(near("syncronous_mode"), Some("synchronous_mode"));
        assert_eq!(near("backup_window"), None);
        assert_eq!(near(""), None);
        assert_eq!(edit_distance("abcd", "acbd"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
