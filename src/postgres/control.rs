//! What the agent tells a running server, and what it must see before it believes it was done.

use super::quote;
use super::session::{Session, SqlError};
use crate::ha::model::Lsn;
use crate::ha::quorum::SyncSetting;
use crate::sys::durable;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Leaves the file that makes a standby promote once the guardian sends the postmaster SIGUSR1:
/// the way that needs no connection.
pub fn write_promote_trigger(data_dir: &Path) -> io::Result<()> {
    durable::write_atomic(&data_dir.join("promote"), b"", 0o600)
}

/// Takes the trigger back, as before starting: a forgotten one would promote.
pub fn remove_promote_trigger(data_dir: &Path) -> io::Result<()> {
    durable::remove_durably(&data_dir.join("promote"))
}

/// Orders the promotion and returns at once: that it ended is seen by the probe.
pub async fn promote(session: &Session, deadline: Duration) -> Result<(), SqlError> {
    let sent: bool = session.value("SELECT pg_promote(false)", deadline).await?;
    if sent {
        Ok(())
    } else {
        Err(SqlError::Garbled("pg_promote answered false".into()))
    }
}

/// Runs a checkpoint to its end.
pub async fn checkpoint(session: &Session, deadline: Duration) -> Result<(), SqlError> {
    session.limit(deadline, deadline).await?;
    session.execute("CHECKPOINT", deadline).await
}

/// Asks the server to read its files again; it does so soon, not now.
pub async fn reload(session: &Session, deadline: Duration) -> Result<(), SqlError> {
    session
        .value::<bool>("SELECT pg_reload_conf()", deadline)
        .await
        .map(drop)
}

/// `synchronous_standby_names` as this session has it.
pub async fn sync_names(session: &Session, deadline: Duration) -> Result<String, SqlError> {
    let sql = "SELECT current_setting('synchronous_standby_names')";
    session.value(sql, deadline).await
}

/// Takes back what ALTER SYSTEM made of `synchronous_standby_names`, from the next reload on.
pub async fn reset_sync_names(session: &Session, deadline: Duration) -> Result<(), SqlError> {
    let sql = "ALTER SYSTEM RESET synchronous_standby_names";
    session.execute(sql, deadline).await
}

/// A primary's current write position.
pub async fn current_lsn(session: &Session, deadline: Duration) -> Result<Lsn, SqlError> {
    session
        .lsn("SELECT pg_current_wal_lsn()::text", deadline)
        .await
}

/// No WAL receiver runs, and none is configured as this session sees it.
pub async fn receives_nothing(session: &Session, deadline: Duration) -> Result<bool, SqlError> {
    let sql = "SELECT current_setting('primary_conninfo') = '' \
               AND NOT EXISTS (SELECT FROM pg_stat_wal_receiver)";
    session.value(sql, deadline).await
}

/// The synchronous set is enforced: as many standbys as are needed are shown as synchronous by their
/// senders and have flushed what was written when the setting was seen to hold, so that no commit
/// acknowledged before it can be missing on all of them (DESIGN §3). `since` is the position read *after*
/// the server showed the setting.
///
/// When the list was empty before, run a [`checkpoint`] between the reload and reading `since`:
/// backends wait for standbys only once the checkpointer has taken note of the new setting, which
/// nothing shows, and it does so before any checkpoint it begins.
pub async fn enforced_sync(
    session: &Session,
    wanted: &SyncSetting,
    since: Lsn,
    deadline: Duration,
) -> Result<bool, SqlError> {
    // The setting must be the one asked for: a reload is asynchronous, and a sender's own
    // `sync_state` may still be that of the list before.
    let setting = quote::literal(&quote::sync_names(wanted));
    let list: Vec<_> = wanted
        .names
        .iter()
        .map(|name| quote::literal(name))
        .collect();
    let list = if list.is_empty() {
        "NULL".into()
    } else {
        list.join(",")
    };
    let sql = format!(
        "SELECT current_setting('synchronous_standby_names') = {setting} AND \
         {} <= (SELECT count(DISTINCT lower(application_name)) FROM pg_stat_replication \
               WHERE lower(application_name) IN (SELECT lower(n) FROM unnest(ARRAY[{list}]::text[]) n) \
               AND sync_state IN ('sync', 'quorum') AND state = 'streaming' \
               AND flush_lsn >= '{since}'::pg_lsn)",
        wanted.need
    );
    session.value(&sql, deadline).await
}
