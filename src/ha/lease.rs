//! The lock, as seen and as held: L1 to L4 and L6, G1 to G3.
//!
//! A success is believed from the acknowledgement of the very request, or from a record that
//! carries that request's number; either way it counts from before the request left.

use super::budgets::Budgets;
use super::effect::{Effect, Rule, Stop};
use super::lock::{
    Claim, Held, LockSnapshot, LockState, LockWrite, Outcome, Proof, ProofKind, Released,
};
use super::model::Ms;
use super::state::{Attempt, HandoverPhase, HeldLease, Process, Sabotage};
use super::step::Turn;

/// Attempts remembered: more than can be in flight within one D.
const ATTEMPTS_MAX: usize = 16;

/// Whether the lock may be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Vacancy {
    /// Not before this instant.
    Held { until: Ms },
    /// Now, because.
    Free { because: String },
}

impl Turn<'_> {
    pub(super) fn absorb_lock(&mut self, lock: LockSnapshot, quorum: bool) {
        if quorum {
            self.s.reading_lock = None;
        }
        self.settled("read");
        let number = |lock: &LockSnapshot| lock.resource_version.as_ref()?.parse::<u64>().ok();
        let (new, known) = (
            number(&lock),
            self.s.lock.snapshot.as_ref().and_then(number),
        );
        if new.is_some() && new < known && !quorum {
            return; // A watch that lags behind a write or a read of mine.
        }
        if quorum && self.went_backwards(&lock, new) {
            self.forget_everything(new);
        } else if quorum && new.is_some() {
            self.s.lock.last_quorum_version = new;
        }
        let belief = &mut self.s.lock;
        if belief
            .snapshot
            .as_ref()
            .is_none_or(|known| known.fields != lock.fields)
        {
            belief.changed_at = self.now;
            belief.proof = None;
        }
        belief.greatest_epoch = belief.greatest_epoch.max(lock.epoch().unwrap_or(0));
        match &lock.state {
            LockState::Held(held) => belief.last_good_ttl_ms = held.ttl_ms,
            LockState::Released(released) => belief.last_good_ttl_ms = released.ttl_ms,
            LockState::Absent | LockState::Garbled { .. } => {}
        }
        belief.snapshot = Some(lock.clone());
        if let Some(race) = &mut self.s.race
            && quorum
            && race.confirming
            && race.fields == lock.fields
        {
            race.confirmed = true;
        }
        self.notice_proof_in_record(&lock);
        self.compare_with_mine(&lock);
    }

    /// L4: versions or epochs that shrink between two quorum reads mean a restored store.
    fn went_backwards(&self, lock: &LockSnapshot, version: Option<u64>) -> bool {
        let older = version.is_some() && version < self.s.lock.last_quorum_version;
        let shown = self.s.lock.snapshot.as_ref().and_then(LockSnapshot::epoch);
        older || (lock.epoch().is_some() && lock.epoch() < shown)
    }

    fn forget_everything(&mut self, version: Option<u64>) {
        self.explain(
            Rule::L4,
            "the API's store went back in time: every view is dropped, the full wait begins anew",
        );
        self.s.lock.snapshot = None;
        self.s.lock.proof = None;
        self.s.lock.last_quorum_version = version;
        self.s.lease.held = None;
        self.s.lease.attempts.clear();
        self.s.lease.adoptable = false;
        self.s.race = None;
        self.s.shared = None;
        self.emit(Effect::ReadShared);
    }

    /// L5: what the record itself proves.
    fn notice_proof_in_record(&mut self, lock: &LockSnapshot) {
        let kind = match &lock.state {
            LockState::Released(released) if released.verified => ProofKind::Release,
            LockState::Held(held) if self.is_predecessor(held) => ProofKind::Predecessor,
            _ => return,
        };
        self.s.lock.proof = Some(Proof {
            fields: lock.fields.clone(),
            kind,
        });
    }

    /// Same boot, PID namespace, volume and directory: the guardian that held them is gone, since
    /// mine has their lock (G8) and swept what was left (G6) before it started me.
    fn is_predecessor(&self, held: &Held) -> bool {
        let (was, is) = (&held.place, &self.s.place);
        let known = [&is.boot_id, &is.pid_ns, &is.volume, &is.data_dir];
        !self.s.is_me(held)
            && known.iter().all(|text| !text.is_empty())
            && known == [&was.boot_id, &was.pid_ns, &was.volume, &was.data_dir]
    }

    pub(super) fn absorb_proof(&mut self, proof: Proof) {
        let current = self.s.lock.snapshot.as_ref().map(|lock| &lock.fields);
        if current == Some(&proof.fields) && self.s.lock.proof.is_none() {
            self.explain(
                Rule::L5,
                format!("proof that the holder is dead: {:?}", proof.kind),
            );
            self.s.lock.proof = Some(proof);
        }
    }

    fn compare_with_mine(&mut self, lock: &LockSnapshot) {
        let version = lock.resource_version.clone().unwrap_or_default();
        match &lock.state {
            LockState::Held(held) if self.s.is_me(held) => {
                let attempt = self
                    .s
                    .lease
                    .attempts
                    .iter()
                    .find(|a| a.nonce == held.nonce)
                    .cloned();
                if let Some(attempt) = attempt.filter(|attempt| !attempt.release) {
                    self.credit(held, &attempt, version);
                }
                // A record of mine whose time is up, or of the agent before me: by renewal only.
                self.s.lease.adoptable = self.s.lease.held.is_none();
            }
            LockState::Held(held) => {
                self.s.lease.adoptable = false;
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
        let Ok(budgets) = Budgets::for_ttl(held.ttl_ms) else {
            return;
        };
        let until = attempt.sent_at + budgets.kill_ms;
        let mine = self.s.lease.held.as_ref();
        let known = mine.is_some_and(|mine| mine.acked_sent_at >= attempt.sent_at);
        if known || until <= self.now {
            return;
        }
        let since = mine
            .filter(|mine| mine.epoch == held.epoch)
            .map(|mine| mine.since);
        if since.is_none() {
            self.explain(Rule::L2, format!("the lock is mine, epoch {}", held.epoch));
            self.s.race = None;
            self.s.deferring_since = None;
        }
        self.s.lease.adoptable = false;
        self.s.budgets = budgets;
        self.s.lease.held = Some(HeldLease {
            epoch: held.epoch,
            acquire_time: held.acquire_time.clone(),
            acked_sent_at: attempt.sent_at,
            until,
            version,
            since: since.unwrap_or(attempt.sent_at),
        });
        self.emit(Effect::MoveDeadline { to: until });
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

    pub(super) fn read_lock(&mut self) {
        if self.s.reading_lock.is_none() {
            self.s.reading_lock = Some(self.now);
            self.emit(Effect::ReadLock);
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
        if self.now >= self.s.lock.changed_at + 2 * self.s.budgets.renew_ms
            && self.may("read", self.s.budgets.renew_ms)
        {
            self.read_lock();
        }
        if self.s.lease.in_flight.is_some() {
            return;
        }
        if self.now < self.s.lease.retry_at {
            return self.wake_at(self.s.lease.retry_at);
        }
        let Some(held) = self.s.lease.held.clone() else {
            return self.adopt(&lock);
        };
        let releasing = self
            .s
            .handover
            .as_ref()
            .is_some_and(|h| h.phase == HandoverPhase::Releasing);
        match &lock.state {
            LockState::Held(record) if self.s.is_me(record) => {
                let due = self.renewal_due(&held);
                if self.now < due {
                    self.wake_at(due);
                } else if !releasing && self.s.pg.not_serving.is_none() {
                    self.renew(&lock, held.epoch, held.acquire_time);
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

    /// At R; at once when a start as the primary waits for an acknowledgement later than the stop (L2).
    fn renewal_due(&self, held: &HeldLease) -> Ms {
        let stopped = self.s.pg.process == Process::Down;
        if stopped && held.acked_sent_at < self.s.pg.down_since {
            return self.now;
        }
        held.acked_sent_at + self.s.budgets.renew_ms
    }

    /// G5: a new agent under the same guardian goes on with what its predecessor held.
    fn adopt(&mut self, lock: &LockSnapshot) {
        if !self.s.lease.adoptable || self.s.terminating {
            return;
        }
        if let LockState::Held(record) = &lock.state {
            let (epoch, acquire_time) = (record.epoch, record.acquire_time.clone());
            self.explain(Rule::G5, format!("adopt the lock of my own epoch {epoch}"));
            self.renew(lock, epoch, acquire_time);
        }
    }

    fn renew(&mut self, lock: &LockSnapshot, epoch: u64, acquire_time: String) {
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
        let claim = self.new_claim(self.s.lock.greatest_epoch + 1);
        self.write_lock(lock, LockWrite::Acquire(claim));
    }

    pub(super) fn release(&mut self, epoch: u64) {
        let Some(lock) = self.s.lock.snapshot.clone() else {
            return;
        };
        let release = Released {
            by: self.s.me.clone(),
            epoch,
            ttl_ms: self.s.budgets.ttl_ms,
            verified: true,
        };
        let optime = self.s.position().map(|(_, lsn)| lsn).max(lock.optime);
        self.write_lock(&lock, LockWrite::Release { release, optime });
    }

    fn new_claim(&mut self, epoch: u64) -> Claim {
        let wanted = self.s.rules.ttl_ms;
        let budgets = match Budgets::for_ttl(wanted) {
            Ok(budgets) => budgets,
            Err(why) => {
                self.explain_once("ttl", Rule::G2, format!("the stored ttl is ignored: {why}"));
                self.s.budgets
            }
        };
        self.lower_deadline_for(budgets);
        Claim {
            holder: self.s.me.clone(),
            epoch,
            ttl_ms: budgets.ttl_ms,
            place: self.s.place.clone(),
            nonce: self.s.lease.next_nonce,
            optime: if self.s.is_primary() {
                self.s.position().map(|(_, lsn)| lsn)
            } else {
                self.s.lock.snapshot.as_ref().and_then(|lock| lock.optime)
            },
        }
    }

    /// G2: before a record with a smaller D leaves, the deadline drops to what that D allows.
    fn lower_deadline_for(&mut self, budgets: Budgets) {
        if budgets.ttl_ms >= self.s.budgets.ttl_ms {
            return;
        }
        self.s.budgets = budgets;
        if let Some(held) = &mut self.s.lease.held {
            held.until = held.until.min(self.now + budgets.kill_ms);
            let to = held.until;
            self.explain(
                Rule::G2,
                format!(
                    "ttl falls to {} ms: lower the deadline first",
                    budgets.ttl_ms
                ),
            );
            self.emit(Effect::MoveDeadline { to });
        }
    }

    fn write_lock(&mut self, lock: &LockSnapshot, write: LockWrite) {
        let nonce = self.s.lease.next_nonce;
        self.s.lease.next_nonce += 1;
        let ttl_ms = match &write {
            LockWrite::Acquire(claim) | LockWrite::Renew { claim, .. } => claim.ttl_ms,
            LockWrite::Release { release, .. } => release.ttl_ms,
        };
        let release = matches!(write, LockWrite::Release { .. });
        if self.s.lease.attempts.len() == ATTEMPTS_MAX {
            self.s.lease.attempts.remove(0);
        }
        self.s.lease.attempts.push(Attempt {
            nonce,
            sent_at: self.now,
            ttl_ms,
            release,
        });
        self.s.lease.in_flight = Some(nonce);
        self.emit(Effect::WriteLock {
            nonce,
            expect: lock.resource_version.clone(),
            write,
        });
    }

    /// L3, L4, L5: may the lock be taken?
    pub(super) fn vacancy(&self) -> Vacancy {
        let belief = &self.s.lock;
        let Some(lock) = &belief.snapshot else {
            return Vacancy::Held {
                until: self.now + 1_000,
            };
        };
        let proven = belief
            .proof
            .as_ref()
            .filter(|proof| proof.fields == lock.fields);
        if let Some(proof) = proven {
            return Vacancy::Free {
                because: format!("proof: {:?}", proof.kind),
            };
        }
        let wait_ms = match &lock.state {
            LockState::Held(held) if self.s.is_me(held) => {
                return Vacancy::Free {
                    because: "the record is my own and I stopped".into(),
                };
            }
            LockState::Held(held) => held.ttl_ms,
            LockState::Released(released) => released.ttl_ms,
            LockState::Absent if self.s.sabotaged(Sabotage::AbsenceIsRelease) => 0,
            LockState::Absent | LockState::Garbled { .. } => {
                let noted = self
                    .s
                    .shared
                    .as_ref()
                    .map_or(0, |shared| shared.config.ttl_ms);
                noted.max(belief.last_good_ttl_ms).max(self.s.rules.ttl_ms)
            }
        };
        let until = belief.changed_at + wait_ms;
        if self.now < until {
            return Vacancy::Held { until };
        }
        let what = match &lock.state {
            LockState::Absent => "a missing record".to_owned(),
            LockState::Garbled { why, .. } => format!("a damaged record ({why})"),
            LockState::Held(held) => {
                format!("the record of {} (epoch {})", held.holder.name, held.epoch)
            }
            LockState::Released(released) => {
                format!("an unverified release of {}", released.by.name)
            }
        };
        Vacancy::Free {
            because: format!("{what} did not change for {wait_ms} ms"),
        }
    }
}
