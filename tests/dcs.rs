//! The DCS layer against the embedded Kubernetes API, which fails on demand.

// Helpers of tests may panic; the exception for tests sees only the test functions themselves.
#![allow(clippy::panic)]

#[path = "dcs/bypass.rs"]
mod bypass;
#[path = "dcs/dialects.rs"]
mod dialects;
#[path = "dcs/lock.rs"]
mod lock;
#[path = "dcs/objects.rs"]
mod objects;
#[path = "dcs/support.rs"]
mod support;
#[path = "dcs/watching.rs"]
mod watching;
