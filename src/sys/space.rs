//! How much room a file system has.

use nix::sys::statvfs::statvfs;
use std::io;
use std::path::Path;

/// What is left for a process without privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// No further file can be made: its table of files is full.
    pub out_of_files: bool,
}

/// The room where `path` is. It may hang as long as the file system does.
pub fn at(path: &Path) -> io::Result<Space> {
    let found = statvfs(path)?;
    let unit = found.fragment_size();
    Ok(Space {
        free_bytes: found.blocks_available() * unit,
        total_bytes: found.blocks() * unit,
        // Some file systems count none at all.
        out_of_files: found.files() > 0 && found.files_available() == 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_has_room_and_a_missing_path_is_an_error() {
        let here = at(Path::new("/dev/shm")).unwrap();
        assert!(here.total_bytes > 0 && here.free_bytes <= here.total_bytes);
        assert!(at(Path::new("/nowhere/at/all")).is_err());
    }
}
