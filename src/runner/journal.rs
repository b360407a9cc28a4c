//! Every step, explained: a ring in memory and a rotated file, off the decision path.
//!
//! Every life of the agent begins with the state of its core, so that its steps can be run again
//! through the same function.
//! Nothing secret passes here: events and effects carry none.

use crate::ha::effect::Effect;
use crate::ha::event::Event;
use crate::ha::model::Ms;
use crate::ha::state::State;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Entries in memory.
const RING_MAX: usize = 10_000;
/// And their size: an agent is to stay small.
const RING_BYTES_MAX: usize = 1 << 20;
/// A file is rotated at half of what both together may take.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Lines on their way to the file; more are dropped and counted. tokio's queue takes memory for
/// what waits in it; std's would take it for all that might.
const QUEUE: usize = 4_096;

/// One line of the file. Decisions are the rule and states the exception: their size differs.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "lowercase")]
pub enum Line {
    /// Where a replay begins.
    State {
        /// The core's state.
        state: Box<State>,
        /// Lines dropped so far: a replay across a gap is not faithful.
        dropped: u64,
    },
    /// One step.
    Decision {
        /// Its number.
        n: u64,
        /// The boottime clock.
        at_ms: Ms,
        /// The wall clock, for people.
        wall: String,
        /// Whose decision.
        member: String,
        /// What happened.
        event: Event,
        /// The rules that fired.
        rule: Vec<String>,
        /// Why, in words.
        words: Vec<String>,
        /// What is to be done.
        effects: Vec<String>,
    },
}

/// The journal of one agent.
pub struct Journal {
    member: String,
    ring: Mutex<Ring>,
    queue: Mutex<Option<Sender<String>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Ring {
    lines: VecDeque<String>,
    bytes: usize,
    next: u64,
    dropped: u64,
}

impl Journal {
    /// A journal that writes to `path` (and `path.1`), where that is possible.
    pub fn open(member: &str, path: Option<PathBuf>) -> Self {
        let (sender, receiver) = channel(QUEUE);
        let writer = path.and_then(|path| {
            std::thread::Builder::new()
                .name("journal".into())
                .spawn(move || write_lines(&path, receiver))
                .ok()
        });
        Self {
            member: member.to_owned(),
            ring: Mutex::default(),
            queue: Mutex::new(writer.is_some().then_some(sender)),
            writer: Mutex::new(writer),
        }
    }

    /// The state at birth: a replay begins here.
    pub(super) fn start(&self, state: &State) {
        let line = Line::State {
            state: Box::new(state.clone()),
            dropped: 0,
        };
        self.send(serde_json::to_string(&line).unwrap_or_default());
    }

    /// The event, before the step consumes it.
    #[allow(clippy::unused_self)]
    pub(super) fn note(&self, event: &Event) -> Event {
        event.clone()
    }

    /// One step. Ticks that decide nothing are kept for the replay and not for the reader.
    pub(super) fn record(&self, at_ms: Ms, event: Event, effects: &[Effect]) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.next += 1;
        let (mut rule, mut words, mut done) = (Vec::new(), Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Explain {
                    rule: fired,
                    words: why,
                } => {
                    rule.push(format!("{fired:?}"));
                    words.push(why.clone());
                }
                Effect::Wake { .. } => {}
                other => done.push(other.to_string()),
            }
        }
        let telling = !words.is_empty() || !done.is_empty();
        let line = Line::Decision {
            n: ring.next,
            at_ms,
            wall: jiff::Timestamp::now().to_string(),
            member: self.member.clone(),
            event,
            rule,
            words,
            effects: done,
        };
        let text = serde_json::to_string(&line).unwrap_or_default();
        if telling {
            ring.push(text.clone());
        }
        if !self.send(text) {
            ring.dropped += 1;
        }
    }

    fn send(&self, line: String) -> bool {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue
            .as_ref()
            .is_none_or(|queue| queue.try_send(line).is_ok())
    }

    /// The last entries that decided something, as JSON lines.
    pub fn tail(&self, last: usize) -> String {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let from = ring.lines.len().saturating_sub(last);
        let mut text = String::new();
        for line in ring.lines.iter().skip(from) {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Write what is queued, and end the writer.
    pub fn close(&self) {
        drop(
            self.queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::warn!("the journal's writer had failed");
        }
    }
}

impl Ring {
    fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > RING_MAX || self.bytes > RING_BYTES_MAX {
            let Some(old) = self.lines.pop_front() else {
                return;
            };
            self.bytes -= old.len();
        }
    }
}

fn write_lines(path: &Path, mut lines: Receiver<String>) {
    let mut file = None;
    let mut failed = false;
    while let Some(line) = lines.blocking_recv() {
        let result = append(path, &mut file, &line);
        if let Err(error) = &result
            && !failed
        {
            let path = path.display();
            tracing::warn!(%error, "{path}: the journal cannot be written; entries are dropped");
        }
        failed = result.is_err();
    }
}

fn append(path: &Path, file: &mut Option<(File, u64)>, line: &str) -> io::Result<()> {
    if file
        .as_ref()
        .is_some_and(|(_, size)| *size > FILE_BYTES_MAX)
    {
        fs::rename(path, path.with_extension("1.jsonl"))?;
        *file = None;
    }
    if file.is_none() {
        let mut options = OpenOptions::new();
        let mut new = options.read(true).create(true).append(true).open(path)?;
        let size = new.metadata()?.len();
        end_torn_line(&mut new, size)?;
        *file = Some((new, size));
    }
    if let Some((file, size)) = file {
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
        *size += line.len() as u64 + 1;
    }
    Ok(())
}

/// A life that was killed may have left half a line: the next life's first one must not join it.
fn end_torn_line(file: &mut File, size: u64) -> io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(())
}
