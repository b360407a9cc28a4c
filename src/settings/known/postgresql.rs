//! The part of the table about PostgreSQL.

use super::Kind::{Any, Bool, Int, List, Open, Section, Text};
use super::Status::{Later, Refused, Used};
use super::{Key, Kind, Status};

const fn key(path: &'static str, kind: Kind, status: Status) -> Key {
    Key::new(path, kind, status)
}

/// Keys of `postgresql`, of which some may stand in `bootstrap.dcs.postgresql` as well.
pub(super) const POSTGRESQL: &[Key] = &[
    key("postgresql", Section, Used),
    key("postgresql.listen", Text, Used),
    key("postgresql.connect_address", Text, Used),
    key("postgresql.proxy_address", Text, Used),
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
    key("postgresql.callbacks", Section, Used),
    key("postgresql.callbacks.on_start", Text, Used),
    key("postgresql.callbacks.on_stop", Text, Used),
    key("postgresql.callbacks.on_restart", Text, Used),
    key("postgresql.callbacks.on_reload", Text, Used),
    key("postgresql.callbacks.on_role_change", Text, Used),
    key("postgresql.create_replica_methods", List, Used),
    key("postgresql.create_replica_method", List, Used),
    key("postgresql.basebackup", Any, Used),
    key("postgresql.parameters", Open, Used),
    key("postgresql.pg_hba", List, Used),
    key("postgresql.pg_ident", List, Used),
    key("postgresql.recovery_conf", Open, Used),
    key("postgresql.custom_conf", Text, Used),
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
    key("postgresql.pre_promote", Text, Used),
    key("postgresql.before_stop", Text, Used),
    key("postgresql.krbsrvname", Text, Used),
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
pub(in crate::settings) const USER_KEYS: &[&str] = &[
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
pub(super) const DYNAMIC_POSTGRESQL: &[&str] = &[
    "parameters",
    "pg_hba",
    "pg_ident",
    "recovery_conf",
    "use_pg_rewind",
    "use_slots",
    "remove_data_directory_on_rewind_failure",
    "remove_data_directory_on_diverged_timelines",
];

pub(super) const LOCAL_ONLY: &str =
    "it counts only in the file of a member, not in the dynamic configuration";
