//! The settings read again: what the decision loop cannot know of it.

use super::logging;
use crate::api;
use crate::cli;
use crate::runner::Reloading;
use crate::settings;
use crate::sys::clock::boottime_ms;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// How the settings are read again, and what of them is put in force here.
pub(super) fn of(
    path: Option<&Path>,
    set_level: logging::SetLevel,
    security: Arc<api::security::Handle>,
) -> Reloading {
    let path = path.map(Path::to_owned);
    Reloading {
        load: Box::new(move || settings::load_given(path.as_deref(), &settings::process_env)),
        apply: Box::new(move |settings| {
            // What can be refused comes first.
            let told = security.reload(cli::rest::security(settings));
            for warning in told.map_err(|error| error.to_string())? {
                tracing::warn!("{}: {}", warning.key, warning.message);
            }
            set_level(settings.log.level)
        }),
    }
}

/// SIGHUP. The answer reaches the log: nobody waits for it.
pub(super) fn ask(commands: &mpsc::Sender<api::Command>) {
    let (reply, _) = tokio::sync::oneshot::channel();
    let command = api::Command {
        ask: api::Ask::Reload,
        deadline_ms: boottime_ms(),
        reply,
    };
    if commands.try_send(command).is_err() {
        tracing::warn!("SIGHUP came while too much else is asked: send it again");
    }
}
