//! Maintenance mode: a person works on the servers, and nothing happens by itself.
//!
//! The guardian's deadline is suspended, so that a primary outlives any outage of the API. That is
//! safe only while no other member takes the lock by its age: hence a mark *in the lock record*,
//! which suspends the deadline once it is acknowledged, and leaves the record only after the
//! deadline runs again (G1). Whoever has seen the mark waits for a proof that the holder is dead,
//! or for a person's word, however old the record is and whatever became of it.

use super::belief::Vacancy;
use super::effect::{Effect, Rule};
use super::eligibility::UNLED;
use super::failsafe::UNMAPPED;
use super::lock::{Held, LockBelief, LockState, is_later};
use super::model::{DataDir, Ms};
use super::replica::MUTE;
use super::shared::SharedWrite;
use super::state::{Process, Sabotage, State};
use super::step::Turn;

/// The instant that stands for "no deadline runs, and PostgreSQL may be writable".
pub const FOREVER: Ms = 1 << 62;

/// The topic under which a silent holder in maintenance mode is explained.
pub(super) const MARKED: &str = "marked";

impl State {
    /// What people have to know: of a silent holder whose record does not grow old, of a cluster
    /// that nobody leads, of a stream that is missing.
    pub fn for_people(&self) -> Option<&String> {
        let mut topics = [MARKED, UNMAPPED, UNLED, MUTE].into_iter();
        topics.find_map(|topic| self.explained.get(topic))
    }
}

impl LockBelief {
    /// A hand that removes the mark from a record has not armed its holder's guardian, and an older
    /// record out of a backup says nothing of it: only a later write of the holder, a later epoch,
    /// or a release of this one or a later one, counts.
    pub(super) fn note_mark(&mut self, state: &LockState) {
        match state {
            LockState::Held(held) => {
                let known = self.marked.as_ref().map_or(0, |marked| marked.epoch);
                if held.paused && held.epoch >= known {
                    self.marked = Some(held.clone());
                } else if self
                    .marked
                    .as_ref()
                    .is_some_and(|marked| is_later(held, marked))
                {
                    self.marked = None;
                }
            }
            LockState::Released(released) => {
                self.marked = self
                    .marked
                    .take()
                    .filter(|marked| released.epoch < marked.epoch);
            }
            LockState::Absent | LockState::Garbled { .. } => {}
        }
    }
}

/// A holder in one term of its leadership, as a person's word names it.
fn one_holder(held: &Held) -> String {
    format!("{} epoch {}", held.holder, held.epoch)
}

impl Turn<'_> {
    /// Whether the next record of mine is to bear the mark: while a primary runs under the lock.
    pub(super) fn wants_mark(&self, marked: bool) -> bool {
        let running = matches!(self.s.pg.process, Process::Running { .. });
        if !running {
            return false;
        }
        // A new agent that does not know the settings yet leaves it as it is.
        if self.s.shared.is_none() {
            return marked;
        }
        let leads = self.s.lease.held.is_some() && self.s.is_primary();
        let recovering = self.s.pg.facts.as_ref().is_some_and(|f| f.in_recovery);
        self.s.rules.pause && !recovering && (marked || leads)
    }

    /// Whether the record that is about to be written bears the mark. If it loses it, the deadline
    /// runs again before it leaves (G1).
    pub(super) fn mark_next(&mut self) -> bool {
        let held = self.s.lease.held.as_ref();
        let marked = held.map_or(self.s.armed_until == Some(FOREVER), |held| held.paused);
        // That it is suspended may be on its way to me yet: what was ordered counts.
        let armed = self.s.armed_until.is_some() || held.is_some_and(|held| held.armed);
        let next = self.wants_mark(marked);
        if next && !marked && self.s.sabotaged(Sabotage::SuspendedEarly) {
            self.suspend();
            if let Some(held) = &mut self.s.lease.held {
                held.until = FOREVER;
            }
        }
        if marked && !next && !self.s.sabotaged(Sabotage::MarkRemovedFirst) {
            let to = self.now + self.s.budgets.kill_ms;
            if let Some(held) = &mut self.s.lease.held {
                held.paused = false;
                held.until = to;
            }
            // After a verified stop there is none, and only an acknowledgement arms.
            if armed {
                self.explain(Rule::Pause, "the deadline runs again: the mark may go");
                self.emit(Effect::MoveDeadline { to });
            }
        }
        next
    }

    /// The mark is acknowledged: no deadline while it is there.
    pub(super) fn suspend(&mut self) {
        if self.s.armed_until.is_some() {
            self.explain(Rule::Pause, "the mark is acknowledged: no deadline runs");
            self.emit(Effect::SuspendDeadline);
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.s.pg.process == Process::Down
    }

    /// In maintenance mode a server that somebody else stopped, or that died, is left. What was
    /// never there is made, and what I stopped myself, or have begun to start, goes on.
    pub(super) fn hands_off(&self) -> bool {
        let data = matches!(self.s.pg.data, Some(DataDir::Present(_)));
        let left = self.is_down() && data && self.s.pg.stopped_by_others;
        self.s.rules.pause && left && !self.start_may_land()
    }

    /// In maintenance mode only who was named takes the lock, who gave it away for one that did not
    /// take it, and a former primary that a person starts.
    pub(super) fn may_race_in_pause(&self) -> Result<(), String> {
        let request = self.s.shared.as_ref().map(|shared| &shared.failover);
        let named = request.is_some_and(|r| r.to.as_ref() == Some(&self.s.me.name));
        let gave = match self.s.lock.snapshot.as_ref().map(|lock| &lock.state) {
            Some(LockState::Released(released)) => released.by.name == self.s.me.name,
            _ => false,
        };
        let asked = request.is_some_and(|r| !r.is_empty());
        let started = self.s.restart.is_some() && self.is_down();
        if !self.s.rules.pause || named || (gave && asked) || started {
            return Ok(());
        }
        Err("no candidate: in maintenance mode nobody takes over by itself".to_owned())
    }

    /// What people have to know: the record does not grow old, and nobody renews it.
    pub(super) fn explain_mark(&mut self) {
        let told_at = self.s.lock.changed_at + 2 * self.s.rules.ttl_ms;
        let Some(marked) = self
            .s
            .lock
            .marked_holder()
            .cloned()
            .filter(|held| !self.s.is_me(held))
        else {
            return self.settled(MARKED);
        };
        if self.now < told_at {
            self.settled(MARKED);
            return self.wake_at(told_at);
        }
        let name = &marked.holder.name;
        let words = format!(
            "{name} holds the lock in maintenance mode and does not renew it: it may still be \
             writing, so nobody leads without proof that its container has ended; if you know that \
             it has: pgwarden ctl failover --holder-is-dead {name}"
        );
        self.explain_once(MARKED, Rule::Pause, words);
    }

    /// A person vouches that the holder in maintenance mode is dead. It counts once the record has
    /// been still for D: who renews is not dead.
    pub(super) fn vouched_dead(&self, held: &Held) -> bool {
        let shared = self.s.shared.as_ref();
        let dead = shared.and_then(|shared| shared.failover.dead.as_ref());
        dead == Some(&one_holder(held))
    }

    pub(super) fn absorb_vouch(&mut self, id: u64, name: &str) {
        let silent_ms = self.now.saturating_sub(self.s.lock.changed_at);
        let other = |held: &&Held| held.holder.name == name && held.holder != self.s.me;
        let holder = self.s.lock.ageless().find(other).cloned();
        let refused = match holder {
            None => format!(
                "{name} is not another member that holds the lock in maintenance mode or with a \
                 failsafe map: nobody else's death needs a person's word"
            ),
            Some(_) if silent_ms < self.s.rules.ttl_ms => {
                format!("{name} renewed the lock {silent_ms} ms ago: it is not dead")
            }
            Some(held) if self.s.promised_to(&held, self.now) => {
                format!("{name} has asked me not to take its lock since: it is not dead")
            }
            Some(held) => {
                let words = format!("a person vouches that {} is dead", held.holder);
                self.explain(Rule::Pause, words);
                self.s.vouching = Some(one_holder(&held));
                String::new()
            }
        };
        let done = refused.is_empty();
        let text = match (done, self.s.rules.pause) {
            (false, _) => refused,
            (true, false) => format!("{name} is taken for dead: another member may lead"),
            (true, true) => format!(
                "{name} is taken for dead; in maintenance mode nobody takes over by itself: now name \
                 a candidate in another call (ctl failover --candidate NAME), or resume"
            ),
        };
        self.emit(Effect::Answer { id, done, text });
    }

    /// A person's word is written down where everybody reads it.
    pub(super) fn write_vouch(&mut self) {
        let record = self.s.shared.as_ref().map(|shared| shared.failover.clone());
        let (Some(holder), Some(record)) = (self.s.vouching.clone(), record) else {
            return;
        };
        let known = self.s.lock.ageless().any(|held| one_holder(held) == holder);
        let silent_ms = self.now.saturating_sub(self.s.lock.changed_at);
        let renewed = !known || silent_ms < self.s.rules.ttl_ms;
        if record.dead.as_ref() == Some(&holder) || renewed {
            self.s.vouching = None;
            return;
        }
        let expect = record.resource_version;
        self.write_shared(SharedWrite::Dead { holder, expect });
    }

    /// The mark, or the map, is of my own name and I do not hold the lock: the server is gone, or a restored
    /// store shows an older record. Nobody else can know that, and others wait for ever. What I
    /// write instead proves nothing, so that they wait for D. A record of somebody else is written
    /// over only once anybody might take it.
    pub(super) fn disown_mark(&mut self) {
        let Some(lock) = self.s.lock.snapshot.clone() else {
            return;
        };
        let of_me = |held: &Held| self.s.is_me(held);
        let mine = self.s.lock.marked_holder().cloned().filter(of_me);
        // One with a failsafe map ages for those in it: they come first.
        let late = self.now >= self.s.lock.changed_at + 3 * self.s.rules.ttl_ms;
        // Mine may be the record that is to be seen, whoever has led since.
        let shown = match &lock.state {
            LockState::Held(held) if held.paused || held.failsafe.is_some() => Some(held),
            _ => None,
        };
        let mut mapped = self.s.lock.mapped_holder().into_iter().chain(shown);
        let mapped = mapped.find(|held| of_me(held)).cloned();
        let mine = mine.or(mapped.filter(|_| late));
        let others = matches!(&lock.state, LockState::Held(held) if !self.s.is_me(held));
        let held = self.s.lease.held.is_some() || self.s.may_adopt(self.now);
        let due = !held && self.knows_its_server() && self.may_write_lock();
        if let Some(record) = mine.filter(|_| due) {
            if others && let Vacancy::Held { until } = self.vacancy() {
                return self.wake_at(until);
            }
            let words = "the last record says that I lead, and does not grow old; I do not lead";
            self.explain(Rule::Pause, words);
            let epoch = record.epoch.max(lock.epoch().unwrap_or(0));
            self.release_unproven(&lock, epoch);
        }
    }

    /// Somebody stopped the leader's server: as Patroni does, the lock is given up, with proof.
    pub(super) fn release_stopped(&mut self) {
        let epoch = self.s.lease.held.as_ref().map(|held| held.epoch);
        let due = self.may_write_lock();
        if let Some(epoch) = epoch.filter(|_| due)
            && !self.end_awaited()
        {
            let words = "PostgreSQL was stopped in maintenance mode: release the lock";
            self.explain(Rule::Pause, words);
            self.release(epoch);
        }
    }
}
