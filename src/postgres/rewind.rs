//! Makes a diverged directory follow the leader again without copying all of it.
//!
//! Three steps, each leaving a directory of which it is known what it is: crash recovery where the
//! server did not stop cleanly (it may be repeated), a dry run that finds what would fail before
//! anything is written, and the rewind itself, which works on the directory *in the stage* (see
//! [`super::stage`]): if it dies, nothing there has the name of a data directory.

use super::bootstrap::BootstrapError;
use super::child::{self, ChildError};
use super::config::{self, ConfigError};
use super::control_data::{ControlData, ControlError};
use super::session::{Session, SqlError};
use super::stage::{Kind, Stage, StageError};
use super::version::Installation;
use super::{Postgres, Source, basebackup, quote, rewind_wal, stale, start};
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// Why a rewind did not succeed, by what is left.
#[derive(Debug, thiserror::Error)]
pub enum RewindError {
    /// Nothing was written: the directory is what it was.
    #[error("cannot rewind: {0}")]
    NotStarted(NotStarted),
    /// The directory cannot be started any more: only a clone may replace it.
    #[error("the rewind broke off, only a clone can replace the directory now: {0}")]
    Broken(Broken),
}

/// What broke a rewind.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// `pg_rewind` failed, or a file could not be written or moved.
    #[error(transparent)]
    Failed(#[from] BootstrapError),
    /// The server would wait for it for ever.
    #[error("recovery needs the WAL segment {0}, and neither this directory nor the leader has it")]
    WalGone(String),
}

/// Why a rewind did not begin.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// `pg_rewind --dry-run` or the single-user server failed.
    #[error(transparent)]
    Program(#[from] ChildError),
    /// The control file cannot be read.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A file could not be written.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory could not be moved into the stage.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A base backup that never became consistent.
    #[error("the directory is a base backup that never became consistent; expected a clone anew")]
    BackupLabel,
    /// Recovery ran, and still it is not clean.
    #[error("the server did not stop cleanly after recovery: {0:?}")]
    StillUnclean(crate::ha::model::ControlState),
    /// The directory has neither.
    #[error("neither wal_log_hints nor data checksums were on: a rewind could miss changed pages")]
    NoHints,
    /// A file could not be removed.
    #[error("cannot remove a file that is left over: {0}")]
    Stale(#[from] std::io::Error),
    /// A server runs on it.
    #[error("a server seems to run on the directory: process {0}")]
    Running(i32),
    /// A task of ours died.
    #[error("a file task died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<NotStarted> for RewindError {
    fn from(error: NotStarted) -> Self {
        Self::NotStarted(error)
    }
}

/// The leader may be rewound to: its control file already names its timeline, which `pg_rewind`
/// compares. Before that it would find nothing to do. `None`: it is in recovery, and leads nobody.
pub async fn leader_ready_for_rewind(
    session: &Session,
    deadline: Duration,
) -> Result<Option<bool>, SqlError> {
    let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE \
               (SELECT timeline_id FROM pg_control_checkpoint()) = \
               ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END";
    session.value(sql, deadline).await
}

/// Brings a directory whose server did not stop cleanly to a clean shutdown, by crash recovery in
/// a single-user server. No WAL is archived and nobody can connect. A clean one is left alone.
pub async fn recover(
    pg: &Postgres,
    installation: &Installation,
    deadline: Duration,
) -> Result<ControlData, NotStarted> {
    let dir = pg.data_dir.as_path();
    if let Some(server) = stale::running_server(dir) {
        return Err(NotStarted::Running(server));
    }
    let control = ControlData::read(dir)?;
    if control.clean_shutdown() {
        return Ok(control);
    }
    if dir.join("backup_label").exists() {
        return Err(NotStarted::BackupLabel);
    }
    stale::remove(dir, &[])?;
    let was_standby = dir.join("standby.signal").exists();
    // A single-user server cannot be a standby. The guardian starts nothing meanwhile.
    config::set_standby_signal(dir, false)?;
    let ran = run_single_user(pg, installation, &control, deadline).await;
    if was_standby {
        config::set_standby_signal(dir, true)?;
    }
    ran?;
    let control = ControlData::read(dir)?;
    if control.clean_shutdown() {
        Ok(control)
    } else {
        Err(NotStarted::StillUnclean(control.state))
    }
}

/// With the libraries that are configured; where that fails, without.
async fn run_single_user(
    pg: &Postgres,
    installation: &Installation,
    control: &ControlData,
    deadline: Duration,
) -> Result<(), NotStarted> {
    let dir = pg.data_dir.as_path();
    let file = config::write_single(pg, dir, false)?;
    let mut ran = child::run(single_user(pg, installation, control, &file), deadline).await;
    if let Err(error @ ChildError::Failed { .. }) = &ran {
        tracing::warn!(%error, "recovery failed; once more without the configured libraries");
        config::write_single(pg, dir, true)?;
        ran = child::run(single_user(pg, installation, control, &file), deadline).await;
    }
    std::fs::remove_file(&file)?;
    ran?;
    Ok(())
}

fn single_user(
    pg: &Postgres,
    installation: &Installation,
    control: &ControlData,
    config_file: &Path,
) -> Command {
    let mut command = child::program(&installation.program("postgres"), &pg.data_dir);
    command
        .env("LC_ALL", "C")
        .arg("--single")
        .arg("-D")
        .arg(&pg.data_dir)
        .arg("-c")
        .arg(format!("config_file={}", config_file.display()));
    // WAL not archived yet stays so, and no commit of recovery waits for a standby.
    for setting in [
        "archive_mode=on",
        "archive_command=false",
        "synchronous_standby_names=",
    ] {
        command.args(["-c", setting]);
    }
    for (name, value) in start::controlled(pg, Some(control), &mut Vec::new()) {
        command.args(["-c", &format!("{name}={value}")]);
    }
    command.arg("template1");
    command
}

/// Rewinds the directory to `source`, the leader, and makes it a standby of it. The leader must be
/// [ready](leader_ready_for_rewind). `deadline` counts for each of the programs. A directory whose
/// recovery could not be finished counts as broken.
pub async fn rewind(
    pg: &Postgres,
    installation: &Installation,
    source: &Source,
    deadline: Duration,
) -> Result<(), RewindError> {
    let stage = prepare(pg, installation, source, deadline).await?;
    let target = stage.target();
    let ran = child::run(pg_rewind(pg, installation, source, &target), deadline).await;
    ran.map_err(|error| broken(error.into()))?;
    if let Some(segment) = rewind_wal::missing(pg, source, &target).await {
        return Err(RewindError::Broken(Broken::WalGone(segment)));
    }
    let (pg, source) = (pg.clone(), source.clone());
    let finish = move || -> Result<(), BootstrapError> {
        basebackup::become_standby(&pg, &stage.target(), Some(&source))?;
        Ok(stage.finish()?)
    };
    let finished = tokio::task::spawn_blocking(finish)
        .await
        .map_err(BootstrapError::from);
    finished.and_then(|result| result).map_err(broken)
}

fn broken(error: BootstrapError) -> RewindError {
    RewindError::Broken(error.into())
}

/// Everything that may fail without harm.
async fn prepare(
    pg: &Postgres,
    installation: &Installation,
    source: &Source,
    deadline: Duration,
) -> Result<Stage, NotStarted> {
    let dir = pg.data_dir.as_path();
    let control = recover(pg, installation, deadline).await?;
    if !control.wal_log_hints && control.checksum_version == 0 {
        return Err(NotStarted::NoHints);
    }
    config::write_pgpass(pg)?;
    let mut dry = pg_rewind(pg, installation, source, dir);
    dry.arg("--dry-run");
    child::run(dry, deadline).await?;
    let data_dir = pg.data_dir.clone();
    let begin = move || Stage::begin(&data_dir, Kind::Rewind, None);
    Ok(tokio::task::spawn_blocking(begin).await??)
}

fn pg_rewind(pg: &Postgres, installation: &Installation, source: &Source, dir: &Path) -> Command {
    let mut command = child::program(&installation.program("pg_rewind"), dir);
    let mut extra = vec![
        ("dbname", pg.database.as_str()),
        ("application_name", pg.name.as_str()),
    ];
    extra.extend(quote::NOTICE_SILENCE);
    command
        .env("PGPASSFILE", &pg.pgpass)
        .env("LC_ALL", "C")
        .arg("--target-pgdata")
        .arg(dir)
        .arg(format!(
            "--source-server={}",
            quote::conninfo(source, pg.rewind_user(), &extra)
        ))
        .arg("--no-ensure-shutdown");
    if pg.recovery.contains_key("restore_command") {
        command.arg("--restore-target-wal");
    }
    command
}
