//! Releases, and what they say: whoever has all WAL up to a told end may lead, published or not.
//!
//! The published set is what a leader could promise while it ran. Once it has stopped cleanly, the
//! shutdown checkpoint says more: nothing was acknowledged behind it. A leader and its standby that
//! are scaled away in one moment thus leave a cluster that goes on by itself, where another standby
//! received everything.

use super::belief::Vacancy;
use super::effect::Rule;
use super::event::Op;
use super::lock::{LockSnapshot, LockState, LockWrite, Released, WalEnd};
use super::model::{ControlState, DataDir, Lsn, Ms, Name, Timeline};
use super::state::{Process, Sabotage};
use super::step::Turn;

/// How long a release waits for a look at the directory: a disk that hangs must not keep the lock.
const LOOK_MAX_MS: Ms = 500;

/// For an answer of the own server, which is asked at once when a release is seen.
const LOOK_AGAIN_MS: Ms = 300;
/// How long a listed standby goes first.
const UNLISTED_MS: Ms = 100;

impl Turn<'_> {
    /// I was the primary under the lock that I hold.
    pub(super) fn has_led(&self) -> bool {
        let held = self.s.lease.held.as_ref().map(|held| held.epoch);
        held.is_some() && self.s.pg.led_in == held
    }

    /// L4: with proof, so not while a start is on its way that may yet reach an armed guardian.
    pub(super) fn release(&mut self, epoch: u64) {
        let lock = self.s.lock.snapshot.clone();
        let Some(lock) = lock.filter(|_| !self.start_may_land()) else {
            return;
        };
        let release = Released {
            verified: true,
            end: self.wal_end(),
            ..self.unproven(epoch)
        };
        let optime = self.s.position().map(|(_, lsn)| lsn).max(lock.optime);
        self.write_lock(&lock, LockWrite::Release { release, optime });
    }

    /// A release that proves nothing: whoever sees it waits for D.
    pub(super) fn release_unproven(&mut self, lock: &LockSnapshot, epoch: u64) {
        let release = self.unproven(epoch);
        let optime = lock.optime;
        self.write_lock(lock, LockWrite::Release { release, optime });
    }

    fn unproven(&self, epoch: u64) -> Released {
        Released {
            by: self.s.me.clone(),
            epoch,
            ttl_ms: self.s.budgets.ttl_ms,
            verified: false,
            led_last: self.last_holder().cloned(),
            end: None,
        }
    }

    /// The order to start as the primary has left, and its end was not told.
    pub(super) fn start_may_land(&self) -> bool {
        self.s.pg.process == Process::Down && self.s.pg.op == Some(Op::StartPrimary)
    }

    /// Where my own WAL ends, if I led and stopped cleanly; else nothing is promised.
    pub(super) fn wal_end(&self) -> Option<WalEnd> {
        let led = self.has_led();
        match (&self.s.pg.process, &self.s.pg.data) {
            (Process::Down, Some(DataDir::Present(data)))
                if led && data.state == ControlState::ShutDown && !data.standby_signal =>
            {
                Some(WalEnd {
                    timeline: data.timeline,
                    lsn: data.lsn,
                })
            }
            _ => None,
        }
    }

    /// The stop is over and the directory is being looked at: a moment, then the release leaves
    /// without the end.
    pub(super) fn end_awaited(&mut self) -> bool {
        let until = self.s.pg.down_since + LOOK_MAX_MS;
        let wanted = self.s.rules.synchronous_mode && self.has_led();
        let awaited = wanted && self.s.pg.data.is_none() && self.now < until;
        if awaited {
            self.wake_at(until);
        }
        awaited
    }

    /// Who led last: the holder, but for one that has only just claimed the lock and is myself.
    pub(super) fn last_holder(&self) -> Option<&Name> {
        match &self.s.lock.snapshot.as_ref()?.state {
            LockState::Held(held) if self.s.is_me(held) && self.s.pg.led_in != Some(held.epoch) => {
                self.s.lock.before_me.as_ref()
            }
            LockState::Held(held) => Some(&held.holder.name),
            LockState::Released(released) => released.led_last.as_ref(),
            LockState::Absent | LockState::Garbled { .. } => None,
        }
    }

    /// A claim of mine takes the place of what said who led.
    pub(super) fn note_predecessor(&mut self, next: &LockState) {
        let mine = |state: &LockState| match state {
            LockState::Held(held) if self.s.is_me(held) => Some(held.epoch),
            _ => None,
        };
        let before = self.s.lock.snapshot.as_ref().map(|lock| &lock.state);
        let claimed = mine(next).is_some() && before.and_then(mine) != mine(next);
        if claimed {
            // The agent before me under this guardian claimed it, and has led since.
            self.s.lock.before_me = match before {
                None => Some(self.s.me.name.clone()),
                Some(_) => self.last_holder().cloned(),
            };
        }
    }

    /// A claim of mine has grown old, I never led under it, and the published set is gone: whoever
    /// led before me may lead, and nobody but me can tell that I did not. What I write proves
    /// nothing about anybody's end, so that all wait for D.
    pub(super) fn disown_claim(&mut self) {
        let Some(lock) = self.s.lock.snapshot.clone() else {
            return;
        };
        let me = &self.s.me.name;
        let before_me = self.last_holder().is_some_and(|name| name != me);
        let epoch = match &lock.state {
            LockState::Held(held) if self.s.is_me(held) && before_me => held.epoch,
            _ => return,
        };
        let shared = self.s.shared.as_ref();
        let gone = shared.is_some_and(|shared| shared.sync.leader.is_none());
        let lapsed = self.s.lease.held.is_none() && !self.s.may_adopt(self.now);
        if !gone || !lapsed || !self.may_write_lock() || self.may_be_admitted() {
            return;
        }
        if let Vacancy::Held { until } = self.vacancy() {
            return self.wake_at(until);
        }
        let words = "I held the lock and never led: who led before me is to be seen again";
        self.explain(Rule::Sync, words);
        self.release_unproven(&lock, epoch);
    }

    pub(super) fn note_release(&mut self, state: &LockState) {
        if let LockState::Released(released) = state {
            let told = released.verified && released.end.is_some();
            self.s.lock.last_release = told.then(|| released.clone());
        }
    }

    /// The server runs as the primary, and the lock is mine.
    pub(super) fn note_lead(&mut self) {
        if self.s.is_primary() {
            self.note_admission();
        }
    }

    /// From the order to become writable on I count as the last leader: I was admitted with every
    /// commit, and under my lock nobody but me acknowledges another. Whether I came to it before I
    /// was frozen or killed is nothing that those who see only the record can know.
    pub(super) fn note_admission(&mut self) {
        if let Some(held) = &self.s.lease.held {
            self.s.pg.led_in = Some(held.epoch);
        }
    }

    /// Timelines have numbers, not names: only who streamed from that very leader knows that the
    /// number means its line.
    pub(super) fn note_stream(&mut self) {
        let facts = self.s.pg.facts.as_ref();
        let streaming = facts.is_some_and(|facts| facts.streaming);
        let leader = self.leader_name();
        if streaming && leader.is_some() && self.s.pg.upstream == leader {
            self.s.pg.streamed_in = self.record_epoch();
        }
    }

    /// The release that nothing has followed but a claim of mine.
    fn standing_release(&self) -> Option<&Released> {
        let belief = &self.s.lock;
        let release = belief.last_release.as_ref()?;
        let (standing, epoch) = match &belief.snapshot.as_ref()?.state {
            LockState::Released(now) => (now == release, now.epoch),
            LockState::Held(held) => (
                self.s.is_me(held) && held.epoch == release.epoch + 1,
                held.epoch,
            ),
            LockState::Absent | LockState::Garbled { .. } => (false, 0),
        };
        (standing && epoch >= belief.greatest_epoch).then_some(release)
    }

    /// A position has all of what was released.
    pub(super) fn has_released_line(&self, timeline: Timeline, lsn: Lsn) -> bool {
        let end = self.standing_release().and_then(|release| release.end);
        end.is_some_and(|end| {
            end.is_reached_by(timeline, lsn) || self.s.sabotaged(Sabotage::ReleaseAdmits)
        })
    }

    /// What I know of my position may be older than the release: who is listed looks again before it
    /// takes itself for behind, and who is not listed gives it the time, so that the place goes to
    /// the one that was chosen for it.
    pub(super) fn looks_again_until(&self) -> Option<Ms> {
        let end = self.standing_release()?.end?;
        let seen_at = self.s.lock.changed_at;
        let listed = self.sync_admits(&self.s.me.name);
        let (timeline, lsn) = self.s.position()?;
        let stale = self.s.pg.facts.is_some()
            && self.s.pg.facts_at <= seen_at
            && !end.is_reached_by(timeline, lsn);
        let until = match (listed, stale) {
            (true, true) => seen_at + LOOK_AGAIN_MS,
            (true, false) => return None,
            (false, _) => seen_at + UNLISTED_MS,
        };
        (self.now < until).then_some(until)
    }

    /// Said where it is the reason.
    pub(super) fn explain_admission(&mut self) {
        let end = self.standing_release().and_then(|release| release.end);
        let reason = !self.sync_admits(&self.s.me.name) && self.i_have_what_was_released();
        let Some(end) = end.filter(|_| reason) else {
            return self.settled("released");
        };
        let words = format!(
            "not in the synchronous set, but I have all of the WAL that was released: timeline {}, \
             up to {}",
            end.timeline, end.lsn
        );
        self.explain_once("released", Rule::Sync, words);
    }

    pub(super) fn i_have_what_was_released(&self) -> bool {
        let Some(epoch) = self.standing_release().map(|release| release.epoch) else {
            return false;
        };
        let pg = &self.s.pg;
        let of_its_line = pg.streamed_in == Some(epoch)
            && pg.twin_of != Some(epoch)
            && pg.diverged_from != Some(epoch)
            && pg
                .line
                .is_none_or(|line| line.epoch != epoch || !line.differs);
        of_its_line
            && self
                .s
                .position()
                .is_some_and(|(timeline, lsn)| self.has_released_line(timeline, lsn))
    }
}
