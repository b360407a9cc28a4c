//! From a path to a tree: one file, or a directory of them merged in the order of their names.

use super::problem::Problem;
use super::raw::{Node, Place, Value};
use super::section::Problems;
use super::yaml;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files of a directory that are read at most.
const MAX_FILES: usize = 256;

/// Reads the configuration; `None` where nothing could be read. Problems go to `out`.
pub(super) fn read(path: &Path, out: &Problems) -> Option<Node> {
    let mut whole: Option<Node> = None;
    for file in files(path, out)? {
        let name = file.display().to_string();
        let Some(bytes) = contents(&file, out) else {
            continue;
        };
        let Some(node) = document(&name, &bytes, out) else {
            continue;
        };
        match &mut whole {
            Some(whole) => whole.merge(node),
            None => whole = Some(node),
        }
    }
    whole
}

/// One document, checked for what only the raw tree shows.
pub(super) fn document(name: &str, bytes: &[u8], out: &Problems) -> Option<Node> {
    let file: Arc<str> = Arc::from(name);
    let at = |line| Place {
        file: Some(Arc::clone(&file)),
        line,
    };
    let mut node = match yaml::parse(bytes) {
        Ok(node) => node,
        Err(bad) => {
            out.push(Problem::error("", bad.message).at(&at(bad.line)));
            return None;
        }
    };
    node.belongs_to(&file);
    match node.value {
        Value::Map(_) => {}
        Value::Null => {
            out.push(Problem::error("", "the file is empty; expected a configuration").at(&at(0)));
            return None;
        }
        ref other => {
            let message = format!("found {}; expected a map of keys", other.kind());
            out.push(Problem::error("", message).at(&at(node.place.line)));
            return None;
        }
    }
    let mut twice = Vec::new();
    node.duplicates("", &mut twice);
    for (path, place, first) in twice {
        let message = format!("it is written twice, first in line {first}; expected once");
        out.push(Problem::error(path, message).at(&place));
    }
    Some(node)
}

/// The files to read: the one named, or those of the directory that end in `.yml` or `.yaml`.
fn files(path: &Path, out: &Problems) -> Option<Vec<PathBuf>> {
    let bad = |message: String| {
        let place = Place {
            file: Some(Arc::from(path.display().to_string())),
            line: 0,
        };
        out.push(Problem::error("", message).at(&place));
    };
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(e) => {
            bad(format!("it cannot be read: {e}"));
            return None;
        }
    };
    if about.is_file() {
        return Some(vec![path.to_owned()]);
    }
    if !about.is_dir() {
        // Opening a pipe would wait for somebody who writes.
        bad(
            "it is a pipe, a socket or a device; expected a regular file or a directory".to_owned(),
        );
        return None;
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) => {
            bad(format!("the directory cannot be read: {e}"));
            return None;
        }
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|file| {
            matches!(
                file.extension().and_then(OsStr::to_str),
                Some("yml" | "yaml")
            )
        })
        .filter(|file| file.is_file())
        .collect();
    files.sort();
    if files.is_empty() {
        bad("the directory holds no file that ends in .yml or .yaml".to_owned());
        return None;
    }
    if files.len() > MAX_FILES {
        bad(format!(
            "the directory holds {} files; expected at most {MAX_FILES}",
            files.len()
        ));
        return None;
    }
    Some(files)
}

/// The bytes of a file, never more than a configuration may have: a file that grows, a device or a
/// pipe without end cannot fill the memory.
fn contents(file: &Path, out: &Problems) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = fs::File::open(file)
        .and_then(|open| open.take(yaml::MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    if let Err(e) = read {
        let place = Place {
            file: Some(Arc::from(file.display().to_string())),
            line: 0,
        };
        out.push(Problem::error("", format!("it cannot be read: {e}")).at(&place));
        return None;
    }
    Some(bytes)
}
