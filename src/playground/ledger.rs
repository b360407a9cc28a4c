//! What the writers tried and what came of it, on one clock: the evidence of the oracle.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Microseconds of the boottime clock.
pub(super) type Us = u64;

/// How a statement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server acknowledged the commit.
    Acked {
        /// When the acknowledgement was here.
        at_us: Us,
        /// The timeline it was written on, as the row says.
        timeline: u32,
    },
    /// The server said that it did not commit.
    Refused,
    /// No answer: it may have been committed.
    Unknown,
}

/// One statement to one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// The row's id, given once.
    pub(super) id: i64,
    /// To which member.
    pub(super) member: usize,
    /// Just before it was sent.
    pub(super) sent_us: Us,
    /// What came of it.
    pub(super) outcome: Outcome,
}

impl Attempt {
    /// When it was acknowledged, and on which timeline.
    pub(super) fn acked(&self) -> Option<(Us, u32)> {
        match self.outcome {
            Outcome::Acked { at_us, timeline } => Some((at_us, timeline)),
            Outcome::Refused | Outcome::Unknown => None,
        }
    }
}

/// All attempts of all writers.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    next_id: i64,
    attempts: Vec<Attempt>,
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id nobody has had.
    pub(super) fn take_id(&self) -> i64 {
        let mut book = self.book();
        book.next_id += 1;
        book.next_id
    }

    /// The last id given.
    pub(super) fn last_id(&self) -> i64 {
        self.book().next_id
    }

    /// Enters an attempt that is over.
    pub(super) fn enter(&self, attempt: Attempt) {
        self.book().attempts.push(attempt);
    }

    /// Everything so far.
    pub(super) fn attempts(&self) -> Vec<Attempt> {
        self.book().attempts.clone()
    }

    /// The last acknowledgement by a member, if there is one.
    pub(super) fn last_ack_us(&self, member: usize) -> Option<Us> {
        let book = self.book();
        let of_member = |attempt: &&Attempt| attempt.member == member;
        let mut latest = book.attempts.iter().rev().filter(of_member);
        latest.find_map(Attempt::acked).map(|(at_us, _)| at_us)
    }
}
