//! Whether a standby is there: PostgreSQL's own word, and what it can be seen to do.
//!
//! A node that is lost, or a network that drops packets, closes no connection: the server goes on
//! showing the standby as streaming for a minute, and every commit waits for it.

use super::event::PgFacts;
use super::model::{Ms, Name, Walsender};
use super::step::Turn;

/// The shortest silence that counts: a disk may take its time for a sync.
const SILENCE_MIN_MS: Ms = 5_000;

impl Turn<'_> {
    /// One that has been sent WAL owes an answer; each time it has moved, or owes nothing, it was
    /// heard.
    pub(super) fn hear_standbys(&mut self) {
        let Some(facts) = &self.s.pg.facts else {
            return;
        };
        let mut heard = std::mem::take(&mut self.s.sync.heard);
        heard.retain(|name, _| facts.walsenders.iter().any(|w| w.name == *name));
        for sender in &facts.walsenders {
            let last = heard
                .entry(sender.name.clone())
                .or_insert((sender.flush_lsn, self.now));
            if sender.sent_lsn <= sender.flush_lsn || last.0 != sender.flush_lsn {
                *last = (sender.flush_lsn, self.now);
            }
        }
        self.s.sync.heard = heard;
    }

    fn silence_ms(&self) -> Ms {
        SILENCE_MIN_MS.max(2 * self.s.budgets.renew_ms)
    }

    /// It owes an answer for too long; by what was last seen, not by how long ago that was.
    pub(super) fn is_silent(&self, name: &str) -> bool {
        let heard = self.s.sync.heard.get(name);
        heard.is_some_and(|(_, at)| self.s.pg.facts_at >= at + self.silence_ms())
    }

    /// The server shows it streaming, and it does something.
    pub(super) fn is_streaming(&self, sender: &Walsender) -> bool {
        sender.state == "streaming" && !self.is_silent(&sender.name)
    }

    pub(super) fn streams(&self, facts: &PgFacts, names: &[Name]) -> bool {
        let streaming = |name: &Name| {
            let mut senders = facts.walsenders.iter();
            senders.any(|w| w.name == *name && self.is_streaming(w))
        };
        names.iter().all(streaming)
    }
}
