//! A clone of the leader's data directory, with progress.
//!
//! Staged like every new directory (rule L9): the replaced one stays whole beside it until the copy
//! is complete and on disk.

use super::bootstrap::{self, BootstrapError};
use super::config::{self, Follow};
use super::stage::{Kind, ReplaceProof, Stage};
use super::version::Installation;
use super::{Postgres, Source, child, quote};
use crate::ha::quorum::SyncSetting;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

/// Options of `pg_basebackup` that are ours to give.
const FORBIDDEN: [&str; 17] = [
    "pgdata",
    "format",
    "wal-method",
    "xlog-method",
    "gzip",
    "version",
    "help",
    "dbname",
    "host",
    "port",
    "username",
    "password",
    "no-password",
    "progress",
    "no-sync",
    "slot",
    "target",
];

/// How far a clone is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneProgress {
    /// Bytes received.
    pub done_bytes: u64,
    /// Bytes expected, as the source estimated them.
    pub total_bytes: u64,
}

/// Copies the leader. Where a cluster is present, `proof` says that it may be replaced.
///
/// With a `slot`, it must exist on the leader and keeps the WAL from now on; else a temporary one
/// is used while copying. On success the directory is a standby of `source`, ready to start.
pub async fn clone(
    pg: &Postgres,
    installation: &Installation,
    source: &Source,
    proof: Option<ReplaceProof>,
    progress: &watch::Sender<CloneProgress>,
    deadline: Duration,
) -> Result<(), BootstrapError> {
    bootstrap::check_options("postgresql.basebackup", &pg.basebackup, &FORBIDDEN)?;
    config::write_pgpass(pg)?;
    let data_dir = pg.data_dir.clone();
    let begin = move || Stage::begin(&data_dir, Kind::Clone, proof.as_ref());
    let stage = tokio::task::spawn_blocking(begin).await??;
    let command = command(pg, installation, source, &stage);
    let watched = child::run_watched(command, deadline, |line| {
        if let Some(seen) = parse_progress(line) {
            progress.send_replace(seen);
        }
    });
    if let Err(error) = watched.await {
        // The first error is the one to tell; what stays behind is marked as ours anyway.
        drop(tokio::task::spawn_blocking(move || stage.abandon()).await);
        return Err(error.into());
    }
    let (pg, source) = (pg.clone(), source.clone());
    let finish = move || -> Result<(), BootstrapError> {
        become_standby(&pg, &stage.target(), Some(&source))?;
        Ok(stage.finish()?)
    };
    tokio::task::spawn_blocking(finish).await?
}

/// Makes a copy of the leader's directory this member's own: it follows `source`, and nothing the
/// leader had decided for itself is left in it.
pub(super) fn become_standby(
    pg: &Postgres,
    dir: &Path,
    source: Option<&Source>,
) -> Result<(), BootstrapError> {
    config::set_standby_signal(dir, false)?;
    config::set_sync(dir, &SyncSetting::default())?;
    let follow = source.cloned().map_or(Follow::Nobody, Follow::Leader);
    config::write(pg, dir, &follow)?;
    Ok(config::set_standby_signal(dir, true)?)
}

fn command(
    pg: &Postgres,
    installation: &Installation,
    source: &Source,
    stage: &Stage,
) -> tokio::process::Command {
    let mut command = child::program(&installation.program("pg_basebackup"), &stage.root());
    let mut extra = vec![("application_name", pg.name.as_str())];
    extra.extend(quote::NOTICE_SILENCE);
    command
        .env("PGPASSFILE", &pg.pgpass)
        .env("LC_ALL", "C")
        .arg(format!(
            "--dbname={}",
            quote::conninfo(source, &pg.replication, &extra)
        ))
        .arg("--pgdata")
        .arg(stage.target())
        .args([
            "--no-password",
            "--wal-method=stream",
            "--progress",
            "--no-sync",
        ]);
    // The checkpoint it begins with is forced unless the user wants to spare the leader.
    if !pg
        .basebackup
        .iter()
        .any(|option| option.name == "checkpoint")
    {
        command.arg("--checkpoint=fast");
    }
    command.args(bootstrap::arguments(&pg.basebackup));
    command
}

/// Reads a line of `--progress`: `12345/67890 kB (18%), 0/1 tablespace (…)`.
fn parse_progress(line: &str) -> Option<CloneProgress> {
    let (numbers, _) = line.trim_start().split_once(" kB ")?;
    let (done, total) = numbers.split_once('/')?;
    let bytes = |kib: &str| {
        kib.trim()
            .parse::<u64>()
            .ok()
            .map(|kib| kib.saturating_mul(1024))
    };
    Some(CloneProgress {
        done_bytes: bytes(done)?,
        total_bytes: bytes(total)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sweep_finds_the_program_by_where_it_works() {
        let home = std::env::temp_dir().join(format!("pgwarden-bb-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let pg = Postgres {
            data_dir: home.join("data"),
            ..config::tests::sample()
        };
        let installation = Installation {
            bin_dir: "/nowhere".into(),
            names: std::collections::BTreeMap::new(),
            major: 15,
            text: "15.0".into(),
        };
        let source = Source {
            host: "leader".into(),
            port: 5432,
        };
        let stage = Stage::begin(&pg.data_dir, Kind::Clone, None).unwrap();
        let command = command(&pg, &installation, &source, &stage);
        // What the composition root has the guardian sweep.
        let swept = home.join("data.pgwarden-new");
        assert_eq!(command.as_std().get_current_dir(), Some(swept.as_path()));
        std::fs::remove_dir_all(&home).unwrap();
    }

    #[test]
    fn progress_lines_are_read_and_others_passed_over() {
        let line = "  23423/45324 kB (51%), 0/1 tablespace (...ata/base/5/1249)";
        let expected = CloneProgress {
            done_bytes: 23423 * 1024,
            total_bytes: 45324 * 1024,
        };
        assert_eq!(parse_progress(line), Some(expected));
        assert_eq!(parse_progress("pg_basebackup: checkpoint completed"), None);
        assert_eq!(parse_progress("x/y kB (0%)"), None);
    }
}
