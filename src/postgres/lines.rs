//! Which line of history the WAL on this disk belongs to, by the WAL itself.
//!
//! A timeline is a number that whoever promotes chooses: the next it knows of. Two promotions can
//! choose the same, even from the same position; then only the bytes differ.

use super::probe::Probe;
use super::session::{Session, SqlError};
use super::{Postgres, history};
use crate::ha::model::{Lsn, Timeline};
use crate::ha::remote::{RemoteFacts, Standby};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

/// As much WAL before a position is compared: some pages, so that a full record is among it.
const COMPARED_BYTES: u64 = 64 << 10;

/// The segment's file name without its timeline, for the last byte before `lsn`.
pub(super) fn segment_name(lsn: Lsn, wal_segment_bytes: u64) -> String {
    let number = lsn.0.saturating_sub(1) / wal_segment_bytes.max(1);
    let per_file_id = (1 << 32) / wal_segment_bytes.max(1);
    format!("{:08X}{:08X}", number / per_file_id, number % per_file_id)
}

/// The timeline whose WAL holds the last byte before `lsn`, by the names of the files that are
/// there: the newest, since whoever follows a switch writes on under the new number. `None` without
/// such a file.
pub fn written_on(
    data_dir: &Path,
    lsn: Lsn,
    wal_segment_bytes: u64,
) -> io::Result<Option<Timeline>> {
    let wanted = segment_name(lsn, wal_segment_bytes);
    let mut newest = None;
    for entry in fs::read_dir(data_dir.join("pg_wal"))? {
        let name = entry?.file_name();
        let timeline = name
            .to_str()
            .and_then(|name| name.strip_suffix(&wanted))
            .and_then(|rest| Timeline::from_str_radix(rest, 16).ok());
        // Whoever followed a switch has the history with it. What a rewind or a crash left of a
        // timeline that is given up has none.
        let known = |timeline: &Timeline| *timeline <= 1 || has_history(data_dir, *timeline);
        newest = newest.max(timeline.filter(known));
    }
    Ok(newest)
}

fn has_history(data_dir: &Path, timeline: Timeline) -> bool {
    let name = format!("pg_wal/{timeline:08X}.history");
    data_dir.join(name).is_file()
}

/// Whether the leader has the same WAL before this replica's position, on this replica's timeline.
/// `None` where one of them has none there any more, or the leader is on another timeline.
pub async fn same_wal(
    pg: &Postgres,
    leader: &Session,
    deadline: Duration,
) -> Result<Option<bool>, SqlError> {
    let facts = Probe::new().facts(pg, deadline).await?;
    let dir = pg.data_dir.clone();
    let Some(mine) = facts.durable_lsn().filter(|_| facts.in_recovery) else {
        return Ok(None);
    };
    let sql = "SELECT pg_current_wal_flush_lsn()::text";
    let theirs = leader.lsn(sql, deadline).await?;
    let (end, segment_bytes) = (mine.min(theirs), facts.wal_segment_bytes);
    let read = tokio::task::spawn_blocking(move || read_before(&dir, end, segment_bytes)).await;
    let Ok(Ok(Some(piece))) = read else {
        return Ok(None);
    };
    let sql = format!(
        "SELECT pg_read_binary_file('pg_wal/{}', {}, {}, true)",
        piece.name,
        piece.offset,
        piece.bytes.len()
    );
    let theirs: Option<Vec<u8>> = leader.value(&sql, deadline).await?;
    Ok(theirs
        .filter(|theirs| theirs.len() == piece.bytes.len())
        .map(|theirs| theirs == piece.bytes))
}

/// Where the WAL of a leader ends now: what it has flushed, or, in a standby cluster, received.
pub async fn end_of_wal(leader: &Session, deadline: Duration) -> Result<Lsn, SqlError> {
    let sql = "SELECT (CASE WHEN pg_is_in_recovery() THEN \
               greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
               ELSE pg_current_wal_flush_lsn() END)::text";
    leader.lsn(sql, deadline).await
}

/// Who the primary of another cluster is, for a standby cluster that follows it.
pub async fn who_is(remote: &Session, deadline: Duration) -> Result<RemoteFacts, SqlError> {
    let sql = "SELECT s.system_identifier::text, pg_is_in_recovery(), \
               CASE WHEN pg_is_in_recovery() THEN c.timeline_id ELSE \
               ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END \
               FROM pg_control_system() s, pg_control_checkpoint() c";
    let row = format!("SELECT json_build_array(a, b, c)::text FROM ({sql}) AS t(a, b, c)");
    let text: String = remote.value(&row, deadline).await?;
    let (system_id, in_recovery, timeline) =
        serde_json::from_str(&text).map_err(|error| SqlError::Garbled(error.to_string()))?;
    let history = if in_recovery {
        Vec::new() // It says nothing of it.
    } else {
        history::read_remote(remote, deadline).await?
    };
    Ok(RemoteFacts {
        asked: Standby::default(),
        system_id,
        in_recovery,
        timeline,
        history,
        member: None,
    })
}

/// A running server, whatever name led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The address at which it was reached, as it sees it.
    pub host: String,
    /// The port likewise.
    pub port: u16,
    /// When it was started, to the microsecond: no two have that in common by chance.
    pub started: String,
}

/// Which server answers here; one without an address, by a socket, is `None`.
pub async fn instance(session: &Session, deadline: Duration) -> Result<Option<Instance>, SqlError> {
    let sql = "SELECT json_build_array(host(inet_server_addr()), inet_server_port(), \
               extract(epoch FROM pg_postmaster_start_time())::text)::text";
    let text: String = session.value(sql, deadline).await?;
    let (host, port, started): (Option<String>, Option<u16>, String) =
        serde_json::from_str(&text).map_err(|error| SqlError::Garbled(error.to_string()))?;
    let place = host.zip(port);
    Ok(place.map(|(host, port)| Instance {
        host,
        port,
        started,
    }))
}

/// A piece of a WAL segment.
struct Piece {
    name: String,
    offset: u64,
    bytes: Vec<u8>,
}

/// The WAL before a position, within its segment and on the timeline it was written on.
fn read_before(data_dir: &Path, end: Lsn, segment_bytes: u64) -> io::Result<Option<Piece>> {
    let Some(timeline) = written_on(data_dir, end, segment_bytes)? else {
        return Ok(None);
    };
    let name = format!("{timeline:08X}{}", segment_name(end, segment_bytes));
    let end_offset = (end.0.saturating_sub(1)) % segment_bytes.max(1) + 1;
    let offset = end_offset.saturating_sub(COMPARED_BYTES);
    let mut file = File::open(data_dir.join("pg_wal").join(&name))?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(end_offset - offset).read_to_end(&mut bytes)?;
    Ok(Some(Piece {
        name,
        offset,
        bytes,
    }))
}
