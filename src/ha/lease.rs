//! The lock as held: G1 to G3, L1, L2 and L6.
//!
//! A success is believed from the acknowledgement of the very request, or from a record that
//! carries that request's number; either way it counts from before the request left.

use super::belief::is_nameless;
use super::budgets::Budgets;
use super::effect::{Effect, Rule, Stop};
use super::lock::{Claim, EPOCH_MAX, Held, LockSnapshot, LockState, LockWrite, Outcome};
use super::model::Ms;
use super::pause::FOREVER;
use super::state::{Attempt, HandoverPhase, HeldLease, Process, Sabotage};
use super::step::Turn;

/// Attempts remembered: more than can be in flight within one D.
const ATTEMPTS_MAX: usize = 16;

impl Turn<'_> {
    pub(super) fn compare_with_mine(&mut self, lock: &LockSnapshot) {
        let version = lock.resource_version.clone().unwrap_or_default();
        match &lock.state {
            LockState::Held(held) if self.s.is_me(held) => {
                let by_name = self.s.sabotaged(Sabotage::IdentityOff);
                let attempt = self
                    .s
                    .lease
                    .attempts
                    .iter()
                    .find(|a| a.nonce == held.nonce)
                    // Whoever takes a name for an identity takes its record for its own.
                    .or_else(|| self.s.lease.attempts.last().filter(|_| by_name))
                    .cloned();
                if let Some(attempt) = attempt.filter(|attempt| !attempt.release) {
                    self.credit(held, &attempt, version);
                }
                // A record of the agent before me, whose deadline still runs (G5). One whose time
                // is up is as old as any other: a restored store may show it while another leads.
                let armed = self.s.armed_until.is_some_and(|until| self.now < until);
                let newest = held.epoch >= self.s.lock.greatest_epoch;
                let running = armed || self.s.is_unarmed_standby();
                self.s.lease.adoptable = self.s.lease.held.is_none() && running && newest;
            }
            LockState::Held(held) => {
                self.s.lease.adoptable = false;
                // Whom I stood aside for has come: the next time I am as good as any.
                self.s.stand_aside_until = 0;
                if self.s.lease.held.take().is_some() {
                    let words = format!("the lock was taken by {}", held.holder);
                    self.explain(Rule::L1, words);
                }
            }
            LockState::Released(_) => {
                self.s.lease.adoptable = false;
                self.s.lease.held = None;
            }
            // A holder inside its deadline writes it again; others wait from here (L4).
            LockState::Absent | LockState::Garbled { .. } => self.s.lease.adoptable = false,
        }
    }

    /// G1: an acknowledged write moves the deadline to its own `sent_at + F`, never from a read.
    fn credit(&mut self, held: &Held, attempt: &Attempt, version: String) {
        let Ok(budgets) = Budgets::with_overrides(held.ttl_ms, &self.s.overrides) else {
            return;
        };
        let paused = held.paused;
        let mine = self.s.lease.held.as_ref();
        // What peers have promised since goes on: this record names them too.
        let kept = mine.filter(|mine| mine.epoch == held.epoch && mine.until < FOREVER);
        let late = self.s.sabotaged(Sabotage::CreditFromAnswer);
        let from = if late { self.now } else { attempt.sent_at };
        let until = match from + budgets.kill_ms {
            _ if paused => FOREVER,
            until => kept.map_or(until, |mine| mine.until.max(until)),
        };
        let known = mine.is_some_and(|mine| mine.acked_sent_at >= attempt.sent_at);
        if known || until <= self.now {
            return;
        }
        let suspended = mine.is_some_and(|mine| mine.paused);
        let unarmed = self.s.armed_until.is_none() && !self.s.may_be_writable();
        let armed = self.s.rules.standby.is_none() || !unarmed;
        let since = mine
            .filter(|mine| mine.epoch == held.epoch)
            .map(|mine| mine.since);
        if since.is_none() {
            self.explain(Rule::L2, format!("the lock is mine, epoch {}", held.epoch));
            self.s.race = None;
            self.s.deferring_since = None;
            self.settled("vacancy");
        }
        self.s.lease.adoptable = false;
        self.s.budgets = budgets;
        self.s.lease.held = Some(HeldLease {
            epoch: held.epoch,
            acquire_time: held.acquire_time.clone(),
            led_last: held.led_last.clone(),
            acked_sent_at: attempt.sent_at,
            until,
            version,
            since: since.unwrap_or(attempt.sent_at),
            paused,
            armed,
            mapped: self.mapped_since(attempt.nonce),
        });
        if !armed {
            // A standby leader.
        } else if !paused {
            self.emit(Effect::MoveDeadline { to: until });
        } else if !suspended {
            self.suspend();
        }
    }

    pub(super) fn absorb_lock_write(&mut self, nonce: u64, outcome: Outcome<LockSnapshot>) {
        if self.s.lease.in_flight == Some(nonce) {
            self.s.lease.in_flight = None;
        }
        let step_ms = self.s.budgets.renew_ms / 4;
        match outcome {
            Outcome::Done(lock) => {
                self.settled("lock-write");
                self.absorb_lock(lock, false);
            }
            Outcome::Conflict => {
                self.explain(
                    Rule::L6,
                    format!("attempt {nonce}: somebody wrote before me; look"),
                );
                self.s.race = None;
                self.read_lock();
            }
            Outcome::Refused {
                status,
                why,
                retry_after_ms,
            } => {
                let words = format!("the lock write was refused ({status}): {why}");
                self.explain_once("lock-write", Rule::L6, words);
                let wait_ms = retry_after_ms.unwrap_or(step_ms).clamp(step_ms, 10_000);
                self.s.lease.retry_at = self.now + wait_ms;
            }
            Outcome::Unknown { why } => {
                let words = format!("the lock write's outcome is unknown: {why}");
                self.explain_once("lock-write", Rule::L6, words);
                self.s.lease.retry_at = self.now + step_ms;
                self.read_lock();
            }
        }
    }

    /// G3: stop before the guardian kills.
    pub(super) fn self_fence(&mut self) {
        let Some(until) = self.s.holds_until() else {
            return;
        };
        let budgets = self.s.budgets;
        let fast_at = until.saturating_sub(budgets.kill_ms - budgets.fast_stop_ms);
        let immediate_at = until.saturating_sub(budgets.kill_ms - budgets.immediate_stop_ms);
        if self.now >= until {
            self.s.lease.held = None;
            self.explain(
                Rule::G3,
                "no renewal was acknowledged in time: the lock is not mine",
            );
        } else if self.s.may_be_writable() {
            if self.now >= immediate_at {
                self.stop(Stop::Immediate, Rule::G3, "no renewal was acknowledged");
            } else if self.now >= fast_at {
                self.stop(Stop::Fast, Rule::G3, "no renewal was acknowledged");
                self.wake_at(immediate_at);
            } else {
                self.wake_at(fast_at);
            }
        }
        self.wake_at(until);
    }

    /// Keep what is mine: adopt, renew, write again what was deleted.
    pub(super) fn tend_lease(&mut self) {
        let Some(lock) = self.s.lock.snapshot.clone() else {
            if self.may("read", self.s.budgets.renew_ms / 2) {
                self.read_lock();
            }
            return;
        };
        let quiet = self.now >= self.s.lock.changed_at + 2 * self.s.budgets.renew_ms;
        if (quiet || is_nameless(&lock.state)) && self.may("read", self.s.budgets.renew_ms) {
            self.read_lock();
        }
        if self.s.lease.in_flight.is_some() {
            return;
        }
        if self.now < self.s.lease.retry_at {
            return self.wake_at(self.s.lease.retry_at);
        }
        let Some(held) = &self.s.lease.held else {
            return self.adopt(&lock);
        };
        let releasing = self
            .s
            .handover
            .as_ref()
            .is_some_and(|h| h.phase == HandoverPhase::Releasing);
        match &lock.state {
            LockState::Held(record) if self.s.is_me(record) => {
                let due = self.renewal_due(held);
                if self.now < due {
                    self.wake_at(due);
                } else if !releasing && (self.s.rules.pause || self.s.pg.not_serving.is_none()) {
                    let (epoch, acquire_time) = (held.epoch, held.acquire_time.clone());
                    self.renew(&lock, epoch, acquire_time);
                }
            }
            LockState::Absent | LockState::Garbled { .. } if !releasing => {
                self.explain(
                    Rule::L4,
                    "my lock record was deleted or damaged: write it again",
                );
                self.claim(&lock);
            }
            _ => {}
        }
    }

    /// At R; at once when a start as the primary waits for an acknowledgement later than the stop
    /// (L2).
    fn renewal_due(&self, held: &HeldLease) -> Ms {
        let stopped = self.s.pg.process == Process::Down && self.s.handover.is_none();
        if stopped && held.acked_sent_at < self.s.pg.down_since {
            return self.now;
        }
        if held.paused != self.wants_mark(held.paused) {
            return self.now;
        }
        held.acked_sent_at + self.s.budgets.renew_ms
    }

    /// G5: a new agent under the same guardian goes on with what its predecessor held.
    fn adopt(&mut self, lock: &LockSnapshot) {
        if !self.s.may_adopt(self.now) || self.s.terminating {
            return;
        }
        if let LockState::Held(record) = &lock.state {
            let (epoch, acquire_time) = (record.epoch, record.acquire_time.clone());
            self.explain(Rule::G5, format!("adopt the lock of my own epoch {epoch}"));
            self.s.pg.may_be_promoting = true;
            self.renew(lock, epoch, acquire_time);
        }
    }

    pub(super) fn renew(&mut self, lock: &LockSnapshot, epoch: u64, acquire_time: String) {
        let claim = self.new_claim(epoch);
        self.write_lock(
            lock,
            LockWrite::Renew {
                claim,
                acquire_time,
            },
        );
    }

    /// Become the holder, or again after the record was lost, under a new epoch (L1).
    pub(super) fn claim(&mut self, lock: &LockSnapshot) {
        let epoch = self.s.lock.greatest_epoch + 1;
        if epoch > EPOCH_MAX {
            let words = format!("no epoch is left after {EPOCH_MAX}: the lock cannot be claimed");
            return self.explain_once("epoch", Rule::L1, words);
        }
        let claim = self.new_claim(epoch);
        self.write_lock(lock, LockWrite::Acquire(claim));
    }

    /// No write of the lock is on its way, and the last one that failed was long enough ago.
    pub(super) fn may_write_lock(&self) -> bool {
        self.s.lease.in_flight.is_none() && self.now >= self.s.lease.retry_at
    }

    /// L4: a release of mine has left, and no later write of mine was acknowledged: it may still
    /// land.
    pub(super) fn release_may_land(&self) -> bool {
        let acked = self.s.lease.held.as_ref().map(|held| held.acked_sent_at);
        let mut attempts = self.s.lease.attempts.iter();
        attempts.any(|attempt| attempt.release && Some(attempt.sent_at) >= acked)
    }

    fn new_claim(&mut self, epoch: u64) -> Claim {
        let wanted = self.s.rules.ttl_ms;
        let budgets = match Budgets::with_overrides(wanted, &self.s.overrides) {
            Ok(budgets) => budgets,
            Err(why) => {
                self.explain_once("ttl", Rule::G2, format!("the stored ttl is ignored: {why}"));
                self.s.budgets
            }
        };
        self.lower_deadline_for(budgets);
        let paused = self.mark_next();
        let led_last = self.leader_to_write(epoch);
        Claim {
            holder: self.s.me.clone(),
            epoch,
            ttl_ms: budgets.ttl_ms,
            place: self.s.place.clone(),
            nonce: self.s.lease.next_nonce,
            optime: if self.serves_as_leader() {
                self.s.position().map(|(_, lsn)| lsn)
            } else {
                self.s.lock.optime
            },
            slots: self.slot_record(),
            paused,
            failsafe: self.s.failsafe_map(),
            led_last,
        }
    }

    /// G2: before a record with a smaller D leaves, the deadline drops to what that D allows.
    fn lower_deadline_for(&mut self, budgets: Budgets) {
        if budgets.ttl_ms >= self.s.budgets.ttl_ms {
            return;
        }
        self.s.budgets = budgets;
        // Promises that were asked for under the larger D would raise it again.
        self.s.failsafe.round = None;
        // Where none runs (G1), none is lowered: the mark covers any D.
        if let Some(held) = self.s.lease.held.as_mut().filter(|held| !held.paused) {
            held.until = held.until.min(self.now + budgets.kill_ms);
            let (to, armed) = (held.until, held.armed);
            self.explain(
                Rule::G2,
                format!(
                    "ttl falls to {} ms: lower the deadline first",
                    budgets.ttl_ms
                ),
            );
            if armed {
                self.emit(Effect::MoveDeadline { to });
            }
        }
    }

    pub(super) fn write_lock(&mut self, lock: &LockSnapshot, write: LockWrite) {
        let nonce = self.s.lease.next_nonce;
        self.s.lease.next_nonce += 1;
        let ttl_ms = match &write {
            LockWrite::Acquire(claim) | LockWrite::Renew { claim, .. } => claim.ttl_ms,
            LockWrite::Release { release, .. } => release.ttl_ms,
        };
        let release = matches!(write, LockWrite::Release { .. });
        let failsafe = self.note_mapped(&write);
        let attempts = &mut self.s.lease.attempts;
        if attempts.len() == ATTEMPTS_MAX {
            // A release is remembered longest: what it forbids ends with an acknowledgement.
            let oldest = attempts.iter().position(|attempt| !attempt.release);
            attempts.remove(oldest.unwrap_or(0));
        }
        self.s.lease.attempts.push(Attempt {
            nonce,
            sent_at: self.now,
            ttl_ms,
            release,
            failsafe,
        });
        self.s.lease.in_flight = Some(nonce);
        self.emit(Effect::WriteLock {
            nonce,
            expect: lock.resource_version.clone(),
            write,
        });
    }
}
