//! Calls that fail quickly are made again, inside the deadline and with growing pauses.

use super::client::Dcs;
use super::error::DcsError;
use super::outcome::{self, NoAnswer};
use super::request::Ask;
use super::retry::Pauses;
use crate::ha::lock::Outcome;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A retry with less time than this left could only end as "unknown".
const WORTHWHILE: Duration = Duration::from_millis(50);

impl Dcs {
    /// A PATCH of the object with a version, a POST into its collection without.
    pub(super) fn ask(
        &self,
        what: &str,
        place: (&str, &str),
        name: &str,
        body: &Value,
        expect: Option<&str>,
    ) -> Ask {
        match expect {
            Some(_) => Ask::patch(what, &self.path(place.0, place.1, name), body),
            None => Ask::create(what, &self.collection(place.0, place.1), body),
        }
    }

    pub(super) fn collection(&self, group: &str, resource: &str) -> String {
        format!("/{group}/namespaces/{}/{resource}", self.names().namespace)
    }

    /// Where the lock is.
    pub(super) fn lock_path(&self) -> String {
        let (group, resource) = self.names().dialect.lock().path();
        self.path(group, resource, &self.names().lock_name())
    }

    pub(super) fn path(&self, group: &str, resource: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(group, resource))
    }

    /// Read, and on failures that came back quickly again, until the deadline.
    pub(super) async fn read_until(&self, ask: &Ask, deadline: Instant) -> Result<Value, DcsError> {
        let mut pauses = Pauses::new();
        loop {
            let answer = self.send(ask, deadline).await;
            let read = outcome::of_read(&ask.what, answer).and_then(|body| {
                serde_json::from_slice(&body).map_err(|error| DcsError::Unavailable {
                    what: ask.what.clone(),
                    why: format!("the answer cannot be read: {error}"),
                })
            });
            let again = matches!(read, Err(DcsError::Unavailable { .. }));
            if !again || !pause(pauses.next(), deadline).await {
                return read;
            }
        }
    }

    /// Write, and on failures that came back quickly again, until the deadline. The flag says that
    /// an attempt before the last may have been applied.
    pub(super) async fn write_until(&self, ask: &Ask, deadline: Instant) -> (Outcome<Value>, bool) {
        let mut pauses = Pauses::new();
        let mut ambiguous = false;
        loop {
            let answer = self.send(ask, deadline).await;
            let outcome = outcome::of_write(&answer);
            let wait = match &outcome {
                Outcome::Unknown { .. } => pauses.next(),
                Outcome::Refused {
                    retry_after_ms: Some(ms),
                    ..
                } => Duration::from_millis(*ms),
                _ => return (what_is_known(outcome, ambiguous), ambiguous),
            };
            let lost = matches!(outcome, Outcome::Unknown { .. });
            let never_sent = matches!(answer, Err(NoAnswer::NotSent(_)));
            if !pause(wait, deadline).await {
                return (what_is_known(outcome, ambiguous), ambiguous);
            }
            ambiguous |= lost && !never_sent;
        }
    }
}

/// "Refused" says that nothing was written; with an attempt lost before, nobody knows that.
fn what_is_known<T>(outcome: Outcome<T>, ambiguous: bool) -> Outcome<T> {
    match outcome {
        Outcome::Refused { status, why, .. } if ambiguous => Outcome::Unknown {
            why: format!("an answer was lost, then refused ({status}): {why}"),
        },
        other => other,
    }
}

/// Wait, unless a request after it would have no time left.
async fn pause(wait: Duration, deadline: Instant) -> bool {
    if Instant::now() + wait + WORTHWHILE > deadline {
        return false;
    }
    sleep(wait).await;
    true
}

/// Everything but `Done` says the same whatever was written.
pub(super) trait WithoutValue {
    /// The same outcome of another kind of write; `Done` must have been handled.
    fn without_value<T>(self) -> Outcome<T>;
}

impl<V> WithoutValue for Outcome<V> {
    fn without_value<T>(self) -> Outcome<T> {
        self.and_then(|_| Outcome::Unknown {
            why: "an answer was not understood".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_after_a_lost_attempt_is_no_proof_that_nothing_was_written() {
        let refused = || Outcome::<()>::Refused {
            status: 429,
            why: String::new(),
            retry_after_ms: Some(9_000),
        };
        assert_eq!(what_is_known(refused(), false), refused());
        let lost = what_is_known(refused(), true);
        assert!(matches!(lost, Outcome::Unknown { .. }), "{lost:?}");
    }
}
