//! A new cluster on trial: its directory is in place and its server may run, but it has not been
//! through its bootstrap, be it a recovery to a point in time or the user's `post_bootstrap`.
//!
//! A mark inside the directory says so. Under it the directory counts as unfinished (rule L9): it
//! is not started again, nobody copies it, and the next attempt moves it aside for people to look
//! at, to `<data_dir>.failed`. Nothing is wiped but an earlier failure.

use super::{Postgres, quote, stage};
use crate::sys::durable;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The mark; its name is one that a copy of the directory does not mistake for PostgreSQL's.
const MARK: &str = ".pgwarden.trial";
/// Where an earlier failure goes where `data_dir` is a mount point.
const FAILED_INSIDE: &str = ".pgwarden-failed";
/// Settings of the recovery that the trial begins with.
pub(super) const RECOVERY: &str = "pgwarden.recovery.conf";
const SIGNAL: &str = "recovery.signal";
const HEADER: &str = "# The recovery of a bootstrap; removed at its end.\n";

/// Why a trial cannot be begun or put aside.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}: {source}")]
pub struct TrialError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn at<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> TrialError + 'a {
    move |source| TrialError {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Puts the mark into a directory in the making.
pub fn begin(dir: &Path) -> Result<(), TrialError> {
    let mark = dir.join(MARK);
    durable::write_atomic(&mark, b"on trial\n", 0o600).map_err(at("write", &mark))
}

/// The directory is on trial.
pub fn is_on(dir: &Path) -> bool {
    dir.join(MARK).exists()
}

/// The first line of its `pg_hba.conf`: out of a backup it has passwords that nobody here knows.
/// The socket alone is open, and only until [`end`].
pub(super) fn hba_line(pg: &Postgres, dir: &Path) -> Option<String> {
    let user = quote::identifier(&pg.superuser.username);
    is_on(dir).then(|| format!("local all {user} trust"))
}

/// It is through: an ordinary directory from now on.
pub fn end(dir: &Path) -> Result<(), TrialError> {
    for name in [RECOVERY, MARK] {
        let path = dir.join(name);
        durable::remove_durably(&path).map_err(at("remove", &path))?;
    }
    Ok(())
}

/// Moves what is on trial aside, in place of an earlier failure. Where it went.
pub fn set_aside(data_dir: &Path) -> Result<PathBuf, TrialError> {
    let data_dir = stage::resolve(data_dir);
    let movable = durable::can_be_replaced(&data_dir).map_err(at("look at", &data_dir))?;
    let failed = if movable {
        let mut name = data_dir.as_os_str().to_owned();
        name.push(".failed");
        PathBuf::from(name)
    } else {
        data_dir.join(FAILED_INSIDE)
    };
    if failed.exists() {
        if !is_on(&failed) {
            let taken =
                io::Error::other("a directory that is no failed bootstrap of ours is there");
            return Err(at("move the failed bootstrap to", &failed)(taken));
        }
        durable::remove_tree(&failed).map_err(at("remove", &failed))?;
    }
    if movable {
        durable::rename_durably(&data_dir, &failed).map_err(at("move", &data_dir))?;
        return Ok(failed);
    }
    durable::make_private_dir(&failed).map_err(at("make", &failed))?;
    // The mark goes last: until then all of it is unfinished.
    let mut names: Vec<PathBuf> = stage::entries(&data_dir).unwrap_or_default();
    names.push(MARK.into());
    for name in names {
        let (from, to) = (data_dir.join(&name), failed.join(&name));
        fs::rename(&from, &to).map_err(at("move", &from))?;
    }
    durable::sync_dir(&data_dir).map_err(at("sync", &data_dir))?;
    Ok(failed)
}

/// Lets the trial begin with a recovery under these settings, which ends with a promotion.
pub fn set_recovery(dir: &Path, settings: &BTreeMap<String, String>) -> Result<(), TrialError> {
    let mut text = HEADER.to_owned();
    for (name, value) in settings {
        if name != "recovery_target_action" {
            let _ = writeln!(text, "{name} = {}", quote::conf_value(value));
        }
    }
    text += "recovery_target_action = 'promote'\n";
    for (name, content) in [(RECOVERY, text.as_str()), (SIGNAL, "")] {
        let path = dir.join(name);
        durable::write_atomic(&path, content.as_bytes(), 0o600).map_err(at("write", &path))?;
    }
    let standby = dir.join("standby.signal");
    durable::remove_durably(&standby).map_err(at("remove", &standby))
}

/// The recovery that the command itself has configured, where it has: the settings beside
/// `postgresql.auto.conf`'s others.
pub fn recovery_of(dir: &Path) -> Option<BTreeMap<String, String>> {
    let signals = [SIGNAL, "standby.signal"];
    if !signals.iter().any(|name| dir.join(name).exists()) {
        return None;
    }
    let text = fs::read_to_string(dir.join("postgresql.auto.conf")).unwrap_or_default();
    let mut settings = BTreeMap::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let name = name.trim().to_ascii_lowercase();
        let recovers = name == "restore_command"
            || name == "recovery_end_command"
            || name.starts_with("recovery_target");
        if recovers {
            let value = value.trim();
            let quoted = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\''));
            let value = quoted.map_or(value.to_owned(), |v| v.replace("''", "'"));
            settings.insert(name, value);
        }
    }
    Some(settings)
}

/// A start of this directory goes on with the recovery.
pub fn recovers(dir: &Path) -> bool {
    is_on(dir) && dir.join(RECOVERY).exists() && dir.join(SIGNAL).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_trial_goes_aside_and_a_stranger_in_its_way_stays() {
        let home = std::env::temp_dir().join(format!("pgwarden-trial-{}", std::process::id()));
        let data = home.join("data");
        let make = |word: &str| {
            fs::create_dir_all(&data).unwrap();
            fs::write(data.join("word"), word).unwrap();
            begin(&data).unwrap();
        };
        make("first");
        let failed = set_aside(&data).unwrap();
        assert_eq!(failed, home.canonicalize().unwrap().join("data.failed"));
        make("second");
        set_aside(&data).unwrap();
        assert_eq!(fs::read_to_string(failed.join("word")).unwrap(), "second");
        end(&failed).unwrap();
        make("third");
        let error = set_aside(&data).unwrap_err().to_string();
        assert!(error.contains("data.failed"), "{error}");
        assert_eq!(fs::read_to_string(failed.join("word")).unwrap(), "second");
        assert!(is_on(&data));
        fs::remove_dir_all(&home).unwrap();
    }

    #[test]
    fn a_recovery_of_the_commands_own_is_read() {
        let home = std::env::temp_dir().join(format!("pgwarden-recover-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let auto =
            "work_mem = '1MB'\nrestore_command = 'cp ''a b'' %p'\nrecovery_target_time = 'x'\n";
        fs::write(home.join("postgresql.auto.conf"), auto).unwrap();
        assert_eq!(recovery_of(&home), None);
        fs::write(home.join(SIGNAL), "").unwrap();
        let found = recovery_of(&home).unwrap();
        assert_eq!(found["restore_command"], "cp 'a b' %p");
        assert_eq!(found.len(), 2);
        fs::remove_dir_all(&home).unwrap();
    }
}
