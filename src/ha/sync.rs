//! The synchronous set: enforced before published, unpublished before relaxed.
//!
//! The published set is a promise to the election: whoever is in it holds every acknowledged
//! commit, or finds out from the others whether it does. So it may never exceed what PostgreSQL
//! enforces. What fits together, and the way from one set to another: [`super::quorum`].

use super::effect::{Effect, Rule};
use super::event::PgFacts;
use super::lock::Outcome;
use super::model::Name;
use super::quorum::{Change, SyncSetting, Voters, next_change};
use super::shared::SharedWrite;
use super::state::Sabotage;
use super::step::Turn;

impl Turn<'_> {
    pub(super) fn keep_sync(&mut self, facts: &PgFacts) {
        let record = self.s.sync_record();
        let published = record.voters();
        self.notice_drift(facts);
        if self.s.sync.drifted {
            if !published.standbys.is_empty() {
                return self.publish(Voters::default());
            }
            self.s.sync.drifted = false;
        }
        self.note_settled(facts);
        let on = self.s.rules.synchronous_mode;
        let mine = record.leader.as_ref() == Some(&self.s.me.name);
        if !on && record.leader.is_none() && published.standbys.is_empty() {
            return self.enforce(SyncSetting::default());
        }
        if !mine {
            // Unpublish before anything is relaxed or replaced.
            let words = if published.standbys.is_empty() {
                "the record of the synchronous set is gone or another's: write it anew".to_owned()
            } else {
                format!("unpublish {published}: another leader published it")
            };
            self.explain_once("sync", Rule::Sync, words);
            return self.publish(Voters::default());
        }
        if self.s.sync.inherited {
            // A write of mine that is acknowledged comes after whatever the agent before me sent.
            let words =
                format!("publish {published} again: an agent before me may have written it");
            self.explain_once("sync", Rule::Sync, words);
            return self.publish(published);
        }
        if !self.record_says_i_lead() || self.patient(facts, &published.standbys) {
            return;
        }
        let target = self.wanted_setting(facts, &published);
        self.advance_sync(facts, &published, &target);
    }

    /// One step on the way to the target: what may be published, or may still land, stays covered.
    fn advance_sync(&mut self, facts: &PgFacts, published: &Voters, target: &SyncSetting) {
        let sync = &self.s.sync;
        let mut promised = vec![published.clone()];
        promised.extend(sync.unsure.iter().chain(&sync.leaving).cloned());
        let doubtful = promised.len() > 1;
        let in_force = sync.in_force.as_ref();
        let in_force = in_force.filter(|force| force.settled && force.wanted == sync.asked);
        let in_force = in_force.map(|force| force.wanted.clone());
        let is_there = |name: &Name| self.streams(facts, std::slice::from_ref(name));
        match next_change(&promised, in_force.as_ref(), target, is_there) {
            Change::Enforce(setting) => self.enforce(setting),
            Change::EnforceThenPublish(setting, voters) => {
                self.enforce(setting.clone());
                if self.is_enforced(&setting) || self.s.sabotaged(Sabotage::PublishedFirst) {
                    let words = format!("publish {voters}: enforced is {setting}");
                    self.explain_once("sync", Rule::Sync, words);
                    self.publish(voters);
                }
            }
            Change::Publish(voters) => {
                let words = if doubtful {
                    format!("publish {voters}: whether the last publication arrived is not known")
                } else {
                    self.why_unpublish(facts, published, &voters)
                };
                self.explain_once("sync", Rule::Sync, words);
                self.publish(voters);
            }
        }
    }

    /// What is to be enforced with the standbys that are there.
    fn wanted_setting(&self, facts: &PgFacts, published: &Voters) -> SyncSetting {
        if !self.s.rules.synchronous_mode {
            return SyncSetting::default();
        }
        let wanted = self.s.rules.sync;
        let there = self.choose_standbys(facts, &published.standbys);
        if there.is_empty() && wanted.strict {
            return self.blocking(published);
        }
        let need = wanted.count.min(there.len());
        if wanted.quorum {
            SyncSetting::any(there, need)
        } else {
            SyncSetting::all(there.into_iter().take(need))
        }
    }

    /// Strict mode without a standby: commits wait, for those that are published if any are, so
    /// that they can still lead.
    fn blocking(&self, published: &Voters) -> SyncSetting {
        let known = &self.s.sync.asked;
        if !published.standbys.is_empty() && known.voters() == *published {
            return known.clone();
        }
        let names = published.standbys.clone();
        match names.len().saturating_sub(published.quorum) {
            0 => SyncSetting::nobody(),
            need if need < names.len() || self.s.rules.sync.quorum => SyncSetting::any(names, need),
            _ => SyncSetting::all(names),
        }
    }

    /// What a server that becomes writable enforces from its first commit.
    pub(super) fn first_setting(&self) -> SyncSetting {
        let rules = &self.s.rules;
        if !rules.synchronous_mode {
            return SyncSetting::default();
        }
        let published = self.s.sync_record().voters();
        if rules.sync.strict || !published.standbys.is_empty() {
            return self.blocking(&published);
        }
        SyncSetting::default()
    }

    fn why_unpublish(&self, facts: &PgFacts, published: &Voters, next: &Voters) -> String {
        let words = format!("publish {next} instead of {published}");
        let names = &published.standbys;
        if !self.s.rules.synchronous_mode {
            format!("{words}: synchronous_mode is off")
        } else if let Some(name) = names.iter().find(|name| self.is_silent(name)) {
            format!("{words}: {name} was sent WAL and has not answered for too long")
        } else if !self.streams(facts, names) {
            format!("{words}: not all of them stream any more")
        } else {
            format!("{words}: what is enforced allows it")
        }
    }

    /// Somebody changed the setting behind our back: what is published is enforced no more.
    fn notice_drift(&mut self, facts: &PgFacts) {
        let on = self.s.rules.synchronous_mode;
        let Some(in_force) = self.s.sync.in_force.as_mut().filter(|_| on) else {
            return;
        };
        if in_force.setting == facts.sync_setting {
            in_force.seen = true;
            return;
        }
        if !in_force.seen {
            return;
        }
        let words = format!(
            "synchronous_standby_names is \"{}\" and should be \"{}\": somebody changed it; \
             unpublish, and enforce it anew",
            facts.sync_setting, in_force.setting
        );
        self.s.sync.in_force = None;
        self.s.sync.asked = SyncSetting::default();
        self.s.sync.drifted = true;
        self.explain(Rule::Sync, words);
    }

    /// The published standbys get one R to come back before one is given up.
    fn patient(&mut self, facts: &PgFacts, published: &[Name]) -> bool {
        if !self.s.rules.synchronous_mode || self.streams(facts, published) {
            self.s.sync.missing_since = None;
            return false;
        }
        let since = *self.s.sync.missing_since.get_or_insert(self.now);
        let until = since + self.s.budgets.renew_ms;
        self.wake_at(until);
        self.now < until
    }

    /// Tell PostgreSQL, unless it was told. From then on nothing is known to be in force until the
    /// answer to this very order comes.
    fn enforce(&mut self, wanted: SyncSetting) {
        let asked = self.s.sync.asked == wanted;
        let in_force = self.s.sync.in_force.as_ref();
        if asked && in_force.is_some_and(|in_force| in_force.wanted == wanted) {
            return;
        }
        if self.may("sync-names", self.s.budgets.renew_ms) || !asked {
            self.s.sync.asked = wanted.clone();
            self.s.sync.in_force = None;
            self.emit(Effect::SetSync { wanted });
        }
    }

    /// As many standbys as are needed are shown as synchronous and have flushed past the reload:
    /// they have all that was acknowledged before it, and from then on commits wait for as many.
    fn note_settled(&mut self, facts: &PgFacts) {
        let Some(in_force) = self.s.sync.in_force.as_mut() else {
            return;
        };
        if in_force.settled || !in_force.seen {
            return;
        }
        let (names, lsn) = (&in_force.wanted.names, in_force.lsn);
        let confirms = |w: &&super::model::Walsender| {
            names.contains(&w.name)
                && matches!(w.sync_state.as_str(), "sync" | "quorum")
                && w.flush_lsn >= lsn
        };
        let mut confirming: Vec<&Name> = facts
            .walsenders
            .iter()
            .filter(confirms)
            .map(|w| &w.name)
            .collect();
        confirming.sort();
        confirming.dedup();
        in_force.settled = confirming.len() >= in_force.wanted.need;
    }

    fn is_enforced(&self, setting: &SyncSetting) -> bool {
        let in_force = self.s.sync.in_force.as_ref();
        in_force.is_some_and(|in_force| in_force.wanted == *setting && in_force.settled)
    }

    /// What became of a publication. A conflict may be with an earlier attempt of the same write,
    /// whose answer was lost.
    pub(super) fn settle_publication(&mut self, what: &SharedWrite, outcome: &Outcome<String>) {
        if !matches!(what, SharedWrite::Sync { .. }) {
            return;
        }
        let left = self.s.sync.leaving.take();
        match outcome {
            Outcome::Done(_) => {
                self.s.sync.unsure.clear();
                self.s.sync.inherited = false;
            }
            Outcome::Refused { .. } => {}
            Outcome::Conflict | Outcome::Unknown { .. } => {
                let known = &mut self.s.sync.unsure;
                known.extend(left.filter(|left| !known.contains(left)));
            }
        }
    }

    /// The object may be deleted or emptied by hand: that there was a set is remembered, whom it
    /// named is not believed, since it may have changed before it was deleted.
    pub(super) fn remember_set(&mut self) {
        let shared = self.s.shared.as_ref();
        self.s.sync_seen |= shared.is_some_and(|shared| shared.sync.leader.is_some());
    }

    fn publish(&mut self, voters: Voters) {
        let record = self.s.sync_record();
        self.write_shared(SharedWrite::Sync {
            leader: self.s.me.name.clone(),
            standbys: voters.standbys,
            quorum: voters.quorum,
            expect: record.resource_version,
        });
    }
}
