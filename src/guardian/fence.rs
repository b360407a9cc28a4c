//! Fencing as a state of the guardian: who is being killed, and when that counts as done.

use super::deadline::{self, Deadline};
use super::postmaster::Postmaster;
use super::protocol::Notice;
use super::supervise::Guardian;
use crate::sys::clock::{boottime_ms, boottime_us};
use crate::sys::process::{Signal, kill_namespace, signal};

/// Looks in a row that must find nobody before a stop counts as verified.
const EMPTY_LOOKS: u8 = 2;
/// A kill this old is stuck on something in the kernel: said once.
const STUCK_MS: u64 = 5000;

/// What is being killed.
#[derive(Debug, Default)]
pub(super) struct Kill {
    /// PostgreSQL and everything else but the agent.
    fence: bool,
    /// The agent and everything else but PostgreSQL.
    agent: bool,
    /// The deadline was the reason, and has been acted upon.
    deadline: bool,
    /// Why PostgreSQL is being killed; `None` while a stop is only being verified.
    reason: Option<String>,
    empty_looks: u8,
    began_us: u64,
    last_kill_us: u64,
    victims: usize,
    stuck_said: bool,
}

impl Kill {
    /// Something is being killed or verified.
    pub(super) fn active(&self) -> bool {
        self.fence || self.agent
    }

    /// PostgreSQL is being killed, or its stop verified.
    pub(super) fn fencing(&self) -> bool {
        self.fence
    }

    /// The old agent and what it left are being killed.
    pub(super) fn clearing_agent(&self) -> bool {
        self.agent
    }

    /// Kill what is left of PostgreSQL, if anything: its postmaster has ended.
    pub(super) fn verify(&mut self) {
        self.begin();
        self.fence = true;
    }

    /// Kill PostgreSQL. The first reason is kept.
    pub(super) fn fence(&mut self, reason: String) {
        self.verify();
        self.reason.get_or_insert(reason);
    }

    /// Kill the agent and what it left.
    pub(super) fn clear_agent(&mut self) {
        self.begin();
        self.agent = true;
    }

    fn begin(&mut self) {
        if !self.active() {
            self.began_us = boottime_us();
            self.last_kill_us = self.began_us;
            self.victims = 0;
            self.stuck_said = false;
        }
        self.empty_looks = 0;
    }
}

impl Guardian {
    /// Acts on a deadline that has passed (G1, G4). Nothing in it allocates before the kill.
    pub(super) fn enforce_deadline(&mut self, now: u64) {
        if self.facts.never_fence || self.kill.deadline {
            return;
        }
        let Deadline::Passed(at) = deadline::latch_if_passed(&self.words.words().deadline, now)
        else {
            return;
        };
        self.kill.deadline = true;
        self.kill.verify();
        let runs = self
            .postmaster
            .as_ref()
            .is_some_and(|p| p.living_pid().is_some());
        if runs && self.facts.is_pid1 && kill_namespace() {
            self.kill.clear_agent();
        }
        self.kill_pass();
        let reason = format!("the deadline passed: {at} ms, acted upon at {now} ms");
        tracing::error!(reason, "killing PostgreSQL");
        if !self.kill.clearing_agent() {
            self.agent.tell(&Notice::Fencing {
                reason: reason.clone(),
            });
        }
        self.kill.reason.get_or_insert(reason);
    }

    /// Kills PostgreSQL for another reason than the deadline.
    pub(super) fn begin_fence(&mut self, reason: String) {
        self.kill.verify();
        self.kill_pass();
        tracing::error!(reason, "killing PostgreSQL");
        self.agent.tell(&Notice::Fencing {
            reason: reason.clone(),
        });
        self.kill.reason.get_or_insert(reason);
    }

    /// One pass over the descendants.
    fn kill_pass(&mut self) {
        let postmaster = self.postmaster.as_ref().and_then(Postmaster::living_pid);
        let frozen = postmaster.filter(|_| self.kill.fence);
        let spared = [
            self.agent.pid.filter(|_| !self.kill.agent),
            postmaster.filter(|_| !self.kill.fence),
            self.watch,
        ];
        let found = self.killer.pass(frozen, spared);
        if found == 0 {
            self.kill.empty_looks = self.kill.empty_looks.saturating_add(1);
        } else {
            self.kill.empty_looks = 0;
            self.kill.last_kill_us = boottime_us();
            self.kill.victims = self.kill.victims.max(found);
        }
    }

    /// Goes on with a kill until nobody is found any more, then draws the consequences.
    pub(super) fn continue_kill(&mut self) {
        if !self.kill.active() {
            return;
        }
        self.kill_pass();
        self.reap_children();
        let postmaster_gone = self
            .postmaster
            .as_ref()
            .is_none_or(|p| p.living_pid().is_none());
        let agent_gone = self.agent.pid.is_none();
        let done = self.kill.empty_looks >= EMPTY_LOOKS
            && (postmaster_gone || !self.kill.fence)
            && (agent_gone || !self.kill.agent);
        if done {
            self.finish_kill();
        } else if !self.kill.stuck_said && boottime_us() - self.kill.began_us > STUCK_MS * 1000 {
            self.kill.stuck_said = true;
            tracing::error!("killed processes do not end (a dead disk?): no verified stop yet");
        }
    }

    fn finish_kill(&mut self) {
        let kill = std::mem::take(&mut self.kill);
        let now = boottime_ms();
        tracing::info!(
            found = kill.victims,
            signals_us = kill.last_kill_us - kill.began_us,
            verified_us = boottime_us() - kill.began_us,
            postgres = kill.fence,
            agent = kill.agent,
            "nothing of it is left"
        );
        if !kill.fence {
            return;
        }
        if let Some(watch) = self.watch {
            signal(watch, Signal::SIGKILL);
        }
        // The verified stop: only now, and only here, the deadline becomes none.
        deadline::clear(&self.words.words().deadline);
        let notice = match self.postmaster.take() {
            Some(postmaster) => {
                let exit = postmaster.exit(kill.reason, now);
                self.last_exit = Some(exit.clone());
                Notice::Exited(exit)
            }
            None => Notice::Cleared {
                reason: kill.reason.unwrap_or_default(),
            },
        };
        self.agent.tell(&notice);
    }
}
