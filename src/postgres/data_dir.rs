//! What a data directory holds, told by looking at it: nothing is touched here.
//!
//! The answer decides whether an initdb or a clone may begin, so every doubt is *unusable* with a
//! sentence for a person: a volume that is not mounted looks like an empty directory's absence,
//! a typing error like a directory full of foreign files.

use super::control_data::{ControlData, ControlError};
use super::history;
use super::{stage, trial, version};
use crate::ha::model::DataDir;
use crate::sys::durable;
use crate::sys::process::own_uid;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a person can do about a directory without a control file that can be read.
const REPLACE: &str = "nothing here is started or deleted; where another member leads, move this \
                       data directory away (or delete the volume) and the member is cloned anew; \
                       where it was the last copy, restore a backup";

/// Looks at `data_dir` for a server of this major version.
pub fn classify(data_dir: &Path, major: u32) -> DataDir {
    classify_on_trial(data_dir, major, false)
}

/// The same by who knows of a new cluster there that is not through its bootstrap: to anybody else
/// that one is unfinished.
pub fn classify_on_trial(data_dir: &Path, major: u32, expected: bool) -> DataDir {
    examine(data_dir, major, expected).unwrap_or_else(DataDir::Unusable)
}

fn examine(data_dir: &Path, major: u32, expected: bool) -> Result<DataDir, String> {
    let shown = data_dir.display();
    let parent = data_dir
        .parent()
        .ok_or(format!("data_dir {shown} has no parent directory"))?;
    if !parent.is_dir() {
        return Err(format!(
            "the parent directory of data_dir {shown} does not exist; is the volume mounted?"
        ));
    }
    let staged = stage::look(data_dir).map_err(|error| error.to_string())?;
    let names = match names(data_dir)? {
        None if staged.is_some() => return Ok(DataDir::Unfinished),
        None => return Ok(DataDir::Empty),
        Some(names) => names,
    };
    check_owner(data_dir)?;
    if staged.is_some_and(|found| found.swapping) || (trial::is_on(data_dir) && !expected) {
        return Ok(DataDir::Unfinished);
    }
    if names.is_empty() {
        return Ok(if staged.is_some() {
            DataDir::Unfinished
        } else {
            DataDir::Empty
        });
    }
    check_mode(data_dir)?;
    check_major(data_dir, &names, major)?;
    let control = ControlData::read(data_dir).map_err(|error| match error {
        ControlError::UnknownVersion(_) => error.to_string(),
        _ => format!("{error}; {REPLACE}"),
    })?;
    let timeline = control.next_timeline();
    let history = history::read_local(data_dir, timeline).unwrap_or_else(|error| {
        // An archive may have it, or a clone have come without: the server decides that.
        tracing::debug!(%error, "a directory without its timeline's history");
        Vec::new()
    });
    let standby_signal = data_dir.join("standby.signal").exists();
    Ok(DataDir::Present(control.facts(standby_signal, history)))
}

/// The names in it that count: not ours, nor what a file system puts into its root.
fn names(data_dir: &Path) -> Result<Option<Vec<PathBuf>>, String> {
    let shown = data_dir.display();
    match fs::symlink_metadata(data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot look at data_dir {shown}: {error}")),
        Ok(_) => {}
    }
    // A link counts as what it points to; one that points nowhere is an error, not absence.
    let names = durable::names(data_dir)
        .map_err(|error| format!("cannot list data_dir {shown}: {error}; expected a directory"))?;
    Ok(Some(
        names
            .into_iter()
            .filter(|name| !stage::is_ours(name))
            .collect(),
    ))
}

fn check_owner(data_dir: &Path) -> Result<(), String> {
    let looked = fs::metadata(data_dir).map(|meta| (meta.uid(), own_uid()));
    let (owner, own) = looked.map_err(|error| format!("{}: {error}", data_dir.display()))?;
    if owner != own {
        return Err(format!(
            "data_dir {} belongs to user {owner}; expected user {own}, whom this process runs as",
            data_dir.display()
        ));
    }
    Ok(())
}

/// PostgreSQL itself refuses other modes; refused before anything else is done with it.
fn check_mode(data_dir: &Path) -> Result<(), String> {
    let meta = fs::metadata(data_dir).map_err(|error| error.to_string())?;
    let mode = meta.mode() & 0o7777 & !0o2000;
    if mode != 0o700 && mode != 0o750 {
        return Err(format!(
            "data_dir {} has permissions {mode:04o}; expected 0700 or 0750",
            data_dir.display()
        ));
    }
    Ok(())
}

fn check_major(data_dir: &Path, names: &[PathBuf], major: u32) -> Result<(), String> {
    let shown = data_dir.display();
    if !names.iter().any(|name| name == Path::new("PG_VERSION")) {
        let some: Vec<_> = names
            .iter()
            .take(3)
            .map(|name| name.display().to_string())
            .collect();
        return Err(format!(
            "data_dir {shown} is not empty ({}) and has no PG_VERSION: not a data directory; \
             expected one, or an empty directory",
            some.join(", ")
        ));
    }
    let text = fs::read_to_string(data_dir.join("PG_VERSION"))
        .map_err(|error| format!("cannot read {shown}/PG_VERSION: {error}"))?;
    let found = version::parse_major(&text).map_err(|error| format!("{shown}: {error}"))?;
    if found != major {
        let relation = if found > major { "newer" } else { "older" };
        return Err(format!(
            "data_dir {shown} belongs to PostgreSQL {found}, {relation} than bin_dir's {major}; \
             expected the same major version"
        ));
    }
    Ok(())
}
