//! The REST API of a member, from its settings.

use crate::api;
use crate::api::security::{Error, Handle, Security, Wanted};
use crate::cli::{self, Exit, Failure};
use crate::runner::Journal;
use crate::settings::Settings;
use crate::sys::clock::{boottime_ms, wall_s};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Take the address and put the server together; nobody is answered yet.
pub(super) async fn serve(
    settings: &Settings,
    security: Arc<Handle>,
    view: &watch::Sender<Arc<api::View>>,
    commands: mpsc::Sender<api::Command>,
    journal: &Arc<Journal>,
) -> Result<api::Server, api::server::Error> {
    let restapi = &settings.restapi;
    let listener = api::bind(&restapi.listen.to_string(), restapi.request_queue_size).await?;
    let journal = journal.clone();
    Ok(api::Server::new(
        listener,
        api::Parts {
            view: view.subscribe(),
            commands,
            now: boottime_ms,
            security,
            journal: Arc::new(move |last| {
                let text = journal.tail(last);
                Box::pin(async move { Ok(text) })
            }),
            limits: api::Limits::default(),
        },
    ))
}

/// Who may call. A certificate that cannot be used is refused at a start; under a PostgreSQL that
/// runs nobody is answered until it is repaired, and the lock is renewed meanwhile.
pub(super) async fn secure(settings: &Settings, adopting: bool) -> anyhow::Result<Arc<Handle>> {
    let wanted = cli::rest::security(settings);
    let asked = wanted.clone();
    let loaded = tokio::task::spawn_blocking(move || Security::load(asked, wall_s())).await?;
    let security = match loaded {
        Ok(security) => security,
        // No file will repair it, and probes can be answered without.
        Err(error @ Error::Header { .. }) if adopting => {
            tracing::error!("{error}; no extra headers are sent until this is repaired");
            let bare = Wanted {
                http_headers: Vec::new(),
                https_headers: Vec::new(),
                ..wanted.clone()
            };
            Security::load(bare, wall_s()).unwrap_or_else(|_| Security::closed(wanted))
        }
        Err(error) if adopting => {
            tracing::error!("{error}; the REST API answers nobody until this is repaired");
            Security::closed(wanted)
        }
        Err(error) => return Err(Failure::new(Exit::Config, error.to_string()).into()),
    };
    for warning in security.warnings() {
        tracing::warn!("{}: {}", warning.key, warning.message);
    }
    Ok(Handle::new(security, wall_s))
}
