//! The agent's log: it never blocks the agent and never ends it, whatever it is written to.

use super::log_files::LogFiles;
use crate::settings::{Log, LogFormat, LogLevel};
use crate::sys::stderr::NonBlockingStderr;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::panic;
use std::sync::Arc;
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
    let file = log.file.as_ref().map(LogFiles::open);
    let (file, refused) = match file.transpose() {
        Ok(file) => (file, None),
        Err(error) => (None, Some(error)),
    };
    let fields = (log.format == LogFormat::Json).then(|| first_fields(&log.static_fields));
    let (out, files) = (stderr.clone(), file.clone());
    let layer = tracing_subscriber::fmt::layer()
        // They would go to standard error by a macro that panics where it cannot be written.
        .log_internal_errors(false)
        .with_writer(move || LineWriter {
            fields: fields.clone().unwrap_or_default(),
            stderr: out.clone(),
            file: files.clone(),
        });
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
    if let Some(error) = refused {
        tracing::warn!("{error}; the lines go to standard error");
    }
    let lost = Lost {
        stderr,
        file,
        told: 0,
    };
    (lost, set_level)
}

/// `"key":"value",` as it stands after the brace of an object.
fn first_fields(fields: &BTreeMap<String, String>) -> Arc<str> {
    let pairs = fields.iter().map(|(key, value)| {
        let (key, value) = (Value::from(key.as_str()), Value::from(value.as_str()));
        format!("{key}:{value},")
    });
    pairs.collect::<String>().into()
}

/// One line goes to a file or to standard error, with the static fields at its beginning.
struct LineWriter {
    fields: Arc<str>,
    stderr: NonBlockingStderr,
    file: Option<LogFiles>,
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut whole = Vec::new();
        let text = match line.split_first() {
            Some((brace, rest)) if !self.fields.is_empty() && *brace == b'{' => {
                whole.push(*brace);
                whole.extend_from_slice(self.fields.as_bytes());
                whole.extend_from_slice(rest);
                whole.as_slice()
            }
            _ => line,
        };
        match &self.file {
            Some(file) => file.put(text),
            None => self.stderr.write_all(text)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    EnvFilter::new(level.as_str())
}

/// The lines that found no room.
pub(super) struct Lost {
    stderr: NonBlockingStderr,
    file: Option<LogFiles>,
    told: u64,
}

impl Lost {
    /// Say how many, whenever there are more; for ever.
    pub(super) async fn tell(mut self) -> ! {
        loop {
            tokio::time::sleep(LOOK).await;
            let files = self.file.as_ref();
            let lost = files.map_or_else(|| self.stderr.dropped(), LogFiles::dropped);
            if lost > self.told {
                let more = lost - self.told;
                self.told = lost;
                tracing::warn!("{more} lines of the log were lost: they found no room");
            }
        }
    }
}
