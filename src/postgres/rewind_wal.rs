//! Whether the WAL that a rewound directory needs is still to be had.
//!
//! `pg_rewind` is content with the record of the last common checkpoint. Recovery afterwards begins
//! where that checkpoint began, which may be many segments earlier, and goes on without a gap. What
//! there is of this WAL is what the source keeps, and perhaps some of the old. Where a segment is
//! gone, the server would start, ask the leader for it for ever, and never become consistent.

use super::control_data::{ControlData, ControlError};
use super::session::{Session, SqlError};
use super::{Postgres, Source, lines};
use crate::ha::model::Lsn;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Connecting, and the one question to the leader.
const QUESTION: Duration = Duration::from_secs(10);

/// What the leader has, asked with a function that the user of `pg_rewind` may call.
const THEIRS: &str = "SELECT coalesce(string_agg(f, ' '), '') \
                      FROM pg_ls_dir('pg_wal', false, false) AS f WHERE f ~ '^[0-9A-F]{24}$'";

/// Why it is not known what is missing.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    /// A file or directory of the rewound directory cannot be read.
    #[error("cannot read the rewound directory: {0}")]
    Read(#[from] io::Error),
    /// Its control file cannot.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// `pg_rewind` wrote something else than expected.
    #[error("backup_label names no WAL segment to begin with: {0:?}")]
    Label(String),
    /// The leader did not tell.
    #[error("the leader cannot be asked for its WAL: {0}")]
    Sql(#[from] SqlError),
    /// A task of ours died.
    #[error("a file task died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What recovery begins with, and the segments that are here.
struct Needs {
    first: u64,
    here: BTreeSet<u64>,
    segment_bytes: u64,
}

/// The first segment, without its timeline, that recovery needs and neither the rewound `target`
/// nor `source` has. What cannot be found out stands in the way of no rewind.
pub(super) async fn missing(pg: &Postgres, source: &Source, target: &Path) -> Option<String> {
    if restores(pg) {
        return None;
    }
    match look(pg, source, target).await {
        Ok(missing) => missing,
        Err(error) => {
            tracing::warn!(%error, "it is not known whether the WAL for the rewound data is there");
            None
        }
    }
}

/// An archive may have what neither side has.
fn restores(pg: &Postgres) -> bool {
    [&pg.recovery, &pg.parameters]
        .iter()
        .filter_map(|settings| settings.get("restore_command"))
        .any(|command| !command.trim().is_empty())
}

async fn look(pg: &Postgres, source: &Source, target: &Path) -> Result<Option<String>, Unknown> {
    let dir = target.to_owned();
    let Some(needs) = tokio::task::spawn_blocking(move || needs_of(&dir)).await?? else {
        return Ok(None);
    };
    let session = Session::remote(source, pg.rewind_user(), &pg.database, QUESTION).await?;
    let names: String = session.value(THEIRS, QUESTION).await?;
    let segment_bytes = needs.segment_bytes;
    let there = names
        .split(' ')
        .filter_map(|name| number(name, segment_bytes))
        .collect();
    let gap = first_gap(needs.first, &needs.here, &there);
    let name = |gap: u64| lines::segment_name(Lsn((gap + 1) * segment_bytes), segment_bytes);
    Ok(gap.map(name))
}

/// `None`: there was nothing to rewind, and recovery begins nowhere else than before.
fn needs_of(dir: &Path) -> Result<Option<Needs>, Unknown> {
    let label = match fs::read_to_string(dir.join("backup_label")) {
        Ok(label) => label,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let segment_bytes = u64::from(ControlData::read(dir)?.wal_segment_bytes).max(1);
    let first = start_file(&label).and_then(|name| number(name, segment_bytes));
    let Some(first) = first else {
        return Err(Unknown::Label(label));
    };
    let mut here = BTreeSet::new();
    for entry in fs::read_dir(dir.join("pg_wal"))? {
        let name = entry?.file_name();
        here.extend(name.to_str().and_then(|name| number(name, segment_bytes)));
    }
    Ok(Some(Needs {
        first,
        here,
        segment_bytes,
    }))
}

/// The file in `START WAL LOCATION: 0/5000028 (file 000000010000000000000005)`.
fn start_file(label: &str) -> Option<&str> {
    let line = label
        .lines()
        .find(|line| line.starts_with("START WAL LOCATION: "))?;
    let (_, file) = line.split_once("(file ")?;
    file.strip_suffix(')')
}

/// Which segment a file of `pg_wal` holds, whatever its timeline. `None`: it holds none.
fn number(name: &str, segment_bytes: u64) -> Option<u64> {
    let digit = |c: u8| c.is_ascii_digit() || (b'A'..=b'F').contains(&c);
    if name.len() != 24 || !name.bytes().all(digit) {
        return None;
    }
    let part = |at: std::ops::Range<usize>| u64::from_str_radix(&name[at], 16).ok();
    let per_file_id = (1 << 32) / segment_bytes;
    Some(part(8..16)? * per_file_id + part(16..24)?)
}

/// The source removes its oldest segments first: what it has one of, it has from there on.
fn first_gap(first: u64, here: &BTreeSet<u64>, there: &BTreeSet<u64>) -> Option<u64> {
    let mut next = first;
    while here.contains(&next) && !there.contains(&next) {
        next += 1;
    }
    (!there.contains(&next)).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_label_tells_where_recovery_begins() {
        let label = "START WAL LOCATION: 0/5000028 (file 000000010000000000000005)\n\
                     CHECKPOINT LOCATION: 0/9000060\n\
                     BACKUP METHOD: pg_rewind\n";
        assert_eq!(start_file(label), Some("000000010000000000000005"));
        for bad in [
            "",
            "START WAL LOCATION: 0/5000028\n",
            "START WAL LOCATION: 0/5000028 (file 0000000100000000",
            "CHECKPOINT LOCATION: 0/9000060 (file 000000010000000000000005)\n",
        ] {
            assert_eq!(start_file(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_whole_segments_have_a_number() {
        assert_eq!(number("000000010000000000000005", 16 * MIB), Some(5));
        assert_eq!(number("00000007000000020000000A", 16 * MIB), Some(522));
        assert_eq!(number("00000007000000020000000A", MIB), Some(8202));
        for other in [
            "00000002.history",
            "archive_status",
            "000000010000000000000005.partial",
            "00000001000000000000000a",
            "000000010000000000000\u{e9}5",
            "",
        ] {
            assert_eq!(number(other, 16 * MIB), None, "{other}");
        }
    }

    #[test]
    fn recovery_needs_every_segment_from_the_first_on() {
        let set = |numbers: &[u64]| numbers.iter().copied().collect::<BTreeSet<u64>>();
        let gap = |here: &[u64], there: &[u64]| first_gap(5, &set(here), &set(there));
        assert_eq!(gap(&[], &[4, 5, 6]), None);
        assert_eq!(gap(&[5, 6], &[7, 8]), None);
        assert_eq!(gap(&[5, 6, 7], &[6, 7, 8]), None);
        assert_eq!(gap(&[], &[6, 7]), Some(5));
        assert_eq!(gap(&[7], &[7, 8]), Some(5));
        assert_eq!(gap(&[5, 6], &[8, 9]), Some(7));
    }
}
