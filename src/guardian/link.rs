//! The agent's end of the guardian: the shared words, and requests and notices on the channel.
//!
//! The only file of `guardian` that knows tokio. The words are plain atomics: beating and moving
//! the deadline never wait for anything.

use super::deadline::{self, Deadline, DeadlineError};
use super::orphan::OrphanWatch;
use super::protocol::{MESSAGE_BYTES_MAX, Notice, Request};
use crate::sys::async_fd;
use crate::sys::channel::{receive_message, send_message};
use crate::sys::clock::boottime_ms;
use crate::sys::process::{self, parent_pid, pidfd};
use crate::sys::shm::SharedWords;
use crate::sys::spawn::take_inherited_fd;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The environment variable by which a guardian tells its agent where the shared things are.
pub const LINK_ENV: &str = "PGWARDEN_GUARDIAN";

/// How long the end of the channel is kept from the agent.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);

/// The value of [`LINK_ENV`], as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LinkEnv {
    pub(super) guardian_pid: i32,
    pub(super) words_fd: i32,
    pub(super) channel_fd: i32,
    /// Where PostgreSQL's processes work; the data directory first.
    pub(super) dirs: Vec<PathBuf>,
}

/// Why there is no link, or why a message did not pass.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Not started by a guardian.
    #[error("{LINK_ENV} is not set; an agent is started by its guardian, as in `pgwarden agent`")]
    NoGuardian,
    /// The variable is not what a guardian writes.
    #[error("{LINK_ENV} is not what a guardian writes: {0}")]
    BadEnvironment(String),
    /// The guardian died before the agent could watch it.
    #[error("the guardian (process {0}) is not the parent of this process any more")]
    Orphaned(i32),
    /// A descriptor could not be used.
    #[error("open the link to the guardian: {0}")]
    Open(#[source] io::Error),
    /// The request cannot be sent as it is.
    #[error(
        "the request takes {bytes} bytes; the limit is {MESSAGE_BYTES_MAX}: shorten argv or env"
    )]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// The channel failed: the guardian is gone.
    #[error("send a request to the guardian: {0}")]
    Send(#[source] io::Error),
}

/// The shared words, for whoever decides: cheap to clone, never waits.
#[derive(Clone, Debug)]
pub struct Words(Arc<SharedWords>);

impl Words {
    /// Says that the decision loop is alive. To be called by that loop and by nothing else.
    pub fn beat(&self) {
        self.0
            .words()
            .heartbeat
            .store(boottime_ms(), Ordering::SeqCst);
    }

    /// The deadline, passed or not; `None` while nothing writable may run.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.deadline().at_ms()
    }

    /// The deadline, and whether it has passed.
    pub fn deadline(&self) -> Deadline {
        deadline::read(&self.0.words().deadline, boottime_ms())
    }

    /// Moves the deadline, from none too, earlier or later. See G1 for when that is allowed: only
    /// after an acknowledged change of the lock record, to `sent_at + F`.
    pub fn move_deadline(&self, to: u64) -> Result<(), DeadlineError> {
        let ttl_ms = self.0.words().ttl.load(Ordering::SeqCst);
        deadline::move_to(&self.0.words().deadline, to, boottime_ms(), ttl_ms)
    }

    /// Suspends the deadline. See G1 for when that is allowed: only after an acknowledged record
    /// with the mark of maintenance mode.
    pub fn suspend_deadline(&self) -> Result<(), DeadlineError> {
        deadline::suspend(&self.0.words().deadline, boottime_ms())
    }

    /// Tells the guardian D, the TTL of the record: it bounds heartbeats and deadlines. To be set
    /// before the first [`Self::move_deadline`] under a larger D, after the last under a smaller.
    pub fn set_ttl_ms(&self, ttl_ms: u64) {
        self.0.words().ttl.store(ttl_ms, Ordering::SeqCst);
    }
}

/// The agent's end of the channel, and the shared words.
#[derive(Debug)]
pub struct Link {
    words: Words,
    channel: AsyncFd<OwnedFd>,
}

impl Link {
    /// Opens what the guardian handed over. Once per process, inside a tokio runtime.
    ///
    /// Also starts the thread that fences and ends this process when the guardian dies (G6).
    pub fn from_env() -> Result<Self, LinkError> {
        let text = std::env::var(LINK_ENV).map_err(|_| LinkError::NoGuardian)?;
        let env: LinkEnv = serde_json::from_str(&text)
            .map_err(|error| LinkError::BadEnvironment(error.to_string()))?;
        let guardian = pidfd(env.guardian_pid).map_err(LinkError::Open)?;
        // Asked after the pidfd was opened: from here on the death of this very process is seen.
        if parent_pid() != env.guardian_pid || !process::exists(env.guardian_pid) {
            return Err(LinkError::Orphaned(env.guardian_pid));
        }
        let words = take_inherited_fd(env.words_fd)
            .and_then(SharedWords::map)
            .map_err(LinkError::Open)?;
        let channel = take_inherited_fd(env.channel_fd)
            .and_then(async_fd::register)
            .map_err(LinkError::Open)?;
        OrphanWatch {
            guardian,
            dirs: env.dirs,
        }
        .start()
        .map_err(LinkError::Open)?;
        Ok(Self {
            words: Words(Arc::new(words)),
            channel,
        })
    }

    /// The shared words, to hand to the decision loop.
    pub fn words(&self) -> Words {
        self.words.clone()
    }

    /// See [`Words::beat`].
    pub fn beat(&self) {
        self.words.beat();
    }

    /// See [`Words::deadline_ms`].
    pub fn deadline_ms(&self) -> Option<u64> {
        self.words.deadline_ms()
    }

    /// See [`Words::move_deadline`].
    pub fn move_deadline(&self, to: u64) -> Result<(), DeadlineError> {
        self.words.move_deadline(to)
    }

    /// Sends a request; its answer comes as a [`Notice`]. Waits only while the channel is full.
    pub async fn request(&self, request: &Request) -> Result<(), LinkError> {
        let message =
            serde_json::to_vec(request).map_err(|e| LinkError::Send(io::Error::other(e)))?;
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(LinkError::TooLong {
                bytes: message.len(),
            });
        }
        self.channel
            .async_io(Interest::WRITABLE, |fd| send_message(fd, &message))
            .await
            .map_err(LinkError::Send)
    }

    /// The next notice; `None` once the guardian is gone. Safe to cancel.
    ///
    /// `None` comes late on purpose: the orphan thread fences and ends this process first, and an
    /// agent that ended itself at once would end the fencing with it.
    pub async fn next(&self) -> Option<Notice> {
        loop {
            let received = self.channel.async_io(Interest::READABLE, receive).await;
            let message = match received {
                Ok(Some(message)) => message,
                Ok(None) => {
                    tokio::time::sleep(ORPHAN_GRACE).await;
                    return None;
                }
                Err(error) => {
                    tracing::error!(%error, "receive from the guardian");
                    return None;
                }
            };
            match serde_json::from_slice(&message) {
                Ok(notice) => return Some(notice),
                Err(error) => tracing::error!(%error, "a notice of the guardian is unreadable"),
            }
        }
    }
}

/// One message. The room for the longest is only made when there is one: the decision loop waits
/// here all the time, and with it the room would be resident all the time.
fn receive(channel: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let mut message = vec![0; MESSAGE_BYTES_MAX];
    let length = receive_message(channel, &mut message)?;
    Ok(length.map(|length| {
        message.truncate(length);
        message
    }))
}
