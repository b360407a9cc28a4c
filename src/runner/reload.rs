//! The local file read again: SIGHUP and POST `/reload`.
//!
//! A file with an error changes nothing, and whoever asked hears why. What can be put in force
//! while the member runs is, all at once; the rest is named and waits for the agent's next start.

use super::{Context, hooks};
use crate::agent::wiring;
use crate::api::Reply;
use crate::ha::event::Event;
use crate::settings::{Loaded, Settings, live};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Puts settings in force, or says why none are.
type Apply = dyn Fn(&Settings) -> Result<(), String> + Send + Sync;

/// What the composition root knows of reading and of the parts that are not the loop's.
pub struct Reloading {
    /// Reads the file and the environment.
    pub load: Box<dyn Fn() -> Loaded + Send + Sync>,
    /// Puts in force what is not the loop's: the log's level, who may call the REST API. An error,
    /// in words, means that nothing of it changed.
    pub apply: Box<Apply>,
}

pub(super) async fn run_reload(context: Arc<Context>, reply: oneshot::Sender<Reply>) {
    let answer = match reload(&context).await {
        Ok(()) => Reply::new(202, "reload scheduled"),
        Err(why) => {
            tracing::error!("the settings were not read again: {why}");
            let words = "reload refused, the settings of before stay in force";
            Reply::new(500, format!("{words}: {why}"))
        }
    };
    // Who asked may have gone.
    let _ = reply.send(answer);
}

async fn reload(context: &Arc<Context>) -> Result<(), String> {
    // One after the other: the file that was read last is the one in force.
    let _turn = context.reloading_turn.lock().await;
    let reader = Arc::clone(context);
    let loaded = tokio::task::spawn_blocking(move || (reader.reloading.load)()).await;
    let loaded = loaded.map_err(|error| format!("the file could not be read: {error}"))?;
    let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    let Some(new) = loaded.settings else {
        return Err(problems.join("\n"));
    };
    for problem in problems {
        tracing::warn!("{problem}");
    }
    let old = context.settings();
    let (next, waiting) = live::while_running(&old, new);
    for key in waiting {
        tracing::warn!("{key} changed: it takes effect with the next start of the agent");
    }
    let (applier, wanted) = (Arc::clone(context), next.clone());
    let applied = tokio::task::spawn_blocking(move || (applier.reloading.apply)(&wanted)).await;
    applied.map_err(|error| format!("nothing could be put in force: {error}"))??;
    if next == *old {
        tracing::info!("the settings were read again: nothing changed");
        return Ok(());
    }
    let nofailover = wiring::nofailover(&next);
    let stream = wiring::stream_tags(&next);
    context.settings.replace(next);
    // What the dynamic configuration says depends on what the local file says.
    let document = context.dcs.known_config();
    if document.is_object() {
        context.resolve(&document.to_string());
    }
    tracing::info!("the settings were read again, and are in force");
    hooks::settle_removed(context, &context.settings());
    context.tell(hooks::wanted(&context.settings())).await;
    context.tell(Event::Reloaded { nofailover, stream }).await;
    Ok(())
}
