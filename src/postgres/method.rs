//! A data directory made by a command of the user's: a copy of the leader, or a new cluster.
//!
//! Staged like every new directory (rule L9). The command is told which directory it is to fill:
//! a sibling of `data_dir`, so that what is there stays whole. One that takes no arguments
//! (`no_params`) or is to begin with the data that are there (`keep_data`) fills `data_dir` itself.
//! What it leaves must be a data directory of this major version, whatever its exit code says.

use super::basebackup;
use super::bootstrap::BootstrapError;
use super::config::{self, Follow};
use super::control_data::ControlData;
use super::hook::{self, Hook, HookError};
use super::stage::{Kind, ReplaceProof, Stage, StageError};
use super::trial::{self, TrialError};
use super::version::{self, Installation};
use super::{Postgres, Source, quote};
use crate::ha::quorum::SyncSetting;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// A command that makes a data directory.
#[derive(Clone, Debug)]
pub struct Method {
    /// Its name in the configuration.
    pub name: String,
    /// The command's words.
    pub argv: Vec<String>,
    /// It gets no arguments.
    pub no_params: bool,
    /// It begins with the data that are there.
    pub keep_data: bool,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// The system identifier that its data must have, where there is a cluster.
    pub cluster: Option<String>,
}

/// How a new cluster goes on from what the command made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// As it is.
    None,
    /// With the recovery that the command has configured.
    Own,
    /// With these settings.
    Given(BTreeMap<String, String>),
}

/// Why a method made no data directory.
#[derive(Debug, thiserror::Error)]
pub enum MethodError {
    /// The directory could not be staged.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The command failed.
    #[error("{name}: {source}")]
    Command {
        /// The method.
        name: String,
        /// Why.
        source: HookError,
    },
    /// What it made is no data directory.
    #[error("{name}: the command ended well and left no data directory: {why}")]
    Incomplete {
        /// The method.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// What it made could not be made this member's own.
    #[error(transparent)]
    Adapt(#[from] BootstrapError),
    /// Nor marked.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// A task of ours died.
    #[error("a file task died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Makes a copy of the leader at `source`; without one the method finds its data elsewhere. Where a
/// cluster is present, `proof` says that it may be replaced.
pub async fn copy(
    pg: &Postgres,
    installation: &Installation,
    leash: &Path,
    method: &Method,
    (source, proof): (Option<&Source>, Option<ReplaceProof>),
    deadline: Duration,
) -> Result<(), MethodError> {
    config::write_pgpass(pg).map_err(BootstrapError::from)?;
    let connection = source.map(|source| quote::conninfo(source, &pg.replication, &[]));
    let params = [
        format!("--scope={}", pg.scope),
        "--role=replica".to_owned(),
        format!("--connstring={}", connection.unwrap_or_default()),
    ];
    let stage = begin(pg, method, Kind::Clone, proof).await?;
    let env = vec![("PGPASSFILE".to_owned(), pg.pgpass.display().to_string())];
    let stage = fill(installation, leash, method, (stage, &params, env), deadline).await?;
    let (pg, source) = (pg.clone(), source.cloned());
    let finish = move || -> Result<(), MethodError> {
        basebackup::become_standby(&pg, &stage.target(), source.as_ref())?;
        Ok(stage.finish()?)
    };
    tokio::task::spawn_blocking(finish).await?
}

/// Makes a new cluster, on trial. Afterwards it may be started out of recovery, or into the
/// recovery that ends with its promotion.
pub async fn bootstrap(
    pg: &Postgres,
    installation: &Installation,
    leash: &Path,
    (method, recovery): (&Method, &Recovery),
    deadline: Duration,
) -> Result<(), MethodError> {
    let params = [format!("--scope={}", pg.scope)];
    let stage = begin(pg, method, Kind::Initdb, None).await?;
    let stage = fill(
        installation,
        leash,
        method,
        (stage, &params, vec![]),
        deadline,
    )
    .await?;
    let (pg, recovery) = (pg.clone(), recovery.clone());
    let finish = move || -> Result<(), MethodError> {
        let target = stage.target();
        trial::begin(&target)?;
        let recovery = match recovery {
            Recovery::None => None,
            Recovery::Own => trial::recovery_of(&target),
            Recovery::Given(settings) => Some(settings),
        };
        config::set_standby_signal(&target, false).map_err(BootstrapError::from)?;
        config::set_sync(&target, &SyncSetting::default()).map_err(BootstrapError::from)?;
        config::write(&pg, &target, &Follow::Nobody).map_err(BootstrapError::from)?;
        if let Some(settings) = recovery {
            trial::set_recovery(&target, &settings)?;
        }
        Ok(stage.finish()?)
    };
    tokio::task::spawn_blocking(finish).await?
}

async fn begin(
    pg: &Postgres,
    method: &Method,
    kind: Kind,
    proof: Option<ReplaceProof>,
) -> Result<Stage, MethodError> {
    let data_dir = pg.data_dir.clone();
    let (fills, keep) = (method.no_params || method.keep_data, method.keep_data);
    let begin = move || {
        if fills {
            return Stage::begin_filling(&data_dir, kind, keep, proof.as_ref());
        }
        Stage::begin(&data_dir, kind, proof.as_ref())
    };
    Ok(tokio::task::spawn_blocking(begin).await??)
}

/// Runs the command, and looks at what it left; where that is nothing, the stage is given up.
async fn fill(
    installation: &Installation,
    leash: &Path,
    method: &Method,
    (stage, params, env): (Stage, &[String], Vec<(String, String)>),
    deadline: Duration,
) -> Result<Stage, MethodError> {
    let target = stage.target();
    let made = prepare(&target).map_err(|error| MethodError::Incomplete {
        name: method.name.clone(),
        why: error.to_string(),
    });
    let ran = match made {
        Ok(()) => run(leash, method, (&stage, params, env), deadline).await,
        Err(error) => Err(error),
    };
    let (major, cluster) = (installation.major, method.cluster.clone());
    let look = move || judge(&target, major, cluster.as_deref());
    let looked = match ran {
        Ok(()) => tokio::task::spawn_blocking(look).await?,
        Err(error) => {
            give_up(stage).await;
            return Err(error);
        }
    };
    if let Err(why) = looked {
        give_up(stage).await;
        let name = method.name.clone();
        return Err(MethodError::Incomplete { name, why });
    }
    Ok(stage)
}

/// The first error is the one to tell; what stays behind is marked as ours anyway.
async fn give_up(stage: Stage) {
    drop(tokio::task::spawn_blocking(move || stage.abandon()).await);
}

fn prepare(target: &Path) -> std::io::Result<()> {
    if !target.exists() {
        fs::create_dir(target)?;
    }
    fs::set_permissions(target, fs::Permissions::from_mode(0o700))
}

async fn run(
    leash: &Path,
    method: &Method,
    (stage, params, env): (&Stage, &[String], Vec<(String, String)>),
    deadline: Duration,
) -> Result<(), MethodError> {
    let mut argv = method.argv.clone();
    if !method.no_params {
        argv.extend(params.iter().cloned());
        argv.push(format!("--datadir={}", stage.target().display()));
    }
    argv.extend(method.arguments.iter().cloned());
    let hook = Hook {
        name: method.name.clone(),
        argv,
        env,
        works_in: Some(stage.root()),
        lingers: false,
        deadline,
    };
    let failed = |source| MethodError::Command {
        name: method.name.clone(),
        source,
    };
    hook::run(leash, &hook).await.map_err(failed)
}

/// Whether this is a data directory of that major version and of that cluster, whole enough to be
/// started. What a command has brought from a wrong place must not replace a good copy.
fn judge(dir: &Path, major: u32, cluster: Option<&str>) -> Result<(), String> {
    let path = dir.join("PG_VERSION");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let found = version::parse_major(&text).map_err(|error| error.to_string())?;
    if found != major {
        return Err(format!("it is of PostgreSQL {found}, expected {major}"));
    }
    // Its mode is the server's condition, and a command may have left another.
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(dir, private).map_err(|error| error.to_string())?;
    let control = ControlData::read(dir).map_err(|error| error.to_string())?;
    let found = control.system_id.to_string();
    match cluster {
        Some(cluster) if cluster != found => Err(format!(
            "it is another cluster's, with the system identifier {found}; expected {cluster}"
        )),
        _ => Ok(()),
    }
}
