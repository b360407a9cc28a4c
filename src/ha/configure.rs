//! What is done to a server that is as it should be: taking up changed settings, and a restart
//! that a person asked for.
//!
//! Settings change at any moment, and their files may only be written while nothing else works on
//! the data directory: hence an operation like any other. A restart is a stop after which the
//! member does what it does after any stop of its server: as the leader it starts again under a
//! lock that was acknowledged later (L2), as a replica it follows.

use super::effect::{Effect, Rule, Stop};
use super::event::Op;
use super::model::Ms;
use super::state::Process;
use super::step::Turn;
use serde::{Deserialize, Serialize};

/// A restart in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Restart {
    /// The question to be answered.
    pub id: u64,
    /// The stop was ordered.
    pub begun: bool,
    /// The server has been down since.
    pub stopped: bool,
    /// Who asks stops waiting then.
    pub until: Ms,
}

impl Turn<'_> {
    /// The primary's files follow the settings; a replica's do with the order to follow its leader.
    pub(super) fn configure(&mut self) {
        let busy = self.s.pg.op.is_some() || self.s.pg.stopping.is_some();
        if self.s.pg.settings_stale && !busy && self.may("Configure", self.s.budgets.renew_ms) {
            self.s.pg.settings_stale = false;
            self.explain(
                Rule::Primary,
                "the settings changed: write them, and reload",
            );
            self.begin(Op::Configure, Effect::Configure);
        }
    }

    /// A standby with less than its primary had replays nothing and cannot be promoted: it is
    /// started again, with as much. True: it is being stopped.
    pub(super) fn feed_starved(&mut self) -> bool {
        let starved = self
            .s
            .pg
            .facts
            .as_ref()
            .and_then(|facts| facts.starved.clone());
        let leave = self.s.pg.stopping.is_some() || self.s.rules.pause;
        let Some(why) = starved.filter(|_| !leave) else {
            return false;
        };
        if self.s.hooks.before_stop.is_none() && !self.may("Starved", 10 * self.s.budgets.renew_ms)
        {
            return false;
        }
        let words = format!("replay stands still until a restart: {why}");
        self.s.hooks.restarting |= self.stop_in_order(Stop::Fast, Rule::Replica, &words);
        true
    }

    /// Its replay stands still: what it has received beyond would be lost by a promotion.
    pub(super) fn is_starved(&mut self) -> bool {
        let facts = self.s.pg.facts.as_ref();
        let Some(why) = facts.and_then(|facts| facts.starved.clone()) else {
            self.settled("starved");
            return false;
        };
        let words = format!("not promoted while replay stands still: {why}");
        self.explain_once("starved", Rule::Primary, words);
        true
    }

    /// Stop the server, and let it start again.
    pub(super) fn absorb_restart(&mut self, id: u64, timeout_ms: Ms) {
        if let Err(why) = self.may_restart() {
            return self.emit(Effect::Answer {
                id,
                done: false,
                text: why.to_owned(),
            });
        }
        // In maintenance mode: what is down already.
        let left = std::mem::take(&mut self.s.pg.stopped_by_others) && self.is_down();
        self.s.restart = Some(Restart {
            id,
            begun: left,
            stopped: left,
            until: self.now + timeout_ms,
        });
    }

    fn may_restart(&self) -> Result<(), &'static str> {
        if self.s.restart.is_some() {
            return Err("a restart is in progress already");
        }
        if self.s.terminating || self.s.handover.is_some() {
            return Err("the leader's role is being handed over; try again");
        }
        if self.hands_off() {
            return Ok(());
        }
        if !matches!(self.s.pg.process, Process::Running { .. }) || self.s.pg.facts.is_none() {
            return Err("PostgreSQL does not run, or does not answer yet");
        }
        if self.s.pg.stopping.is_some() {
            return Err("PostgreSQL is being stopped; try again");
        }
        Ok(())
    }

    /// Who asked need not wait until the time is up: it will be tried again, and the fault is known.
    pub(super) fn restart_failed(&mut self, op: &Op, why: &str) {
        let starting = matches!(op, Op::StartPrimary | Op::StartReplica);
        let stopped = self.s.restart.filter(|restart| restart.stopped);
        if let Some(restart) = stopped.filter(|_| starting) {
            let text = format!("restart failed: the server does not start: {why}");
            self.end_restart(restart.id, false, text);
        }
    }

    /// Answer once the server is back.
    pub(super) fn tend_restart(&mut self) {
        let Some(mut restart) = self.s.restart else {
            return;
        };
        // Whatever is under way ends first: settings being written, an order to follow.
        let idle = self.s.pg.op.is_none() && self.s.handover.is_none();
        if !restart.begun && idle {
            let why = "a restart was asked for";
            restart.begun = self.stop_in_order(Stop::Fast, Rule::Handover, why);
            self.s.hooks.restarting |= restart.begun;
        }
        restart.stopped |= restart.begun && self.s.pg.process == Process::Down;
        self.s.restart = Some(restart);
        let up = matches!(self.s.pg.process, Process::Running { .. }) && self.s.pg.op.is_none();
        let (done, text) = if restart.stopped && up && self.s.pg.facts.is_some() {
            (true, "restarted successfully")
        } else if self.now >= restart.until {
            (false, "restart failed: the server is not back in time")
        } else {
            return self.wake_at(restart.until);
        };
        self.end_restart(restart.id, done, text.to_owned());
    }

    fn end_restart(&mut self, id: u64, done: bool, text: String) {
        self.s.restart = None;
        self.emit(Effect::Answer { id, done, text });
    }
}
