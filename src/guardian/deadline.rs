//! The deadline word (G1): the boottime instant by which PostgreSQL must be dead.
//!
//! Four rules, kept by compare-exchange on both sides: the agent moves it, but never to *none*;
//! once it has passed nobody moves it any more (it *latches*); only the guardian sets *none*, after
//! a verified stop; and only a deadline that runs can be *suspended* (maintenance mode), by an
//! agent whose mark in the lock record was acknowledged.

use crate::ha::pause::FOREVER;
use std::sync::atomic::{AtomicU64, Ordering};

type Ms = u64;

/// No deadline: nothing writable runs, or may be started.
const NONE: u64 = 0;
/// Set by the guardian once the deadline has passed; the other bits keep the instant.
const LATCH: u64 = 1 << 63;

/// What the word says at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// No deadline.
    None,
    /// PostgreSQL must be dead by then, and then is still to come.
    Armed(Ms),
    /// It has passed; the guardian is killing, or is about to.
    Passed(Ms),
    /// None runs, and PostgreSQL may be writable: maintenance mode.
    Suspended,
}

impl Deadline {
    /// The instant, passed or not; [`FOREVER`] where it is suspended.
    pub fn at_ms(self) -> Option<Ms> {
        match self {
            Self::None => None,
            Self::Armed(at) | Self::Passed(at) => Some(at),
            Self::Suspended => Some(FOREVER),
        }
    }
}

/// Why the deadline was not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeadlineError {
    /// It has passed: PostgreSQL is being killed; after the verified stop it is *none* again.
    #[error("the deadline of {at} ms has passed and cannot be moved; wait for the verified stop")]
    Latched {
        /// The deadline that passed.
        at: Ms,
    },
    /// There is none to suspend: nothing writable runs.
    #[error("no deadline is armed, so there is none to suspend")]
    Unarmed,
    /// The new instant has passed already: moving there would kill a running server by accident.
    #[error("the new deadline of {to} ms has passed already (it is {now} ms)")]
    Past {
        /// The instant asked for.
        to: Ms,
        /// When it was asked.
        now: Ms,
    },
    /// Farther away than the TTL of the lock record allows: no rule yields such a deadline.
    #[error(
        "the new deadline of {to} ms is farther than the TTL of {ttl_ms} ms from now, {now} ms"
    )]
    TooFar {
        /// The instant asked for.
        to: Ms,
        /// When it was asked.
        now: Ms,
        /// D, as set by the agent.
        ttl_ms: Ms,
    },
}

/// What the word says now.
pub fn read(word: &AtomicU64, now: Ms) -> Deadline {
    decode(word.load(Ordering::SeqCst), now)
}

/// The agent's move, from none too. Two moves at once: the later compare-exchange wins.
pub fn move_to(word: &AtomicU64, to: Ms, now: Ms, ttl_ms: Ms) -> Result<(), DeadlineError> {
    if to <= now {
        // Where none ran, one that is late runs now and kills: the record is about to say so.
        let late = to.max(1);
        let _ = word.compare_exchange(FOREVER, late, Ordering::SeqCst, Ordering::SeqCst);
        return Err(DeadlineError::Past { to, now });
    }
    if to & LATCH != 0 || to - now > ttl_ms {
        return Err(DeadlineError::TooFar { to, now, ttl_ms });
    }
    let mut seen = word.load(Ordering::SeqCst);
    loop {
        if let Deadline::Passed(at) = decode(seen, now) {
            return Err(DeadlineError::Latched { at });
        }
        match word.compare_exchange(seen, to, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return Ok(()),
            Err(other) => seen = other,
        }
    }
}

/// The agent's, once the mark of maintenance mode is acknowledged. [`move_to`] ends it.
pub fn suspend(word: &AtomicU64, now: Ms) -> Result<(), DeadlineError> {
    let mut seen = word.load(Ordering::SeqCst);
    loop {
        match decode(seen, now) {
            Deadline::None => return Err(DeadlineError::Unarmed),
            Deadline::Passed(at) => return Err(DeadlineError::Latched { at }),
            Deadline::Suspended => return Ok(()),
            Deadline::Armed(_) => {}
        }
        match word.compare_exchange(seen, FOREVER, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return Ok(()),
            Err(other) => seen = other,
        }
    }
}

/// The guardian's look: latches a deadline that has passed. `Passed` is final until [`clear`].
pub fn latch_if_passed(word: &AtomicU64, now: Ms) -> Deadline {
    let mut seen = word.load(Ordering::SeqCst);
    loop {
        let deadline = decode(seen, now);
        if seen & LATCH != 0 || !matches!(deadline, Deadline::Passed(_)) {
            return deadline;
        }
        match word.compare_exchange(seen, seen | LATCH, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return deadline,
            Err(other) => seen = other,
        }
    }
}

/// Sets none. Only the guardian calls this, and only after a verified stop.
pub fn clear(word: &AtomicU64) {
    word.store(NONE, Ordering::SeqCst);
}

fn decode(word: u64, now: Ms) -> Deadline {
    match word {
        NONE => Deadline::None,
        FOREVER => Deadline::Suspended,
        latched if latched & LATCH != 0 => Deadline::Passed(latched & !LATCH),
        at if at <= now => Deadline::Passed(at),
        at => Deadline::Armed(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: Ms = 6000;

    #[test]
    fn it_moves_both_ways_while_it_has_not_passed() {
        let word = AtomicU64::new(NONE);
        assert_eq!(read(&word, 100), Deadline::None);
        move_to(&word, 5000, 100, D).unwrap();
        move_to(&word, 6000, 200, D).unwrap();
        move_to(&word, 3000, 300, D).unwrap();
        assert_eq!(read(&word, 2999), Deadline::Armed(3000));
        assert_eq!(latch_if_passed(&word, 2999), Deadline::Armed(3000));
    }

    #[test]
    fn a_passed_deadline_stays_passed_until_cleared() {
        let word = AtomicU64::new(3000);
        assert_eq!(latch_if_passed(&word, 3000), Deadline::Passed(3000));
        let moved = move_to(&word, 9000, 3001, D);
        assert_eq!(moved, Err(DeadlineError::Latched { at: 3000 }));
        // Even a clock that ran backwards does not unlatch it.
        assert_eq!(read(&word, 10), Deadline::Passed(3000));
        assert_eq!(
            move_to(&word, 900, 10, D),
            Err(DeadlineError::Latched { at: 3000 })
        );
        clear(&word);
        assert_eq!(read(&word, 3001), Deadline::None);
        move_to(&word, 9000, 3002, D).unwrap();
    }

    #[test]
    fn the_agent_is_refused_before_the_guardian_has_latched() {
        let word = AtomicU64::new(3000);
        let moved = move_to(&word, 9000, 3500, D);
        assert_eq!(moved, Err(DeadlineError::Latched { at: 3000 }));
        assert_eq!(word.load(Ordering::SeqCst), 3000);
    }

    #[test]
    fn none_the_past_and_the_far_future_are_no_deadlines() {
        let word = AtomicU64::new(4000);
        let latched = LATCH + 5000;
        let past = |to, now| Err(DeadlineError::Past { to, now });
        assert_eq!(move_to(&word, 0, 100, D), past(0, 100));
        assert_eq!(move_to(&word, 100, 100, D), past(100, 100));
        let far = Err(DeadlineError::TooFar {
            to: 6101,
            now: 100,
            ttl_ms: D,
        });
        assert_eq!(move_to(&word, 6101, 100, D), far);
        let latch = Err(DeadlineError::TooFar {
            to: latched,
            now: 100,
            ttl_ms: Ms::MAX,
        });
        assert_eq!(move_to(&word, latched, 100, Ms::MAX), latch);
        assert_eq!(read(&word, 100), Deadline::Armed(4000));
    }

    #[test]
    fn only_a_deadline_that_runs_is_suspended_and_moving_it_ends_that() {
        let word = AtomicU64::new(NONE);
        assert_eq!(suspend(&word, 100), Err(DeadlineError::Unarmed));
        move_to(&word, 5000, 100, D).unwrap();
        suspend(&word, 200).unwrap();
        suspend(&word, 300).unwrap();
        assert_eq!(read(&word, 1 << 61), Deadline::Suspended);
        assert_eq!(latch_if_passed(&word, 1 << 61), Deadline::Suspended);
        assert_eq!(read(&word, 300).at_ms(), Some(FOREVER));
        move_to(&word, 6000, 400, D).unwrap();
        assert_eq!(read(&word, 500), Deadline::Armed(6000));
        suspend(&word, 600).unwrap();
        let past = move_to(&word, 700, 800, D);
        assert_eq!(past, Err(DeadlineError::Past { to: 700, now: 800 }));
        assert_eq!(read(&word, 800), Deadline::Passed(700), "it kills at once");
        let word = AtomicU64::new(6000);
        let late = suspend(&word, 6000);
        assert_eq!(late, Err(DeadlineError::Latched { at: 6000 }));
    }

    #[test]
    fn agent_and_guardian_racing_at_the_boundary_agree_on_one_outcome() {
        for round in 0..200_u64 {
            let word = AtomicU64::new(3000);
            let (moved, latched) = std::thread::scope(|scope| {
                let agent = scope.spawn(|| move_to(&word, 8000, 2999, D));
                let guardian = scope.spawn(|| latch_if_passed(&word, 3000));
                (agent.join().unwrap(), guardian.join().unwrap())
            });
            match (moved, latched) {
                (Ok(()), Deadline::Armed(8000)) => {
                    assert_eq!(word.load(Ordering::SeqCst), 8000, "round {round}");
                }
                (Err(DeadlineError::Latched { at: 3000 }), Deadline::Passed(3000)) => {
                    assert_eq!(word.load(Ordering::SeqCst), LATCH + 3000, "round {round}");
                }
                other => panic!("round {round}: agent and guardian disagree: {other:?}"),
            }
        }
    }
}
