//! What the primary keeps for its standbys: the synchronous set, and their slots.

use super::Context;
use super::server::{CHECKPOINT, STATEMENT, blocking, words};
use crate::ha::event::Event;
use crate::ha::model::{Lsn, Name};
use crate::postgres::session::Session;
use crate::postgres::{config, control, slots};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

pub(super) async fn run_set_sync_names(context: Arc<Context>, names: Vec<Name>, turn: u64) {
    // One at a time, and only the newest: an older one that ended last would be in force while
    // another is believed to be.
    let _setter = context.sync_setter.lock().await;
    if context.sync_turn.load(SeqCst) != turn {
        return;
    }
    match set_sync_names(&context, &names).await {
        Ok((lsn, setting)) => {
            let event = Event::SyncNamesSet {
                names,
                lsn,
                setting,
            };
            context.tell(event).await;
        }
        Err(error) => tracing::warn!("the synchronous set {names:?} could not be set: {error}"),
    }
    context.kick.notify_one();
}

async fn set_sync_names(context: &Context, names: &[Name]) -> Result<(Lsn, String), String> {
    let pg = context.postgres();
    let (dir, list) = (pg.data_dir.clone(), names.to_vec());
    blocking(move || config::set_sync_names(&dir, &list).map_err(words)).await?;
    let session = Session::local(&pg, STATEMENT).await.map_err(words)?;
    let mut found = reload_sync_names(&session).await?;
    if found != config::sync_setting(names) {
        // What ALTER SYSTEM wrote is read after our files.
        tracing::warn!("synchronous_standby_names is {found:?} by ALTER SYSTEM: reset it");
        control::reset_sync_names(&session, STATEMENT)
            .await
            .map_err(words)?;
        found = reload_sync_names(&session).await?;
    }
    if found != config::sync_setting(names) {
        return Err(format!(
            "the server stays at {found:?}; expected {:?}: is it on the command line?",
            config::sync_setting(names)
        ));
    }
    let lsn = control::current_lsn(&session, STATEMENT)
        .await
        .map_err(words)?;
    Ok((lsn, found))
}

async fn reload_sync_names(session: &Session) -> Result<String, String> {
    control::reload(session, STATEMENT).await.map_err(words)?;
    // The checkpointer tells the backends that somebody waits; a checkpoint proves that it knows.
    control::checkpoint(session, CHECKPOINT)
        .await
        .map_err(words)?;
    control::sync_names(session, STATEMENT).await.map_err(words)
}

pub(super) async fn run_set_slots(context: Arc<Context>, members: BTreeSet<Name>) {
    let pg = context.postgres();
    if !pg.use_slots {
        return;
    }
    // One at a time: two that compare and create would trip over each other.
    let mut owned = context.slots_owned.lock().await;
    owned.extend(members.iter().cloned());
    let changed = match Session::local(&pg, STATEMENT).await {
        Ok(session) => slots::sync_member_slots(&session, &members, &owned, STATEMENT).await,
        Err(error) => Err(error),
    };
    if let Err(error) = changed {
        tracing::warn!(%error, "the members' slots could not be kept");
    }
}
