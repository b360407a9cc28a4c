//! The process that kills: deadline, reaping, supervision.

mod datalock;
pub mod deadline;
pub mod link;
mod orphan;
pub mod protocol;
mod sweep;

pub use datalock::DataLockError;
pub use orphan::EXIT_ORPHANED;
