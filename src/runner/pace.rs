//! How often a server that starts is looked at: closely at first, then ever more rarely.

use crate::postgres::session::SqlError;
use std::time::Duration;

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(40);
/// The same for one that goes on saying that it is starting up: each look is a FATAL in its log.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// As long as that a start is watched closely: most are over by then.
const CLOSELY: Duration = Duration::from_secs(1);

/// How long to wait before the next look.
pub(super) fn next_look(last: Duration, waited: Duration, up: &Result<bool, SqlError>) -> Duration {
    if waited >= CLOSELY && matches!(up, Err(SqlError::StartingUp(_))) {
        (last * 2).min(LOOK_MAX)
    } else {
        LOOK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_recovery_is_looked_at_ever_more_rarely_and_a_start_closely() {
        let starting = || Err(SqlError::StartingUp("starting up".into()));
        let (mut pause, mut waited, mut looks) = (LOOK, Duration::ZERO, 0);
        while waited < Duration::from_mins(1) {
            pause = next_look(pause, waited, &starting());
            assert!(pause == LOOK || waited >= CLOSELY);
            waited += pause;
            looks += 1;
        }
        assert!(looks < 100, "{looks} looks in a minute");
        assert_eq!(next_look(pause, waited, &starting()), LOOK_MAX);
        // It serves, as a replica that is to be promoted: no line in the log.
        assert_eq!(next_look(pause, waited, &Ok(false)), LOOK);
    }
}
