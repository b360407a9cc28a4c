//! What the running server says about itself: one long-lived session, one round trip a question.
//!
//! The session is nobody else's: a slow statement of another part must never look like a hung
//! server. A failed or timed out question gives the session up; the next one connects anew, within
//! its own deadline.

use super::Postgres;
use super::pending::{self, Standing};
use super::session::{Session, SqlError};
use super::slots;
use crate::ha::model::{Lsn, PendingRestart, Timeline, Walsender};
use crate::ha::slots::SlotFacts;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The reading of a running server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// PostgreSQL's system identifier.
    pub system_id: String,
    /// `server_version_num`, as 150004.
    pub server_version: u32,
    /// When the postmaster started, in milliseconds of the server's wall clock: an identity only.
    pub postmaster_start_ms: i64,
    /// A replica, or a primary that has not finished promotion.
    pub in_recovery: bool,
    /// A primary's current timeline, a replica's received one.
    pub timeline: Timeline,
    /// Bytes of a WAL segment.
    pub wal_segment_bytes: u64,
    /// Some setting waits for a restart.
    pub pending_restart: bool,
    /// Which, and what for; filled in from time to time ([`super::pending`]).
    pub pending: BTreeMap<String, PendingRestart>,
    /// Why replay stands still until a restart; filled in likewise.
    pub starved: Option<String>,
    /// The setting as the server has it now.
    pub synchronous_standby_names: String,
    /// Backends that wait for WAL to reach the disk at this moment.
    pub wal_waiters: u32,
    /// A primary's write position.
    pub write_lsn: Option<Lsn>,
    /// A primary's flushed position.
    pub flush_lsn: Option<Lsn>,
    /// A replica's received and flushed position.
    pub receive_lsn: Option<Lsn>,
    /// A replica's replayed position.
    pub replay_lsn: Option<Lsn>,
    /// The commit time of the last replayed transaction, in milliseconds since 1970.
    pub replay_timestamp_ms: Option<i64>,
    /// Replay is paused, or about to be.
    pub replay_paused: bool,
    /// Replay waits for WAL that is not there yet.
    pub awaits_wal: bool,
    /// The WAL receiver, while there is one.
    pub receiver: Option<Receiver>,
    /// The WAL senders.
    pub walsenders: Vec<Walsender>,
    /// The replication slots, but for temporary ones.
    pub slots: Vec<SlotFacts>,
}

impl Facts {
    /// How far WAL is on this server's disk.
    pub fn durable_lsn(&self) -> Option<Lsn> {
        self.flush_lsn.or(self.receive_lsn.max(self.replay_lsn))
    }
}

/// The WAL receiver as `pg_stat_wal_receiver` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// `streaming`, `waiting`, …
    pub status: String,
    /// Whom it streams from.
    pub sender_host: String,
    /// On which port.
    pub sender_port: u16,
    /// The end of the sender's WAL, as last heard.
    pub latest_end_lsn: Option<Lsn>,
    /// The timeline of what it received.
    pub received_timeline: Timeline,
}

/// One JSON object in one row. Whether the server is in recovery is read once, since it may change
/// between two calls; a primary's timeline comes from its WAL's name, because the control file
/// lags behind a promotion until its first checkpoint.
static QUESTION: LazyLock<String> = LazyLock::new(|| FORM.replace("$SLOTS", slots::QUESTION));
const FORM: &str = r"
WITH r AS MATERIALIZED (SELECT pg_is_in_recovery() AS r),
     w AS MATERIALIZED (SELECT status, sender_host, sender_port, latest_end_lsn, received_tli
                        FROM pg_stat_wal_receiver LIMIT 1)
SELECT json_build_object(
  'system_id', (SELECT system_identifier::text FROM pg_control_system()),
  'server_version', current_setting('server_version_num')::int,
  'postmaster_start_ms', floor(extract(epoch FROM pg_postmaster_start_time()) * 1000)::bigint,
  'in_recovery', r,
  'timeline', CASE WHEN r THEN coalesce(
      (SELECT nullif(received_tli, 0) FROM w),
      (SELECT greatest(c.timeline_id, m.min_recovery_end_timeline)
       FROM pg_control_checkpoint() c, pg_control_recovery() m))
    ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END,
  'wal_segment_bytes', (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),
  'pending_restart', (SELECT coalesce(bool_or(pending_restart), false) FROM pg_settings),
  'synchronous_standby_names', current_setting('synchronous_standby_names'),
  'wal_waiters', (SELECT count(*) FROM pg_stat_activity
                  WHERE lower(wait_event) IN ('walsync', 'walwrite')),
  'write_lsn', CASE WHEN NOT r THEN pg_current_wal_lsn() END,
  'flush_lsn', CASE WHEN NOT r THEN pg_current_wal_flush_lsn() END,
  'receive_lsn', CASE WHEN r THEN pg_last_wal_receive_lsn() END,
  'replay_lsn', CASE WHEN r THEN pg_last_wal_replay_lsn() END,
  'replay_timestamp_ms',
    CASE WHEN r THEN floor(extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000)::bigint END,
  'replay_paused', r AND pg_get_wal_replay_pause_state() <> 'not paused',
  'awaits_wal', r AND EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup'
      AND wait_event IN ('RecoveryWalStream', 'RecoveryRetrieveRetryInterval')),
  'receiver', (SELECT json_build_object('status', status, 'sender_host', sender_host,
      'sender_port', sender_port, 'latest_end_lsn', latest_end_lsn,
      'received_timeline', received_tli) FROM w),
  'walsenders', (SELECT coalesce(json_agg(json_build_object('name', application_name,
      'client_addr', host(client_addr), 'state', state, 'sync_state', sync_state, 'sent_lsn', sent_lsn,
      'flush_lsn', flush_lsn, 'replay_lsn', replay_lsn)
      ORDER BY application_name, pid), '[]') FROM pg_stat_replication),
  'slots', $SLOTS
)::text FROM r";

/// The probe's own session.
#[derive(Default)]
pub struct Probe {
    session: Option<Session>,
}

impl Probe {
    /// A probe that has not connected yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the server, connecting first where needed; the deadline counts for both together.
    pub async fn facts(&mut self, pg: &Postgres, deadline: Duration) -> Result<Facts, SqlError> {
        let begun = Instant::now();
        // Taken out: a question given up halfway must not leave its answer to the next one.
        let session = match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => Session::local(pg, deadline).await?,
        };
        let left = deadline.saturating_sub(begun.elapsed());
        let text = match session.value::<String>(&QUESTION, left).await {
            // The server left recovery between two of the question's calls.
            Err(SqlError::Other { sqlstate, .. }) if sqlstate == "55000" => {
                let left = deadline.saturating_sub(begun.elapsed());
                session.value::<String>(&QUESTION, left).await?
            }
            other => other?,
        };
        self.session = Some(session);
        parse(&text)
    }

    /// What waits for a restart, over the session of the last answer; without one nothing is asked.
    pub async fn pending(
        &mut self,
        pg: &Postgres,
        deadline: Duration,
    ) -> Result<Option<Standing>, SqlError> {
        let Some(session) = self.session.take() else {
            return Ok(None);
        };
        let standing = pending::settings(&session, pg, deadline).await?;
        self.session = Some(session);
        Ok(Some(standing))
    }

    /// Gives the session up, as before stopping the server.
    pub fn disconnect(&mut self) {
        self.session = None;
    }
}

#[derive(Deserialize)]
struct Raw {
    system_id: String,
    server_version: u32,
    postmaster_start_ms: i64,
    in_recovery: bool,
    timeline: Timeline,
    wal_segment_bytes: u64,
    pending_restart: bool,
    synchronous_standby_names: String,
    wal_waiters: u32,
    write_lsn: Option<String>,
    flush_lsn: Option<String>,
    receive_lsn: Option<String>,
    replay_lsn: Option<String>,
    replay_timestamp_ms: Option<i64>,
    replay_paused: bool,
    #[serde(default)]
    awaits_wal: bool,
    receiver: Option<RawReceiver>,
    walsenders: Vec<RawSender>,
    slots: Vec<slots::Row>,
}

#[derive(Deserialize)]
struct RawReceiver {
    status: Option<String>,
    sender_host: Option<String>,
    sender_port: Option<i64>,
    latest_end_lsn: Option<String>,
    received_timeline: Option<Timeline>,
}

#[derive(Deserialize)]
struct RawSender {
    name: Option<String>,
    client_addr: Option<String>,
    state: Option<String>,
    sync_state: Option<String>,
    sent_lsn: Option<String>,
    flush_lsn: Option<String>,
    replay_lsn: Option<String>,
}

fn lsn(text: Option<String>) -> Result<Option<Lsn>, SqlError> {
    let parsed = text.map(|text| text.parse::<Lsn>()).transpose();
    parsed.map_err(|error| SqlError::Garbled(error.to_string()))
}

fn parse(text: &str) -> Result<Facts, SqlError> {
    let raw: Raw =
        serde_json::from_str(text).map_err(|error| SqlError::Garbled(error.to_string()))?;
    let receiver = raw.receiver.map(receiver).transpose()?;
    let walsenders = raw
        .walsenders
        .into_iter()
        .map(walsender)
        .collect::<Result<_, _>>()?;
    Ok(Facts {
        system_id: raw.system_id,
        server_version: raw.server_version,
        postmaster_start_ms: raw.postmaster_start_ms,
        in_recovery: raw.in_recovery,
        timeline: raw.timeline,
        wal_segment_bytes: raw.wal_segment_bytes,
        pending_restart: raw.pending_restart,
        pending: BTreeMap::new(),
        starved: None,
        synchronous_standby_names: raw.synchronous_standby_names,
        wal_waiters: raw.wal_waiters,
        write_lsn: lsn(raw.write_lsn)?,
        flush_lsn: lsn(raw.flush_lsn)?,
        receive_lsn: lsn(raw.receive_lsn)?,
        replay_lsn: lsn(raw.replay_lsn)?,
        replay_timestamp_ms: raw.replay_timestamp_ms,
        replay_paused: raw.replay_paused,
        awaits_wal: raw.awaits_wal,
        receiver,
        walsenders,
        slots: raw
            .slots
            .into_iter()
            .map(SlotFacts::try_from)
            .collect::<Result<_, _>>()?,
    })
}

fn receiver(raw: RawReceiver) -> Result<Receiver, SqlError> {
    Ok(Receiver {
        status: raw.status.unwrap_or_default(),
        sender_host: raw.sender_host.unwrap_or_default(),
        sender_port: raw
            .sender_port
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(0),
        latest_end_lsn: lsn(raw.latest_end_lsn)?,
        received_timeline: raw.received_timeline.unwrap_or(0),
    })
}

fn walsender(raw: RawSender) -> Result<Walsender, SqlError> {
    Ok(Walsender {
        client_addr: raw.client_addr,
        name: raw.name.unwrap_or_default(),
        state: raw.state.unwrap_or_default(),
        sync_state: raw.sync_state.unwrap_or_default(),
        sent_lsn: lsn(raw.sent_lsn)?.unwrap_or_default(),
        // A sender that has not heard of its standby yet counts as having nothing.
        flush_lsn: lsn(raw.flush_lsn)?.unwrap_or_default(),
        replay_lsn: lsn(raw.replay_lsn)?.unwrap_or_default(),
    })
}

/// Between two readings WAL did not reach the disk although someone waited for it in both (G9).
/// An idle open transaction also leaves WAL unflushed; nobody waits for it, so it is no stall.
pub fn wal_stalled(before: &Facts, after: &Facts) -> bool {
    before.postmaster_start_ms == after.postmaster_start_ms
        && before.wal_waiters > 0
        && after.wal_waiters > 0
        && before.durable_lsn() == after.durable_lsn()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"system_id":"73","server_version":150004,"postmaster_start_ms":5,
        "in_recovery":false,"timeline":2,"wal_segment_bytes":16777216,"pending_restart":false,
        "synchronous_standby_names":"",
        "wal_waiters":1,"write_lsn":"0/3000148","flush_lsn":"0/3000100","receive_lsn":null,
        "replay_lsn":null,"replay_timestamp_ms":null,"replay_paused":false,"receiver":null,
        "walsenders":[{"name":"b","state":"startup","sync_state":"async","flush_lsn":null,
        "replay_lsn":null}],"slots":[]}"#;

    #[test]
    fn a_stall_takes_a_waiter_in_both_readings_and_a_flush_that_stands_still() {
        let facts = parse(ANSWER).unwrap();
        assert_eq!(facts.walsenders[0].flush_lsn, Lsn(0));
        let changed = |change: fn(&mut Facts)| {
            let mut other = facts.clone();
            change(&mut other);
            other
        };
        assert!(wal_stalled(&facts, &facts));
        assert!(wal_stalled(
            &facts,
            &changed(|f| f.write_lsn = Some(Lsn(u64::MAX)))
        ));
        assert!(!wal_stalled(&facts, &changed(|f| f.wal_waiters = 0)));
        assert!(!wal_stalled(
            &facts,
            &changed(|f| f.flush_lsn = Some(Lsn(u64::MAX)))
        ));
        assert!(!wal_stalled(
            &facts,
            &changed(|f| f.postmaster_start_ms += 1)
        ));
    }

    #[test]
    fn an_answer_of_another_form_is_an_error() {
        assert!(matches!(parse("{}"), Err(SqlError::Garbled(_))));
        let bad = ANSWER.replace("0/3000148", "zero");
        assert!(matches!(parse(&bad), Err(SqlError::Garbled(_))));
    }
}
