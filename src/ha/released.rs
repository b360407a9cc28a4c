//! Releases, and what they say: whoever has all WAL up to a told end may lead, published or not.
//!
//! The published set is what a leader could promise while it ran. Once it has stopped cleanly, the
//! shutdown checkpoint says more: nothing was acknowledged behind it. A leader and its standby that
//! are scaled away in one moment thus leave a cluster that goes on by itself, where another standby
//! received everything.

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
/// Longer than the files of a start, its fork and the end of a fork that hangs may take.
const START_HANGS_MS: Ms = 60_000;
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
            led_last: self.leader_to_write(epoch),
            end: None,
        }
    }

    /// The order to start as the primary has left, and its end was not told.
    pub(super) fn start_may_land(&self) -> bool {
        self.s.pg.process == Process::Down && self.s.pg.op == Some(Op::StartPrimary)
    }

    /// A start that hangs past every deadline of its own, on a disk that does: nothing proves that
    /// it will not land, so others wait for D, and by then its deadline has killed it (G1).
    pub(super) fn give_up_hung_start(&mut self) -> bool {
        if !self.start_may_land() {
            return false;
        }
        let until = self.s.pg.op_since + START_HANGS_MS;
        if self.now < until {
            self.wake_at(until);
            return false;
        }
        let lock = self.s.lock.snapshot.clone();
        let epoch = self.s.lease.held.as_ref().map(|held| held.epoch);
        if let (Some(lock), Some(epoch)) = (lock, epoch)
            && !self.s.rules.pause
            && self.has_candidate()
            && self.may_write_lock()
        {
            let words = "the start as the primary hangs: release the lock without proof";
            self.explain(Rule::L4, words);
            self.s.stand_aside_until = self.now + 2 * self.s.rules.ttl_ms;
            self.release_unproven(&lock, epoch);
        }
        true
    }

    /// It is down, or has said since this agent began what it is.
    pub(super) fn knows_its_server(&self) -> bool {
        let pg = &self.s.pg;
        pg.process == Process::Down || pg.facts.is_some()
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

    /// Who led last: as the record says, but for a claim of mine under which I was admitted since.
    pub(super) fn last_holder(&self) -> Option<&Name> {
        match &self.s.lock.snapshot.as_ref()?.state {
            LockState::Held(held) if self.s.is_me(held) && self.s.pg.led_in == Some(held.epoch) => {
                Some(&held.holder.name)
            }
            LockState::Held(held) => held.led_last.as_ref(),
            LockState::Released(released) => released.led_last.as_ref(),
            LockState::Absent | LockState::Garbled { .. } => None,
        }
    }

    /// What a claim or a renewal says of who led last. A record of mine that was damaged or deleted
    /// said it, and is written again by me.
    pub(super) fn leader_to_write(&self, epoch: u64) -> Option<Name> {
        let admitted = self.has_led() || self.s.pg.led_in == Some(epoch);
        if admitted || self.s.may_be_writable() {
            return Some(self.s.me.name.clone());
        }
        match &self.s.lease.held {
            Some(held) => held.led_last.clone(),
            None => self.last_holder().cloned(),
        }
    }

    /// My record names me as who led last. In synchronous mode that comes before anything becomes
    /// writable, and before anybody's confirmation counts: all can die in any moment, and where the
    /// published set is deleted then, the record alone says whose commits are to be waited for.
    pub(super) fn record_says_i_lead(&mut self) -> bool {
        let Some(held) = &self.s.lease.held else {
            return false;
        };
        let (epoch, acquire_time) = (held.epoch, held.acquire_time.clone());
        let Some(lock) = self.s.lock.snapshot.clone() else {
            return false;
        };
        let mine = lock.held().filter(|held| self.s.is_me(held));
        let Some(mine) = mine.filter(|held| held.epoch == epoch) else {
            return false;
        };
        let written = mine.led_last.as_ref() == Some(&self.s.me.name);
        if !written && self.may_write_lock() {
            self.renew(&lock, epoch, acquire_time);
        }
        written
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

    /// From here on I count as the last leader: I was admitted with every commit, and under my lock
    /// nobody but me acknowledges another. Whether I came to it before I was frozen or killed is
    /// nothing that those who see only the record can know. Nor does it matter any more how my copy
    /// came to have it all: the set is about to name me alone.
    pub(super) fn note_admission(&mut self) {
        if let Some(held) = &self.s.lease.held {
            self.s.pg.led_in = Some(held.epoch);
            self.lead_with_this_copy();
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
