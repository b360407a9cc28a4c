//! How PostgreSQL is asked to stop: politely, then ever more firmly.

use super::effect::{Effect, Rule, Stop};
use super::event::Op;
use super::model::Ms;
use super::state::Process;
use super::step::Turn;

/// A fast stop that takes longer becomes an immediate one.
const STOP_FAST_MAX_MS: Ms = 60_000;
/// An immediate stop that takes longer becomes a kill.
const STOP_IMMEDIATE_MAX_MS: Ms = 5_000;

impl Turn<'_> {
    /// A polite stop that was not heard becomes a stronger one, whatever it was for.
    pub(super) fn press_stop(&mut self) {
        let (Some(asked), since) = (self.s.pg.stopping, self.s.pg.stopping_since) else {
            return;
        };
        if let Some(until) = self.stop_limit(since).filter(|_| asked != Stop::Kill) {
            if self.now >= until {
                let why = "the stop takes longer than primary_stop_timeout";
                return self.stop(Stop::Kill, Rule::Handover, why);
            }
            self.wake_at(until);
        }
        let next = match asked {
            Stop::Fast => since + STOP_FAST_MAX_MS,
            Stop::Immediate => since + STOP_FAST_MAX_MS + STOP_IMMEDIATE_MAX_MS,
            Stop::Kill => return,
        };
        if self.now < next {
            return self.wake_at(next);
        }
        let how = if asked == Stop::Fast {
            Stop::Immediate
        } else {
            Stop::Kill
        };
        self.stop(how, Rule::Handover, "the stop takes too long");
    }

    /// `primary_stop_timeout`: where nothing acknowledged is lost by it, whoever waits for another
    /// primary need not wait longer for this one's last checkpoint.
    fn stop_limit(&self, since: Ms) -> Option<Ms> {
        let rules = &self.s.rules;
        let limit_ms = rules.primary_stop_timeout_ms?;
        (rules.synchronous_mode && self.s.may_be_writable()).then_some(since + limit_ms)
    }

    /// Ask for a stop, or a stronger one than asked so far.
    pub(super) fn stop(&mut self, how: Stop, rule: Rule, why: &str) {
        if !matches!(self.s.pg.process, Process::Running { .. })
            || self.s.pg.stopping.is_some_and(|asked| asked >= how)
        {
            return;
        }
        self.explain(rule, format!("stop PostgreSQL ({how:?}): {why}"));
        if self.s.pg.stopping.is_none() {
            self.s.pg.stopping_since = self.now;
        }
        self.s.pg.stopping = Some(how);
        self.begin(Op::Stop, Effect::Stop { how });
    }
}
