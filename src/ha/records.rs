//! What the leader keeps in the shared objects: the configuration, the cluster's identifier, the
//! timelines' history.

use super::effect::Rule;
use super::event::PgFacts;
use super::model::HistoryEntry;
use super::shared::{Initialize, SharedWrite};
use super::step::Turn;

/// What the published history may take of the object's room.
const HISTORY_MAX_BYTES: usize = 96 * 1024;

/// The newest entries whose texts fit: all annotations of an object share 256 KiB.
fn publishable(own: &[HistoryEntry]) -> &[HistoryEntry] {
    let mut room_bytes = HISTORY_MAX_BYTES;
    let fits = |entry: &&HistoryEntry| {
        // Numbers, a time and a name beside the reason.
        let needed = entry.reason.len() + 200;
        let fits = needed <= room_bytes;
        room_bytes = room_bytes.saturating_sub(needed);
        fits
    };
    let kept = own.iter().rev().take_while(fits).count();
    &own[own.len() - kept..]
}

/// The published history is the server's own; names and times in it are the leaders' of then.
fn same_line(published: &[HistoryEntry], own: &[HistoryEntry]) -> bool {
    let forks = |history: &[HistoryEntry]| -> Vec<_> {
        let fork = |entry: &HistoryEntry| (entry.timeline, entry.switch_lsn);
        history.iter().map(fork).collect()
    };
    forks(published) == forks(publishable(own))
}

impl Turn<'_> {
    /// What the leader keeps in the shared objects, one write at a time.
    pub(super) fn keep_records(&mut self, facts: &PgFacts) {
        let Some(config) = self.s.shared.as_ref().map(|shared| shared.config.clone()) else {
            return;
        };
        let epoch = self.s.lease.held.as_ref().map_or(0, |held| held.epoch);
        let expect = config.resource_version.clone();
        if config.rules.is_none() && self.may("config", 2 * self.s.budgets.renew_ms) {
            self.write_shared(SharedWrite::Config { expect });
        } else if config.initialize != Initialize::Done(facts.system_id.clone()) {
            // Whoever runs the cluster under the lock is the cluster, whatever a hand wrote.
            if let Initialize::Done(other) = &config.initialize {
                let mine = &facts.system_id;
                let words = format!("the stored system identifier is {other}: write {mine} back");
                self.explain_once("initialize", Rule::Primary, words);
            }
            let value = Initialize::Done(facts.system_id.clone());
            self.write_shared(SharedWrite::Initialize { value, expect });
        } else if facts.history_is_whole()
            && (!same_line(&config.history, &facts.history)
                || config.timeline != Some(facts.timeline)
                || config.epoch != epoch
                || config.ttl_ms != self.s.budgets.ttl_ms)
        {
            self.settled("history");
            self.write_history(facts, epoch, expect);
        } else if self.s.asked_since.is_none() {
            self.await_history(facts);
            self.clear_failover_request();
        }
    }

    /// Whoever has to rejoin waits for it, and an empty one would never tell them more.
    fn await_history(&mut self, facts: &PgFacts) {
        if !facts.history_is_whole() {
            let timeline = facts.timeline;
            let words = format!("the history of timeline {timeline} is not there yet");
            self.explain_once("history", Rule::Primary, words);
            self.wake_at(self.now + self.s.budgets.renew_ms / 2);
        }
    }

    fn write_history(&mut self, facts: &PgFacts, epoch: u64, expect: Option<String>) {
        let known = self
            .s
            .shared
            .as_ref()
            .map(|s| s.config.history.clone())
            .unwrap_or_default();
        let mut history = publishable(&facts.history).to_vec();
        let newest = history.len().saturating_sub(1);
        for (index, entry) in history.iter_mut().enumerate() {
            // The server's file knows positions; names and times come from the leaders of then.
            let old = known
                .iter()
                .find(|old| old.timeline == entry.timeline && old.switch_lsn == entry.switch_lsn);
            if let Some(old) = old {
                *entry = old.clone();
            } else if index == newest && self.s.rules.standby.is_none() {
                entry.new_leader = Some(self.s.me.name.clone());
            }
        }
        let ttl_ms = self.s.budgets.ttl_ms;
        self.write_shared(SharedWrite::History {
            history,
            timeline: facts.timeline,
            epoch,
            ttl_ms,
            expect,
        });
    }
}
