//! `global/pg_control`, read without a running server and without a program.
//!
//! The file is one struct in the machine's byte order, whose CRC-32C stands right after its last
//! field, padded to 8192 bytes. From 14 to 18 every field read here has one offset; the majors
//! differ in where the CRC stands (18 put a boolean before the nonce) and in the version number.
//! A torn or foreign file fails the CRC and is never believed.

use crate::ha::model::{ControlState, DataFacts, HistoryEntry, Lsn, Timeline};
use std::fs;
use std::path::{Path, PathBuf};

/// Where one version's CRC stands. The fields before it stand at the same offsets in all.
struct Layout {
    control_version: u32,
    majors: &'static str,
    crc_offset: usize,
}

const LAYOUTS: [Layout; 3] = [
    Layout {
        control_version: 1300,
        majors: "13 to 16",
        crc_offset: 288,
    },
    Layout {
        control_version: 1700,
        majors: "17",
        crc_offset: 288,
    },
    Layout {
        control_version: 1800,
        majors: "18",
        crc_offset: 292,
    },
];

/// Offsets in `ControlFileData`; those of its copy of the last checkpoint begin at 40.
mod at {
    pub(super) const SYSTEM_ID: usize = 0;
    pub(super) const CONTROL_VERSION: usize = 8;
    pub(super) const CATALOG_VERSION: usize = 12;
    pub(super) const STATE: usize = 16;
    pub(super) const CHECKPOINT: usize = 32;
    pub(super) const REDO: usize = 40;
    pub(super) const TIMELINE: usize = 48;
    pub(super) const PREVIOUS_TIMELINE: usize = 52;
    pub(super) const MIN_RECOVERY_POINT: usize = 136;
    pub(super) const MIN_RECOVERY_TIMELINE: usize = 144;
    pub(super) const BACKUP_START: usize = 152;
    pub(super) const BACKUP_END: usize = 160;
    pub(super) const BACKUP_END_REQUIRED: usize = 168;
    pub(super) const WAL_LEVEL: usize = 172;
    pub(super) const WAL_LOG_HINTS: usize = 176;
    pub(super) const MAX_CONNECTIONS: usize = 180;
    pub(super) const MAX_WORKER_PROCESSES: usize = 184;
    pub(super) const MAX_WAL_SENDERS: usize = 188;
    pub(super) const MAX_PREPARED_XACTS: usize = 192;
    pub(super) const MAX_LOCKS_PER_XACT: usize = 196;
    pub(super) const TRACK_COMMIT_TIMESTAMP: usize = 200;
    pub(super) const WAL_SEGMENT_BYTES: usize = 228;
    pub(super) const CHECKSUM_VERSION: usize = 252;
}

/// Why a control file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The file cannot be opened or read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is shorter than the struct.
    #[error("pg_control has {0} bytes; expected 8192")]
    Short(usize),
    /// A layout we do not know.
    #[error(
        "pg_control has version {0}; expected 1300 (PostgreSQL 14 to 16), 1700 (17) or 1800 (18) \
         of a little-endian machine"
    )]
    UnknownVersion(u32),
    /// The struct does not match its checksum.
    #[error(
        "pg_control of PostgreSQL {majors} has CRC {found:08x}; its content gives {computed:08x}: \
         the file is damaged"
    )]
    Damaged {
        /// Majors that write this layout.
        majors: &'static str,
        /// What stands in the file.
        found: u32,
        /// What its content gives.
        computed: u32,
    },
    /// A state number nobody writes.
    #[error("pg_control has state {0}; expected 0 to 6")]
    UnknownState(u32),
}

/// What the control file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlData {
    /// PostgreSQL's system identifier.
    pub system_id: u64,
    /// `pg_control_version`.
    pub control_version: u32,
    /// The catalog's version.
    pub catalog_version: u32,
    /// How the server last ran.
    pub state: ControlState,
    /// Where the last checkpoint's record begins.
    pub checkpoint: Lsn,
    /// Where its redo begins.
    pub redo: Lsn,
    /// Its timeline.
    pub timeline: Timeline,
    /// The timeline before that one, if it began with this checkpoint.
    pub previous_timeline: Timeline,
    /// Up to where a replica must replay to be consistent; zero on a primary.
    pub min_recovery_point: Lsn,
    /// The timeline of that position.
    pub min_recovery_timeline: Timeline,
    /// A base backup's beginning, until its end was replayed.
    pub backup_start: Lsn,
    /// The end of a backup taken from a standby.
    pub backup_end: Lsn,
    /// The end of the backup must be seen before the cluster is consistent.
    pub backup_end_required: bool,
    /// 0 minimal, 1 replica, 2 logical.
    pub wal_level: u32,
    /// Hint bits are logged: `pg_rewind` can work.
    pub wal_log_hints: bool,
    /// Parameters a standby may not start below.
    pub standby_minimums: StandbyMinimums,
    /// `track_commit_timestamp`.
    pub track_commit_timestamp: bool,
    /// Bytes of a WAL segment.
    pub wal_segment_bytes: u32,
    /// Zero where data pages carry no checksums.
    pub checksum_version: u32,
}

/// The five settings of which a hot standby needs at least the primary's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandbyMinimums {
    /// `max_connections`
    pub max_connections: u32,
    /// `max_worker_processes`
    pub max_worker_processes: u32,
    /// `max_wal_senders`
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`
    pub max_locks_per_transaction: u32,
}

impl ControlData {
    /// Reads `<data_dir>/global/pg_control`.
    pub fn read(data_dir: &Path) -> Result<Self, ControlError> {
        let path = data_dir.join("global/pg_control");
        // The server rewrites it in place in one sector: a read beside it can be torn once.
        let mut result = Self::read_once(&path);
        for _ in 0..3 {
            if !matches!(result, Err(ControlError::Damaged { .. })) {
                break;
            }
            result = Self::read_once(&path);
        }
        result
    }

    fn read_once(path: &Path) -> Result<Self, ControlError> {
        let bytes = fs::read(path).map_err(|source| ControlError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::decode(&bytes)
    }

    /// Decodes the file's bytes, after checking its version and its CRC.
    pub fn decode(bytes: &[u8]) -> Result<Self, ControlError> {
        let field = Fields { bytes };
        if bytes.len() < 512 {
            return Err(ControlError::Short(bytes.len()));
        }
        let control_version = field.word(at::CONTROL_VERSION);
        let layout = LAYOUTS
            .iter()
            .find(|layout| layout.control_version == control_version)
            .ok_or(ControlError::UnknownVersion(control_version))?;
        let found = field.word(layout.crc_offset);
        let computed = crc32c(&bytes[..layout.crc_offset]);
        if found != computed {
            return Err(ControlError::Damaged {
                majors: layout.majors,
                found,
                computed,
            });
        }
        Ok(Self {
            system_id: field.long(at::SYSTEM_ID),
            control_version,
            catalog_version: field.word(at::CATALOG_VERSION),
            state: state(field.word(at::STATE))?,
            checkpoint: Lsn(field.long(at::CHECKPOINT)),
            redo: Lsn(field.long(at::REDO)),
            timeline: field.word(at::TIMELINE),
            previous_timeline: field.word(at::PREVIOUS_TIMELINE),
            min_recovery_point: Lsn(field.long(at::MIN_RECOVERY_POINT)),
            min_recovery_timeline: field.word(at::MIN_RECOVERY_TIMELINE),
            backup_start: Lsn(field.long(at::BACKUP_START)),
            backup_end: Lsn(field.long(at::BACKUP_END)),
            backup_end_required: bytes[at::BACKUP_END_REQUIRED] != 0,
            wal_level: field.word(at::WAL_LEVEL),
            wal_log_hints: bytes[at::WAL_LOG_HINTS] != 0,
            standby_minimums: StandbyMinimums {
                max_connections: field.word(at::MAX_CONNECTIONS),
                max_worker_processes: field.word(at::MAX_WORKER_PROCESSES),
                max_wal_senders: field.word(at::MAX_WAL_SENDERS),
                max_prepared_transactions: field.word(at::MAX_PREPARED_XACTS),
                max_locks_per_transaction: field.word(at::MAX_LOCKS_PER_XACT),
            },
            track_commit_timestamp: bytes[at::TRACK_COMMIT_TIMESTAMP] != 0,
            wal_segment_bytes: field.word(at::WAL_SEGMENT_BYTES),
            checksum_version: field.word(at::CHECKSUM_VERSION),
        })
    }

    /// The timeline a start would begin on.
    pub fn next_timeline(&self) -> Timeline {
        self.timeline.max(self.min_recovery_timeline)
    }

    /// The facts the decisions need, with what the directory tells beside this file.
    pub fn facts(&self, standby_signal: bool, history: Vec<HistoryEntry>) -> DataFacts {
        DataFacts {
            system_id: self.system_id.to_string(),
            state: self.state,
            timeline: self.next_timeline(),
            lsn: self.checkpoint.max(self.min_recovery_point),
            standby_signal,
            history,
        }
    }

    /// The server stopped cleanly, so that `pg_rewind` accepts the directory.
    pub fn clean_shutdown(&self) -> bool {
        matches!(
            self.state,
            ControlState::ShutDown | ControlState::ShutDownInRecovery
        )
    }
}

fn state(number: u32) -> Result<ControlState, ControlError> {
    Ok(match number {
        0 => ControlState::StartingUp,
        1 => ControlState::ShutDown,
        2 => ControlState::ShutDownInRecovery,
        3 => ControlState::ShuttingDown,
        4 => ControlState::InCrashRecovery,
        5 => ControlState::InArchiveRecovery,
        6 => ControlState::InProduction,
        other => return Err(ControlError::UnknownState(other)),
    })
}

/// Little-endian reads inside a buffer already known to be long enough.
struct Fields<'a> {
    bytes: &'a [u8],
}

impl Fields<'_> {
    fn word(&self, offset: usize) -> u32 {
        let mut word = [0; 4];
        word.copy_from_slice(&self.bytes[offset..offset + 4]);
        u32::from_le_bytes(word)
    }

    fn long(&self, offset: usize) -> u64 {
        u64::from(self.word(offset)) | u64::from(self.word(offset + 4)) << 32
    }
}

/// CRC-32C (Castagnoli), bit by bit: three hundred bytes need no table.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0x82F6_3B78
            } else {
                crc >> 1
            }
        })
    })
}

#[cfg(test)]
#[path = "control_data_tests.rs"]
mod tests;
