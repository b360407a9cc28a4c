//! A new cluster: `initdb`, and the users its members need.
//!
//! No password travels as SQL text, where a log or a statistics view could keep it: the superuser's
//! goes through a file only we can read, the others' as SCRAM verifiers computed here.

use super::child::{self, ChildError};
use super::config::{self, ConfigError, Follow};
use super::session::{Session, SqlError};
use super::stage::{Kind, Stage, StageError};
use super::trial::{self, TrialError};
use super::version::Installation;
use super::{Credentials, Postgres, ProgramOption, quote};
use crate::sys::durable;
use std::path::PathBuf;
use std::time::Duration;

/// Options of `initdb` that are ours to give, under each of their names.
const FORBIDDEN: [&str; 11] = [
    "pgdata",
    "nosync",
    "no-sync",
    "pwfile",
    "pwprompt",
    "sync-only",
    "version",
    "help",
    "username",
    "show",
    "no-clean",
];

/// Why a new cluster could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// An option that cannot be given.
    #[error("{field}: option \"{name}\" cannot be used here: {why}")]
    ForbiddenOption {
        /// Where it was given.
        field: &'static str,
        /// Its name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// A password that a file of one line cannot carry.
    #[error("postgresql.authentication.{0}.password has a line break; expected one line")]
    PasswordLine(&'static str),
    /// The directory could not be staged.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A file could not be written.
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, std::io::Error),
    /// `initdb` failed.
    #[error(transparent)]
    Initdb(#[from] ChildError),
    /// The configuration could not be written.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It could not be put on trial.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// A task of ours died.
    #[error("a file task died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Refuses options that the agent itself gives or that would defeat it.
pub(super) fn check_options(
    field: &'static str,
    options: &[ProgramOption],
    forbidden: &[&str],
) -> Result<(), BootstrapError> {
    for option in options {
        let refuse = |why| {
            Err(BootstrapError::ForbiddenOption {
                field,
                name: option.name.clone(),
                why,
            })
        };
        if forbidden.contains(&option.name.as_str()) {
            return refuse("the agent gives it itself");
        }
        // A short option, or text that would be taken for another argument.
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if option.name.len() < 2 || option.name.starts_with('-') || !option.name.chars().all(named)
        {
            return refuse("expected a long option's name without its dashes");
        }
    }
    Ok(())
}

pub(super) fn arguments(options: &[ProgramOption]) -> impl Iterator<Item = String> + '_ {
    options.iter().map(|option| match &option.value {
        Some(value) => format!("--{}={value}", option.name),
        None => format!("--{}", option.name),
    })
}

/// Makes a new cluster in the data directory, which must be empty: staged, synced, moved into
/// place. Afterwards it may be started; [`create_users`] follows once it runs.
pub async fn initdb(
    pg: &Postgres,
    installation: &Installation,
    deadline: Duration,
) -> Result<(), BootstrapError> {
    make(pg, installation, false, deadline).await
}

/// The same; more is to follow before the cluster counts ([`trial`]).
pub async fn initdb_on_trial(
    pg: &Postgres,
    installation: &Installation,
    deadline: Duration,
) -> Result<(), BootstrapError> {
    make(pg, installation, true, deadline).await
}

async fn make(
    pg: &Postgres,
    installation: &Installation,
    on_trial: bool,
    deadline: Duration,
) -> Result<(), BootstrapError> {
    check_options("bootstrap.initdb", &pg.initdb, &FORBIDDEN)?;
    if pg
        .superuser
        .password
        .as_ref()
        .is_some_and(|password| password.contains(['\n', '\r']))
    {
        return Err(BootstrapError::PasswordLine("superuser"));
    }
    let data_dir = pg.data_dir.clone();
    let begin = move || Stage::begin(&data_dir, Kind::Initdb, None);
    let stage = tokio::task::spawn_blocking(begin).await??;
    if let Err(error) = run_initdb(pg, installation, &stage, deadline).await {
        // The first error is the one to tell; what stays behind is marked as ours anyway.
        drop(tokio::task::spawn_blocking(move || stage.abandon()).await);
        return Err(error);
    }
    let pg = pg.clone();
    let finish = move || -> Result<(), BootstrapError> {
        if on_trial {
            trial::begin(&stage.target())?;
        }
        config::write(&pg, &stage.target(), &Follow::Nobody)?;
        Ok(stage.finish()?)
    };
    tokio::task::spawn_blocking(finish).await?
}

async fn run_initdb(
    pg: &Postgres,
    installation: &Installation,
    stage: &Stage,
    deadline: Duration,
) -> Result<(), BootstrapError> {
    let mut command = child::program(&installation.program("initdb"), &stage.root());
    command.arg("--pgdata").arg(stage.target()).arg("--no-sync");
    command.arg(format!("--username={}", pg.superuser.username));
    let password_file = stage.scratch_file("password");
    if let Some(password) = &pg.superuser.password {
        durable::write_atomic(&password_file, format!("{password}\n").as_bytes(), 0o600)
            .map_err(|error| BootstrapError::Write(password_file.clone(), error))?;
        command.arg("--pwfile").arg(&password_file);
    }
    // Without a word from the user nobody is trusted; `pg_hba.conf` is written by us afterwards.
    if !pg
        .initdb
        .iter()
        .any(|option| option.name.starts_with("auth"))
    {
        command.args(["--auth-local=peer", "--auth-host=scram-sha-256"]);
    }
    command.args(arguments(&pg.initdb));
    let ran = child::run(command, deadline).await;
    durable::remove_durably(&password_file)
        .map_err(|error| BootstrapError::Write(password_file, error))?;
    ran?;
    Ok(())
}

/// The functions a rewind's user must be able to call on the source.
const REWIND_FUNCTIONS: [&str; 4] = [
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
];

/// Creates the replication user and the rewind user, or gives existing ones their passwords and
/// rights. May be repeated.
pub async fn create_users(
    session: &Session,
    pg: &Postgres,
    deadline: Duration,
) -> Result<(), SqlError> {
    let superuser = &pg.superuser.username;
    if pg.replication.username != *superuser {
        ensure_role(session, &pg.replication, "LOGIN REPLICATION", deadline).await?;
    }
    let Some(rewind) = pg
        .rewind
        .as_ref()
        .filter(|rewind| rewind.username != *superuser)
    else {
        return Ok(());
    };
    if rewind.username != pg.replication.username {
        ensure_role(session, rewind, "LOGIN", deadline).await?;
    }
    let role = quote::identifier(&rewind.username);
    let grants = REWIND_FUNCTIONS
        .map(|function| format!("GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {role}"));
    session.execute(&grants.join("; "), deadline).await
}

/// Gives the superuser of a cluster that came out of a backup the configured password.
pub async fn own_superuser(
    session: &Session,
    pg: &Postgres,
    deadline: Duration,
) -> Result<(), SqlError> {
    ensure_role(session, &pg.superuser, "LOGIN SUPERUSER", deadline).await
}

async fn ensure_role(
    session: &Session,
    user: &Credentials,
    attributes: &str,
    deadline: Duration,
) -> Result<(), SqlError> {
    let name = quote::literal(&user.username);
    let exists = format!("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = {name})");
    let exists: bool = session.value(&exists, deadline).await?;
    let verb = if exists { "ALTER" } else { "CREATE" };
    let password = user.password.as_ref().map_or(String::new(), |password| {
        format!(" PASSWORD {}", quote::literal(&scram_verifier(password)))
    });
    let role = quote::identifier(&user.username);
    session
        .execute(
            &format!("{verb} ROLE {role} WITH {attributes}{password}"),
            deadline,
        )
        .await
}

/// The verifier that the server stores for a password: it proves a login and does not give the
/// password away (RFC 5803).
fn scram_verifier(password: &str) -> String {
    postgres_protocol::password::scram_sha_256(password.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(name: &str) -> ProgramOption {
        ProgramOption {
            name: name.into(),
            value: None,
        }
    }

    #[test]
    fn options_that_are_ours_or_smuggle_others_are_refused() {
        for name in [
            "pgdata",
            "no-sync",
            "D",
            "-D",
            "data-checksums --pgdata",
            "",
        ] {
            assert!(check_options("bootstrap.initdb", &[option(name)], &FORBIDDEN).is_err());
        }
        let good = [option("data-checksums"), option("encoding")];
        assert!(check_options("bootstrap.initdb", &good, &FORBIDDEN).is_ok());
    }

    #[test]
    fn a_verifier_is_salted_and_holds_no_password() {
        let (one, two) = (scram_verifier("secret"), scram_verifier("secret"));
        assert!(one.starts_with("SCRAM-SHA-256$4096:") && !one.contains("secret"));
        assert_ne!(one, two);
    }
}
