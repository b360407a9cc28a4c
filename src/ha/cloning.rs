//! A copy of the leader in place of what is here, or of nothing.

use super::effect::{Effect, Rule};
use super::event::Op;
use super::model::{DataDir, Ms, Name};
use super::remote::{REMOTE, Standby};
use super::shared::Initialize;
use super::step::Turn;

/// The source of a copy that needs no leader: a backup.
pub const NOBODY: &str = "no leader";

/// The longest pause after clones that failed.
const PAUSE_MAX_MS: Ms = 60_000;

/// Copies of the remote primary that may fail before another member tries.
const FAILED_CLONES_MAX: u32 = 3;

/// Nobody leads: told after so many times D.
const NOBODY_LEADS_TTLS: Ms = 3;
/// What must be true for a copy that nobody asked for.
const ON_FAILURE: &str = "postgresql.remove_data_directory_on_rewind_failure";
const ON_DIVERGENCE: &str = "postgresql.remove_data_directory_on_diverged_timelines";

impl Turn<'_> {
    /// Where there is nothing: a copy of the leader, if one leads.
    pub(super) fn fill(&mut self) {
        self.s.pg.left_to_people = None;
        if let Some(from) = self.primary_leader_name().cloned() {
            let from = self.copy_source(from);
            return self.clone_from(from, "no data here");
        }
        let ttl_ms = self.s.rules.ttl_ms;
        if self.s.hooks.wanted.copies_without_leader && self.cluster_id().is_some() {
            // A leader that is only late is the better source.
            let at = self.s.lock.changed_at + ttl_ms;
            if self.now < at {
                return self.wake_at(at);
            }
            return self.clone_from(NOBODY.to_owned(), "no data here, and nobody leads");
        }
        let words = match (self.cluster_id(), self.set_lets_me_create()) {
            (Some(id), _) => format!(
                "no data here, the cluster {id} has existed, and nobody leads it: give a member \
                 its volume back; only if all data are lost for good, delete the cluster's objects \
                 (the lock and its ConfigMaps) and its Pods, and a new one begins"
            ),
            (None, Err(words)) => words,
            (None, Ok(())) => return,
        };
        // A leader that is only late takes no longer than this.
        let told_at = self.s.lock.changed_at + NOBODY_LEADS_TTLS * self.s.rules.ttl_ms;
        if self.now < told_at {
            return self.wake_at(told_at);
        }
        self.leave_to_people(Rule::L9, words);
    }

    /// The system identifier of the cluster that exists.
    pub(super) fn cluster_id(&self) -> Option<&String> {
        match &self.s.shared.as_ref()?.config.initialize {
            Initialize::Done(id) => Some(id),
            Initialize::Running(_) | Initialize::Never => None,
        }
    }

    /// No rewind leads from these data to the leader's.
    pub(super) fn copy_where_diverged(&mut self, from: Name, why: &str) {
        if self.s.rules.repair.copy_when_diverged {
            self.clone_from(from, why);
        } else {
            self.leave_uncopied(why, ON_DIVERGENCE);
        }
    }

    pub(super) fn copy_after_failed_rewinds(&mut self, from: Name) {
        let why = "the rewind failed again and again";
        if self.s.rules.repair.copy_after_failed_rewinds {
            self.clone_from(from, why);
        } else {
            self.leave_uncopied(why, ON_FAILURE);
        }
    }

    fn leave_uncopied(&mut self, why: &str, key: &str) {
        let words = format!(
            "{why}, and {key} is false: this data directory stays as it is until somebody asks for \
             a copy of the leader (ctl reinit) or sets it to true"
        );
        self.leave_to_people(Rule::Untouched, words);
    }

    pub(super) fn leave_to_people(&mut self, rule: Rule, words: String) {
        self.explain_once("copy", rule, words.clone());
        self.s.pg.left_to_people = Some(words);
    }

    pub(super) fn clone_from(&mut self, from: Name, why: &str) {
        let epoch = self.record_epoch();
        if self.s.pg.failed_clones.1 != epoch {
            // Another leader may have what the last one could not give.
            self.s.pg.failed_clones = (0, epoch);
            self.s.not_before.remove("Clone");
        }
        if self.may("Clone", 2 * self.s.budgets.renew_ms) {
            self.explain(Rule::Replica, format!("clone {from}: {why}"));
            self.note_fresh_copy();
            self.begin(Op::Clone, Effect::Clone { from });
        }
    }

    /// A rewind to the remote primary after which the WAL to follow it was gone, or that was cut
    /// short. True: a copy of it is made, or waited for, since nobody else can lead: whoever gives
    /// the lock up with such a directory does not get it back.
    pub(super) fn refills_from_remote(&mut self, standby: &Standby) -> bool {
        let unfinished = self.s.pg.data == Some(DataDir::Unfinished);
        if !unfinished || standby.host.is_none() || self.cluster_id().is_none() {
            return false;
        }
        let alone = !self.has_candidate();
        if self.clones_in_vain() && !alone {
            return false;
        }
        self.ask_remote(standby);
        let ours = self.remote_is_ours(standby);
        if ours {
            self.clone_from(REMOTE.to_owned(), "what is here cannot be finished");
        } else if alone && self.answer_of(standby).is_some() {
            self.explain_foreign();
        }
        ours || alone
    }

    /// By its last answer it has this cluster's system identifier.
    pub(super) fn remote_is_ours(&self, standby: &Standby) -> bool {
        let answer = self.answer_of(standby);
        answer.is_some_and(|(said, _)| self.cluster_id() == Some(&said.system_id))
    }

    /// They failed again and again under this record.
    fn clones_in_vain(&self) -> bool {
        let (failed, epoch) = self.s.pg.failed_clones;
        epoch == self.record_epoch() && failed >= FAILED_CLONES_MAX
    }

    /// Each copies everything anew: one that fails again and again must not burden the leader.
    pub(super) fn pause_after_clone(&mut self) -> Ms {
        let failed = &mut self.s.pg.failed_clones.0;
        let pause_ms = self.s.budgets.renew_ms << (*failed).min(5);
        *failed += 1;
        pause_ms.min(PAUSE_MAX_MS)
    }
}
