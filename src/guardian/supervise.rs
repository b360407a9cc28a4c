//! The guardian's loop: one thread, one wait, and the deadline before everything else.
//!
//! Nothing in it blocks: volumes are touched only by children, the channel and the log never wait.
//! A kill is a state, not a loop of its own: a process stuck in the kernel must not stop the
//! guardian from serving.

use super::agent_process::{AgentCommand, AgentProcess, Heartbeat};
use super::datalock::DataLock;
use super::deadline::{self, Deadline};
use super::fence::Kill;
use super::kill::Killer;
use super::postmaster::{Postmaster, Progress};
use super::protocol::{Hello, Notice, PostmasterExit, Request};
use super::recovery;
use crate::sys::clock::boottime_ms;
use crate::sys::events::{BoottimeTimer, Signals, wait_readable};
use crate::sys::process::{Pid, Reaped, Signal, reap, signal};
use crate::sys::shm::SharedWords;
use crate::sys::spawn::fork_worker;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// The longest wait: how late a deadline moved to an earlier instant may be noticed.
const WAIT_MAX_MS: u64 = 50;
/// Between two passes of a kill that is not finished.
const WAIT_KILLING_MS: u64 = 2;
/// A turn this much later than the last means that the guardian itself did not run.
const FROZEN_MS: u64 = 1000;
/// Requests served in one turn.
const REQUESTS_MAX: usize = 16;
/// Children reaped in one turn.
const REAPED_MAX: usize = 4096;
/// Agents started to carry out an ordered stop before the guardian ends without one.
const TERMINATING_STARTS_MAX: u32 = 3;
/// The exit code when told to end and no agent would do it in order.
const EXIT_UNORDERED: i32 = 1;

/// The facts of a guardian that do not change.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) is_pid1: bool,
    pub(super) data_dir: PathBuf,
    pub(super) fatal_exit_codes: Vec<i32>,
    pub(super) replica_ms: u64,
    pub(super) default_ttl_ms: u64,
    pub(super) never_fence: bool,
    pub(super) never_hung: bool,
    /// What every agent is told; the changing fields are filled in at each start.
    pub(super) hello: Hello,
}

/// Everything the guardian knows and owns.
#[derive(Debug)]
pub(super) struct Guardian {
    pub(super) facts: Facts,
    pub(super) words: SharedWords,
    pub(super) signals: Signals,
    pub(super) timer: BoottimeTimer,
    pub(super) timer_set: Option<u64>,
    pub(super) killer: Killer,
    pub(super) kill: Kill,
    pub(super) command: AgentCommand,
    pub(super) agent: AgentProcess,
    pub(super) postmaster: Option<Postmaster>,
    pub(super) watch: Option<Pid>,
    pub(super) last_exit: Option<PostmasterExit>,
    pub(super) terminating: bool,
    pub(super) starts_at_termination: u32,
    pub(super) bye: bool,
    pub(super) exit: Option<i32>,
    pub(super) turn_ms: u64,
    pub(super) thawed_ms: u64,
    /// Held until the process ends.
    pub(super) _lock: DataLock,
}

impl Guardian {
    /// Runs until the end; the process's exit code.
    pub(super) fn run(mut self) -> i32 {
        loop {
            self.wait();
            let now = boottime_ms();
            self.enforce_deadline(now);
            self.forward_signals();
            self.reap_children();
            self.follow_start();
            self.serve_requests();
            self.watch_recovery();
            self.judge_heartbeat();
            self.continue_kill();
            self.start_agent();
            self.agent.flush();
            if let (Some(code), false) = (self.exit, self.kill.active()) {
                tracing::info!(code, "nothing is left running: the guardian ends");
                return code;
            }
        }
    }

    /// Waits for whatever comes first; keeps the timer at the deadline.
    fn wait(&mut self) {
        let now = boottime_ms();
        let at = match self.deadline(now) {
            Deadline::Armed(at) => Some(at),
            Deadline::None | Deadline::Passed(_) | Deadline::Suspended => None,
        };
        if at != self.timer_set && self.timer.set(at).is_ok() {
            self.timer_set = at;
        }
        let mut timeout = if self.kill.active() {
            WAIT_KILLING_MS
        } else {
            WAIT_MAX_MS
        };
        if let Some(at) = at {
            timeout = timeout.min(at.saturating_sub(now));
        }
        let mut fds: [&dyn AsFd; 4] = [&self.signals, &self.timer, &self.signals, &self.signals];
        if let Some(channel) = self.agent.channel() {
            fds[2] = channel;
        }
        if let Some(outcome) = self.postmaster.as_ref().and_then(Postmaster::outcome) {
            fds[3] = outcome;
        }
        wait_readable(&fds, timeout);
        let woken = boottime_ms();
        if woken.saturating_sub(self.turn_ms) > FROZEN_MS {
            self.thawed_ms = woken;
        }
        self.turn_ms = woken;
    }

    pub(super) fn deadline(&self, now: u64) -> Deadline {
        deadline::read(&self.words.words().deadline, now)
    }

    fn forward_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::SIGCHLD | Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU => {}
                Signal::SIGTERM | Signal::SIGINT => {
                    tracing::info!(%signal, "told to end: the agent stops PostgreSQL in order");
                    if !self.terminating {
                        self.terminating = true;
                        self.starts_at_termination = self.agent.starts;
                    }
                    self.agent.signal(signal);
                }
                other => self.agent.signal(other),
            }
        }
    }

    pub(super) fn reap_children(&mut self) {
        for _ in 0..REAPED_MAX {
            let Some(end) = reap() else { return };
            if self.agent.pid == Some(end.pid) {
                self.agent_ended(end);
            } else if self.watch == Some(end.pid) {
                self.watch_ended(end);
            } else if self
                .postmaster
                .as_ref()
                .is_some_and(|p| p.living_pid() == Some(end.pid))
            {
                self.postmaster_ended(end);
            }
        }
    }

    fn postmaster_ended(&mut self, end: Reaped) {
        // A child that failed before it became PostgreSQL may have said so only just now.
        self.follow_start();
        let Some(postmaster) = &mut self.postmaster else {
            return;
        };
        let was_postgres = postmaster.reaped(end);
        tracing::info!(pid = end.pid, code = ?end.code, signal = ?end.signal, "the postmaster ended");
        if was_postgres {
            self.kill.verify();
        } else if !self.kill.fencing() {
            self.postmaster = None;
        }
    }

    fn agent_ended(&mut self, end: Reaped) {
        // What it said last still counts, but only its farewell: nothing starts for a dead agent.
        while let Some(request) = self.agent.receive() {
            self.bye |= request == Ok(Request::Bye);
        }
        let why = match (end.code, end.signal) {
            (Some(code), _) => format!("exited with {code}"),
            (None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
        };
        let in_order = end.code == Some(0) && (self.bye || self.terminating);
        let fatal = end
            .code
            .filter(|code| self.facts.fatal_exit_codes.contains(code));
        let exhausted = self.terminating
            && self.agent.starts - self.starts_at_termination >= TERMINATING_STARTS_MAX;
        self.exit = if in_order { Some(0) } else { fatal }
            .or(exhausted.then_some(EXIT_UNORDERED))
            .or(self.exit);
        if self.exit.is_some() {
            tracing::info!(
                pid = end.pid,
                why,
                "the agent ended, and the guardian ends with it"
            );
            self.kill
                .fence(format!("the guardian ends: the agent {why}"));
        } else {
            tracing::warn!(
                pid = end.pid,
                why,
                "the agent ended: clearing what it left, then anew"
            );
        }
        self.agent.ended(boottime_ms(), why);
        self.kill.clear_agent();
    }

    /// Tells the agent whether its start has worked.
    fn follow_start(&mut self) {
        let Some(postmaster) = &mut self.postmaster else {
            return;
        };
        match postmaster.progress() {
            Progress::None => {}
            Progress::Started => {
                let pid = postmaster.pid;
                tracing::info!(pid, "the postmaster was started");
                self.agent.tell(&Notice::Started { pid });
            }
            Progress::Failed(reason) => self.refuse("start", reason),
        }
    }

    fn refuse(&mut self, what: &str, reason: String) {
        tracing::warn!(what, reason, "refused");
        self.agent.tell(&Notice::Refused {
            what: what.to_owned(),
            reason,
        });
    }

    fn serve_requests(&mut self) {
        for _ in 0..REQUESTS_MAX {
            match self.agent.receive() {
                None => return,
                Some(Err(reason)) => self.refuse("message", reason),
                Some(Ok(request)) => self.serve(request),
            }
        }
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Start(spec) => {
                let started = if self.postmaster.is_some() {
                    Err("PostgreSQL is running already".to_owned())
                } else if self.kill.active() {
                    Err("a kill is going on; wait for its end".to_owned())
                } else {
                    let now = boottime_ms();
                    let (data_dir, is_pid1) = (&self.facts.data_dir, self.facts.is_pid1);
                    Postmaster::start(&spec, data_dir, self.deadline(now), is_pid1, now)
                };
                match started {
                    Ok(postmaster) => self.postmaster = Some(postmaster),
                    Err(reason) => self.refuse("start", reason),
                }
            }
            Request::Stop { how } => match self.living_postmaster() {
                Some(postmaster) => postmaster.stop(how),
                None => self.refuse("stop", "no PostgreSQL is running".to_owned()),
            },
            Request::Signal { signal } => match self.living_postmaster() {
                Some(postmaster) => postmaster.signal(signal),
                None => self.refuse("signal", "no PostgreSQL is running".to_owned()),
            },
            Request::KillAll { reason } => self.begin_fence(reason),
            Request::Bye => self.bye = true,
        }
    }

    fn living_postmaster(&mut self) -> Option<&mut Postmaster> {
        self.postmaster
            .as_mut()
            .filter(|postmaster| postmaster.running().is_some())
    }

    /// Keeps the watch running exactly while PostgreSQL runs and no deadline does.
    fn watch_recovery(&mut self) {
        let runs = self
            .postmaster
            .as_ref()
            .is_some_and(|p| p.living_pid().is_some());
        let wanted = runs && self.deadline(boottime_ms()) == Deadline::None;
        match self.watch {
            None if wanted && !self.kill.active() => {
                let data_dir = self.facts.data_dir.clone();
                match fork_worker(move || recovery::watch(&data_dir)) {
                    Ok(pid) => self.watch = Some(pid),
                    // Without the watch nothing may run unarmed.
                    Err(error) => self.begin_fence(format!("fork the recovery watch: {error}")),
                }
            }
            Some(pid) if !wanted => drop(signal(pid, Signal::SIGKILL)),
            _ => {}
        }
    }

    fn watch_ended(&mut self, end: Reaped) {
        self.watch = None;
        let unarmed = self.deadline(boottime_ms()) == Deadline::None;
        if end.code == Some(recovery::EXIT_OUT_OF_RECOVERY) && unarmed && self.postmaster.is_some()
        {
            self.begin_fence("PostgreSQL left recovery while no deadline was armed".to_owned());
        }
    }

    fn judge_heartbeat(&mut self) {
        if self.agent.pid.is_none() || self.kill.clearing_agent() {
            return;
        }
        let now = boottime_ms();
        let words = self.words.words();
        let ttl_ms = match words.ttl.load(Ordering::SeqCst) {
            0 => self.facts.default_ttl_ms,
            ttl => ttl,
        };
        let heartbeat = Heartbeat {
            beat_ms: words.heartbeat.load(Ordering::SeqCst),
            started_ms: self.agent.started_ms,
            armed: self.deadline(now) != Deadline::None,
            ttl_ms,
            replica_ms: self.facts.replica_ms,
            thawed_ms: self.thawed_ms,
        };
        if self.agent.unreachable(now) {
            tracing::error!("the agent does not serve its channel: killing it");
            self.kill.clear_agent();
        } else if let Some(silent_ms) = heartbeat.hung_for_ms(now)
            && !self.facts.never_hung
        {
            tracing::error!(silent_ms, "the agent is hung: killing it");
            self.kill.clear_agent();
        }
    }

    fn start_agent(&mut self) {
        let now = boottime_ms();
        // One that was told "nothing runs" would take that for a verified stop (G4).
        let wait = self.exit.is_some() || self.kill.active() || now < self.agent.start_at_ms;
        if self.agent.pid.is_some() || wait {
            return;
        }
        self.words.words().heartbeat.store(0, Ordering::SeqCst);
        if let Err(error) = self.agent.start(&self.command, &self.words, now) {
            tracing::error!(%error, "start the agent");
            self.agent
                .ended(now, format!("could not be started: {error}"));
            return;
        }
        tracing::info!(pid = self.agent.pid, "the agent was started");
        let hello = Hello {
            postmaster: self.postmaster.as_ref().and_then(Postmaster::running),
            deadline_ms: self.deadline(now).at_ms(),
            agent_restarts: self.agent.starts - 1,
            last_agent_end: self.agent.last_end.clone(),
            last_exit: self.last_exit.clone(),
            terminating: self.terminating,
            ..self.facts.hello.clone()
        };
        self.agent.tell(&Notice::Hello(Box::new(hello)));
    }
}
