//! The one clock of the program: CLOCK_BOOTTIME, which also runs while the machine is suspended.
//!
//! CLOCK_MONOTONIC stops in suspend, so a lease measured on it could outlive the one in the record;
//! the wall clock jumps. Neither is read for any decision about a lease; what people plan for a time
//! of day goes by the wall clock.

use nix::time::{ClockId, clock_gettime};

/// Milliseconds since boot, suspend included.
pub fn boottime_ms() -> u64 {
    boottime_us() / 1000
}

/// Microseconds since boot, suspend included: for measuring, not for deciding.
pub fn boottime_us() -> u64 {
    // The call cannot fail for a clock every supported kernel has. Were it to, the end of time is
    // the answer that fences: no deadline lies beyond it.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(u64::MAX, |t| {
        t.tv_sec() as u64 * 1_000_000 + t.tv_nsec() as u64 / 1000
    })
}

/// Milliseconds since 1970 by the wall clock; 0 where that is set to before.
pub fn wall_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// Seconds since 1970 by the wall clock, which certificates go by.
pub fn wall_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_kernels_uptime_and_never_runs_backwards() {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime_s: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
        let first = boottime_ms();
        let later = boottime_ms();
        assert!(later >= first);
        // /proc/uptime is CLOCK_BOOTTIME in this time namespace, read a moment earlier.
        assert!(
            first as f64 / 1000.0 >= uptime_s - 0.011,
            "{first} ms against {uptime_s} s"
        );
    }
}
