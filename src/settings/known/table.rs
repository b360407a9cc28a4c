//! The table itself, one section after the other.

use super::Kind::{Any, Bool, Int, List, Open, Section, Text};
use super::Status::{Ignored, Later, Refused, Used};
use super::postgresql::POSTGRESQL;
use super::{Key, Kind, Status};

/// All sections of the table.
pub(super) const SECTIONS: [&[Key]; 7] = [
    TOP, PGWARDEN, LOG, RESTAPI, KUBERNETES, BOOTSTRAP, POSTGRESQL,
];

const fn key(path: &'static str, kind: Kind, status: Status) -> Key {
    Key::new(path, kind, status)
}

const OTHER_DCS: &str = "the lock lives in Kubernetes only; remove the section";

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
    key("log.static_fields", Open, Used),
    key(
        "log.max_queue_size",
        Int,
        Ignored("lines are written at once"),
    ),
    key("log.dir", Text, Used),
    key("log.mode", Any, Used),
    key("log.file_num", Int, Used),
    key("log.file_size", Int, Used),
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
    key("restapi.certfile", Text, Used),
    key("restapi.keyfile", Text, Used),
    key("restapi.keyfile_password", Text, Used),
    key("restapi.cafile", Text, Used),
    key("restapi.ciphers", Text, Used),
    key("restapi.verify_client", Text, Used),
    key("restapi.allowlist", Any, Used),
    key("restapi.allowlist_include_members", Bool, Used),
    key("restapi.http_extra_headers", Open, Used),
    key("restapi.https_extra_headers", Open, Used),
    key("restapi.request_queue_size", Int, Used),
    key("restapi.server_tokens", Text, Used),
    key(
        "restapi.thread_pool_size",
        Any,
        Ignored("there is no pool of threads"),
    ),
    key("ctl", Section, Used),
    key("ctl.authentication", Section, Used),
    key("ctl.authentication.username", Text, Used),
    key("ctl.authentication.password", Text, Used),
    key("ctl.insecure", Bool, Used),
    key("ctl.cacert", Text, Used),
    key("ctl.certfile", Text, Used),
    key("ctl.keyfile", Text, Used),
    key("ctl.keyfile_password", Text, Used),
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
    key("kubernetes.standby_leader_label_value", Text, Used),
    key("kubernetes.tmp_role_label", Text, Used),
    key("kubernetes.bootstrap_labels", Open, Used),
    key("kubernetes.pod_ip", Text, Used),
    key("kubernetes.pod_uid", Text, Used),
    key("kubernetes.ports", List, Used),
    key("kubernetes.cacert", Text, Used),
    key("kubernetes.kubeconfig", Text, Used),
    key("kubernetes.context", Text, Used),
    key("kubernetes.bypass_api_service", Bool, Used),
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
    key("bootstrap.post_bootstrap", Text, Used),
    key("bootstrap.post_init", Text, Used),
    key("bootstrap.dcs", Section, Used),
    key("bootstrap.dcs.ttl", Int, Used),
    key("bootstrap.dcs.loop_wait", Int, Used),
    key("bootstrap.dcs.retry_timeout", Int, Used),
    key("bootstrap.dcs.maximum_lag_on_failover", Int, Used),
    key("bootstrap.dcs.maximum_lag_on_syncnode", Int, Used),
    key(
        "bootstrap.dcs.max_timelines_history",
        Int,
        Later("the newest entries that fit are kept"),
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
    key("bootstrap.dcs.failsafe_mode", Bool, Used),
    key("bootstrap.dcs.check_timeline", Bool, Used),
    key("bootstrap.dcs.member_slots_ttl", Int, Used),
    key("bootstrap.dcs.pause", Bool, Used),
    key("bootstrap.dcs.slots", Open, Used),
    key("bootstrap.dcs.permanent_slots", Open, Used),
    key("bootstrap.dcs.permanent_replication_slots", Open, Used),
    key("bootstrap.dcs.ignore_slots", List, Used),
    key("bootstrap.dcs.standby_cluster", Section, Used),
    key("bootstrap.dcs.standby_cluster.host", Text, Used),
    key("bootstrap.dcs.standby_cluster.port", Int, Used),
    key(
        "bootstrap.dcs.standby_cluster.primary_slot_name",
        Text,
        Used,
    ),
    key("bootstrap.dcs.standby_cluster.restore_command", Text, Used),
    key(
        "bootstrap.dcs.standby_cluster.archive_cleanup_command",
        Text,
        Used,
    ),
    key(
        "bootstrap.dcs.standby_cluster.recovery_min_apply_delay",
        Text,
        Used,
    ),
    key(
        "bootstrap.dcs.standby_cluster.create_replica_methods",
        List,
        Used,
    ),
    key("bootstrap.dcs.postgresql", Section, Used),
];
