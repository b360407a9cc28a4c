//! Timelines: where each forked, and whether a directory still lies on the leader's line.

use super::session::{Session, SqlError};
use crate::ha::model::{ControlState, DataFacts, HistoryEntry, Lsn, Timeline};
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Why a history cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A line is not one of a history file.
    #[error(
        "line {number} of the history of timeline {timeline} is \"{line}\"; expected a \
             timeline, an LSN and a reason"
    )]
    BadLine {
        /// Whose history.
        timeline: Timeline,
        /// Which line, from one.
        number: usize,
        /// The line.
        line: String,
    },
    /// The file cannot be read.
    #[error("cannot read the history of timeline {0}: {1}")]
    Read(Timeline, io::Error),
    /// The leader did not give it.
    #[error("cannot fetch the history of timeline {0}: {1}")]
    Fetch(Timeline, SqlError),
}

fn file_name(timeline: Timeline) -> String {
    format!("{timeline:08X}.history")
}

/// Reads the text of a timeline's history file.
pub fn parse(timeline: Timeline, text: &str) -> Result<Vec<HistoryEntry>, HistoryError> {
    let mut entries: Vec<HistoryEntry> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = || HistoryError::BadLine {
            timeline,
            number: index + 1,
            line: line.to_owned(),
        };
        let mut words = line.splitn(3, char::is_whitespace);
        let ended: Timeline = words
            .next()
            .and_then(|word| word.parse().ok())
            .ok_or_else(bad)?;
        let rest = line[line.find(char::is_whitespace).ok_or_else(bad)?..].trim_start();
        let (position, reason) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let switch_lsn = position.parse().map_err(|_| bad())?;
        if ended >= timeline || entries.last().is_some_and(|last| last.timeline >= ended) {
            return Err(bad());
        }
        entries.push(HistoryEntry {
            timeline: ended,
            switch_lsn,
            reason: reason.trim().to_owned(),
            at: None,
            new_leader: None,
        });
    }
    Ok(entries)
}

/// Reads a timeline's history from our own `pg_wal`. The first timeline has none.
pub fn read_local(data_dir: &Path, timeline: Timeline) -> Result<Vec<HistoryEntry>, HistoryError> {
    if timeline <= 1 {
        return Ok(Vec::new());
    }
    let path = data_dir.join("pg_wal").join(file_name(timeline));
    let text = fs::read_to_string(path).map_err(|error| HistoryError::Read(timeline, error))?;
    parse(timeline, &text)
}

/// Fetches a timeline's history from the leader, over a session of its superuser.
pub async fn fetch(
    session: &Session,
    timeline: Timeline,
    deadline: Duration,
) -> Result<Vec<HistoryEntry>, HistoryError> {
    if timeline <= 1 {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT pg_read_file('pg_wal/{}')", file_name(timeline));
    let text: String = session
        .value(&sql, deadline)
        .await
        .map_err(|error| HistoryError::Fetch(timeline, error))?;
    parse(timeline, &text)
}

/// What is known about the end of a directory's or a server's WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Replayed up to here: a replica, running or cleanly stopped.
    Replayed(Lsn),
    /// The shutdown checkpoint of a cleanly stopped primary begins here, and is the last record.
    LastRecord(Lsn),
    /// At least this far; the true end is known only after crash recovery.
    AtLeast(Lsn),
}

impl Position {
    /// The position of a stopped directory.
    pub fn of(facts: &DataFacts) -> Self {
        match facts.state {
            ControlState::ShutDown => Self::LastRecord(facts.lsn),
            ControlState::ShutDownInRecovery | ControlState::InArchiveRecovery => {
                Self::Replayed(facts.lsn)
            }
            _ => Self::AtLeast(facts.lsn),
        }
    }
}

/// Whether a position lies on the leader's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// It does: streaming can go on from here.
    None,
    /// It has WAL that the leader never had, beyond `fork` where that is known.
    Diverged {
        /// Where the leader's line left it.
        fork: Option<Lsn>,
    },
    /// It cannot be said before crash recovery has found the end of its WAL.
    RecoverFirst,
}

/// Compares a position with the leader's timeline and that timeline's history.
pub fn diverged(
    timeline: Timeline,
    position: Position,
    leader_timeline: Timeline,
    leader_history: &[HistoryEntry],
) -> Divergence {
    if timeline == leader_timeline {
        return Divergence::None;
    }
    let entry = leader_history
        .iter()
        .find(|entry| entry.timeline == timeline);
    let fork = entry
        .map(|entry| entry.switch_lsn)
        .filter(|_| timeline < leader_timeline);
    let Some(fork) = fork else {
        return Divergence::Diverged { fork: None };
    };
    match position {
        Position::Replayed(lsn) if lsn <= fork => Divergence::None,
        // The record that begins before the fork ends at or before it: forks are record ends.
        Position::LastRecord(lsn) if lsn < fork => Divergence::None,
        Position::AtLeast(lsn) if lsn <= fork => Divergence::RecoverFirst,
        _ => Divergence::Diverged { fork: Some(fork) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "1\t0/3000148\tno recovery target specified\n\n# a comment\n\
                        3\t0/5000000\tbefore 2026-01-01 00:00:00+00\n";

    #[test]
    fn a_history_file_is_read() {
        let entries = parse(4, TEXT).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].timeline, 1);
        assert_eq!(entries[0].switch_lsn.to_string(), "0/3000148");
        assert_eq!(entries[1].reason, "before 2026-01-01 00:00:00+00");
        assert_eq!(parse(2, "1 0/10").unwrap()[0].reason, "");
    }

    #[test]
    fn nonsense_in_a_history_is_an_error_that_names_the_line() {
        for (timeline, text) in [
            (4, "x\t0/1\tr"),
            (4, "1\t01\tr"),
            (4, "1"),
            (4, "2\t0/1\tr\n1\t0/2\tr"),
            (1, TEXT),
        ] {
            assert!(parse(timeline, text).is_err(), "{text}");
        }
        let error = parse(4, "1\t0/1\tr\n2\tzero\tr").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("line 2 of the history of timeline 4")
        );
    }

    #[test]
    fn divergence_follows_the_fork() {
        use Divergence::{Diverged, RecoverFirst};
        use Position::{AtLeast, LastRecord, Replayed};
        let history = parse(4, TEXT).unwrap();
        let fork = Some(Lsn(0x0300_0148));
        let (before, at, after) = (Lsn(0x0300_0100), Lsn(0x0300_0148), Lsn(0x0300_0149));
        let cases = [
            (1, Replayed(before), Divergence::None),
            (1, Replayed(at), Divergence::None),
            (1, Replayed(after), Diverged { fork }),
            (1, LastRecord(before), Divergence::None),
            (1, LastRecord(at), Diverged { fork }),
            (1, AtLeast(before), RecoverFirst),
            (1, AtLeast(after), Diverged { fork }),
            // Not on the leader's line, and ahead of it.
            (2, Replayed(before), Diverged { fork: None }),
            (5, Replayed(before), Diverged { fork: None }),
            (4, AtLeast(after), Divergence::None),
        ];
        for (timeline, position, expected) in cases {
            let found = diverged(timeline, position, 4, &history);
            assert_eq!(found, expected, "{timeline} {position:?}");
        }
    }
}
