//! Whether the volumes have room for what PostgreSQL writes next (G9: full is not dead).
//!
//! A server that finds no room for its next WAL segment panics and cannot start again, so a volume
//! with less counts as full before it is.

use crate::sys::space::{self, Space};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a person can do about it; nothing here removes anything to make room.
pub const ADVICE: &str = "grow its claim or make room (deploy/README.md, Full volume); it goes on \
                          by itself then, nothing was removed";

/// The directories of a data directory that may lie on volumes of their own, one of each volume.
pub(super) fn directories(data_dir: &Path) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut dirs = vec![data_dir.to_owned(), data_dir.join("pg_wal")];
    if let Ok(entries) = fs::read_dir(data_dir.join("pg_tblspc")) {
        dirs.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
    }
    dirs.retain(|dir| fs::metadata(dir).is_ok_and(|meta| seen.insert(meta.dev())));
    dirs
}

/// The first volume with less than `needed_bytes`, in words that do not change with every byte.
/// A data directory that is not there yet will be made beside where it belongs.
pub fn full_volume(data_dir: &Path, needed_bytes: u64) -> Option<String> {
    let mut dirs = directories(data_dir);
    if dirs.is_empty() {
        dirs.extend(data_dir.parent().map(Path::to_owned));
    }
    let complaint = |dir: &PathBuf| complaint(dir, space::at(dir).ok()?, needed_bytes);
    dirs.iter().find_map(complaint)
}

fn complaint(dir: &Path, space: Space, needed_bytes: u64) -> Option<String> {
    const MIB: u64 = 1 << 20;
    let lacks = if space.out_of_files {
        "no room for another file".to_owned()
    } else if space.free_bytes < needed_bytes {
        format!("less than {} MiB left", needed_bytes / MIB)
    } else {
        return None;
    };
    let (dir, total) = (dir.display(), space.total_bytes / MIB);
    Some(format!(
        "the volume of {dir} is full: {lacks} of {total} MiB; {ADVICE}"
    ))
}

/// What to do, added to a failure for lack of room.
pub fn advised(why: String) -> String {
    let full = ["No space left on device", "Disk quota exceeded"];
    if full.iter().any(|words| why.contains(words)) {
        return format!("{why}; the volume is full: {ADVICE}");
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_without_room_for_a_segment_is_full_and_says_what_to_do() {
        let space = |free_bytes, out_of_files| Space {
            free_bytes,
            total_bytes: 300 << 20,
            out_of_files,
        };
        let judge = |space| complaint(Path::new("/data"), space, 16 << 20);
        let full = judge(space(1 << 20, false)).unwrap();
        assert!(full.contains("the volume of /data is full: less than 16 MiB left of 300 MiB"));
        assert!(full.contains("grow its claim"));
        assert_eq!(Some(full), judge(space(0, false)), "the same words");
        assert_eq!(judge(space(16 << 20, false)), None);
        assert!(judge(space(1 << 30, true)).is_some_and(|why| why.contains("another file")));
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_judged_by_its_parent() {
        let missing = std::env::temp_dir().join("pgwarden-no-such-directory");
        assert_eq!(full_volume(&missing, 1), None);
        assert!(full_volume(&missing, u64::MAX).is_some());
    }

    #[test]
    fn only_a_failure_for_lack_of_room_is_given_that_advice() {
        let full = advised("initdb failed: No space left on device".to_owned());
        assert!(full.contains("grow its claim"));
        assert_eq!(advised("no route".to_owned()), "no route");
    }
}
