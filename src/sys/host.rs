//! Where this process runs: boot, machine, PID namespace, volume (L5 compares them).

use nix::sys::stat::stat;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The kernel's identifier of this boot of the node.
pub fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned())
}

/// The machine identifier; empty where the image has none (then it proves nothing).
pub fn machine_id() -> String {
    ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .map_or_else(String::new, |text| text.trim().to_owned())
}

/// The inode number of the PID namespace this process lives in.
pub fn pid_namespace() -> io::Result<u64> {
    Ok(stat("/proc/self/ns/pid")?.st_ino)
}

/// The device and inode numbers of a path.
pub fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    let found = stat(path)?;
    Ok((found.st_dev, found.st_ino))
}

/// Whether the path itself is a mount point (`path` must be canonical).
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mount_points(&table).any(|mounted| mounted == path))
}

/// The fifth column of `/proc/self/mountinfo`, its octal escapes undone.
fn mount_points(table: &str) -> impl Iterator<Item = PathBuf> + '_ {
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|field| {
            let text = ["\\040", "\\011", "\\012", "\\134"]
                .iter()
                .zip([" ", "\t", "\n", "\\"])
                .fold(field.to_owned(), |text, (escaped, plain)| {
                    text.replace(escaped, plain)
                });
            PathBuf::from(text)
        })
}

/// Sixteen random hexadecimal characters: the incarnation of a guardian.
pub fn random_incarnation() -> io::Result<String> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes.iter().fold(String::with_capacity(16), |text, byte| {
        text + &format!("{byte:02x}")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnations_are_sixteen_hexadecimal_characters_and_differ() {
        let (one, other) = (random_incarnation().unwrap(), random_incarnation().unwrap());
        assert_eq!(one.len(), 16);
        assert!(one.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(one, other);
    }

    #[test]
    fn mount_points_are_read_with_their_escapes_undone() {
        let table = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                     30 22 0:5 / /mnt/with\\040space rw - tmpfs tmpfs rw\n";
        let found: Vec<PathBuf> = mount_points(table).collect();
        assert_eq!(
            found,
            [PathBuf::from("/"), PathBuf::from("/mnt/with space")]
        );
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/proc/self")).unwrap());
    }
}
