//! The dynamic configuration: `bootstrap.dcs` in the file, later the document stored in the DCS.

use super::Settings;
use super::budgets::{BudgetOverrides, Budgets, DEFAULT_TTL_MS, MAX_TTL_MS, MIN_TTL_MS};
use super::problem::Problem;
use super::raw::{self, Value};
use super::resolve::hooks::recovery_conf;
use super::section::{Problems, Section};
use super::slots;
use super::standby::{StandbyCluster, standby_cluster};
pub use super::synchronous::SyncMode;
use super::synchronous::{node_count, sync_mode};
use crate::ha::slots::{Permanent, SlotPattern};
use serde::Serialize;
use std::collections::BTreeMap;

/// The dynamic settings in force. Times are integer milliseconds, as everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dynamic {
    /// `ttl`: D, the TTL of the lock. [`super::Settings::budgets_for`] accepted it.
    pub ttl_ms: u64,
    /// `loop_wait`: kept for Patroni's tools; renewal follows the TTL's budgets.
    pub loop_wait_ms: u64,
    /// `retry_timeout`: kept for Patroni's tools; calls follow the TTL's budgets.
    pub retry_timeout_ms: u64,
    /// `maximum_lag_on_failover`: a candidate further behind does not race.
    pub maximum_lag_on_failover_bytes: u64,
    /// `maximum_lag_on_syncnode`: a slower synchronous standby is replaced; `None`: never.
    pub maximum_lag_on_syncnode_bytes: Option<u64>,
    /// `primary_start_timeout`: how long a start as primary may take before failing over.
    pub primary_start_timeout_ms: u64,
    /// `member_slots_ttl`: how long the slot of a member without a Pod is kept.
    pub member_slots_ttl_ms: u64,
    /// `slots`: permanent ones, by name.
    pub slots: BTreeMap<String, Permanent>,
    /// `ignore_slots`: never dropped.
    pub ignore_slots: Vec<SlotPattern>,
    /// `primary_stop_timeout`: how long the stop of a primary in synchronous mode may take before
    /// it is killed; `None`: a minute until it is pressed, as elsewhere.
    pub primary_stop_timeout_ms: Option<u64>,
    /// `synchronous_mode`.
    pub synchronous_mode: SyncMode,
    /// `synchronous_mode_strict`: without a standby commits wait.
    pub synchronous_mode_strict: bool,
    /// `synchronous_node_count`: how many standbys confirm a commit, where there are as many.
    pub synchronous_node_count: usize,
    /// `pause`: maintenance mode.
    pub pause: bool,
    /// `failsafe_mode`: a leader that cannot reach the API goes on while all others promise not to
    /// lead.
    pub failsafe_mode: bool,
    /// `standby_cluster`, where it names a host, a port or a `restore_command`.
    pub standby_cluster: Option<StandbyCluster>,
    /// `check_timeline`: a candidate on an older timeline than the history's does not race.
    pub check_timeline: bool,
    /// `postgresql.parameters`, values as text (`on`/`off` for booleans).
    pub parameters: BTreeMap<String, String>,
    /// `postgresql.recovery_conf`.
    pub recovery_conf: BTreeMap<String, String>,
    /// `postgresql.pg_hba`.
    pub pg_hba: Option<Vec<String>>,
    /// `postgresql.pg_ident`.
    pub pg_ident: Option<Vec<String>>,
    /// It was read from a stored document, and not assumed until one is.
    #[serde(skip)]
    pub stored: bool,
    /// `postgresql.use_pg_rewind`.
    pub use_pg_rewind: bool,
    /// `postgresql.use_slots`.
    pub use_slots: bool,
    /// `postgresql.remove_data_directory_on_rewind_failure`.
    pub remove_data_directory_on_rewind_failure: bool,
    /// `postgresql.remove_data_directory_on_diverged_timelines`.
    pub remove_data_directory_on_diverged_timelines: bool,
}

impl Default for Dynamic {
    fn default() -> Self {
        Self {
            ttl_ms: DEFAULT_TTL_MS,
            loop_wait_ms: 10_000,
            retry_timeout_ms: 10_000,
            maximum_lag_on_failover_bytes: 1_048_576,
            maximum_lag_on_syncnode_bytes: None,
            primary_start_timeout_ms: 300_000,
            member_slots_ttl_ms: 30 * 60_000,
            slots: BTreeMap::new(),
            ignore_slots: Vec::new(),
            primary_stop_timeout_ms: None,
            synchronous_mode: SyncMode::Off,
            synchronous_mode_strict: false,
            synchronous_node_count: 1,
            pause: false,
            failsafe_mode: false,
            standby_cluster: None,
            check_timeline: false,
            parameters: BTreeMap::new(),
            recovery_conf: BTreeMap::new(),
            pg_hba: None,
            pg_ident: None,
            stored: false,
            use_pg_rewind: true,
            use_slots: true,
            remove_data_directory_on_rewind_failure: true,
            remove_data_directory_on_diverged_timelines: true,
        }
    }
}

impl Dynamic {
    /// Some permanent slot is a logical one.
    pub fn has_logical_slots(&self) -> bool {
        self.slots.values().any(|slot| slot.kind.is_logical())
    }

    /// Where no standby is there, commits wait: strict synchronous mode, and not in a standby
    /// cluster, which commits nothing.
    pub fn waits_for_nobody(&self) -> bool {
        let on = self.synchronous_mode != SyncMode::Off && self.standby_cluster.is_none();
        on && self.synchronous_mode_strict
    }

    /// Reads the document stored in the DCS. Nothing in it is fatal: a value that is wrong, or that
    /// would break the budgets, keeps the one in force and is reported; an absent key means its
    /// default.
    pub fn parse(json: &str, in_force: &Self, local: &Settings) -> (Self, Vec<Problem>) {
        let document = match serde_json::from_str::<serde_json::Value>(json) {
            Ok(document @ serde_json::Value::Object(_)) => document,
            Ok(_) => {
                let message = "the dynamic configuration is not a JSON object; the one in force \
                               stays";
                return (in_force.clone(), vec![Problem::error("", message)]);
            }
            Err(e) => {
                let message = format!(
                    "the dynamic configuration is not JSON (line {}, column {}); the one in force \
                     stays",
                    e.line(),
                    e.column()
                );
                return (in_force.clone(), vec![Problem::error("", message)]);
            }
        };
        let node = raw::from_json(document);
        let problems = Problems::default();
        let section = Section::root(&node, "bootstrap.dcs", &problems);
        section.judge_keys();
        let dynamic = Self {
            stored: true,
            ..read(&section, in_force, &local.pgwarden.budgets)
        };
        (dynamic, problems.into_sorted())
    }
}

/// Reads the section; a wrong value takes the fallback's, an absent one the default.
pub(super) fn read(
    section: &Section<'_>,
    fallback: &Dynamic,
    overrides: &BudgetOverrides,
) -> Dynamic {
    let default = Dynamic::default();
    let ms = |key: &str, least_s: u64, kept: u64, default: u64| {
        if section.has(key) {
            section.duration_ms(key, least_s).unwrap_or(kept)
        } else {
            default
        }
    };
    let mut dynamic = Dynamic {
        ttl_ms: ttl(section, fallback.ttl_ms, overrides),
        loop_wait_ms: ms("loop_wait", 1, fallback.loop_wait_ms, default.loop_wait_ms),
        retry_timeout_ms: ms(
            "retry_timeout",
            1,
            fallback.retry_timeout_ms,
            default.retry_timeout_ms,
        ),
        pause: flag(section, "pause", fallback.pause, false),
        failsafe_mode: flag(section, "failsafe_mode", fallback.failsafe_mode, false),
        standby_cluster: standby_cluster(section, fallback),
        check_timeline: flag(section, "check_timeline", fallback.check_timeline, false),
        synchronous_mode: sync_mode(section, fallback.synchronous_mode),
        synchronous_mode_strict: flag(
            section,
            "synchronous_mode_strict",
            fallback.synchronous_mode_strict,
            false,
        ),
        synchronous_node_count: node_count(section, fallback.synchronous_node_count),
        slots: slots::permanent(section, &fallback.slots),
        ignore_slots: slots::ignored(section, &fallback.ignore_slots),
        ..default
    };
    lags(section, fallback, &mut dynamic);
    timeouts(section, fallback, &mut dynamic);
    postgresql(&section.section("postgresql"), fallback, &mut dynamic);
    slots::warn(section, &dynamic);
    dynamic
}

fn flag(section: &Section<'_>, key: &str, kept: bool, default: bool) -> bool {
    if section.has(key) {
        section.boolean(key).unwrap_or(kept)
    } else {
        default
    }
}

/// The TTL must be whole seconds (the Lease and Patroni's annotation count in them) and leave room
/// for the budgets.
fn ttl(section: &Section<'_>, kept: u64, overrides: &BudgetOverrides) -> u64 {
    let written = section.has("ttl");
    let read = if written {
        // What is a duration at all is judged by the budgets, which say why.
        let (least, most) = (MIN_TTL_MS / 1_000, MAX_TTL_MS / 1_000);
        let words = format!("a number of seconds from {least} to {most}, as 30 or \"30s\"");
        section.duration_within("ttl", 0..=u64::MAX, &words)
    } else {
        Some(DEFAULT_TTL_MS)
    };
    let Some(ttl_ms) = read else { return kept };
    if !ttl_ms.is_multiple_of(1_000) {
        section.error(
            "ttl",
            format!("found {ttl_ms} ms; expected whole seconds, as 30"),
        );
        return kept;
    }
    match Budgets::new(ttl_ms, overrides) {
        Ok(_) => ttl_ms,
        Err(e) => {
            let note = if written {
                ""
            } else {
                " (the default, 30 s, applies)"
            };
            section.error("ttl", format!("{e}{note}"));
            kept
        }
    }
}

fn lags(section: &Section<'_>, fallback: &Dynamic, dynamic: &mut Dynamic) {
    if section.has("maximum_lag_on_failover") {
        let bytes = section.bytes("maximum_lag_on_failover").map(u64::try_from);
        dynamic.maximum_lag_on_failover_bytes = match bytes {
            Some(Ok(bytes)) => bytes,
            Some(Err(_)) => {
                section.error(
                    "maximum_lag_on_failover",
                    "found a negative size; expected bytes",
                );
                fallback.maximum_lag_on_failover_bytes
            }
            None => fallback.maximum_lag_on_failover_bytes,
        };
    }
    if section.has("maximum_lag_on_syncnode") {
        dynamic.maximum_lag_on_syncnode_bytes = match section.bytes("maximum_lag_on_syncnode") {
            // Patroni: -1 is off, and so is 0.
            Some(-1 | 0) => None,
            Some(bytes) => u64::try_from(bytes).ok().or_else(|| {
                let message = format!("found {bytes}; expected bytes, or -1 for no limit");
                section.error("maximum_lag_on_syncnode", message);
                fallback.maximum_lag_on_syncnode_bytes
            }),
            None => fallback.maximum_lag_on_syncnode_bytes,
        };
    }
}

/// The first two have an older name, which counts where the newer one is absent.
fn timeouts(section: &Section<'_>, fallback: &Dynamic, dynamic: &mut Dynamic) {
    let named = |new: &'static str, old: &'static str| {
        if section.has(new) {
            Some(new)
        } else {
            section.has(old).then_some(old)
        }
    };
    if section.has("member_slots_ttl") {
        let kept = fallback.member_slots_ttl_ms;
        dynamic.member_slots_ttl_ms = section.duration_ms("member_slots_ttl", 0).unwrap_or(kept);
    }
    if let Some(key) = named("primary_start_timeout", "master_start_timeout") {
        let kept = fallback.primary_start_timeout_ms;
        dynamic.primary_start_timeout_ms = section.duration_ms(key, 0).unwrap_or(kept);
    }
    if let Some(key) = named("primary_stop_timeout", "master_stop_timeout") {
        dynamic.primary_stop_timeout_ms = match section.duration_ms(key, 0) {
            Some(ms) => (ms > 0).then_some(ms),
            None => fallback.primary_stop_timeout_ms,
        };
    }
}

fn postgresql(section: &Section<'_>, fallback: &Dynamic, dynamic: &mut Dynamic) {
    dynamic.parameters = parameters(section, &fallback.parameters);
    dynamic.recovery_conf = recovery_conf(section);
    let lines = |key: &str, kept: &Option<Vec<String>>| {
        if section.has(key) {
            section.access_lines(key).or_else(|| kept.clone())
        } else {
            None
        }
    };
    dynamic.pg_hba = lines("pg_hba", &fallback.pg_hba);
    dynamic.pg_ident = lines("pg_ident", &fallback.pg_ident);
    dynamic.use_pg_rewind = flag(section, "use_pg_rewind", fallback.use_pg_rewind, true);
    dynamic.use_slots = flag(section, "use_slots", fallback.use_slots, true);
    dynamic.remove_data_directory_on_rewind_failure = flag(
        section,
        "remove_data_directory_on_rewind_failure",
        fallback.remove_data_directory_on_rewind_failure,
        true,
    );
    dynamic.remove_data_directory_on_diverged_timelines = flag(
        section,
        "remove_data_directory_on_diverged_timelines",
        fallback.remove_data_directory_on_diverged_timelines,
        true,
    );
}

/// `parameters`; what cannot be a parameter is reported and keeps the fallback's value.
pub(super) fn parameters(
    section: &Section<'_>,
    fallback: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    // PostgreSQL knows no difference, and everything here compares with the small letters.
    let map = section.text_map("parameters", true).into_iter();
    let mut map: BTreeMap<_, _> = map
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    map.retain(|name, value| {
        let word = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$')
        };
        let key = format!("parameters.{name}");
        if !name.split('.').all(word) || name.matches('.').count() > 1 {
            let path = section.path(&key);
            section.error(
                "parameters",
                format!("{path} is not the name of a parameter"),
            );
            return false;
        }
        // A literal block (`|`) ends in a newline that nobody means.
        value.truncate(value.trim_end_matches('\n').len());
        if value.contains(['\0', '\n', '\r']) {
            section.error(
                "parameters",
                format!("{key} has more than one line; expected one"),
            );
            return false;
        }
        true
    });
    if let Some(Value::Map(entries)) = section.get("parameters").map(|node| &node.value) {
        for (name, node) in entries {
            if let (false, Some(kept)) = (map.contains_key(name), fallback.get(name))
                && node.value != Value::Null
            {
                map.insert(name.clone(), kept.clone());
            }
        }
    }
    map
}
