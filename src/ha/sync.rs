//! `synchronous_mode` with one standby: enforced before published, unpublished before relaxed.
//!
//! The published set is a promise to the election: whoever is in it holds every acknowledged
//! commit. So it may never exceed what PostgreSQL enforces.

use super::effect::{Effect, Rule};
use super::event::PgFacts;
use super::lock::Outcome;
use super::model::Name;
use super::shared::{Initialize, SharedWrite};
use super::state::Sabotage;
use super::step::Turn;

impl Turn<'_> {
    pub(super) fn keep_sync(&mut self, facts: &PgFacts) {
        let record = self.s.sync_record();
        let published = record.standbys.clone();
        self.notice_drift(facts);
        if self.s.sync.drifted {
            if !published.is_empty() {
                return self.publish(Vec::new());
            }
            self.s.sync.drifted = false;
        }
        let mine = record.leader.as_ref() == Some(&self.s.me.name);
        let wanted = if self.s.rules.synchronous_mode {
            self.choose_standby(facts, &published)
        } else {
            None
        };
        let wanted: Vec<Name> = wanted.into_iter().collect();
        let sync = &self.s.sync;
        let mut doubtful = sync.leaving.iter().chain(&sync.unsure);
        if let Some(name) = doubtful.find(|name| !wanted.contains(name)) {
            // A publication may have landed, or still land: nothing is relaxed before it cannot.
            let words = format!("unpublish {name}, whose publication was not acknowledged");
            self.explain_once("sync", Rule::Sync, words);
            return self.publish(Vec::new());
        }
        if !self.s.rules.synchronous_mode && record.leader.is_none() && published.is_empty() {
            return self.enforce(&[]);
        }
        if !mine || (published != wanted && !published.is_empty()) {
            if self.patient(facts, &published) {
                return;
            }
            if mine && !wanted.is_empty() && self.streams(facts, &published) {
                return self.exchange(facts, &published, wanted);
            }
            // Unpublish before anything is relaxed or replaced.
            let words = self.why_unpublish(facts, &published, mine);
            self.explain_once("sync", Rule::Sync, words);
            return self.publish(Vec::new());
        }
        if published == wanted {
            self.s.sync.missing_since = None;
            return self.enforce(&wanted);
        }
        self.enforce(&wanted);
        if self.is_enforced(facts, &wanted) {
            self.explain_once(
                "sync",
                Rule::Sync,
                format!("publish {wanted:?}: it is enforced"),
            );
            self.publish(wanted);
        }
    }

    fn why_unpublish(&self, facts: &PgFacts, published: &[Name], mine: bool) -> String {
        let words = format!("unpublish {published:?}");
        if published.is_empty() {
            "the record of the synchronous set is gone or another's: write it anew".to_owned()
        } else if !mine {
            format!("{words}: another leader published it")
        } else if !self.s.rules.synchronous_mode {
            format!("{words}: synchronous_mode is off")
        } else if published.iter().any(|name| self.is_silent(name)) {
            format!("{words}: it was sent WAL and has not answered for too long")
        } else if !self.streams(facts, published) {
            format!("{words}: it does not stream any more")
        } else {
            words
        }
    }

    /// From one standby that is there to another: both are enforced first, then the other one is
    /// published, then the first is relaxed. At no time is the set empty: whoever is to be elected
    /// meanwhile is there.
    fn exchange(&mut self, facts: &PgFacts, published: &[Name], wanted: Vec<Name>) {
        let mut both = published.to_vec();
        both.extend(
            wanted
                .iter()
                .filter(|name| !published.contains(name))
                .cloned(),
        );
        self.enforce(&both);
        if self.is_enforced(facts, &both) {
            let words = format!("publish {wanted:?} instead of {published:?}: both are enforced");
            self.explain_once("sync", Rule::Sync, words);
            self.publish(wanted);
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
        self.s.sync.asked.clear();
        self.s.sync.drifted = true;
        self.explain(Rule::Sync, words);
    }

    /// The published standby gets one R to come back before it is given up.
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
    fn enforce(&mut self, names: &[Name]) {
        let asked = self.s.sync.asked == names;
        let in_force = self.s.sync.in_force.as_ref();
        if asked && in_force.is_some_and(|in_force| in_force.names == names) {
            return;
        }
        if self.may("sync-names", self.s.budgets.renew_ms) || !asked {
            self.s.sync.asked = names.to_vec();
            self.s.sync.in_force = None;
            self.emit(Effect::SetSyncNames {
                names: names.to_vec(),
            });
        }
    }

    /// The server shows them as synchronous, and they flushed past the reload.
    fn is_enforced(&self, facts: &PgFacts, names: &[Name]) -> bool {
        let Some(in_force) = &self.s.sync.in_force else {
            return false;
        };
        in_force.names == names
            && in_force.seen
            && names.iter().all(|name| {
                facts.walsenders.iter().any(|w| {
                    w.name == *name && w.sync_state == "sync" && w.flush_lsn >= in_force.lsn
                })
            })
    }

    /// What became of a publication. A conflict may be with an earlier attempt of the same write,
    /// whose answer was lost.
    pub(super) fn settle_publication(&mut self, what: &SharedWrite, outcome: &Outcome<String>) {
        if !matches!(what, SharedWrite::Sync { .. }) {
            return;
        }
        let left = std::mem::take(&mut self.s.sync.leaving);
        match outcome {
            Outcome::Done(_) => self.s.sync.unsure.clear(),
            Outcome::Refused { .. } => {}
            Outcome::Conflict | Outcome::Unknown { .. } => self.s.sync.unsure.extend(left),
        }
    }

    /// The object may be deleted or emptied by hand: that there was a set is remembered, whom it
    /// named is not believed, since it may have changed before it was deleted.
    pub(super) fn remember_set(&mut self) {
        let shared = self.s.shared.as_ref();
        self.s.sync_seen |= shared.is_some_and(|shared| shared.sync.leader.is_some());
    }

    /// Synchronous mode: only the recorded leader and its published standbys hold every
    /// acknowledged commit. A record that is gone is no empty one: as in L4, absence is not
    /// release. Then only the last holder of the lock is known to hold everything.
    pub(super) fn sync_admits(&self, name: &str) -> bool {
        let Some(shared) = &self.s.shared else {
            return false;
        };
        let ever = shared.sync.leader.is_some() || self.s.sync_seen;
        if !self.s.rules.synchronous_mode && (shared.config.rules.is_some() || !ever) {
            return true;
        }
        if let Some(leader) = &shared.sync.leader {
            let listed = shared.sync.standbys.iter().any(|standby| standby == name);
            return listed || leader == name;
        }
        if self.s.sabotaged(Sabotage::AbsentSetAdmits) {
            return true;
        }
        // Who creates the cluster has every commit: there is none yet.
        let creates = Initialize::Running(self.s.me.to_string());
        let new = !ever && shared.config.initialize == creates && name == self.s.me.name;
        new || self.last_holder().is_some_and(|holder| holder == name)
    }

    /// Why I am not admitted, for people.
    pub(super) fn not_in_the_set(&self) -> String {
        let record = self.s.sync_record();
        if let Some(leader) = &record.leader {
            let standbys = &record.standbys;
            return format!("not in the synchronous set of {leader} {standbys:?}");
        }
        let who = match self.last_holder() {
            Some(holder) => format!("{holder} led last"),
            None => "nothing tells who led last".to_owned(),
        };
        format!(
            "the record of the synchronous set is gone, and {who}: waiting for one that holds every \
             commit, or for a failover by hand"
        )
    }

    fn publish(&mut self, standbys: Vec<Name>) {
        let record = self.s.sync_record();
        self.write_shared(SharedWrite::Sync {
            leader: self.s.me.name.clone(),
            standbys,
            expect: record.resource_version,
        });
    }
}
