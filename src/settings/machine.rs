//! What only this machine can say about the settings: are the programs there, can the data
//! directory be used. Nothing is changed and nothing is started.

use super::problem::Problem;
use super::types::Settings;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Programs without which nothing works.
const NEEDED: [&str; 4] = ["postgres", "initdb", "pg_basebackup", "pg_rewind"];

/// Looks at `bin_dir` and `data_dir`.
pub fn inspect(settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    programs(settings, &mut problems);
    data_dir(&settings.postgresql.data_dir, &mut problems);
    problems
}

fn programs(settings: &Settings, problems: &mut Vec<Problem>) {
    let pg = &settings.postgresql;
    let path = "postgresql.bin_dir";
    let Some(dir) = &pg.bin_dir else {
        let places: Vec<PathBuf> = env::var_os("PATH")
            .map(|all| env::split_paths(&all).collect())
            .unwrap_or_default();
        for name in NEEDED {
            let file = pg.program(name);
            if !places
                .iter()
                .any(|place| executable(&place.join(&file)).is_ok())
            {
                let message = format!(
                    "it is missing, and {} is not on PATH; expected the directory of the programs, \
                     as /usr/lib/postgresql/17/bin",
                    file.display()
                );
                problems.push(Problem::error(path, message));
            }
        }
        return;
    };
    if !dir.is_dir() {
        let message = format!(
            "{} is not a directory; expected the one that holds the programs, as \
             /usr/lib/postgresql/17/bin",
            dir.display()
        );
        problems.push(Problem::error(path, message));
        return;
    }
    for name in NEEDED {
        let file = pg.program(name);
        if let Err(why) = executable(&file) {
            problems.push(Problem::error(path, format!("{} {why}", file.display())));
        }
    }
}

fn executable(file: &Path) -> Result<(), String> {
    let about = fs::metadata(file).map_err(|e| match e.kind() {
        ErrorKind::NotFound => "is not there; expected a program of PostgreSQL".to_owned(),
        _ => format!("cannot be looked at: {e}"),
    })?;
    if !about.is_file() {
        return Err("is not a file; expected a program of PostgreSQL".to_owned());
    }
    if about.permissions().mode() & 0o111 == 0 {
        return Err("is not executable; expected a program of PostgreSQL".to_owned());
    }
    Ok(())
}

/// PostgreSQL's own rule: a directory of its user, 0700 or 0750.
fn data_dir(dir: &Path, problems: &mut Vec<Problem>) {
    let path = "postgresql.data_dir";
    let about = match fs::metadata(dir) {
        Ok(about) => about,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            if !dir.parent().is_some_and(Path::is_dir) {
                let message = format!(
                    "neither {} nor the directory above it is there; is the volume mounted?",
                    dir.display()
                );
                problems.push(Problem::error(path, message));
            }
            return;
        }
        Err(e) => {
            let message = format!("{} cannot be looked at: {e}", dir.display());
            problems.push(Problem::error(path, message));
            return;
        }
    };
    if !about.is_dir() {
        let message = format!("{} is not a directory; expected one", dir.display());
        problems.push(Problem::error(path, message));
        return;
    }
    let is_cluster = dir.join("PG_VERSION").exists();
    let mode = about.permissions().mode() & 0o777;
    if is_cluster && mode & 0o027 != 0 {
        let message = format!(
            "{} has the permissions {mode:04o}; expected 0700 or 0750, PostgreSQL refuses others",
            dir.display()
        );
        problems.push(Problem::error(path, message));
    }
    // /proc/self belongs to the effective user: no system call of our own is needed.
    let me = fs::metadata("/proc/self").map(|about| about.uid());
    if let Ok(me) = me
        && is_cluster
        && me != about.uid()
    {
        let message = format!(
            "{} belongs to user {} and this is user {me}; expected the agent to run as its owner",
            dir.display(),
            about.uid()
        );
        problems.push(Problem::warning(path, message));
    }
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            let holds = entries.any(|entry| entry.is_ok_and(|e| e.file_name() != "lost+found"));
            if holds && !is_cluster {
                let message = format!(
                    "{} holds files but no PG_VERSION; it is no data directory and is not touched",
                    dir.display()
                );
                problems.push(Problem::warning(path, message));
            }
        }
        Err(e) => {
            let message = format!("{} cannot be read: {e}", dir.display());
            problems.push(Problem::error(path, message));
        }
    }
}
