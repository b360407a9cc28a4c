//! The agent as the guardian sees it: a child with a channel, a heartbeat and a backoff.

use super::link::{LINK_ENV, LinkEnv};
use super::protocol::{MESSAGE_BYTES_MAX, Notice, Request};
use crate::sys::channel::{pair, receive_message, send_message};
use crate::sys::clock::boottime_ms;
use crate::sys::process::{Pid, Signal, signal};
use crate::sys::shm::SharedWords;
use crate::sys::spawn::{SpawnSpec, fd_number, spawn};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Notices waiting for an agent that does not read. More, and it is as good as hung.
const OUTBOX_MAX: usize = 64;
const BACKOFF_FIRST_MS: u64 = 100;
const BACKOFF_MAX_MS: u64 = 5000;
/// Between the end of the channel and that of the process behind it, if it ends by itself.
const ENDING_MS: u64 = 500;
/// An agent that lived this long starts the backoff anew.
const HEALTHY_LIFE_MS: u64 = 5_000;

/// How agents are started.
#[derive(Debug)]
pub(super) struct AgentCommand {
    pub(super) program: String,
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    /// Where PostgreSQL's processes work; the data directory first.
    pub(super) dirs: Vec<PathBuf>,
}

/// The agent, running or not.
#[derive(Debug)]
pub(super) struct AgentProcess {
    pub(super) pid: Option<Pid>,
    pub(super) started_ms: u64,
    /// When the next one may start.
    pub(super) start_at_ms: u64,
    /// How many were started.
    pub(super) starts: u32,
    /// Why the last one ended, in words.
    pub(super) last_end: Option<String>,
    /// It does not read the channel: it cannot be served any more.
    unread: bool,
    /// Since when the channel is closed. A process that ends closes it first.
    closed_ms: Option<u64>,
    channel: Option<OwnedFd>,
    outbox: VecDeque<Vec<u8>>,
    inbox: Vec<u8>,
    backoff_ms: u64,
}

impl AgentProcess {
    pub(super) fn new() -> Self {
        Self {
            pid: None,
            started_ms: 0,
            start_at_ms: 0,
            starts: 0,
            last_end: None,
            unread: false,
            closed_ms: None,
            channel: None,
            outbox: VecDeque::with_capacity(OUTBOX_MAX),
            inbox: vec![0; MESSAGE_BYTES_MAX],
            backoff_ms: BACKOFF_FIRST_MS,
        }
    }

    /// Starts an agent with a channel of its own: nothing said to an earlier one reaches it.
    pub(super) fn start(
        &mut self,
        command: &AgentCommand,
        words: &SharedWords,
        now: u64,
    ) -> io::Result<()> {
        let (ours, theirs) = pair()?;
        let link = LinkEnv {
            guardian_pid: crate::sys::process::own_pid(),
            words_fd: fd_number(words),
            channel_fd: fd_number(&theirs),
            dirs: command.dirs.clone(),
        };
        let link = serde_json::to_string(&link).map_err(io::Error::other)?;
        let mut env: Vec<_> = command
            .env
            .iter()
            .filter(|(name, _)| name != LINK_ENV)
            .cloned()
            .collect();
        env.push((LINK_ENV.to_owned(), link));
        let child = spawn(&SpawnSpec {
            program: &command.program,
            argv: &command.argv,
            env: &env,
            pass_fds: &[words.as_fd(), theirs.as_fd()],
            ..SpawnSpec::default()
        })?;
        self.pid = Some(child.pid);
        self.started_ms = now;
        self.starts += 1;
        self.unread = false;
        self.closed_ms = None;
        self.channel = Some(ours);
        self.outbox.clear();
        Ok(())
    }

    /// It has ended: the next may start after the backoff.
    pub(super) fn ended(&mut self, now: u64, why: String) {
        if now.saturating_sub(self.started_ms) >= HEALTHY_LIFE_MS {
            self.backoff_ms = BACKOFF_FIRST_MS;
        }
        self.start_at_ms = now + self.backoff_ms;
        self.backoff_ms = (self.backoff_ms * 2).min(BACKOFF_MAX_MS);
        self.pid = None;
        self.channel = None;
        self.outbox.clear();
        self.last_end = Some(why);
    }

    /// The channel, to wait on.
    pub(super) fn channel(&self) -> Option<&OwnedFd> {
        self.channel.as_ref()
    }

    /// It lives and cannot be served.
    pub(super) fn unreachable(&self, now: u64) -> bool {
        let closed = |since: u64| now.saturating_sub(since) > ENDING_MS;
        self.unread || self.closed_ms.is_some_and(closed)
    }

    /// Forwards a signal.
    pub(super) fn signal(&self, what: Signal) {
        if let Some(pid) = self.pid {
            signal(pid, what);
        }
    }

    /// Tells the agent; waits in a bounded outbox if it does not read.
    pub(super) fn tell(&mut self, notice: &Notice) {
        if self.channel.is_none() {
            return;
        }
        match serde_json::to_vec(notice) {
            Ok(message) if self.outbox.len() < OUTBOX_MAX => self.outbox.push_back(message),
            Ok(_) => self.unread = true,
            Err(error) => tracing::error!(%error, "encode a notice"),
        }
        self.flush();
    }

    /// Sends what waits, as far as the agent reads.
    pub(super) fn flush(&mut self) {
        let Some(channel) = &self.channel else { return };
        while let Some(message) = self.outbox.front() {
            match send_message(channel, message) {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.closed_ms.get_or_insert_with(boottime_ms);
                    return;
                }
            }
        }
    }

    /// The next request, or why it could not be read; `None` when there is none.
    pub(super) fn receive(&mut self) -> Option<Result<Request, String>> {
        let channel = self.channel.as_ref()?;
        match receive_message(channel, &mut self.inbox) {
            Ok(Some(length)) => {
                let request = serde_json::from_slice(&self.inbox[..length]);
                Some(request.map_err(|error| format!("not a request: {error}")))
            }
            Ok(None) => {
                self.channel = None;
                self.closed_ms.get_or_insert_with(boottime_ms);
                None
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error.to_string())),
        }
    }
}

/// What a verdict about the heartbeat needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heartbeat {
    /// The last beat; 0 before the first.
    pub(super) beat_ms: u64,
    /// When the agent was started.
    pub(super) started_ms: u64,
    /// A deadline is set: this is a primary, or about to be.
    pub(super) armed: bool,
    /// D.
    pub(super) ttl_ms: u64,
    /// The least patience with a replica's agent.
    pub(super) replica_ms: u64,
    /// When the guardian itself last noticed that it had been frozen.
    pub(super) thawed_ms: u64,
}

impl Heartbeat {
    /// How long the agent has been silent if that is too long (G5).
    pub(super) fn hung_for_ms(self, now: u64) -> Option<u64> {
        let patient = self.ttl_ms.max(self.replica_ms);
        // Before its first beat it may be loading certificates on a busy node: the deadline still
        // stands over PostgreSQL meanwhile.
        let limit = if self.armed && self.beat_ms != 0 {
            self.ttl_ms / 4
        } else {
            patient
        };
        // A freeze of the whole container silenced both; the agent gets its turn first.
        let since = self.beat_ms.max(self.started_ms).max(self.thawed_ms);
        let silent = now.saturating_sub(since);
        (silent > limit).then_some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: Heartbeat = Heartbeat {
        beat_ms: 10_000,
        started_ms: 5000,
        armed: true,
        ttl_ms: 6000,
        replica_ms: 30_000,
        thawed_ms: 0,
    };

    #[test]
    fn a_quarter_of_the_ttl_on_a_primary_and_thirty_seconds_on_a_replica() {
        assert_eq!(PRIMARY.hung_for_ms(11_500), None);
        assert_eq!(PRIMARY.hung_for_ms(11_501), Some(1501));
        let replica = Heartbeat {
            armed: false,
            ..PRIMARY
        };
        assert_eq!(replica.hung_for_ms(40_000), None);
        assert_eq!(replica.hung_for_ms(40_001), Some(30_001));
        let slow = Heartbeat {
            ttl_ms: 60_000,
            ..replica
        };
        assert_eq!(slow.hung_for_ms(70_000), None);
        assert_eq!(slow.hung_for_ms(70_001), Some(60_001));
    }

    #[test]
    fn a_starting_agent_and_a_thawed_container_get_time() {
        let starting = Heartbeat {
            beat_ms: 0,
            ..PRIMARY
        };
        assert_eq!(starting.hung_for_ms(35_000), None);
        assert_eq!(starting.hung_for_ms(35_001), Some(30_001));
        let thawed = Heartbeat {
            thawed_ms: 50_000,
            ..PRIMARY
        };
        assert_eq!(thawed.hung_for_ms(51_500), None);
        assert_eq!(thawed.hung_for_ms(51_501), Some(1501));
    }

    #[test]
    fn who_closes_the_channel_gets_the_time_to_end() {
        let mut agent = AgentProcess::new();
        assert!(!agent.unreachable(1000));
        agent.closed_ms = Some(1000);
        assert!(!agent.unreachable(1500));
        assert!(agent.unreachable(1501));
        agent.closed_ms = None;
        agent.unread = true;
        assert!(agent.unreachable(0));
    }

    #[test]
    fn the_backoff_doubles_is_bounded_and_starts_anew_after_a_healthy_life() {
        let mut agent = AgentProcess::new();
        let mut waits = Vec::new();
        for _ in 0..8 {
            agent.started_ms = 1000;
            agent.ended(1000, "crashed".into());
            waits.push(agent.start_at_ms - 1000);
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        agent.started_ms = 1000;
        agent.ended(61_000, "crashed".into());
        assert_eq!(agent.start_at_ms, 61_100);
    }
}
