//! The files that tell the server what it is: written whole, every value quoted.
//!
//! `postgresql.conf` includes the file initdb made (kept as `postgresql.base.conf`), then the
//! settings in sorted order, then the file of `synchronous_standby_names`. That one stands alone
//! because it changes often, and at moments when nothing else may change with it.
//! The settings a whole cluster must agree on are not here but on the command line
//! ([`super::start`]).

pub use super::sync_file::{has_sync, set_sync, sync_setting};
use super::{Credentials, Postgres, Source, quote, start, trial};
use crate::ha::slots::slot_name;
use crate::sys::durable;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const BASE: &str = "postgresql.base.conf";
pub(super) const SYNC: &str = "pgwarden.sync.conf";
const SINGLE: &str = "pgwarden.single.conf";
pub(super) const HEADER: &str =
    "# Written by pgwarden and overwritten by it: change the settings instead.\n";

/// Settings of recovery: one left in `postgresql.auto.conf` would win over what is written here.
const RECOVERY_SETTINGS: [&str; 16] = [
    "archive_cleanup_command",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "restore_command",
    "synchronous_standby_names",
];

/// Where a recovery would end.
const RECOVERY_TARGETS: [&str; 5] = [
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
];

/// Why the configuration cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file operation failed.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A setting's name that would break the file.
    #[error(
        "postgresql.parameters: \"{0}\" is not a setting's name; expected letters, digits, \
         underscores and dots"
    )]
    BadName(String),
    /// A value that no line can carry.
    #[error("{field}: a value contains {what}; expected text of one line")]
    BadValue {
        /// Where it was given.
        field: String,
        /// What it contains.
        what: &'static str,
    },
    /// A name that would make other standbys synchronous.
    #[error("synchronous_standby_names: \"{0}\" cannot be a member's name there")]
    BadStandby(String),
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> ConfigError + '_ {
    move |source| ConfigError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Whom a server follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Nobody: a primary, or a replica that has lost its leader and only waits.
    Nobody,
    /// The leader at this address.
    Leader(Source),
    /// The primary of another cluster.
    Remote(Remote),
}

/// A primary of another cluster, followed by a standby leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// Where it listens; `None`: its WAL comes from an archive alone.
    pub source: Option<Source>,
    /// A slot that it keeps for this cluster.
    pub slot: Option<String>,
    /// `restore_command` and its like.
    pub settings: BTreeMap<String, String>,
}

/// Writes `postgresql.conf`, `pg_hba.conf` and `pg_ident.conf` into `dir` (the data directory, or
/// one in the making) and the password file; cleans `postgresql.auto.conf` of recovery settings.
/// A running server takes them at its next reload.
pub fn write(pg: &Postgres, dir: &Path, follow: &Follow) -> Result<(), ConfigError> {
    let main = server_settings(pg, follow)?;
    let mut hba = hba_lines(pg);
    hba.splice(0..0, trial::hba_line(pg, dir));
    let (hba, ident) = (lines("postgresql.pg_hba", &hba)?, &pg.pg_ident);
    let ident = lines("postgresql.pg_ident", ident)?;
    keep_base(dir)?;
    clean_base(dir)?;
    clean_auto_conf(dir)?;
    write_pgpass(pg)?;
    put(&dir.join("pg_hba.conf"), &hba)?;
    put(&dir.join("pg_ident.conf"), &ident)?;
    put(&dir.join("postgresql.conf"), &main)
}

pub(super) fn put(path: &Path, content: &str) -> Result<(), ConfigError> {
    durable::write_atomic(path, content.as_bytes(), 0o600).map_err(io_at(path))
}

fn server_settings(pg: &Postgres, follow: &Follow) -> Result<String, ConfigError> {
    let mut settings: BTreeMap<&str, String> = BTreeMap::new();
    settings.insert("wal_keep_size", "128MB".into());
    // A start process that waits for WAL from a dead leader hears a promotion, or finds the next
    // leader's slot, only after this pause; PostgreSQL's own default is five seconds.
    settings.insert("wal_retrieve_retry_interval", "200ms".into());
    // A stop waits for every standby that is shown, and one that vanished without a word is shown
    // for as long as this; PostgreSQL's own default is a minute.
    settings.insert("wal_sender_timeout", "15s".into());
    for (name, value) in pg.parameters.iter().chain(&pg.recovery) {
        if !is_setting_name(name) {
            return Err(ConfigError::BadName(name.clone()));
        }
        if value.contains('\0') {
            let field = format!("postgresql.parameters.{name}");
            return Err(ConfigError::BadValue {
                field,
                what: "a zero byte",
            });
        }
        settings.insert(name, value.clone());
    }
    settings.insert("unix_socket_directories", socket_directories(pg));
    // Nothing that the files include may stop a member short of what it has received.
    for name in RECOVERY_TARGETS {
        settings.insert(name, String::new());
    }
    settings.insert("recovery_target_timeline", "latest".into());
    settings.remove("primary_conninfo");
    settings.remove("primary_slot_name");
    match follow {
        Follow::Nobody => {}
        Follow::Leader(source) => {
            settings.insert("primary_conninfo", primary_conninfo(pg, &pg.name, source));
            if pg.use_slots {
                settings.insert("primary_slot_name", slot_name(&pg.name));
            }
        }
        Follow::Remote(remote) => {
            if let Some(source) = &remote.source {
                let named = primary_conninfo(pg, &pg.name_elsewhere(), source);
                settings.insert("primary_conninfo", named);
            }
            if let Some(slot) = &remote.slot {
                settings.insert("primary_slot_name", slot.clone());
            }
            for (name, value) in &remote.settings {
                settings.insert(name, value.clone());
            }
        }
    }
    let mut text = format!("{HEADER}include_if_exists {}\n", base_of(pg));
    for (name, value) in settings {
        if !start::is_controlled(name) && name != "synchronous_standby_names" {
            let _ = writeln!(text, "{name} = {}", quote::conf_value(&value));
        }
    }
    let _ = writeln!(text, "include_if_exists '{}'", trial::RECOVERY);
    let _ = writeln!(text, "include_if_exists '{SYNC}'");
    Ok(text)
}

/// The file that the server's settings begin with: the user's, or the one initdb made.
fn base_of(pg: &Postgres) -> String {
    let custom = pg
        .custom_conf
        .as_ref()
        .map(|path| path.display().to_string());
    quote::conf_value(custom.as_deref().unwrap_or(BASE))
}

/// Settings that a recovery in a single-user server needs besides those of the command line: the
/// libraries whose records may be in the WAL, and the WAL that a rewind will want.
const SINGLE_SETTINGS: [&str; 2] = ["shared_preload_libraries", "wal_keep_size"];

/// Writes the file for a single-user server into `dir`: of the configured settings only those that
/// a recovery needs, or (`bare`) not even these. No wrong setting of a user's can be in its way.
pub(super) fn write_single(pg: &Postgres, dir: &Path, bare: bool) -> Result<PathBuf, ConfigError> {
    let mut text = format!("{HEADER}include_if_exists '{BASE}'\nwal_keep_size = '128MB'\n");
    let wanted = |name: &str| !bare && SINGLE_SETTINGS.contains(&name);
    for (name, value) in pg.parameters.iter().filter(|(name, _)| wanted(name)) {
        let _ = writeln!(text, "{name} = {}", quote::conf_value(value));
    }
    let path = dir.join(SINGLE);
    put(&path, &text)?;
    Ok(path)
}

/// The agent's own directory is always among those that the server listens in.
fn socket_directories(pg: &Postgres) -> String {
    let own = pg.socket_dir.display().to_string();
    match pg.parameters.get("unix_socket_directories") {
        Some(given) if quote::list(given).contains(&own) => given.clone(),
        Some(given) if !given.trim().is_empty() => format!("{given}, {}", quote::identifier(&own)),
        _ => quote::identifier(&own),
    }
}

/// How a WAL receiver of ours connects to a leader.
fn primary_conninfo(pg: &Postgres, name: &str, source: &Source) -> String {
    let passfile = pg.pgpass.display().to_string();
    let extra = [("application_name", name), ("passfile", passfile.as_str())];
    quote::conninfo(source, &pg.replication, &extra)
}

fn is_setting_name(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
}

fn lines(field: &str, lines: &[String]) -> Result<String, ConfigError> {
    if lines.iter().any(|line| line.contains(['\n', '\r', '\0'])) {
        return Err(ConfigError::BadValue {
            field: field.into(),
            what: "a line break",
        });
    }
    Ok(lines
        .iter()
        .fold(HEADER.to_owned(), |text, line| text + line + "\n"))
}

/// The user's lines, behind one for the agent where they have none; without any, what the agent
/// needs, and passwords for everyone else.
fn hba_lines(pg: &Postgres) -> Vec<String> {
    let own = |method: &str| {
        let method = pg.superuser.password.as_ref().map_or("peer", |_| method);
        let user = quote::identifier(&pg.superuser.username);
        format!("local all {user} {method}")
    };
    if !pg.pg_hba.is_empty() {
        // With `md5` a password of either kind is taken.
        let before = pg.own_hba_line.then(|| own("md5"));
        return before.into_iter().chain(pg.pg_hba.clone()).collect();
    }
    vec![
        own("scram-sha-256"),
        "local all all scram-sha-256".into(),
        format!(
            "host replication {} all scram-sha-256",
            quote::identifier(&pg.replication.username)
        ),
        "host all all all scram-sha-256".into(),
    ]
}

/// Keeps the file initdb made, once; a clone brings the leader's along.
fn keep_base(dir: &Path) -> Result<(), ConfigError> {
    let (original, base) = (dir.join("postgresql.conf"), dir.join(BASE));
    if base.exists() || !original.exists() {
        return Ok(());
    }
    durable::rename_durably(&original, &base).map_err(io_at(&base))
}

fn clean_auto_conf(dir: &Path) -> Result<(), ConfigError> {
    let recovery = |name: &str| RECOVERY_SETTINGS.contains(&name);
    rewrite(&dir.join("postgresql.auto.conf"), recovery, |_| {
        String::new()
    })
}

/// Settings of the command line do nothing in a file, but each reload would complain that they
/// cannot be changed.
fn clean_base(dir: &Path) -> Result<(), ConfigError> {
    let mark = |line: &str| format!("# on the command line: {line}\n");
    rewrite(&dir.join(BASE), start::is_controlled, mark)
}

/// Puts something else for the lines of a file that set one of these settings.
fn rewrite(
    path: &Path,
    meant: impl Fn(&str) -> bool,
    instead: impl Fn(&str) -> String,
) -> Result<(), ConfigError> {
    let Ok(text) = fs::read_to_string(path) else {
        return Ok(());
    };
    let name = |line: &str| {
        let end = line.trim_start();
        end.split(|c: char| c == '=' || c.is_whitespace())
            .next()
            .unwrap_or("")
            .to_lowercase()
    };
    let lines = text.lines().map(|line| {
        if meant(&name(line)) {
            instead(line)
        } else {
            format!("{line}\n")
        }
    });
    let kept: String = lines.collect();
    if kept == text {
        Ok(())
    } else {
        put(path, &kept)
    }
}

/// Puts `standby.signal` there, durably, or takes it and `recovery.signal` away.
pub fn set_standby_signal(dir: &Path, standby: bool) -> Result<(), ConfigError> {
    let path = dir.join("standby.signal");
    if standby {
        return if path.exists() {
            Ok(())
        } else {
            put(&path, "")
        };
    }
    for name in ["standby.signal", "recovery.signal"] {
        durable::remove_durably(&dir.join(name)).map_err(io_at(&path))?;
    }
    Ok(())
}

/// Writes the password file for WAL receivers, base backups and rewinds: 0600, or libpq ignores it.
pub fn write_pgpass(pg: &Postgres) -> Result<(), ConfigError> {
    let line = |user: &Credentials| {
        let password = quote::pgpass_field(user.password.as_ref()?);
        Some(format!(
            "*:*:*:{}:{password}\n",
            quote::pgpass_field(&user.username)
        ))
    };
    let text: String = [&pg.replication, pg.rewind_user()]
        .into_iter()
        .filter_map(line)
        .collect();
    if text.lines().count() > 2 {
        let field = "postgresql.authentication".into();
        return Err(ConfigError::BadValue {
            field,
            what: "a line break",
        });
    }
    put(&pg.pgpass, &text)
}

#[cfg(test)]
#[path = "config_tests.rs"]
pub(super) mod tests;
