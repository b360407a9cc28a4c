//! What the primary keeps for its standbys: the synchronous set.

use super::Context;
use super::server::{CHECKPOINT, STATEMENT, blocking, words};
use crate::ha::event::Event;
use crate::ha::quorum::SyncSetting;
use crate::postgres::session::Session;
use crate::postgres::{config, control};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

pub(super) async fn run_set_sync(context: Arc<Context>, wanted: SyncSetting, turn: u64) {
    // One at a time, and only the newest: an older one that ended last would be in force while
    // another is believed to be.
    let _setter = context.sync_setter.lock().await;
    if context.sync_turn.load(SeqCst) != turn {
        return;
    }
    let set = async {
        let shown = set_sync(&context, &wanted).await?;
        let session = Session::local(&context.postgres(), STATEMENT)
            .await
            .map_err(words)?;
        let lsn = control::current_lsn(&session, STATEMENT)
            .await
            .map_err(words)?;
        Ok::<_, String>((lsn, shown))
    };
    match set.await {
        Ok((lsn, shown)) => {
            context.tell(Event::SyncSet { wanted, lsn, shown }).await;
        }
        Err(error) => tracing::warn!("the synchronous set {wanted} could not be set: {error}"),
    }
    context.kick.notify_one();
}

/// Tell the server, and wait until it shows the setting; that as it shows it.
pub(super) async fn set_sync(context: &Context, wanted: &SyncSetting) -> Result<String, String> {
    let pg = context.postgres();
    let (dir, setting) = (pg.data_dir.clone(), wanted.clone());
    blocking(move || config::set_sync(&dir, &setting).map_err(words)).await?;
    let session = Session::local(&pg, STATEMENT).await.map_err(words)?;
    let text = config::sync_setting(wanted);
    let mut found = reload_sync_names(&session).await?;
    if found != text {
        // What ALTER SYSTEM wrote is read after our files.
        tracing::warn!("synchronous_standby_names is {found:?} by ALTER SYSTEM: reset it");
        control::reset_sync_names(&session, STATEMENT)
            .await
            .map_err(words)?;
        found = reload_sync_names(&session).await?;
    }
    if found != text {
        return Err(format!(
            "the server stays at {found:?}; expected {text:?}: is it on the command line?"
        ));
    }
    Ok(found)
}

async fn reload_sync_names(session: &Session) -> Result<String, String> {
    control::reload(session, STATEMENT).await.map_err(words)?;
    // The checkpointer tells the backends that somebody waits; a checkpoint proves that it knows.
    control::checkpoint(session, CHECKPOINT)
        .await
        .map_err(words)?;
    control::sync_names(session, STATEMENT).await.map_err(words)
}
