//! Pauses between attempts.
//!
//! The only module that names the crate `backoff`: it is unmaintained (RUSTSEC-2025-0012), so
//! nothing but its interval arithmetic is used, and replacing it must stay a change of this one
//! file.

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use std::time::Duration;

/// The longest pause: after an outage the API is found again within about this time.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);
const PAUSE_FIRST: Duration = Duration::from_millis(50);

/// Growing pauses with jitter, so that three members do not knock in step.
pub(super) struct Pauses(ExponentialBackoff);

impl Pauses {
    /// Start with the shortest pause.
    pub(super) fn new() -> Self {
        let mut inner = ExponentialBackoff {
            initial_interval: PAUSE_FIRST,
            max_interval: PAUSE_MAX,
            multiplier: 2.0,
            randomization_factor: 0.2,
            // How long to go on is decided by the caller's deadline, not here.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        inner.reset();
        Self(inner)
    }

    /// The next pause, never longer than [`PAUSE_MAX`].
    pub(super) fn next(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(PAUSE_MAX).min(PAUSE_MAX)
    }

    /// It worked: the next failure starts with the shortest pause again.
    pub(super) fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_stay_bounded_and_start_anew() {
        let mut pauses = Pauses::new();
        let first = pauses.next();
        assert!(
            first >= PAUSE_FIRST / 2 && first <= PAUSE_FIRST * 2,
            "{first:?}"
        );
        let later: Vec<_> = (0..20).map(|_| pauses.next()).collect();
        assert!(later.iter().all(|pause| *pause <= PAUSE_MAX), "{later:?}");
        assert!(
            later[10..].iter().all(|pause| *pause >= PAUSE_MAX / 2),
            "{later:?}"
        );
        pauses.reset();
        assert!(pauses.next() <= PAUSE_FIRST * 2);
    }
}
