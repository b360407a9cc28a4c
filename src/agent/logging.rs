//! The agent's log: it never blocks the agent and never ends it, whatever standard error is.

use crate::settings::{Log, LogFormat, LogLevel};
use crate::sys::stderr::NonBlockingStderr;
use std::panic;
use std::time::Duration;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

/// Between two looks at how many lines were lost.
const LOOK: Duration = Duration::from_secs(10);

/// Changes from which level on is logged.
pub(super) type SetLevel = Box<dyn Fn(LogLevel) -> Result<(), String> + Send + Sync>;

/// Start logging as the settings say.
pub(super) fn start(log: &Log) -> (Lost, SetLevel) {
    let stderr = NonBlockingStderr::open();
    let writer = stderr.clone();
    let layer = tracing_subscriber::fmt::layer()
        // They would go to standard error by a macro that panics where it cannot be written.
        .log_internal_errors(false)
        .with_writer(move || writer.clone());
    let layer = match log.format {
        LogFormat::Json => layer.json().boxed(),
        LogFormat::Plain => layer.with_ansi(false).with_target(false).boxed(),
    };
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init();
    let set_level: SetLevel = Box::new(move |level| {
        let told = handle.reload(self::filter(level));
        told.map_err(|error| format!("log.level: {error}"))
    });
    // A second start in one process keeps the first logger.
    drop(started);
    // The default hook writes past the logger, and would block where nobody reads.
    panic::set_hook(Box::new(|what| tracing::error!("{what}")));
    (Lost { stderr, told: 0 }, set_level)
}

fn filter(level: LogLevel) -> EnvFilter {
    EnvFilter::new(level.as_str())
}

/// The lines that found no room.
pub(super) struct Lost {
    stderr: NonBlockingStderr,
    told: u64,
}

impl Lost {
    /// Say how many, whenever there are more; for ever.
    pub(super) async fn tell(mut self) -> ! {
        loop {
            tokio::time::sleep(LOOK).await;
            let lost = self.stderr.dropped();
            if lost > self.told {
                let more = lost - self.told;
                self.told = lost;
                tracing::warn!("{more} lines of the log were lost: standard error took none");
            }
        }
    }
}
