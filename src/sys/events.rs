//! Waiting for several things at once without a runtime: poll, signals as a descriptor, and a timer
//! that also runs through suspend.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// How many descriptors one wait may name: a fixed array keeps the loop free of allocation.
pub const WAIT_FDS_MAX: usize = 8;

/// Waits until one of the descriptors is readable or hung up, at most `timeout_ms`; says which.
///
/// An interrupted wait counts as "none".
pub fn wait_readable(fds: &[&dyn AsFd], timeout_ms: u64) -> [bool; WAIT_FDS_MAX] {
    let mut ready = [false; WAIT_FDS_MAX];
    let Some(first) = fds.first() else {
        return ready;
    };
    let count = fds.len().min(WAIT_FDS_MAX);
    let mut set: [PollFd; WAIT_FDS_MAX] = std::array::from_fn(|i| {
        PollFd::new(fds.get(i).unwrap_or(first).as_fd(), PollFlags::POLLIN)
    });
    let timeout = PollTimeout::from(u16::try_from(timeout_ms).unwrap_or(u16::MAX));
    if poll(&mut set[..count], timeout).is_ok_and(|n| n > 0) {
        for (ready, fd) in ready.iter_mut().zip(&set[..count]) {
            *ready = fd.any().unwrap_or(false);
        }
    }
    ready
}

/// The signals a guardian receives as data instead of as interruptions.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the given signals and SIGCHLD for this thread and receives them by descriptor.
    pub fn block(signals: &[Signal]) -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGCHLD);
        for signal in signals {
            set.add(*signal);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&set, flags)?))
    }

    /// The next signal that has arrived, if one has.
    pub fn next(&self) -> Option<Signal> {
        loop {
            match self.0.read_signal() {
                Ok(Some(info)) => {
                    if let Ok(signal) = Signal::try_from(info.ssi_signo as i32) {
                        return Some(signal);
                    }
                }
                Err(Errno::EINTR) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A timer on the boottime clock: it fires at once after a suspend that slept past it.
#[derive(Debug)]
pub struct BoottimeTimer(TimerFd);

impl BoottimeTimer {
    /// A timer that is not set.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self(TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?))
    }

    /// Fires at the given instant, or never. Setting clears an earlier firing.
    pub fn set(&self, at_ms: Option<u64>) -> io::Result<()> {
        let Some(at_ms) = at_ms else {
            return Ok(self.0.unset()?);
        };
        // An instant of zero would mean "never" to the kernel.
        let at = std::time::Duration::from_millis(at_ms.clamp(1, i64::MAX as u64 / 1000));
        let expiration = Expiration::OneShot(TimeSpec::from_duration(at));
        Ok(self
            .0
            .set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }
}

impl AsFd for BoottimeTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::boottime_ms;

    #[test]
    fn the_timer_fires_at_its_instant_and_not_before() {
        let timer = BoottimeTimer::new().unwrap();
        assert!(!wait_readable(&[&timer], 0)[0]);
        let at = boottime_ms() + 20;
        timer.set(Some(at)).unwrap();
        assert!(wait_readable(&[&timer], 10_000)[0]);
        assert!(boottime_ms() >= at);
        timer.set(Some(boottime_ms() + 60_000)).unwrap();
        assert!(
            !wait_readable(&[&timer], 0)[0],
            "setting clears the earlier firing"
        );
        timer.set(Some(0)).unwrap();
        assert!(
            wait_readable(&[&timer], 10_000)[0],
            "an instant in the past fires at once"
        );
    }
}
