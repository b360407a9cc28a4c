//! `post_bootstrap`: a command of the user's in a new cluster, before anybody is told of it.
//!
//! It gets a connection string as its last argument, and the password by way of a file: neither in
//! its arguments nor in its environment. Its commits wait for no standby: there is none.

use super::hook::{self, Hook, HookError};
use super::{Postgres, Source, quote};
use crate::sys::durable;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the new cluster is not kept.
#[derive(Debug, thiserror::Error)]
pub enum PostBootstrapError {
    /// The password file could not be written, or not removed.
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, std::io::Error),
    /// The command failed.
    #[error("bootstrap.post_bootstrap: {0}")]
    Command(#[from] HookError),
}

/// Runs the command with these words.
pub async fn run(
    pg: &Postgres,
    leash: &Path,
    words: &[String],
    deadline: Duration,
) -> Result<(), PostBootstrapError> {
    let place = pg.place();
    let socket = Source {
        host: place.dir.display().to_string(),
        port: place.port,
    };
    let mut argv = words.to_vec();
    let database = [("dbname", pg.database.as_str())];
    argv.push(quote::conninfo(&socket, &pg.superuser, &database));
    let mut passfile = pg.pgpass.clone().into_os_string();
    passfile.push(".bootstrap");
    let passfile = PathBuf::from(passfile);
    let failed = |error| PostBootstrapError::Write(passfile.clone(), error);
    let user = quote::pgpass_field(&pg.superuser.username);
    let password = pg.superuser.password.as_deref().unwrap_or_default();
    let line = format!("*:*:*:{user}:{}\n", quote::pgpass_field(password));
    durable::write_atomic(&passfile, line.as_bytes(), 0o600).map_err(failed)?;
    let hook = Hook {
        name: "post_bootstrap".to_owned(),
        argv,
        env: vec![
            ("PGPASSFILE".to_owned(), passfile.display().to_string()),
            (
                "PGOPTIONS".to_owned(),
                "-c synchronous_commit=local".to_owned(),
            ),
        ],
        works_in: None,
        lingers: false,
        deadline,
    };
    let ran = hook::run(leash, &hook).await;
    durable::remove_durably(&passfile).map_err(failed)?;
    Ok(ran?)
}
