//! The decision core: pure, synchronous, replayable.
//!
//! Nothing here reads a clock, awaits, draws a random number or touches a file. Facts come in as
//! events with the time as an argument, decisions leave as effects; the runner and the simulator
//! are two shells around the same function, [`step::step`].
//!
//! ```text
//!          Event, now
//!              │
//!         step::absorb          facts change the State
//!              │
//!         step::decide ── lease (self_fence, tend_lease) ── handover (answer_asks)
//!              │
//!       the lock is mine? ──yes── primary::lead ── handover, bootstrap, promote, duties, sync
//!              │no
//!         replica::follow ── election::campaign ── rejoin, rewind, clone
//!              │
//!           Effects
//! ```
//!
//! The invariants it keeps are named and checked in `tests/simulation`: at most one writable, no
//! acknowledged synchronous commit lost, no last copy destroyed, writable again once faults stop.

mod admission;
mod asks;
mod belief;
pub mod budgets;
pub mod cascade;
pub mod cloning;
pub mod configure;
pub mod effect;
mod election;
mod eligibility;
pub mod event;
pub mod failsafe;
mod fresh_copy;
mod full;
mod handover;
mod heir;
mod hold;
pub mod hooks;
mod lease;
pub mod lock;
pub mod memory;
pub mod model;
mod objects;
mod patronis;
pub mod pause;
pub mod pg;
mod primary;
pub mod quorum;
pub mod rebuild;
pub mod received;
mod records;
mod rejoin;
mod released;
pub mod remote;
mod replica;
mod rule;
pub mod sabotage;
pub mod schedule;
pub mod shared;
pub mod slot_copies;
mod slot_keeping;
pub mod slots;
mod standby;
mod standby_set;
pub mod state;
pub mod step;
mod stopping;
mod sync;
pub mod vote;
