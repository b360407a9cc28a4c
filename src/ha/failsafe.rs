//! Failsafe mode (G1): a primary that cannot reach the API goes on while every member that could
//! take the lock promises not to.
//!
//! The lock record carries a map of those members: whoever is not in it never takes the lock by its
//! age while its holder's Pod is there, and whoever is may promise not to, for D from the question.
//! With every promise the deadline moves to F after the first question left: D from receipt is
//! later than that. The record itself stays as it is, and the renewals go on being tried.

use super::effect::{Effect, Rule};
use super::lock::{
    EPOCH_MAX, FailsafeMap, Held, LockBelief, LockState, LockWrite, Mapped, is_later,
};
use super::model::{Identity, Ms, Name};
use super::state::{Process, Sabotage, State};
use super::step::Turn;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The topic under which it is explained that a holder's map does not name me.
pub(super) const UNMAPPED: &str = "unmapped";

/// The longest D that there can be.
const PROMISE_MAX_MS: Ms = 86_400_000;

/// What a member knows of failsafe mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failsafe {
    /// Questions of mine that wait for answers.
    pub round: Option<Round>,
    /// When the last questions left that everybody answered with a promise.
    pub kept_at: Option<Ms>,
    /// What I promised last.
    pub promise: Option<Promise>,
}

/// One question to everybody in the map.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Round {
    /// Its number.
    pub number: u64,
    /// The epoch it is about.
    pub epoch: u64,
    /// Who has not answered.
    pub waiting: BTreeSet<Name>,
    /// How many were asked.
    pub asked: usize,
    /// Before the first question left.
    pub sent_at: Ms,
    /// Where the deadline moves once all have promised.
    pub to: Ms,
    /// Answers are waited for until then.
    pub until: Ms,
}

/// Not to take this holder's lock by its age.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Promise {
    /// To whom.
    pub holder: Identity,
    /// In which epoch.
    pub epoch: u64,
    /// Until when.
    pub until: Ms,
}

impl State {
    /// The members who may take my lock by its age, as the record is to say.
    pub(super) fn failsafe_map(&self) -> Option<FailsafeMap> {
        let shared = self.shared.as_ref().filter(|_| self.rules.failsafe)?;
        // Who never published an address has no agent yet that could lead.
        let known = shared.members.iter();
        let known = known.filter(|(_, member)| !member.api_url.is_empty());
        let others = known.map(|(name, member)| {
            let mapped = Mapped {
                pod_uid: member.pod_uid.clone(),
                api_url: member.api_url.clone(),
            };
            (name.clone(), mapped)
        });
        let mut map: FailsafeMap = others.collect();
        // My own Pod may not be in sight yet.
        let me = map.entry(self.me.name.clone()).or_default();
        me.pod_uid.clone_from(&self.me.pod_uid);
        Some(map)
    }

    /// I lead on my peers' promises, or follow a leader that does.
    pub fn failsafe_is_active(&self, now: Ms) -> bool {
        self.failsafe.kept_at.is_some() || self.promised_until(now).is_some()
    }

    /// Until when I have promised not to take the lock by its age.
    pub fn promised_until(&self, now: Ms) -> Option<Ms> {
        let promise = self.failsafe.promise.as_ref()?;
        (now < promise.until).then_some(promise.until)
    }

    /// The epoch of whom I promised not to take its lock.
    pub(super) fn promised_epoch(&self, now: Ms) -> Option<u64> {
        self.promised_until(now)?;
        self.failsafe.promise.as_ref().map(|promise| promise.epoch)
    }

    /// Whether this holder has asked me for a promise that still stands: it is not dead.
    pub(super) fn promised_to(&self, held: &Held, now: Ms) -> bool {
        let promise = self.failsafe.promise.as_ref();
        let to = promise.is_some_and(|promise| promise.holder == held.holder);
        to && self.promised_until(now).is_some()
    }

    /// The holder whose map does not name me: it may go on by the promises of others, and nobody
    /// asks me. That its Pod was deleted says nothing: a person may have done so while it runs.
    pub(super) fn holder_without_me(&self) -> Option<&Held> {
        let held = self.lock.mapped_holder().filter(|held| !self.is_me(held))?;
        if !self.map_counts(held) {
            return None;
        }
        let listed = |map: &FailsafeMap| {
            let me = map.get(&self.me.name);
            me.is_some_and(|me| me.pod_uid.is_empty() || me.pod_uid == self.me.pod_uid)
        };
        let without = held.failsafe.as_ref().is_some_and(|map| !listed(map));
        (without && !self.sabotaged(Sabotage::MapIgnored)).then_some(held)
    }
}

/// Everybody in either map; none where one name stands for two Pods, of which only one is asked.
fn both(known: FailsafeMap, new: FailsafeMap) -> Option<FailsafeMap> {
    let mut all = known;
    for (name, mapped) in new {
        let before = all.get(&name).map(|known| &known.pod_uid);
        if before.is_some_and(|uid| *uid != mapped.pod_uid) {
            return None;
        }
        all.insert(name, mapped);
    }
    Some(all)
}

impl Turn<'_> {
    /// The members in any map from this attempt on; none if one of them carried none.
    pub(super) fn mapped_since(&self, nonce: u64) -> Option<FailsafeMap> {
        let attempts = self.s.lease.attempts.iter();
        let mut all = FailsafeMap::new();
        for attempt in attempts.filter(|attempt| attempt.nonce >= nonce) {
            all = both(all, attempt.failsafe.clone()?)?;
        }
        Some(all)
    }

    /// A write that leaves may be stored, whatever becomes of it.
    pub(super) fn note_mapped(&mut self, write: &LockWrite) -> Option<FailsafeMap> {
        let new = match write {
            LockWrite::Acquire(claim) | LockWrite::Renew { claim, .. } => claim.failsafe.clone(),
            LockWrite::Release { .. } => None,
        };
        if let Some(held) = &mut self.s.lease.held {
            let maps = held.mapped.take().zip(new.clone());
            held.mapped = maps.and_then(|(known, new)| both(known, new));
        }
        new
    }

    /// The renewals are not answered: ask who could take the lock not to.
    pub(super) fn tend_failsafe(&mut self) {
        let Some(held) = self.s.lease.held.clone() else {
            self.s.failsafe.round = None;
            self.s.failsafe.kept_at = None;
            if self.s.promised_until(self.now).is_none() {
                self.settled("promise");
            }
            return self.settled("failsafe");
        };
        if self
            .s
            .failsafe
            .kept_at
            .is_some_and(|at| at < held.acked_sent_at)
        {
            self.s.failsafe.kept_at = None;
            self.settled("failsafe");
            self.explain(Rule::G1, "the API answers again: failsafe mode ends");
        }
        let going = self.s.terminating || self.s.handover.is_some() || self.s.pg.stopping.is_some();
        let serves = self.s.pg.not_serving.is_none();
        let Some(map) = held.mapped.filter(|_| !held.paused && !going && serves) else {
            self.s.failsafe.round = None;
            return;
        };
        let budgets = self.s.budgets;
        let kept_at = self.s.failsafe.kept_at.unwrap_or(0);
        // A renewal that left in time has had its own deadline, and one of a round.
        let unanswered = held.acked_sent_at + budgets.renew_ms + budgets.call_ms;
        let due = unanswered.max(kept_at + budgets.renew_ms);
        if self.now < due {
            return self.wake_at(due);
        }
        if let Some(round) = &self.s.failsafe.round {
            if self.now < round.until {
                let until = round.until;
                return self.wake_at(until);
            }
            let silent: Vec<&str> = round.waiting.iter().map(String::as_str).collect();
            let words = format!("no failsafe: {} did not answer", silent.join(", "));
            self.end_round(words);
        }
        if self.may("failsafe", budgets.renew_ms / 4) {
            self.ask_promises(held.epoch, map);
        }
    }

    fn ask_promises(&mut self, epoch: u64, mut map: FailsafeMap) {
        map.remove(&self.s.me.name);
        self.s.rounds += 1;
        self.s.failsafe.round = Some(Round {
            number: self.s.rounds,
            epoch,
            waiting: map.keys().cloned().collect(),
            asked: map.len(),
            sent_at: self.now,
            to: self.now + self.s.budgets.kill_ms,
            until: self.now + self.s.budgets.call_ms,
        });
        if map.is_empty() {
            return self.all_promised();
        }
        self.emit(Effect::AskPromises {
            round: self.s.rounds,
            epoch,
            ttl_ms: self.s.budgets.ttl_ms,
            peers: map,
        });
    }

    pub(super) fn absorb_promise(&mut self, number: u64, name: &Name, refused: Option<String>) {
        let round = self.s.failsafe.round.as_mut();
        let Some(round) = round.filter(|round| round.number == number) else {
            return;
        };
        if let Some(why) = refused {
            return self.end_round(format!("no failsafe: {name}: {why}"));
        }
        round.waiting.remove(name);
        if round.waiting.is_empty() {
            self.all_promised();
        }
    }

    fn end_round(&mut self, words: String) {
        self.s.failsafe.round = None;
        self.explain_once("failsafe", Rule::G1, words);
    }

    /// G1: the second way to move the deadline.
    fn all_promised(&mut self) {
        let Some(round) = self.s.failsafe.round.take() else {
            return;
        };
        let held = self.s.lease.held.as_mut();
        let Some(held) = held.filter(|held| held.epoch == round.epoch && !held.paused) else {
            return;
        };
        let (later, armed) = (round.to > held.until, held.armed);
        held.until = held.until.max(round.to);
        self.s.failsafe.kept_at = Some(round.sent_at);
        let words = match round.asked {
            0 => "failsafe: the API does not answer, and nobody else could lead".to_owned(),
            asked => format!(
                "failsafe: the API does not answer, and the {asked} who could lead promise not to"
            ),
        };
        self.explain_once("failsafe", Rule::G1, words);
        if later && armed {
            self.emit(Effect::MoveDeadline { to: round.to });
        }
    }

    /// A leader that cannot renew asks me not to take its lock.
    pub(super) fn absorb_request(&mut self, id: u64, holder: Identity, epoch: u64, ttl_ms: Ms) {
        let refused = self.why_no_promise(&holder, epoch, ttl_ms).err();
        if refused.is_none() {
            let words = format!("failsafe: I promise {} not to take its lock", holder.name);
            self.explain_once("promise", Rule::G1, words);
            self.s.race = None;
            self.forget_vote();
            let until = self.now + ttl_ms.max(self.noted_ttl_ms());
            let until = until.max(self.s.promised_until(self.now).unwrap_or(0));
            self.s.failsafe.promise = Some(Promise {
                holder,
                epoch,
                until,
            });
        }
        let done = refused.is_none();
        let text = refused.unwrap_or_else(|| "Accepted".to_owned());
        self.emit(Effect::Answer { id, done, text });
    }

    /// The longest D that I know of.
    fn noted_ttl_ms(&self) -> Ms {
        let noted = self.s.lock.last_good_ttl_ms;
        noted.max(self.s.rules.ttl_ms)
    }

    fn why_no_promise(&self, holder: &Identity, epoch: u64, ttl_ms: Ms) -> Result<(), String> {
        let state = &self.s;
        // Where a record was seen, D is known: a stranger's would hold up elections.
        let known = state.lock.snapshot.is_some().then(|| self.noted_ttl_ms());
        if ttl_ms > known.unwrap_or(PROMISE_MAX_MS) || epoch > EPOCH_MAX {
            return Err(format!(
                "no leader that I know has a D of {ttl_ms} ms, or epoch {epoch}"
            ));
        }
        if state.lease.held.is_some() || state.may_be_writable() {
            return Err("I lead".to_owned());
        }
        if state.pg.process == Process::Unknown {
            return Err("I do not know yet whether I lead".to_owned());
        }
        // What I sent may have been stored, and I would believe it until then.
        let mut attempts = state.lease.attempts.iter();
        if attempts.any(|a| !a.release && self.now < a.sent_at + a.ttl_ms) {
            return Err("I am taking the lock".to_owned());
        }
        if epoch < state.lock.greatest_epoch && !holder.is_patronis() {
            let known = state.lock.greatest_epoch;
            return Err(format!(
                "epoch {known} is known, and you lead epoch {epoch}"
            ));
        }
        match state.lock.snapshot.as_ref().map(|lock| &lock.state) {
            // A Patroni, by its name alone.
            Some(LockState::Held(held)) if holder.is_patronis() && held.holder != *holder => {
                Err(format!("{} leads", held.holder))
            }
            Some(LockState::Held(_)) if holder.is_patronis() => Ok(()),
            Some(LockState::Held(held)) if held.epoch == epoch && held.holder != *holder => {
                let other = &held.holder;
                Err(format!("{other} leads epoch {epoch}"))
            }
            Some(LockState::Released(released)) if released.epoch >= epoch => {
                Err(format!("epoch {epoch} was released"))
            }
            Some(LockState::Held(held)) if held.holder == *holder => Ok(()),
            // A leader that I have not seen took the lock a moment ago, or is a stranger. Whoever
            // sees the lock need not believe it; the leader asks again, and is seen by then.
            Some(_) if self.now < state.lock.looked_at + 2 * state.budgets.renew_ms => {
                Err(format!("I see the lock, and {holder} does not hold it"))
            }
            _ => Ok(()),
        }
    }

    /// What people have to know of a holder that only those in its map may replace.
    pub(super) fn explain_map(&mut self) {
        let Some(held) = self.s.holder_without_me().cloned() else {
            return self.settled(UNMAPPED);
        };
        let told_at = self.s.lock.changed_at + 2 * self.s.rules.ttl_ms;
        if self.now < told_at {
            return self.wake_at(told_at);
        }
        let name = &held.holder.name;
        let words = format!(
            "no candidate: the members in the failsafe map of {name} may take its lock by age, and \
             I am not in it; I wait for one of them, or for proof that {name}'s container has \
             ended; if you know that it has: pgwarden ctl failover --holder-is-dead {name}"
        );
        self.explain_once(UNMAPPED, Rule::G1, words);
    }
}

impl LockBelief {
    /// As with the mark of maintenance mode: only a later word of a holder or a release counts.
    pub(super) fn note_map(&mut self, state: &LockState) {
        match state {
            LockState::Held(held) => {
                let known = self.mapped.as_ref();
                if known.is_none_or(|known| is_later(held, known)) {
                    self.mapped = held.failsafe.is_some().then(|| held.clone());
                }
            }
            LockState::Released(released) => {
                let mapped = self.mapped.take();
                self.mapped = mapped.filter(|mapped| released.epoch < mapped.epoch);
            }
            LockState::Absent | LockState::Garbled { .. } => {}
        }
    }
}
