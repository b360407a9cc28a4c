//! Switchovers for later: people plan by the wall clock, and the core lives by another one.
//!
//! The shell says what the wall clock shows ([`super::event::Event::WallClock`]) whenever the two
//! drift apart, so an adjusted clock moves what is planned with it. When its time has come, the
//! leader turns the plan into a request for now; from there on it is a switchover like any other.

use super::effect::Rule;
use super::model::Ms;
use super::shared::{FailoverRecord, SharedWrite};
use super::step::Turn;
use serde::{Deserialize, Serialize};

/// What nobody carried out for that long was planned for a moment that has passed: one and a half
/// rounds of Patroni's loop, as there.
const STALE_MS: Ms = 15_000;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WallClock {
    /// Milliseconds since 1970.
    pub wall_ms: u64,
    /// The boottime clock then.
    pub at: Ms,
}

/// How a plan stands to the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Its time comes at this instant of the boottime clock.
    Later(Ms),
    /// Its time has come.
    Now,
    /// Its time came this long ago.
    Stale(Ms),
}

impl WallClock {
    /// What it shows at this instant of the boottime clock, unless it was set since.
    pub fn shows(self, now: Ms) -> u64 {
        self.wall_ms + now.saturating_sub(self.at)
    }

    /// How something planned for `at_wall_ms` stands.
    pub fn due(self, at_wall_ms: u64, now: Ms) -> Due {
        let wall_now_ms = self.shows(now);
        match at_wall_ms.checked_sub(wall_now_ms) {
            Some(wait_ms) if wait_ms > 0 => Due::Later(now.saturating_add(wait_ms)),
            _ if wall_now_ms - at_wall_ms > STALE_MS => Due::Stale(wall_now_ms - at_wall_ms),
            _ => Due::Now,
        }
    }
}

impl Turn<'_> {
    /// The leader looks after the plan.
    pub(super) fn tend_schedule(&mut self) {
        let record = self.s.shared.as_ref().map(|shared| shared.failover.clone());
        let Some(record) = record.filter(FailoverRecord::is_empty) else {
            return;
        };
        let (Some(plan), Some(clock)) = (record.scheduled, self.s.wall) else {
            return;
        };
        if self.s.rules.pause {
            return; // Nothing moves by itself; what is late at the end is dropped.
        }
        let to = plan.to.as_deref().unwrap_or("the best").to_owned();
        let words = format!("a switchover to {to} is planned for {}", plan.at);
        let (from, to) = match clock.due(plan.at_wall_ms, self.now) {
            Due::Later(at) => {
                self.explain_once("schedule", Rule::Handover, words);
                return self.wake_at(at);
            }
            Due::Stale(late_ms) => {
                let words = format!("{words}, {late_ms} ms ago: it is dropped");
                self.explain_once("schedule", Rule::Handover, words);
                (None, None)
            }
            Due::Now if plan.from.as_ref() == Some(&self.s.me.name) => {
                self.explain_once("schedule", Rule::Handover, format!("{words}: now"));
                (plan.from, plan.to)
            }
            Due::Now => {
                let who = plan.from.as_deref().unwrap_or("nobody named");
                let words = format!("{words}, from {who}, who does not lead: it is dropped");
                self.explain_once("schedule", Rule::Handover, words);
                (None, None)
            }
        };
        self.write_shared(SharedWrite::Failover {
            from,
            to,
            accepts_loss: false,
            expect: record.resource_version,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_later_now_or_stale_by_the_wall_clock() {
        let clock = WallClock {
            wall_ms: 1_000_000,
            at: 500,
        };
        assert_eq!(clock.due(1_000_100, 500), Due::Later(600));
        assert_eq!(clock.due(1_000_100, 599), Due::Later(600));
        assert_eq!(clock.due(1_000_100, 600), Due::Now);
        assert_eq!(clock.due(1_000_100, 600 + STALE_MS), Due::Now);
        assert_eq!(
            clock.due(1_000_100, 601 + STALE_MS),
            Due::Stale(STALE_MS + 1)
        );
        assert_eq!(
            clock.due(u64::MAX, 600),
            Due::Later(u64::MAX - 1_000_100 + 600)
        );
    }
}
