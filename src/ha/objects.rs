//! The shared objects as they are seen and written: the newest sight counts, and one write is in
//! flight at a time.

use super::effect::{Effect, Rule};
use super::lock::Outcome;
use super::quorum::Voters;
use super::shared::{Shared, SharedWrite};
use super::step::Turn;
use std::sync::Arc;

impl Turn<'_> {
    pub(super) fn absorb_shared(&mut self, mut shared: Arc<Shared>, quorum: bool) {
        if quorum {
            self.s.shared_read_at = Some(self.now);
        }
        // A cache may lag for long, and a read may have left before a write of mine was
        // acknowledged; only a read that surely left later shows that the store went back.
        let recent = self.now < self.s.shared_written_at + 2 * self.s.budgets.renew_ms;
        if let Some(known) = &self.s.shared
            && (!quorum || recent)
            && keep_newer(&mut shared, known, recent)
            && (quorum || !recent)
            && self.may("look-again", self.s.budgets.renew_ms)
        {
            self.emit(Effect::ReadShared);
        }
        if let Some(rules) = &shared.config.rules {
            self.s.rules = rules.clone();
        }
        self.note_epoch(shared.config.epoch);
        self.s.shared = Some(shared);
        self.remember_set();
    }

    pub(super) fn absorb_shared_write(&mut self, what: SharedWrite, outcome: Outcome<String>) {
        self.s.writing_shared = false;
        self.settle_publication(&what, &outcome);
        match outcome {
            Outcome::Done(version) => {
                self.s.shared_written_at = self.now;
                if let Some(shared) = &mut self.s.shared {
                    Arc::make_mut(shared).apply(what, version);
                }
                self.remember_set();
            }
            Outcome::Conflict => self.emit(Effect::ReadShared),
            Outcome::Refused { status, why, .. } => {
                self.explain_once(
                    "shared",
                    Rule::L6,
                    format!("write refused ({status}): {why}"),
                );
                self.s
                    .not_before
                    .insert("shared".into(), self.now + self.s.budgets.renew_ms);
            }
            Outcome::Unknown { why } => {
                self.explain_once(
                    "shared",
                    Rule::L6,
                    format!("write with unknown outcome: {why}"),
                );
                self.emit(Effect::ReadShared);
                self.s
                    .not_before
                    .insert("shared".into(), self.now + self.s.budgets.renew_ms / 2);
            }
        }
    }

    /// Write a shared object, one at a time.
    pub(super) fn write_shared(&mut self, what: SharedWrite) {
        let due = self.s.not_before.get("shared").copied().unwrap_or(0);
        if self.s.writing_shared || self.now < due {
            self.wake_at(due.max(self.now + 1));
            return;
        }
        self.s.writing_shared = true;
        if let SharedWrite::Sync {
            standbys, quorum, ..
        } = &what
        {
            self.s.sync.leaving = Some(Voters::of(standbys, *quorum));
        }
        self.emit(Effect::WriteShared(what));
    }
}

/// Keep what is known to be newer than this sight; whether anything was.
fn keep_newer(seen: &mut Arc<Shared>, known: &Shared, recent: bool) -> bool {
    let config = is_older(
        seen.config.resource_version.as_deref(),
        known.config.resource_version.as_deref(),
    );
    let sync = is_older(
        seen.sync.resource_version.as_deref(),
        known.sync.resource_version.as_deref(),
    );
    let failover = is_older(
        seen.failover.resource_version.as_deref(),
        known.failover.resource_version.as_deref(),
    );
    // The first request makes the object, and a cache that has not heard of it shows none: whoever
    // asked would be told that it failed.
    let failover = failover || (recent && seen.failover.resource_version.is_none());
    if config {
        Arc::make_mut(seen).config.clone_from(&known.config);
    }
    if sync {
        Arc::make_mut(seen).sync.clone_from(&known.sync);
    }
    if failover {
        Arc::make_mut(seen).failover.clone_from(&known.failover);
    }
    config || sync || failover
}

fn is_older(seen: Option<&str>, known: Option<&str>) -> bool {
    let number = |version: Option<&str>| version?.parse::<u64>().ok();
    matches!((number(seen), number(known)), (Some(seen), Some(known)) if seen < known)
}
