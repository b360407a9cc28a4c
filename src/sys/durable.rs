//! Files that are whole or absent, and on disk when we say so.
//!
//! `rename` is atomic only for who looks; that it survives a power cut takes an fsync of the file
//! before and of the directory after. Each function here names the order once.

use nix::unistd::{AccessFlags, eaccess};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Replaces `path` by a file with this content: a reader sees the old one or the new one.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".pgwarden-tmp");
    let temporary = path.with_file_name(name);
    // A leftover of a crash may carry another mode: begin with none.
    remove_file_if_there(&temporary)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    rename_durably(&temporary, path)
}

/// Renames and syncs both directories.
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    if from.parent() != to.parent() {
        sync_parent(from)?;
    }
    sync_parent(to)
}

/// Removes a file and syncs its directory; a missing one is fine.
pub fn remove_durably(path: &Path) -> io::Result<()> {
    remove_file_if_there(path)?;
    sync_parent(path)
}

fn remove_file_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a directory with all it holds; a missing one is fine. Links are not followed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_parent(path),
    }
}

/// Makes a directory that only we may enter.
pub fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)?;
    sync_parent(path)
}

/// Syncs a directory: the names in it.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Syncs everything under a data directory, through the links PostgreSQL itself makes
/// (`pg_wal` and tablespaces) and no others.
pub fn sync_tree(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let kind = fs::symlink_metadata(&path)?.file_type();
        let in_tablespaces = root.ends_with("pg_tblspc");
        if kind.is_dir() || (kind.is_symlink() && (in_tablespaces || path.ends_with("pg_wal"))) {
            sync_tree(&path)?;
        } else if kind.is_file() {
            File::open(&path)?.sync_all()?;
        }
    }
    sync_dir(root)
}

/// The names in a directory, sorted.
pub fn names(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(PathBuf::from(entry?.file_name()));
    }
    names.sort();
    Ok(names)
}

/// A directory can be replaced by renaming another over it: it is no mount point (a bind mount is
/// on its parent's device, yet cannot be renamed), and we may write into its parent.
pub fn can_be_replaced(path: &Path) -> io::Result<bool> {
    let Some(parent) = path.parent() else {
        return Ok(false);
    };
    let above = fs::metadata(parent)?;
    match fs::metadata(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(own) if own.dev() != above.dev() || is_in_mount_table(path)? => return Ok(false),
        _ => {}
    }
    Ok(eaccess(parent, AccessFlags::W_OK | AccessFlags::X_OK).is_ok())
}

fn is_in_mount_table(path: &Path) -> io::Result<bool> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    // The fifth field is the mount point, with blanks as octal escapes.
    let escaped = path
        .to_string_lossy()
        .replace('\\', "\\134")
        .replace(' ', "\\040");
    Ok(table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(escaped.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_has_its_content_and_mode_and_leaves_no_temporary() {
        let dir = std::env::temp_dir().join(format!("pgwarden-durable-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("secret");
        fs::write(dir.join("secret.pgwarden-tmp"), "stale").unwrap();
        write_atomic(&file, b"one", 0o600).unwrap();
        write_atomic(&file, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(names(&dir).unwrap(), [PathBuf::from("secret")]);
        remove_tree(&dir).unwrap();
    }
}
