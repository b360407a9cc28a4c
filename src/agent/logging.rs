//! The agent's log: it never blocks the agent and never ends it, whatever standard error is.

use crate::settings::{Log, LogFormat};
use crate::sys::stderr::NonBlockingStderr;
use std::panic;
use std::time::Duration;

/// Between two looks at how many lines were lost.
const LOOK: Duration = Duration::from_secs(10);

/// Start logging as the settings say.
pub(super) fn start(log: &Log) -> Lost {
    let stderr = NonBlockingStderr::open();
    let writer = stderr.clone();
    let filter = tracing_subscriber::EnvFilter::new(log.level.as_str());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // They would go to standard error by a macro that panics where it cannot be written.
        .log_internal_errors(false)
        .with_writer(move || writer.clone());
    let started = match log.format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Plain => builder.with_ansi(false).with_target(false).try_init(),
    };
    // A second start in one process keeps the first logger.
    drop(started);
    // The default hook writes past the logger, and would block where nobody reads.
    panic::set_hook(Box::new(|what| tracing::error!("{what}")));
    Lost { stderr, told: 0 }
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
