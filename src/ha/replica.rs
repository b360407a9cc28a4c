//! Without the lock: stop being writable, follow the leader, repair what diverged.

use super::effect::{Effect, Rule, Stop};
use super::event::{Op, PgFacts};
use super::model::{DataDir, HistoryEntry, Member, Ms, Name};
use super::pg::Line;
use super::rejoin::{Relation, Stand};
use super::remote::REMOTE;
use super::state::{Process, Succession};
use super::step::Turn;

/// A replica that has not streamed for that long may be on another line than it seems.
const UNSTREAMED_MS: Ms = 10_000;

/// The topic under which a stream that is missing is explained.
pub(super) const MUTE: &str = "mute";

impl Turn<'_> {
    pub(super) fn follow(&mut self) {
        if self.s.may_be_writable() {
            // A new agent first learns whether the running primary is its own (G5).
            let learning = self.s.lock.snapshot.is_none() || self.s.may_adopt(self.now);
            if !learning || self.s.terminating {
                self.demote();
            }
            return;
        }
        // A handover ends with the lock, however far it came.
        if let Some(handover) = self.s.handover.take()
            && handover.phase == super::state::HandoverPhase::Releasing
        {
            self.explain(Rule::Handover, "the lock is released");
            self.s.stand_aside_until = self.now + 2 * self.s.rules.ttl_ms;
            let succeeded = self.has_candidate() && !self.s.rules.pause;
            self.s.succession = succeeded.then_some(Succession {
                released_at: self.now,
                succeeded_at: None,
            });
        }
        self.disown_mark();
        if self.s.terminating {
            return self.leave();
        }
        self.campaign();
        if self.s.race.is_none() && self.disarmed() {
            self.keep_replica();
        }
    }

    /// A deadline armed for a primary that never started would kill the replica: only the guardian
    /// takes it back, after it verified that nothing runs (G1).
    pub(super) fn disarmed(&mut self) -> bool {
        if self.s.armed_until.is_none() || self.s.pg.process != Process::Down {
            return true;
        }
        let adopting = self.s.may_adopt(self.now);
        if !adopting && self.s.pg.op.is_none() && self.may("disarm", self.s.budgets.renew_ms) {
            self.emit(Effect::Stop { how: Stop::Kill });
        }
        false
    }

    fn demote(&mut self) {
        let budgets = self.s.budgets;
        let patience_ms = budgets.immediate_stop_ms - budgets.fast_stop_ms;
        let stolen = self.s.other_holder().is_some();
        let late =
            self.s.pg.stopping.is_some() && self.now >= self.s.pg.stopping_since + patience_ms;
        let how = if stolen || late {
            Stop::Immediate
        } else {
            Stop::Fast
        };
        self.stop(how, Rule::Replica, "writable without the lock");
        if self.s.pg.stopping == Some(Stop::Immediate)
            && self.now >= self.s.pg.stopping_since + 2 * patience_ms
        {
            self.stop(
                Stop::Kill,
                Rule::Replica,
                "the immediate stop did not end it",
            );
        }
        self.wake_at(self.now + patience_ms);
    }

    /// The recorded leader, whether or not it serves.
    pub(super) fn leader_name(&self) -> Option<Name> {
        self.s
            .other_holder()
            .map(|held| held.holder.name.clone())
            .filter(|n| *n != self.s.me.name && !self.has_voted())
    }

    /// The leader as a running primary: the only one to clone or rewind from.
    pub(super) fn primary_leader(&self) -> Option<(&Name, &Member)> {
        // A Pod of my name that led before me is none to copy from.
        let me = &self.s.me.name;
        let held = self
            .s
            .other_holder()
            .filter(|held| held.holder.name != *me)?;
        let name = &held.holder.name;
        let member = self.s.shared.as_ref()?.members.get(name)?;
        // L1: the status must be of the pod that holds the lock, and the lock must be alive.
        let same = held.is_of_pod(member);
        let promised = self.s.promised_until(self.now).is_some();
        let alive = held.paused || promised || self.now < self.s.lock.changed_at + held.ttl_ms;
        (member.serves_as_leader() && same && alive && member.timeline.is_some())
            .then_some((name, member))
    }

    pub(super) fn primary_leader_name(&self) -> Option<&Name> {
        self.primary_leader().map(|(name, _)| name)
    }

    pub(super) fn record_epoch(&self) -> Option<u64> {
        self.s.other_holder().map(|held| held.epoch)
    }

    fn keep_replica(&mut self) {
        if self.s.pg.op.is_some() || self.s.shared.is_none() || self.rebuild() {
            return;
        }
        if self.hands_off() {
            let words = "in maintenance mode a server that was stopped is left: start it with ctl \
                         restart, or resume";
            return self.explain_once("left", Rule::Pause, words);
        }
        if let Process::Running { .. } = self.s.pg.process {
            self.s.pg.left_to_people = None;
            return self.keep_streaming();
        }
        match (self.s.pg.process, self.s.pg.data.clone()) {
            (Process::Unknown | Process::Running { .. }, _) => {}
            (Process::Down, None) => {
                if self.may("inspect", 1_000) {
                    self.emit(Effect::Inspect);
                }
            }
            (Process::Down, Some(DataDir::Unusable(why))) => {
                self.explain_once("unusable", Rule::Untouched, why);
                // Whoever puts it right need not restart anything.
                if self.may("inspect", 10_000) {
                    self.emit(Effect::Inspect);
                }
            }
            (Process::Down, Some(DataDir::Empty | DataDir::Unfinished)) => self.fill(),
            (Process::Down, Some(DataDir::Present(data))) => self.rejoin(&data),
        }
    }

    fn keep_streaming(&mut self) {
        let Some(leader) = self.leader_name() else {
            return;
        };
        // Without facts it is still starting; it may need this very leader to get on.
        let Some(facts) = self.s.pg.facts.clone() else {
            return self.follow_as_tagged(leader);
        };
        if let Some((name, member)) = self.primary_leader() {
            let stand = Stand::of_server(&facts);
            let (relation, name) = (self.relation(&stand, member), name.clone());
            if relation == Relation::Suspect {
                self.confirm_line(&name, stand.history);
            }
            let diverged =
                relation == Relation::Twin || (relation == Relation::Forked && !facts.streaming);
            if diverged && !self.s.rules.pause {
                self.s.pg.diverged_from = self.record_epoch();
                let words = format!("{name} left my history before my position {}", facts.lsn);
                self.stop_in_order(Stop::Fast, Rule::Replica, &words);
                return;
            }
        }
        if self.feed_starved() {
            return;
        }
        self.prove_fresh_copy(&facts, &leader);
        self.reconcile_slots(&facts);
        if self.tend_copies(&facts) {
            return;
        }
        self.confirm_copies(&facts);
        self.suspect(&leader, facts.streaming);
        self.follow_as_tagged(leader);
    }

    /// Two promotions from one position leave one timeline with two contents and equal histories. A
    /// replica of the one does not stream from the other, or not for long: then the WAL itself
    /// tells.
    fn suspect(&mut self, leader: &Name, streaming: bool) {
        if streaming {
            self.s.pg.unstreamed_since = None;
            return;
        }
        let since = *self.s.pg.unstreamed_since.get_or_insert(self.now);
        let known = self.primary_leader_name() == Some(leader);
        if known && self.now >= since + UNSTREAMED_MS && self.may("CompareWal", UNSTREAMED_MS) {
            self.emit(Effect::CompareWal {
                with: leader.clone(),
            });
        }
    }

    /// What people have to know of a server that receives nothing: a password that was changed, a
    /// network in between.
    pub(super) fn explain_silence(&mut self) {
        let waits = |facts: &PgFacts| facts.in_recovery && !facts.streaming && !facts.archived;
        let upstream = self.s.pg.upstream.clone();
        let Some(upstream) = upstream.filter(|_| self.s.pg.facts.as_deref().is_some_and(waits))
        else {
            self.s.pg.mute_since = None;
            return self.settled(MUTE);
        };
        let since = *self.s.pg.mute_since.get_or_insert(self.now);
        if self.now >= since + 2 * self.s.rules.ttl_ms {
            let words = format!("it receives no WAL from {upstream}; PostgreSQL's log says why");
            self.explain_once(MUTE, Rule::Replica, words);
        }
    }

    /// An object that anybody may edit is no reason to replace a copy: ask the leader.
    pub(super) fn confirm_line(&mut self, leader: &Name, mine: &[HistoryEntry]) {
        if self.may("CompareHistory", self.s.budgets.renew_ms) {
            let (with, mine) = (leader.clone(), mine.to_vec());
            self.emit(Effect::CompareHistory { with, mine });
        }
    }

    pub(super) fn absorb_line(&mut self, with: &Name, differs: bool) {
        let current = self.leader_name().as_ref() == Some(with);
        let Some(epoch) = self.record_epoch().filter(|_| current) else {
            return;
        };
        let words = if differs {
            format!("{with} has another history than I: my line is another one")
        } else {
            format!("{with} has my history, and the published one is not {with}'s")
        };
        self.explain(Rule::Replica, words);
        self.s.pg.line = Some(Line { epoch, differs });
    }

    pub(super) fn absorb_comparison(&mut self, with: &Name, differs: bool) {
        let current = self.leader_name().as_ref() == Some(with);
        if differs && current && !self.s.may_be_writable() {
            let words = format!("{with} has other WAL on my timeline");
            self.explain(Rule::Replica, words);
            self.s.pg.twin_of = self.record_epoch();
        }
    }

    pub(super) fn follow_leader(&mut self, leader: Name) {
        let at = self.address_of(&leader);
        let moved = at.is_some() && at != self.s.pg.upstream_at;
        let stale = self.s.pg.settings_stale;
        if (moved || stale || self.s.pg.upstream.as_ref() != Some(&leader))
            && self.may("Follow", self.s.budgets.renew_ms / 2)
        {
            self.s.pg.upstream_at = at;
            self.s.pg.upstream = Some(leader.clone());
            self.s.pg.settings_stale = false;
            self.begin(Op::Follow, Effect::Follow { upstream: leader });
        }
    }

    fn address_of(&self, name: &Name) -> Option<(String, u16)> {
        let member = self.s.shared.as_ref()?.members.get(name)?;
        (!member.host.is_empty()).then(|| (member.host.clone(), member.port))
    }

    pub(super) fn start_replica(&mut self, upstream: Option<Name>) {
        // G10: who voted receives nothing from the leader of before.
        let upstream = upstream.filter(|name| name == REMOTE || !self.has_voted());
        if upstream.is_some() && self.copies_first() {
            return;
        }
        if self.may("StartReplica", self.s.budgets.renew_ms) {
            self.s.pg.upstream_at = upstream.as_ref().and_then(|name| self.address_of(name));
            self.s.pg.upstream.clone_from(&upstream);
            self.s.pg.settings_stale = false;
            self.begin(Op::StartReplica, Effect::StartReplica { upstream });
        }
    }
}
