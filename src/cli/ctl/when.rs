//! A time as people type it, for what is scheduled.

use crate::cli::{Exit, Failure};
use jiff::fmt::temporal::DateTimeParser;
use jiff::{Timestamp, Zoned};

/// What is right, for messages.
const RIGHT: &str = "expected a time with its zone, as 2026-12-01T03:00+01:00, or now";

/// When something shall be done; `None`: now.
pub fn parse(text: &str, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    let text = text.trim();
    if text.is_empty() || text.eq_ignore_ascii_case("now") {
        return Ok(None);
    }
    let usage = |why: &str| {
        let what = format!("--scheduled {text:?}: {why}; {RIGHT}");
        Failure::new(Exit::Usage, what)
    };
    let at = instant(text).ok_or_else(|| {
        let parser = DateTimeParser::new();
        if parser.parse_datetime(text).is_ok() {
            usage("it has no zone, and the members' clocks may be in another one than yours")
        } else {
            usage("it is not a time")
        }
    })?;
    if at <= now {
        return Err(usage("it is in the past"));
    }
    Ok(Some(at))
}

/// With an offset, with `Z` or `UTC`, or with a zone's name in brackets.
fn instant(text: &str) -> Option<Timestamp> {
    let spaced = text
        .strip_suffix(" UTC")
        .map(|time| format!("{}Z", time.trim_end()));
    let text = spaced.as_deref().unwrap_or(text);
    let joined = text.replacen(" +", "+", 1);
    if let Ok(zoned) = joined.parse::<Zoned>() {
        return Some(zoned.timestamp());
    }
    joined.parse::<Timestamp>().ok()
}

/// As it is sent: in UTC, to the second.
pub(super) fn wire(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_zone_and_is_to_come() {
        let now: Timestamp = "2026-11-28T09:00:00Z".parse().expect("a time");
        for (text, right) in [
            ("2026-12-01T03:00+01:00", "2026-12-01T02:00:00+00:00"),
            ("2026-12-01T03:00:05Z", "2026-12-01T03:00:05+00:00"),
            ("2026-12-01 03:00 UTC", "2026-12-01T03:00:00+00:00"),
            ("2026-12-01 03:00 +01:00", "2026-12-01T02:00:00+00:00"),
            ("2026-12-01 03:00:00-05", "2026-12-01T08:00:00+00:00"),
            (
                "2026-12-01T03:00[Europe/Berlin]",
                "2026-12-01T02:00:00+00:00",
            ),
        ] {
            let at = parse(text, now).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(at.map(wire).as_deref(), Some(right), "{text}");
        }
        for text in ["now", "NOW", " now ", ""] {
            assert_eq!(parse(text, now).ok(), Some(None), "{text:?}");
        }
        for (text, why) in [
            ("2026-12-01T03:00", "it has no zone"),
            ("2026-12-01", "it has no zone"),
            ("tomorrow", "it is not a time"),
            ("2026-13-01T03:00Z", "it is not a time"),
            ("2026-11-28T09:00:00Z", "it is in the past"),
            ("2001-01-01T00:00Z", "it is in the past"),
        ] {
            let Err(error) = parse(text, now) else {
                panic!("{text} was taken")
            };
            assert!(error.to_string().contains(why), "{text}: {error}");
            assert_eq!(error.exit(), Exit::Usage);
        }
    }
}
