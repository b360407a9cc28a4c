//! The watch over a PostgreSQL that runs while no deadline does: has it left recovery?
//!
//! Someone may promote by hand. While unarmed nothing writable may run (G1), so the control file
//! and the signal files are looked at all the time. A volume that hangs would hang whoever looks,
//! and the guardian must never hang: the looking is done by a child that only exits to say so.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// The watch's exit code when PostgreSQL has left recovery.
pub(super) const EXIT_OUT_OF_RECOVERY: i32 = 42;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);
/// `ControlFileData.state`: after the system identifier (8 bytes) and two version numbers (4 each).
const STATE_OFFSET: u64 = 16;
/// `DB_IN_PRODUCTION`, the same in every supported version.
const IN_PRODUCTION: u32 = 6;

/// The watch: returns when PostgreSQL has left recovery, and never otherwise.
pub(super) fn watch(data_dir: &Path) -> i32 {
    while !out_of_recovery(data_dir) {
        std::thread::sleep(PAUSE);
    }
    EXIT_OUT_OF_RECOVERY
}

/// In production by the control file, and none of the files that mean a recovery is under way.
///
/// The state of a crashed primary also says "in production" until recovery has begun: then the
/// signal file is there.
fn out_of_recovery(data_dir: &Path) -> bool {
    let mut state = [0_u8; 4];
    let read = File::open(data_dir.join("global/pg_control"))
        .and_then(|file| file.read_exact_at(&mut state, STATE_OFFSET));
    read.is_ok()
        && u32::from_ne_bytes(state) == IN_PRODUCTION
        && ["standby.signal", "recovery.signal", "backup_label"]
            .iter()
            .all(|name| !data_dir.join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_production_without_any_signal_file_is_out_of_recovery() {
        let dir = std::env::temp_dir().join(format!("pgwarden-recovery-{}", std::process::id()));
        fs::create_dir_all(dir.join("global")).unwrap();
        assert!(!out_of_recovery(&dir), "nothing to read");
        let mut control = vec![0_u8; 8192];
        control[16..20].copy_from_slice(&5_u32.to_ne_bytes());
        fs::write(dir.join("global/pg_control"), &control).unwrap();
        assert!(!out_of_recovery(&dir), "in archive recovery");
        control[16..20].copy_from_slice(&6_u32.to_ne_bytes());
        fs::write(dir.join("global/pg_control"), &control).unwrap();
        assert!(out_of_recovery(&dir));
        for name in ["standby.signal", "recovery.signal", "backup_label"] {
            fs::write(dir.join(name), "").unwrap();
            assert!(!out_of_recovery(&dir), "{name}");
            fs::remove_file(dir.join(name)).unwrap();
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
