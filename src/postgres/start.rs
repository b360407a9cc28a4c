//! How the postmaster is started: the guardian forks it, this says with what.
//!
//! Settings that every member must agree on, or that a standby refuses to start without, are given
//! on the command line, where no file and no `ALTER SYSTEM` can override them.

use super::control_data::{ControlData, StandbyMinimums};
use super::{Place, Postgres, child};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A controlled number: its name, default, least value, and a standby's minimum.
struct Controlled {
    name: &'static str,
    default: u32,
    least: u32,
    standby_minimum: fn(&StandbyMinimums) -> u32,
}

const NUMBERS: [Controlled; 6] = [
    Controlled {
        name: "max_connections",
        default: 100,
        least: 25,
        standby_minimum: |m| m.max_connections,
    },
    Controlled {
        name: "max_wal_senders",
        default: 10,
        least: 3,
        standby_minimum: |m| m.max_wal_senders,
    },
    Controlled {
        name: "max_replication_slots",
        default: 10,
        least: 4,
        standby_minimum: |_| 0,
    },
    Controlled {
        name: "max_worker_processes",
        default: 8,
        least: 2,
        standby_minimum: |m| m.max_worker_processes,
    },
    Controlled {
        name: "max_locks_per_transaction",
        default: 64,
        least: 32,
        standby_minimum: |m| m.max_locks_per_transaction,
    },
    Controlled {
        name: "max_prepared_transactions",
        default: 0,
        least: 0,
        standby_minimum: |m| m.max_prepared_transactions,
    },
];

const OTHERS: [&str; 8] = [
    "cluster_name",
    "hot_standby",
    "listen_addresses",
    "port",
    "track_commit_timestamp",
    "wal_level",
    "wal_log_hints",
    "data_directory",
];

/// The setting is given on the command line, never in a file.
pub(super) fn is_controlled(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NUMBERS.iter().any(|number| number.name == name) || OTHERS.contains(&name.as_str())
}

/// What the guardian needs to fork a postmaster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The program, absolute.
    pub program: PathBuf,
    /// Its arguments, the program's name first.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Settings that were out of range, or raised for a standby: sentences to be logged.
    pub notes: Vec<String>,
}

/// The postmaster of this data directory. As a standby it gets at least what `control` says the
/// primary had: with less it would refuse to start, or pause its replay.
pub fn postmaster(pg: &Postgres, standby_of: Option<&ControlData>) -> Launch {
    let mut notes = Vec::new();
    let mut argv: Vec<OsString> = vec![
        "postgres".into(),
        "-D".into(),
        pg.data_dir.clone().into_os_string(),
    ];
    argv.extend(
        controlled(pg, standby_of, &mut notes)
            .into_iter()
            .map(|(name, value)| OsString::from(format!("--{name}={value}"))),
    );
    Launch {
        program: pg.program.clone(),
        argv,
        env: child::clean_env(),
        notes,
    }
}

/// What a standby needs at least, by its control file.
pub(super) fn minimums(control: &ControlData) -> Vec<(&'static str, u32)> {
    let least = |known: &Controlled| {
        (
            known.name,
            (known.standby_minimum)(&control.standby_minimums),
        )
    };
    NUMBERS.iter().map(least).collect()
}

/// The controlled settings and their values.
pub(super) fn controlled(
    pg: &Postgres,
    standby_of: Option<&ControlData>,
    notes: &mut Vec<String>,
) -> Vec<(&'static str, String)> {
    let given = |name: &str| pg.parameters.get(name).map(String::as_str);
    let mut settings = vec![
        ("listen_addresses", pg.listen.join(",")),
        ("port", pg.port.to_string()),
        ("cluster_name", pg.scope.clone()),
        ("hot_standby", "on".into()),
        (
            "wal_level",
            word(
                given("wal_level"),
                "wal_level",
                &["replica", "logical"],
                notes,
            ),
        ),
        (
            "wal_log_hints",
            switch(given("wal_log_hints"), "wal_log_hints", "on", notes),
        ),
        (
            "track_commit_timestamp",
            switch(
                given("track_commit_timestamp"),
                "track_commit_timestamp",
                "off",
                notes,
            ),
        ),
    ];
    for known in &NUMBERS {
        let mut value = number(given(known.name), known, notes);
        let least = standby_of.map_or(0, |control| {
            (known.standby_minimum)(&control.standby_minimums)
        });
        if value < least {
            notes.push(format!(
                "{}: {value} is less than the primary's {least}; this standby starts with {least}",
                known.name
            ));
            value = least;
        }
        settings.push((known.name, value.to_string()));
    }
    settings
}

fn number(given: Option<&str>, known: &Controlled, notes: &mut Vec<String>) -> u32 {
    let Some(text) = given else {
        return known.default;
    };
    match text.trim().parse::<u32>() {
        Ok(value) if value >= known.least => value,
        _ => {
            notes.push(format!(
                "postgresql.parameters.{}: \"{text}\" is not a number of at least {}; using {}",
                known.name, known.least, known.default
            ));
            known.default
        }
    }
}

fn word(given: Option<&str>, name: &str, allowed: &[&str], notes: &mut Vec<String>) -> String {
    let Some(text) = given else {
        return allowed[0].into();
    };
    let lower = text.trim().to_ascii_lowercase();
    if allowed.contains(&lower.as_str()) {
        return lower;
    }
    notes.push(format!(
        "postgresql.parameters.{name}: \"{text}\" is not allowed; expected {}; using {}",
        allowed.join(" or "),
        allowed[0]
    ));
    allowed[0].into()
}

fn switch(given: Option<&str>, name: &str, default: &str, notes: &mut Vec<String>) -> String {
    let text = given.unwrap_or(default);
    match boolean(text) {
        Some(true) => "on".into(),
        Some(false) => "off".into(),
        None => {
            let lower = text.trim().to_ascii_lowercase();
            notes.push(format!(
                "postgresql.parameters.{name}: \"{lower}\" is neither on nor off; using {default}"
            ));
            default.into()
        }
    }
}

/// A parameter that is on or off, as people write it in full.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// What a running postmaster writes about itself into `postmaster.pid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostmasterFile {
    /// Its process.
    pub pid: i32,
    /// When it started, in seconds of its clock: tells two of one pid apart.
    pub start_time: i64,
    /// Its port.
    pub port: u16,
    /// Its first socket directory.
    pub socket_dir: String,
    /// What it says it is doing.
    pub status: PostmasterStatus,
}

/// The last line of `postmaster.pid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostmasterStatus {
    /// Recovering, and nobody may connect yet.
    Starting,
    /// Stopping.
    Stopping,
    /// Connections are accepted.
    Ready,
    /// Replaying; connections are accepted only if it is a hot standby.
    Standby,
}

/// Where the server that runs in a directory says that it listens: its first Unix socket.
pub fn place_of_running(data_dir: &Path) -> Option<Place> {
    let file = postmaster_file(data_dir)?;
    let dir = PathBuf::from(file.socket_dir);
    let port = file.port;
    dir.is_absolute().then_some(Place { dir, port })
}

/// Reads `postmaster.pid`; none where it is missing or still being written.
pub fn postmaster_file(data_dir: &Path) -> Option<PostmasterFile> {
    parse_postmaster_file(&fs::read_to_string(data_dir.join("postmaster.pid")).ok()?)
}

fn parse_postmaster_file(text: &str) -> Option<PostmasterFile> {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let status = match *lines.get(7)? {
        "starting" => PostmasterStatus::Starting,
        "stopping" => PostmasterStatus::Stopping,
        "ready" => PostmasterStatus::Ready,
        "standby" => PostmasterStatus::Standby,
        _ => return None,
    };
    Some(PostmasterFile {
        pid: lines[0].parse().ok()?,
        start_time: lines[2].parse().ok()?,
        port: lines[3].parse().ok()?,
        socket_dir: lines[4].to_owned(),
        status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::config::tests::sample;

    #[test]
    fn values_out_of_range_fall_back_and_say_so() {
        let mut pg = sample();
        for (name, value) in [
            ("max_connections", "3"),
            ("wal_level", "minimal"),
            ("max_wal_senders", "20"),
        ] {
            pg.parameters.insert(name.into(), value.into());
        }
        let launch = postmaster(&pg, None);
        let has = |argument: &str| launch.argv.iter().any(|given| given == argument);
        assert!(has("--max_connections=100") && has("--max_wal_senders=20"));
        assert!(has("--wal_level=replica") && has("--cluster_name=demo") && has("--port=5432"));
        assert_eq!(launch.notes.len(), 2, "{:?}", launch.notes);
    }

    #[test]
    fn the_state_file_is_read_only_when_whole() {
        let text = "123\n/data\n1700000000\n5433\n/run/pg\n*\n  17 3\nstandby \n";
        let file = parse_postmaster_file(text).unwrap();
        assert_eq!(
            (file.pid, file.port, file.status),
            (123, 5433, PostmasterStatus::Standby)
        );
        assert_eq!(parse_postmaster_file("123\n/data\n"), None);
    }
}
