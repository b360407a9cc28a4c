//! A user without a name: platforms run a pod as any number of group 0, and `initdb`, `psql` and
//! others refuse a user whom the system cannot name.
//!
//! Where nss_wrapper is installed, PostgreSQL's programs (and only they) are shown an account made
//! up for the purpose.

use crate::sys::durable;
use crate::sys::process::{has_account, own_uid};
use std::fs;
use std::path::{Path, PathBuf};

const LIBRARY: &str = "libnss_wrapper.so";
/// Where the image links it, and where Debian, Red Hat and others keep it.
const PLACES: [&str; 5] = [
    "/usr/local/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
];
/// Who the user is called.
const NAME: &str = "postgres";

/// The variables that give the programs an account; none where this user has one, or where there
/// is no means to it.
pub(super) fn variables() -> Vec<(String, String)> {
    if has_account(own_uid()) {
        return Vec::new();
    }
    let dirs = PLACES.iter().map(|dir| Path::new(dir).join(LIBRARY));
    let Some(library) = dirs.into_iter().find(|file| file.exists()) else {
        return Vec::new();
    };
    let file = std::env::temp_dir().join(format!("pgwarden-passwd-{}", own_uid()));
    match write(&file, own_uid()) {
        Ok(()) => of(&library, &file),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "cannot write the account of this user");
            Vec::new()
        }
    }
}

fn write(file: &Path, uid: u32) -> std::io::Result<()> {
    let line = format!("{NAME}:x:{uid}:0:PostgreSQL:/tmp:/bin/sh\n");
    if fs::read_to_string(file).is_ok_and(|there| there == line) {
        return Ok(());
    }
    durable::write_atomic(file, line.as_bytes(), 0o644)
}

fn of(library: &Path, file: &Path) -> Vec<(String, String)> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    [
        ("LD_PRELOAD", text(library.to_owned())),
        ("NSS_WRAPPER_PASSWD", text(file.to_owned())),
        ("NSS_WRAPPER_GROUP", "/etc/group".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_written_once_and_names_the_user() {
        let dir = std::env::temp_dir().join(format!("pgwarden-account-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("passwd");
        for _ in 0..2 {
            write(&file, 1_000_660_000).unwrap();
            let said = fs::read_to_string(&file).unwrap();
            assert_eq!(said, "postgres:x:1000660000:0:PostgreSQL:/tmp:/bin/sh\n");
        }
        let shown = of(Path::new("/l/libnss_wrapper.so"), &file);
        assert_eq!(
            shown[0],
            ("LD_PRELOAD".into(), "/l/libnss_wrapper.so".into())
        );
        assert_eq!(shown[1].1, file.to_string_lossy());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_user_with_an_account_needs_nothing() {
        assert!(has_account(0) && !has_account(4_000_000_001));
        if has_account(own_uid()) {
            assert_eq!(variables(), Vec::new());
        }
    }
}
