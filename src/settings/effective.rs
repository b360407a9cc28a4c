//! What applies on this member now: the dynamic configuration with the local one laid over it.
//!
//! Local values win, but for the *controlled* parameters: the ones that must agree across the
//! cluster (a standby with fewer connections than its primary does not start) come from the dynamic
//! configuration or have their default, whatever the local file says.

use super::durability;
use super::dynamic::{Dynamic, SyncMode};
use super::problem::Problem;
use super::types::Settings;
use std::collections::BTreeMap;

/// PostgreSQL's configuration as it applies on this member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Everything for postgresql.conf, the controlled ones included, but for `listen_addresses`,
    /// `port` and `cluster_name`, which follow from the settings.
    pub parameters: BTreeMap<String, String>,
    /// The lines of pg_hba.conf; `None`: leave the file as it is.
    pub pg_hba: Option<Vec<String>>,
    /// The lines of pg_ident.conf; `None`: leave the file as it is.
    pub pg_ident: Option<Vec<String>>,
    /// Member slots are kept.
    pub use_slots: bool,
}

/// What a controlled parameter may be.
enum Rule {
    Least(i64),
    OneOf(&'static [&'static str]),
    Fixed,
}

/// The controlled parameters, their default and what they may be.
const CONTROLLED: [(&str, &str, Rule); 10] = [
    ("max_connections", "100", Rule::Least(25)),
    ("max_wal_senders", "10", Rule::Least(3)),
    ("max_prepared_transactions", "0", Rule::Least(0)),
    ("max_locks_per_transaction", "64", Rule::Least(32)),
    ("max_worker_processes", "8", Rule::Least(2)),
    ("max_replication_slots", "10", Rule::Least(4)),
    ("track_commit_timestamp", "off", Rule::OneOf(&["on", "off"])),
    ("wal_log_hints", "on", Rule::OneOf(&["on", "off"])),
    ("hot_standby", "on", Rule::Fixed),
    ("wal_level", "replica", Rule::OneOf(&["replica", "logical"])),
];

/// Follow from the settings themselves or belong to the agent alone.
const OWNED: [&str; 12] = [
    "listen_addresses",
    "port",
    "cluster_name",
    "data_directory",
    "config_file",
    "hba_file",
    "ident_file",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_target_timeline",
    "synchronous_standby_names",
];

/// The mode of the socket through which the agent reaches its own PostgreSQL.
const SOCKET_MODE: &str = "unix_socket_permissions";

/// As PostgreSQL reads the number: a leading zero says octal, 0x hexadecimal.
fn owner_writes(mode: &str) -> bool {
    let mode = mode.trim();
    let number = match mode.strip_prefix("0x").or_else(|| mode.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None if mode.starts_with('0') => u32::from_str_radix(mode, 8),
        None => mode.parse(),
    };
    number.is_ok_and(|mode| mode <= 0o777 && mode & 0o200 != 0)
}

/// The name of a controlled parameter.
pub fn is_controlled(name: &str) -> bool {
    CONTROLLED
        .iter()
        .any(|(controlled, ..)| *controlled == name)
}

/// What of a document that was read as `dynamic`, with these problems, is not obeyed: its errors,
/// and parameters that belong to the agent or have a value that they must not have.
pub fn disobeyed(dynamic: &Dynamic, problems: Vec<Problem>) -> Vec<String> {
    let mut misplaced = Vec::new();
    merged(&BTreeMap::new(), &dynamic.parameters, &mut misplaced);
    let errors = problems.into_iter().filter(Problem::is_error);
    let all = errors.chain(misplaced);
    all.map(|problem| problem.words()).collect()
}

impl Effective {
    /// Lays the local settings over the dynamic ones, and says what of either is not used.
    pub fn of(local: &Settings, dynamic: &Dynamic) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let pg = &local.postgresql;
        let bootstrap_hba = Some(&local.bootstrap.pg_hba).filter(|lines| !lines.is_empty());
        let parameters = merged(&pg.parameters, &dynamic.parameters, &mut problems);
        for (name, why) in durability::risks(&parameters, dynamic.synchronous_mode != SyncMode::Off)
        {
            problems.push(Problem::warning(
                format!("postgresql.parameters.{name}"),
                why,
            ));
        }
        let mut parameters = parameters;
        if dynamic.has_logical_slots() && dynamic.use_slots {
            // Without it the primary vacuums away what a replica's copy of a logical slot needs.
            parameters.insert("hot_standby_feedback".to_owned(), "on".to_owned());
        }
        let effective = Self {
            parameters,
            pg_hba: pg
                .pg_hba
                .as_ref()
                .or(dynamic.pg_hba.as_ref())
                .or(bootstrap_hba)
                .cloned(),
            pg_ident: pg.pg_ident.as_ref().or(dynamic.pg_ident.as_ref()).cloned(),
            // A slot some members keep and others do not would be worse than either.
            use_slots: dynamic.use_slots,
        };
        (effective, problems)
    }
}

fn merged(
    local: &BTreeMap<String, String>,
    dynamic: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (place, map) in [("dynamic", dynamic), ("local", local)] {
        for (name, value) in map {
            let path = format!("postgresql.parameters.{name}");
            if OWNED.contains(&name.as_str()) {
                let why = format!("the {place} value has no effect: pgwarden sets it itself");
                problems.push(Problem::warning(path, why));
            } else if durability::is_recovery_target(name) {
                let why = format!("the {place} value has no effect: {}", durability::NO_TARGET);
                problems.push(Problem::warning(path, why));
            } else if place == "local" && is_controlled(name) {
                let why = "the local value has no effect: it must be the same on every member; \
                           set it in the dynamic configuration (bootstrap.dcs)";
                problems.push(Problem::warning(path, why));
            } else if name == SOCKET_MODE && !owner_writes(value) {
                let why = format!(
                    "the {place} value has no effect: found {value:?}; expected an octal number \
                     whose owner may write, as 0777: the agent reaches PostgreSQL through its socket"
                );
                problems.push(Problem::warning(path, why));
            } else if !is_controlled(name) {
                all.insert(name.clone(), value.clone());
            }
        }
    }
    for (name, default, rule) in &CONTROLLED {
        let value = dynamic.get(*name).map_or(*default, String::as_str);
        let value = match rule.judge(value) {
            Ok(()) => value,
            Err(expected) => {
                let why = format!("found {value:?}; expected {expected}; {default} is used");
                problems.push(Problem::warning(
                    format!("postgresql.parameters.{name}"),
                    why,
                ));
                default
            }
        };
        all.insert((*name).to_owned(), value.to_owned());
    }
    all.entry("wal_keep_size".to_owned())
        .or_insert_with(|| "128MB".to_owned());
    all
}

impl Rule {
    fn judge(&self, value: &str) -> Result<(), String> {
        match self {
            Self::Least(least) => match value.parse::<i64>() {
                Ok(number) if number >= *least => Ok(()),
                _ => Err(format!("a number of at least {least}")),
            },
            Self::OneOf(words) if words.contains(&value) => Ok(()),
            Self::OneOf(words) => Err(words.join(" or ")),
            Self::Fixed if value == "on" => Ok(()),
            Self::Fixed => Err("on".to_owned()),
        }
    }
}
