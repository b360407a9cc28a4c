//! Timelines: where each forked, as PostgreSQL's history files tell.

use super::session::{Session, SqlError};
use crate::ha::model::{HistoryEntry, Timeline};
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
    let text = fs::read_to_string(&path).map_err(|error| HistoryError::Read(timeline, error))?;
    let mut entries = parse(timeline, &text)?;
    // The file is written by the promotion that its last line is about.
    if let Some(last) = entries.last_mut() {
        last.at = written_at(&path);
    }
    Ok(entries)
}

/// When a file was written, in the words of Patroni's `history`.
fn written_at(path: &Path) -> Option<String> {
    let modified = fs::metadata(path).and_then(|about| about.modified()).ok()?;
    let at = jiff::Timestamp::try_from(modified).ok()?;
    Some(at.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string())
}

/// Reads a primary's own history over a session, of the timeline that it writes on.
pub async fn read_remote(
    primary: &Session,
    deadline: Duration,
) -> Result<Vec<HistoryEntry>, SqlError> {
    // The control file's timeline may be the one before a promotion; a replica refuses the
    // question.
    let sql = "SELECT ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(\
               pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int";
    let timeline: i32 = primary.value(sql, deadline).await?;
    let timeline = Timeline::try_from(timeline)
        .map_err(|_| SqlError::Garbled(format!("timeline {timeline}")))?;
    if timeline <= 1 {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT pg_catalog.pg_read_file('pg_wal/{}')",
        file_name(timeline)
    );
    let text: String = primary.value(&sql, deadline).await?;
    parse(timeline, &text).map_err(|error| SqlError::Garbled(error.to_string()))
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
}
