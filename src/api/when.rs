//! A time for which something is planned. Codes and words are Patroni's.

use super::command::Reply;

/// A moment, as it was asked for and as a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    /// As it was asked for.
    pub text: String,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

/// Read a time that must lie ahead; `action` is what is planned.
pub(super) fn parse(text: &str, action: &str, wall_now_ms: u64) -> Result<When, Reply> {
    let text = text.trim();
    let Ok(at) = text.parse::<jiff::Timestamp>() else {
        if text.parse::<jiff::civil::DateTime>().is_ok() {
            let words = format!(
                "Timezone information is mandatory for the scheduled {action}: found {text:?}, \
                 expected e.g. 2030-01-31T22:00:00+01:00"
            );
            return Err(Reply::new(400, words));
        }
        let words = format!(
            "Unable to parse scheduled timestamp {text:?}. It should be in an unambiguous format, \
             e.g. ISO 8601: 2030-01-31T22:00:00+01:00"
        );
        return Err(Reply::new(422, words));
    };
    match u64::try_from(at.as_millisecond()) {
        Ok(wall_ms) if wall_ms > wall_now_ms => Ok(When {
            text: text.to_owned(),
            wall_ms,
        }),
        _ => Err(Reply::new(
            422,
            format!("Cannot schedule {action} in the past: {text}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_needs_its_zone_and_lies_ahead() {
        let now = 1_893_456_000_000;
        let read = |text: &str| parse(text, "switchover", now);
        for (text, wall_ms) in [
            ("2030-01-01T00:00:01+00:00", now + 1_000),
            ("2030-01-01T00:01+00", now + 60_000),
            (" 2030-01-01 02:00:00.5+02:00", now + 500),
            ("2030-01-01T01:00Z", now + 3_600_000),
        ] {
            assert_eq!(read(text).map(|when| when.wall_ms), Ok(wall_ms), "{text}");
        }
        for (text, status, word) in [
            (
                "2030-01-01T00:00:01",
                400,
                "Timezone information is mandatory",
            ),
            (
                "2030-01-01T00:00:00Z",
                422,
                "Cannot schedule switchover in the past",
            ),
            ("1930-01-01T00:00:00Z", 422, "in the past"),
            ("soon", 422, "Unable to parse scheduled timestamp"),
            ("", 422, "Unable to parse"),
        ] {
            let reply = read(text).expect_err("it is refused");
            assert_eq!(reply.status, status, "{text}");
            assert!(reply.body.contains(word), "{text}: {}", reply.body);
        }
    }
}
