//! The PostgreSQL layer against real servers: every supported installation found is tested.
//!
//! The servers are started here directly; in the program the guardian does that.
//! Helpers may end a test as the tests themselves do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

#[path = "postgres/files.rs"]
mod files;
#[path = "postgres/harness.rs"]
mod harness;
#[path = "postgres/members.rs"]
mod members;
#[path = "postgres/parameters.rs"]
mod parameters;
#[path = "postgres/rewinding.rs"]
mod rewinding;
#[path = "postgres/rewound_wal.rs"]
mod rewound_wal;
#[path = "postgres/serving.rs"]
mod serving;
#[path = "postgres/slots.rs"]
mod slots;
#[path = "postgres/streaming.rs"]
mod streaming;
