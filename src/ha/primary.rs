//! The holder's work: bootstrap, start, promote, and the duties of a running primary.

use super::effect::{Effect, Rule, Stop};
use super::eligibility::UNLED;
use super::event::{Op, PgFacts};
use super::failsafe::UNMAPPED;
use super::model::{DataDir, DataFacts, Ms};
use super::pause::MARKED;
use super::remote::REMOTE;
use super::shared::{Initialize, SharedWrite};
use super::state::{Handover, HandoverPhase, Process};
use super::step::Turn;

/// Starts that may fail before another member is preferred.
const FAILED_STARTS_MAX: u32 = 3;

impl Turn<'_> {
    pub(super) fn lead(&mut self) {
        self.s.race = None;
        self.settled(MARKED);
        self.settled(UNMAPPED);
        self.settled(UNLED);
        // Ordered when another led: whoever leads is copied, and copies nobody.
        self.s.rebuild = None;
        if self.give_up_hung_start() || self.hand_over() {
            return;
        }
        if self.ends_bootstrap() {
            return;
        }
        if let Some(why) = self.s.pg.not_serving.clone() {
            return self.fence_what_does_not_serve(&why);
        }
        if self.hands_off() {
            return self.release_stopped();
        }
        if self.s.pg.stopping.is_some() {
            return;
        }
        if let Some(standby) = self.s.rules.standby.clone() {
            return self.lead_standby(&standby);
        }
        self.s.pg.told_to_follow = None;
        self.say_that_i_lead();
        match (self.s.pg.process, self.s.pg.facts.clone()) {
            (Process::Unknown, _) | (Process::Running { .. }, None) => {}
            (Process::Running { .. }, Some(facts)) if !facts.in_recovery => self.duties(&facts),
            (Process::Down, _) => self.start_as_leader(),
            (Process::Running { .. }, Some(_)) => self.promote(),
        }
    }

    /// G9: where another can serve, fence and release with proof; else restart in place.
    fn fence_what_does_not_serve(&mut self, why: &str) {
        if self.s.rules.pause {
            let words =
                format!("PostgreSQL does not serve ({why}); in maintenance mode it is left");
            return self.explain_once("left", Rule::Pause, words);
        }
        self.stop(Stop::Kill, Rule::G9, why);
        if self.has_candidate() {
            self.hand_over_to_anybody(why);
        }
    }

    /// The shared objects were read by quorum since the lock became mine; asks for it if not.
    pub(super) fn knows_cluster(&mut self) -> bool {
        let since = self
            .s
            .lease
            .held
            .as_ref()
            .map_or(u64::MAX, |held| held.since);
        if self.s.shared.is_some() && self.s.shared_read_at.is_some_and(|at| at >= since) {
            return true;
        }
        if self.may("read-shared", self.s.budgets.call_ms) {
            self.emit(Effect::ReadShared);
        }
        false
    }

    /// Before anything becomes writable: I am admitted, and the record says that only I hold it
    /// all.
    fn sync_record_is_mine(&mut self) -> bool {
        if !self.knows_cluster() {
            return false;
        }
        if let Err((rule, why)) = self.admitted() {
            self.explain(rule, format!("the lock is mine but I must not lead: {why}"));
            if self.s.lease.in_flight.is_none() {
                self.give_back(&why, self.s.budgets.renew_ms);
            }
            return false;
        }
        let record = self.s.sync_record();
        if !self.s.rules.synchronous_mode && record.leader.is_none() {
            return true;
        }
        // What the record lists has to be enforced from the first commit: a start does that in
        // synchronous mode, a promotion does not.
        let starts = self.s.pg.process == Process::Down && self.s.rules.synchronous_mode;
        let settled = self.s.sync.unsure.is_empty() && self.s.sync.leaving.is_none();
        let kept = settled && (record.standbys.is_empty() || starts);
        let mine = kept && record.leader.as_ref() == Some(&self.s.me.name);
        // A person's word gives up what others have: the set says so before the record does.
        let holds_all = self.set_decides() && self.admits_me();
        let written = (mine || holds_all) && {
            self.note_admission();
            self.record_says_i_lead()
        };
        if mine {
            return written;
        }
        self.write_shared(SharedWrite::Sync {
            leader: self.s.me.name.clone(),
            standbys: Vec::new(),
            quorum: 0,
            expect: record.resource_version,
        });
        false
    }

    /// As soon as I am known to have every commit, and not only once nothing holds the promotion
    /// up.
    fn say_that_i_lead(&mut self) {
        if !self.set_decides() || !self.knows_cluster() {
            return;
        }
        let (timeline, _) = self.s.position().unwrap_or_default();
        if !self.has_led() && self.admits_me() && self.not_left_behind(timeline).is_ok() {
            self.note_admission();
        }
        if self.has_led() {
            self.record_says_i_lead();
        }
    }

    /// What made me a candidate may have changed while my claim was on its way.
    fn admitted(&self) -> Result<(), (Rule, String)> {
        if self.failover_to_me() {
            return Ok(());
        }
        if !self.admits_me() {
            return Err((Rule::Sync, self.not_in_the_set()));
        }
        let (timeline, _) = self.s.position().unwrap_or_default();
        self.not_left_behind(timeline)
            .map_err(|why| (Rule::Election, why))
    }

    /// L4: nothing becomes writable behind a release that may still land; nor by [`Self::promote`].
    pub(super) fn start_as_leader(&mut self) {
        if self.s.pg.op.is_some() || self.release_may_land() {
            return;
        }
        let Some(data) = self.data_to_lead_with() else {
            return;
        };
        if !self.sync_record_is_mine() {
            return;
        }
        if data.standby_signal {
            return self.start_replica(None);
        }
        // L2: an acknowledged write later than the stop says that the lock is still mine.
        let fresh = self.s.lease.held.as_ref().map(|held| held.acked_sent_at);
        if fresh.is_some_and(|at| at >= self.s.pg.down_since)
            && self.may("StartPrimary", self.s.budgets.renew_ms)
            && self.arm()
        {
            let sync = self.first_setting();
            self.explain(
                Rule::Primary,
                "start as the primary under an acknowledged lock",
            );
            self.s.sync.asked.clone_from(&sync);
            self.s.pg.settings_stale = false;
            self.note_admission();
            self.begin(Op::StartPrimary, Effect::StartPrimary { sync });
        }
    }

    /// What the leader's server starts on. Where there is nothing to start on, it is made, or the
    /// lock given up.
    pub(super) fn data_to_lead_with(&mut self) -> Option<DataFacts> {
        match self.s.pg.data.clone()? {
            DataDir::Present(_) if self.starts_in_vain() => {
                self.give_up("PostgreSQL does not start here");
            }
            // What its bootstrap has left is looked at again: it may not count.
            DataDir::Present(_) if self.s.hooks.bootstrap_failed.is_some() => {
                if self.may("inspect", 1_000) {
                    self.emit(Effect::Inspect);
                }
            }
            DataDir::Present(data) => return Some(data),
            DataDir::Empty | DataDir::Unfinished => self.bootstrap(),
            DataDir::Unusable(why) => self.give_up(&why),
        }
        None
    }

    /// It failed again and again, and another can lead.
    fn starts_in_vain(&self) -> bool {
        self.s.pg.failed_starts >= FAILED_STARTS_MAX && self.has_candidate()
    }

    /// Nothing runs here and another can do better: release with proof.
    pub(super) fn give_up(&mut self, why: &str) {
        let Some(epoch) = self.s.lease.held.as_ref().map(|held| held.epoch) else {
            return;
        };
        if self.may_write_lock() {
            self.explain(Rule::Handover, format!("release the lock: {why}"));
            self.s.stand_aside_until = self.now + 2 * self.s.rules.ttl_ms;
            self.s.pg.failed_starts = 0;
            self.release(epoch);
        }
    }

    /// A server in recovery that will not leave it, and another can do better: stop, then release.
    fn give_up_promoting(&mut self) {
        self.s.pg.failed_starts = 0;
        self.stop_and_release(
            "PostgreSQL cannot be promoted here",
            2 * self.s.rules.ttl_ms,
        );
    }

    fn stop_and_release(&mut self, why: &str, aside_ms: Ms) {
        self.s.stand_aside_until = self.now + aside_ms;
        self.hand_over_to_anybody(why);
    }

    fn hand_over_to_anybody(&mut self, why: &str) {
        self.s.handover = Some(Handover {
            to: None,
            because: why.to_owned(),
            phase: HandoverPhase::Stopping,
            until: self.now + self.s.rules.primary_start_timeout_ms,
            asked: None,
        });
    }

    /// The lock goes back, and for a while the race is left to others. L4: a server that may be on
    /// its way out of recovery, by the order of an agent before me or by one that took too long, is
    /// stopped before it is sworn that nothing writes, whatever its last reading says.
    pub(super) fn give_back(&mut self, why: &str, aside_ms: Ms) {
        let Some(held) = &self.s.lease.held else {
            return;
        };
        let epoch = held.epoch;
        if self.s.pg.may_be_promoting && self.s.pg.process != Process::Down {
            return self.stop_and_release(why, aside_ms);
        }
        self.s.stand_aside_until = self.now + aside_ms;
        self.release(epoch);
    }

    pub(super) fn bootstrap(&mut self) {
        if !self.knows_cluster() {
            return;
        }
        if let Err(why) = self.may_bootstrap() {
            return self.give_up(&why);
        }
        if self.give_bootstrap_back() {
            return;
        }
        let Some(config) = self.s.shared.as_ref().map(|shared| shared.config.clone()) else {
            return;
        };
        let mine = Initialize::Running(self.s.me.to_string());
        if config.initialize == mine && self.s.rules.standby.is_some() {
            self.clone_from(
                REMOTE.to_owned(),
                "no trace of a cluster: a standby cluster begins",
            );
        } else if config.initialize == mine {
            if self.may("Initdb", self.s.budgets.renew_ms) {
                self.explain(Rule::L9, "no trace of a cluster: create one");
                self.begin(Op::Initdb, Effect::Initdb);
            }
        } else {
            let expect = config.resource_version;
            self.write_shared(SharedWrite::Initialize {
                value: mine,
                expect,
            });
        }
    }

    fn promote(&mut self) {
        let may_land = self.release_may_land();
        if may_land || self.feed_starved() || self.s.pg.op.is_some() || self.is_starved() {
            return;
        }
        if self.starts_in_vain() {
            return self.give_up_promoting();
        }
        // Who is not to lead asks nobody, and the record names only me once I am sure to lead.
        if !self.knows_cluster() || (self.admitted().is_ok() && !self.may_promote()) {
            return;
        }
        if !self.sync_record_is_mine() {
            return;
        }
        if self.may("Promote", self.s.budgets.renew_ms) && self.arm() {
            self.explain(
                Rule::Primary,
                "promote: the claim is acknowledged, the guardian is armed",
            );
            self.warn_of_copies();
            let sync = self.first_setting();
            self.s.sync.asked.clone_from(&sync);
            self.s.sync.in_force = None;
            self.note_admission();
            self.s.routed_epoch = None;
            self.s.pg.may_be_promoting = true;
            self.begin(Op::Promote, Effect::Promote { sync });
        }
    }

    pub(super) fn duties(&mut self, facts: &PgFacts) {
        self.s.pg.upstream = None;
        self.s.pg.failed_rewinds = 0;
        self.s.pg.left_to_people = None;
        if self.s.shared.is_none() || !self.knows_cluster() || self.s.is_on_trial() {
            return;
        }
        self.publish_route();
        self.configure();
        self.keep_slots(facts);
        self.keep_sync(facts);
        self.tend_schedule();
        self.keep_records(facts);
        self.leave_full_volume();
    }

    pub(super) fn publish_route(&mut self) {
        let epoch = self.s.lease.held.as_ref().map_or(0, |held| held.epoch);
        if self.s.routed_epoch != Some(epoch) || self.may("route", 5 * self.s.budgets.renew_ms) {
            self.s.routed_epoch = Some(epoch);
            self.emit(Effect::PublishRoute { epoch });
        }
    }

    /// Somebody else could lead: a published standby in synchronous mode, with enough others to vote
    /// for it; any healthy replica else.
    pub(super) fn has_candidate(&self) -> bool {
        let Some(shared) = &self.s.shared else {
            return false;
        };
        let others = shared.members.iter();
        let others = others.filter(|(name, member)| {
            **name != self.s.me.name
                && member.state == "running"
                && member.role == "replica"
                && self.sync_admits(name)
        });
        let (mut voters, mut candidates) = (0, 0);
        for (_, member) in others {
            voters += 1;
            candidates += usize::from(!member.nofailover());
        }
        let needed = if self.s.rules.synchronous_mode {
            shared.sync.quorum
        } else {
            0
        };
        candidates > 0 && voters > needed
    }
}
