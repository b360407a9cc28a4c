//! Before the lock is given to a chosen member: has it received where my WAL ends?
//!
//! PostgreSQL that stops in order waits for its standbys to confirm the last record, so that a stop
//! that was quick says enough. One that took long may have waited for a receiver that hangs, until
//! it gave it up: then the member is asked, and one that lacks something does not get the lock. What
//! only I have goes on here.

use super::effect::{Effect, Rule};
use super::handover::Handover;
use super::model::{Lsn, Ms, Name, Timeline};
use super::step::Turn;
use serde::{Deserialize, Serialize};

/// Longer than a stop takes whose standbys answer.
const SLOW_STOP_MS: Ms = 1_000;
/// For a look at the directory that was stopped.
const LOOK_MS: Ms = 2_000;
/// How long the member has to receive the rest and to say so: it looks twice a second.
const PATIENCE_MS: Ms = 3_000;
/// A full volume is left for nobody for that long after it could not be.
const FULL_AGAIN_MS: Ms = 30 * 60_000;
/// Between two questions.
const AGAIN_MS: Ms = 250;

/// The questions to the member that is to lead next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Asked {
    /// The first one: an answer to any of them counts, since a position only grows.
    pub round: u64,
    /// The next one.
    pub again_at: Ms,
    /// None after that.
    pub until: Ms,
    /// What it said last.
    pub said: Option<(Timeline, Lsn)>,
}

impl Turn<'_> {
    /// Whether the lock may go; if not, it may have been decided that I go on.
    pub(super) fn successor_has_everything(&mut self, handover: &Handover) -> bool {
        let Some(to) = &handover.to else {
            return true;
        };
        let slow = self.s.pg.down_since >= self.s.pg.stopping_since + SLOW_STOP_MS;
        let standby = self.s.rules.standby.is_some();
        // Every commit has waited for it, whatever became of the stop.
        let record = self.s.sync_record();
        let listed = record.quorum == 0 && record.standbys.contains(to);
        let listed = listed && self.s.rules.synchronous_mode;
        if !slow || listed || standby || self.s.terminating || !self.has_led() {
            return true;
        }
        let Some(end) = self.wal_end() else {
            let until = self.s.pg.down_since + LOOK_MS;
            if self.s.pg.data.is_none() && self.now < until {
                self.wake_at(until);
            } else {
                self.go_on(to, "PostgreSQL did not stop in order");
            }
            return false;
        };
        let Some(asked) = handover.asked.clone() else {
            self.ask_successor(to, self.now + PATIENCE_MS, None);
            return false;
        };
        let reached = |(timeline, lsn)| end.is_reached_by(timeline, lsn);
        if asked.said.is_some_and(reached) {
            return true;
        }
        if self.now >= asked.until {
            let said = asked.said.map_or("nothing".to_owned(), |(timeline, lsn)| {
                format!("timeline {timeline}, {lsn}")
            });
            let words = format!("it has {said}, and my WAL ends at {}", end.lsn);
            self.go_on(to, &words);
        } else if self.now >= asked.again_at {
            self.ask_successor(to, asked.until, asked.said);
        } else {
            self.wake_at(asked.again_at);
        }
        false
    }

    fn ask_successor(&mut self, to: &Name, until: Ms, said: Option<(Timeline, Lsn)>) {
        let members = self.s.shared.as_ref().map(|shared| &shared.members);
        let url = members
            .and_then(|m| m.get(to))
            .map(|member| member.api_url.clone());
        self.s.rounds += 1;
        let (round, again_at) = (self.s.rounds, self.now + AGAIN_MS);
        if let Some(handover) = &mut self.s.handover {
            let first = handover.asked.as_ref().map_or(round, |asked| asked.round);
            handover.asked = Some(Asked {
                round: first,
                again_at,
                until,
                said,
            });
        }
        self.wake_at(again_at);
        if let Some(url) = url.filter(|url| !url.is_empty()) {
            let peers = vec![(to.clone(), url)];
            self.emit(Effect::AskPeers { round, peers });
        }
    }

    /// An answer to one of them.
    pub(super) fn absorb_successor(&mut self, round: u64, name: &Name, at: (Timeline, Lsn)) {
        let handover = self.s.handover.as_mut();
        let handover = handover.filter(|handover| handover.to.as_ref() == Some(name));
        let asked = handover.and_then(|handover| handover.asked.as_mut());
        if let Some(asked) = asked.filter(|asked| asked.round <= round) {
            asked.said = asked.said.max(Some(at));
        }
    }

    /// The handover is broken off: the lock is mine still, and so is what nobody else has.
    fn go_on(&mut self, to: &Name, why: &str) {
        self.s.handover = None;
        let words = format!("{to} does not get the lock: {why}; I go on as the primary");
        self.explain(Rule::Handover, words.clone());
        self.s.refusal = Some(words);
        self.refuse_request();
        let due = self.now + FULL_AGAIN_MS;
        self.s.not_before.insert("leave-full".to_owned(), due);
    }
}
