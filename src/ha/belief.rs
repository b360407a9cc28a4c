//! The lock as seen: whose it is, how old, and whether it may be taken (L1 to L5).
//!
//! Age is the time since the fields changed before my own eyes; absence and damage are changes like
//! any other, and only a proof shortens the wait.

use super::effect::{Effect, Rule};
use super::lock::{Held, LockBelief, LockSnapshot, LockState, Proof, ProofKind};
use super::model::Ms;
use super::state::Sabotage;
use super::step::Turn;
use std::sync::Arc;

/// Whether the lock may be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Vacancy {
    /// Not before this instant.
    Held { until: Ms },
    /// Now, because.
    Free { because: String },
}

impl LockBelief {
    /// G2: whoever lowers D has lowered its own deadline before. A hand at the object has not, so
    /// that a D counts only when a renewal has followed it; until then the longest one known does.
    fn weigh_ttl(&mut self, state: &LockState) {
        let before = self.snapshot.as_deref().and_then(LockSnapshot::held);
        match state {
            LockState::Held(held) => {
                let renewed = |before: &Held| {
                    (&before.holder, before.epoch, before.ttl_ms)
                        == (&held.holder, held.epoch, held.ttl_ms)
                };
                match before.filter(|before| renewed(before)) {
                    Some(before) if before.nonce == held.nonce => {}
                    Some(_) => {
                        self.ttl_confirmed = true;
                        self.last_good_ttl_ms = held.ttl_ms;
                    }
                    None => {
                        self.ttl_confirmed = false;
                        self.last_good_ttl_ms = self.last_good_ttl_ms.max(held.ttl_ms);
                    }
                }
            }
            LockState::Released(released) => {
                self.ttl_confirmed = false;
                self.last_good_ttl_ms = self.last_good_ttl_ms.max(released.ttl_ms);
            }
            LockState::Absent | LockState::Garbled { .. } => self.ttl_confirmed = false,
        }
    }
}

/// L4: one absence looks like another, and so does damage: its age runs only while it is looked at.
pub(super) fn is_nameless(state: &LockState) -> bool {
    matches!(state, LockState::Absent | LockState::Garbled { .. })
}

impl Turn<'_> {
    pub(super) fn absorb_lock(&mut self, lock: LockSnapshot, quorum: bool) {
        let lock = Arc::new(self.s.as_seen(lock));
        let sent_at = self.s.reading_lock.unwrap_or(self.now);
        if quorum {
            self.lock_read_ended();
        }
        self.settled("read");
        let number = |lock: &LockSnapshot| lock.resource_version.as_ref()?.parse::<u64>().ok();
        let (new, known) = (
            number(&lock),
            self.s.lock.snapshot.as_deref().and_then(number),
        );
        if new.is_some() && new < known && !quorum {
            return; // A watch that lags behind a write or a read of mine.
        }
        if new.is_some() && new < known && sent_at < self.s.lock.version_at {
            // A read that left before what I know was written: no store that went back.
            return self.read_lock();
        }
        if quorum && self.went_backwards(&lock, new) {
            self.forget_everything(new);
        } else if quorum && new.is_some() {
            self.s.lock.last_quorum_version = new;
        }
        let belief = &mut self.s.lock;
        if new > known {
            belief.version_at = self.now;
        }
        let known = belief.snapshot.as_ref();
        let changed = known.is_none_or(|known| known.fields != lock.fields);
        let unseen_ms = self.now - belief.looked_at;
        let blind = is_nameless(&lock.state) && unseen_ms > 2 * self.s.budgets.renew_ms;
        if changed || (quorum && blind) {
            belief.changed_at = self.now;
            belief.proof = None;
        }
        if changed || quorum {
            belief.looked_at = self.now;
        }
        if belief.voted.as_ref() != Some(&lock.fields) {
            belief.voted = None;
        }
        belief.greatest_epoch = belief.greatest_epoch.max(lock.epoch().unwrap_or(0));
        belief.optime = lock.optime.or(belief.optime);
        if matches!(lock.state, LockState::Held(_)) {
            belief.slots.clone_from(&lock.slots);
        }
        belief.weigh_ttl(&lock.state);
        belief.note_mark(&lock.state);
        belief.note_map(&lock.state);
        let belief = &mut self.s.lock;
        belief.snapshot = Some(Arc::clone(&lock));
        if let Some(race) = &mut self.s.race
            && quorum
            && race.confirming
            && race.fields == lock.fields
        {
            race.confirmed = true;
        }
        self.note_release(&lock.state);
        self.notice_proof_in_record(&lock);
        self.compare_with_mine(&lock);
    }

    /// L4: a leadership that I have not seen lies between what is missing now and what was missing
    /// before.
    pub(super) fn note_epoch(&mut self, epoch: u64) {
        let belief = &mut self.s.lock;
        let nameless = belief
            .snapshot
            .as_ref()
            .map(|lock| is_nameless(&lock.state));
        if epoch > belief.greatest_epoch {
            belief.greatest_epoch = epoch;
            if nameless == Some(true) {
                belief.changed_at = self.now;
            }
        }
    }

    /// L4: versions or epochs that shrink between two quorum reads mean a restored store.
    fn went_backwards(&self, lock: &LockSnapshot, version: Option<u64>) -> bool {
        let older = version.is_some() && version < self.s.lock.last_quorum_version;
        let shown = self
            .s
            .lock
            .snapshot
            .as_deref()
            .and_then(LockSnapshot::epoch);
        older || (lock.epoch().is_some() && lock.epoch() < shown)
    }

    fn forget_everything(&mut self, version: Option<u64>) {
        self.explain(
            Rule::L4,
            "the API's store went back in time: every view is dropped, the full wait begins anew",
        );
        self.s.lock.snapshot = None;
        self.s.lock.proof = None;
        self.s.lock.last_release = None;
        self.s.lock.last_quorum_version = version;
        self.s.lease.held = None;
        self.s.lease.attempts.clear();
        self.s.lease.adoptable = false;
        self.s.armed_until = None;
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

    pub(super) fn read_lock(&mut self) {
        if self.s.reading_lock.is_none() {
            self.read_lock_again();
        }
    }

    /// A read that leaves now, whatever is in flight.
    pub(super) fn read_lock_again(&mut self) {
        self.s.reading_lock.get_or_insert(self.now);
        self.s.lock_reads += 1;
        self.emit(Effect::ReadLock);
    }

    /// Answers come in any order: until the last one, any may be that of the oldest.
    pub(super) fn lock_read_ended(&mut self) {
        self.s.lock_reads = self.s.lock_reads.saturating_sub(1);
        if self.s.lock_reads == 0 {
            self.s.reading_lock = None;
        }
    }

    /// L3, L4, L5: may the lock be taken?
    pub(super) fn vacancy(&self) -> Vacancy {
        let belief = &self.s.lock;
        let Some(lock) = &belief.snapshot else {
            return Vacancy::Held {
                until: self.now + 1_000,
            };
        };
        // Where no record can be read, the proof is about the holder whose record does not age.
        let epoch = match (&lock.state, belief.ageless().next()) {
            (LockState::Absent | LockState::Garbled { .. }, Some(held)) => Some(held.epoch),
            _ => lock.epoch(),
        };
        let proven = belief
            .proof
            .as_ref()
            .filter(|proof| proof.fields == lock.fields)
            // A record older than what I have seen came out of a backup: it proves nothing about
            // whoever leads now.
            .filter(|_| epoch >= Some(belief.greatest_epoch))
            // Nor about one that has asked me since.
            .filter(|_| epoch >= self.s.promised_epoch(self.now));
        if let Some(proof) = proven {
            return Vacancy::Free {
                because: format!("proof: {:?}", proof.kind),
            };
        }
        // Whether I write myself, I know.
        let marked = belief.marked_holder().filter(|held| !self.s.is_me(held));
        let marked = marked.filter(|held| !self.vouched_dead(held));
        if marked.is_some() && !self.s.sabotaged(Sabotage::MarkIgnored) {
            let until = self.now + self.s.budgets.renew_ms;
            return Vacancy::Held { until };
        }
        if let Some(until) = self.s.promised_until(self.now)
            && !self.s.sabotaged(Sabotage::PromiseForgotten)
        {
            return Vacancy::Held { until };
        }
        let without_me = self.s.holder_without_me();
        if without_me.is_some_and(|held| !self.vouched_dead(held)) {
            let until = self.now + self.s.budgets.renew_ms;
            return Vacancy::Held { until };
        }
        let wait_ms = match &lock.state {
            LockState::Held(held) if belief.ttl_confirmed => held.ttl_ms,
            LockState::Absent if self.s.sabotaged(Sabotage::AbsenceIsRelease) => 0,
            _ => {
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
