//! The process that kills: deadline, reaping, kill-all, supervision.
//!
//! ```text
//! guardian     one thread, no runtime; PID 1 where the image lets it
//!   ├── agent       talks by `link`: two words of shared memory, and a channel of messages
//!   ├── postmaster  forked on the agent's request; and its backends
//!   └── watch       only while PostgreSQL runs unarmed: has it left recovery?
//! ```
//!
//! PostgreSQL may be writable only until the *deadline*, an instant of the boottime clock that the
//! agent moves after every acknowledged renewal of the lock. If the agent hangs, crashes or is cut
//! off, the deadline passes and the guardian kills every process of PostgreSQL: by the time anyone
//! else may take the lock, nobody is left to acknowledge a write.
//!
//! One file per concern: [`deadline`] the word and its rules; `kill` and `fence` the kill path and
//! its state; `supervise` the loop; `agent_process`, `postmaster`, `recovery` the three children;
//! `datalock` and `sweep` what a start begins with; [`link`], `orphan` the agent's side.

mod agent_process;
mod datalock;
pub mod deadline;
mod fence;
mod kill;
pub mod link;
mod orphan;
mod postmaster;
pub mod protocol;
mod recovery;
mod setup;
mod supervise;
mod sweep;

pub use datalock::DataLockError;
pub use orphan::EXIT_ORPHANED;
pub use setup::{EXIT_LOCKED, EXIT_SETUP, GuardianSettings, run};
