//! Faults put in on purpose, so that the test harness can prove that it notices them.
//!
//! A release build has none: the function is a constant `false` there.

/// Ignore the deadline: nothing is fenced.
pub const NO_KILL_ALL: &str = "PGWARDEN_TEST_NO_KILL_ALL";
/// Never kill an agent whose heartbeat is silent.
pub const NO_HUNG_KILL: &str = "PGWARDEN_TEST_NO_HUNG_KILL";

/// Whether the named fault is switched on (`NAME=1` in the environment of a debug build).
pub fn fault(name: &str) -> bool {
    cfg!(debug_assertions) && std::env::var_os(name).is_some_and(|v| v == "1")
}
