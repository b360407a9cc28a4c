//! Object ↔ domain: plain functions, tested without a client.
//!
//! A decoder is total: whatever a stranger wrote, it answers, with words about what was wrong
//! ([`Problem`], or the `why` of a garbled lock). An encoder refuses only what the wire cannot
//! carry.

mod annotated;
pub mod config;
pub mod failover;
mod failsafe;
pub mod lease;
pub mod lease_write;
pub mod member;
pub mod object;
mod patronis;
pub mod pod;
pub mod route;
mod slots;
pub mod subsets;
pub mod sync;
pub mod trouble;

use std::fmt;

/// The schema number of our own annotations.
pub const SCHEMA: u64 = 1;

/// Something in a shared object that could not be understood; the rest of the view stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The object and the annotation, such as `demo-config/history`.
    pub place: String,
    /// What was wrong and what was done instead.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Why a change cannot be written as an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct EncodeError {
    /// The field.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub why: String,
}
