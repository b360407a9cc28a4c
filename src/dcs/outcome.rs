//! L6: what an answer of the API means, in one table for every request of the program.
//!
//! | answer | a write | a read |
//! | --- | --- | --- |
//! | 2xx | done | the object |
//! | 404 | conflict: the object I decided on is gone | missing |
//! | 409 (also AlreadyExists), 410 | conflict: look again | unavailable |
//! | 403, 422, 429, every other 3xx and 4xx | refused, nothing was written; `Retry-After` is kept | refused |
//! | 5xx | unknown: it may have been applied | unavailable |
//! | timeout, reset, an answer that cannot be read | unknown: it may have been applied | unavailable |

use super::error::DcsError;
use crate::ha::lock::Outcome;
use serde_json::Value;

/// How long a server may ask to be left alone; a longer wish is cut.
const RETRY_AFTER_MAX_MS: u64 = 60_000;

/// An HTTP answer, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header `Retry-After`, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The request never left: no connection could be made.
    NotSent(String),
    /// It may have arrived.
    Lost(String),
}

impl NoAnswer {
    fn why(&self) -> &str {
        match self {
            Self::NotSent(why) | Self::Lost(why) => why,
        }
    }
}

/// The meaning of the answer to a write.
pub fn of_write(result: &Result<Answer, NoAnswer>) -> Outcome<Value> {
    let answer = match result {
        Ok(answer) => answer,
        Err(lost) => {
            return Outcome::Unknown {
                why: lost.why().to_owned(),
            };
        }
    };
    match answer.status {
        200..=299 => match serde_json::from_slice(&answer.body) {
            Ok(object) => Outcome::Done(object),
            Err(error) => Outcome::Unknown {
                why: format!("the answer cannot be read: {error}"),
            },
        },
        404 | 409 | 410 => Outcome::Conflict,
        300..=499 => Outcome::Refused {
            status: answer.status,
            why: message(&answer.body),
            retry_after_ms: answer.retry_after_ms,
        },
        status => Outcome::Unknown {
            why: format!("status {status}: {}", message(&answer.body)),
        },
    }
}

/// The meaning of the answer to a read.
pub fn of_read(what: &str, result: Result<Answer, NoAnswer>) -> Result<Vec<u8>, DcsError> {
    let unavailable = |why: String| DcsError::Unavailable {
        what: what.to_owned(),
        why,
    };
    let Answer {
        status,
        retry_after_ms,
        body,
    } = result.map_err(|lost| unavailable(lost.why().to_owned()))?;
    match status {
        200..=299 => Ok(body),
        404 => Err(DcsError::Missing {
            what: what.to_owned(),
        }),
        300..=499 if !matches!(status, 409 | 410) => Err(DcsError::Refused {
            what: what.to_owned(),
            status,
            why: message(&body),
            retry_after_ms,
        }),
        _ => Err(unavailable(format!("status {status}: {}", message(&body)))),
    }
}

/// `Retry-After` in seconds, as Kubernetes sends it.
pub(super) fn retry_after_ms(header: Option<&str>) -> Option<u64> {
    let seconds: u64 = header?.trim().parse().ok()?;
    Some(seconds.saturating_mul(1000).min(RETRY_AFTER_MAX_MS))
}

/// The message of a `Status` object, or the beginning of whatever came instead.
pub(super) fn message(body: &[u8]) -> String {
    let status: Option<Value> = serde_json::from_slice(body).ok();
    if let Some(text) = status.as_ref().and_then(|s| s["message"].as_str()) {
        return text.chars().take(400).collect();
    }
    String::from_utf8_lossy(body).chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The shape in which the functions take it.
    #[allow(clippy::unnecessary_wraps)]
    fn answer(status: u16, body: &str) -> Result<Answer, NoAnswer> {
        let retry_after_ms = (status == 429).then_some(2000);
        Ok(Answer {
            status,
            retry_after_ms,
            body: body.as_bytes().to_vec(),
        })
    }

    #[test]
    fn every_outcome_of_a_write_has_its_meaning() {
        assert!(matches!(of_write(&answer(200, "{}")), Outcome::Done(_)));
        assert!(matches!(of_write(&answer(201, "{}")), Outcome::Done(_)));
        for status in [404, 409, 410] {
            assert_eq!(of_write(&answer(status, "")), Outcome::Conflict, "{status}");
        }
        for status in [301, 400, 401, 403, 405, 415, 422] {
            assert!(
                matches!(of_write(&answer(status, "")), Outcome::Refused { .. }),
                "{status}"
            );
        }
        for status in [500, 502, 503, 504] {
            assert!(
                matches!(of_write(&answer(status, "")), Outcome::Unknown { .. }),
                "{status}"
            );
        }
        assert_eq!(
            of_write(&answer(429, r#"{"message":"slow down"}"#)),
            Outcome::Refused {
                status: 429,
                why: "slow down".to_owned(),
                retry_after_ms: Some(2000)
            }
        );
        // Acknowledged but unreadable: it was applied, and what is stored is not known.
        assert!(matches!(
            of_write(&answer(200, "<html>")),
            Outcome::Unknown { .. }
        ));
        for lost in [
            NoAnswer::Lost("reset".to_owned()),
            NoAnswer::NotSent("refused".to_owned()),
        ] {
            assert!(matches!(of_write(&Err(lost)), Outcome::Unknown { .. }));
        }
    }

    #[test]
    fn every_outcome_of_a_read_has_its_meaning() {
        assert_eq!(of_read("x", answer(200, "{}")), Ok(b"{}".to_vec()));
        assert!(matches!(
            of_read("x", answer(404, "")),
            Err(DcsError::Missing { .. })
        ));
        assert!(matches!(
            of_read("x", answer(403, "")),
            Err(DcsError::Refused { status: 403, .. })
        ));
        for status in [409, 410, 500, 503] {
            let read = of_read("x", answer(status, ""));
            assert!(
                matches!(read, Err(DcsError::Unavailable { .. })),
                "{status}"
            );
        }
        let lost = Err(NoAnswer::Lost("reset".to_owned()));
        assert!(matches!(
            of_read("x", lost),
            Err(DcsError::Unavailable { .. })
        ));
    }

    #[test]
    fn retry_after_is_bounded_and_garbage_is_none() {
        assert_eq!(retry_after_ms(Some("1")), Some(1000));
        assert_eq!(
            retry_after_ms(Some("999999999999999999")),
            Some(RETRY_AFTER_MAX_MS)
        );
        assert_eq!(retry_after_ms(Some("Fri, 31 Dec")), None);
        assert_eq!(retry_after_ms(None), None);
    }
}
