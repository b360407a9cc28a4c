//! From when until when a certificate is valid.
//!
//! rustls checks the other side's dates and never its own, and gives none of them. The two dates
//! stand near the front of the certificate, behind fields whose content does not matter here.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version, where there is one.
const VERSION: u8 = 0xa0;

/// The two dates, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    /// The first second.
    pub from_s: i64,
    /// The last second.
    pub until_s: i64,
}

impl Validity {
    /// Of a certificate in DER; `None`: it is none.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = expect(certificate, SEQUENCE)?;
        let (mut rest, _) = expect(certificate, SEQUENCE)?;
        if rest.first() == Some(&VERSION) {
            (_, rest) = expect(rest, VERSION)?;
        }
        // The serial number, the algorithm, the issuer.
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            (_, rest) = expect(rest, tag)?;
        }
        let (dates, _) = expect(rest, SEQUENCE)?;
        let (from_tag, from, dates) = next(dates)?;
        let (until_tag, until, _) = next(dates)?;
        Some(Self {
            from_s: instant(from_tag, from)?,
            until_s: instant(until_tag, until)?,
        })
    }

    /// Why it is of no use at that time; `None`: it is valid.
    pub(super) fn fault(self, now_s: i64) -> Option<String> {
        if now_s > self.until_s {
            return Some(format!("ended at {}", shown(self.until_s)));
        }
        (now_s < self.from_s).then(|| format!("is not valid before {}", shown(self.from_s)))
    }

    /// Seconds that are left.
    pub(super) fn left_s(self, now_s: i64) -> i64 {
        self.until_s.saturating_sub(now_s)
    }

    /// Its end in words.
    pub(super) fn end(self) -> String {
        shown(self.until_s)
    }
}

fn shown(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .map_or_else(|_| format!("{seconds} s since 1970"), |at| at.to_string())
}

/// The content of the first element, if it has this tag, and what follows it.
pub(super) fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = next(der)?;
    (found == tag).then_some((content, rest))
}

/// The first element: its tag, its content, and what follows it.
fn next(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (bytes, after) = rest.split_at_checked(count)?;
        rest = after;
        bytes
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte))
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn instant(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 || !rest.is_ascii() {
        return None;
    }
    let part = |at: usize| number::<i8>(&rest[at..at + 2]);
    let at = DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0).ok()?;
    Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

fn number<T: std::str::FromStr>(digits: &str) -> Option<T> {
    let all = digits.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_date_are_read() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (UTC_TIME, "500101000000Z", -631_152_000),
            (GENERALIZED_TIME, "20500101000000Z", 2_524_608_000),
            (GENERALIZED_TIME, "20260228120001Z", 1_772_280_001),
        ] {
            assert_eq!(instant(tag, text.as_bytes()), Some(seconds), "{text}");
        }
        for (tag, text) in [
            (UTC_TIME, "700101000000"),
            (UTC_TIME, "7001010000Z"),
            (UTC_TIME, "701301000000Z"),
            (UTC_TIME, "70-101000000Z"),
            (GENERALIZED_TIME, "700101000000Z"),
            (SEQUENCE, "700101000000Z"),
        ] {
            assert_eq!(instant(tag, text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn broken_lengths_end_the_search() {
        for der in [
            &[][..],
            &[0x30],
            &[0x30, 0x05, 0x30],
            &[0x30, 0x80, 0x00],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x02, 0x30, 0x00],
        ] {
            assert_eq!(Validity::of(der), None, "{der:?}");
        }
    }
}
