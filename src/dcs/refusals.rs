//! Rights that are missing: what the API refused with 403 and has not allowed since.
//!
//! Wherever a request is refused, its caller goes on as well as it can; here it is kept for people.

use super::client::Dcs;
use super::dialect::Dialect;
use super::outcome::{Answer, NoAnswer, message};
use super::request::{Ask, send};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What is asked again is asked again within this.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(2);
/// Kept at once.
const KEPT_MAX: usize = 32;
pub(super) const FORBIDDEN: u16 = 403;

/// By what was asked for: what the server said, and when.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<String, (String, Instant)>>);

impl Refusals {
    pub(super) fn note(&self, what: &str, status: u16, body: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if status == FORBIDDEN {
            if kept.len() < KEPT_MAX || kept.contains_key(what) {
                kept.insert(what.to_owned(), (message(body), Instant::now()));
            }
        } else if status < 500 {
            kept.remove(what);
        }
    }

    fn standing(&self) -> Option<String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (_, at)| at.elapsed() < FORGOTTEN_AFTER);
        let (what, (why, _)) = kept.first_key_value()?;
        Some(format!(
            "a right is missing, {what}: {why}; see the Role in the chart for the rights that the \
             agent needs"
        ))
    }
}

impl Dcs {
    /// Send, and remember for people what is forbidden.
    pub(super) async fn send(&self, ask: &Ask, deadline: Instant) -> Result<Answer, NoAnswer> {
        let answer = send(&self.shared.client, ask, deadline).await;
        let expected = ask.spare && self.names().dialect != Dialect::Lease;
        if let Ok(answer) = &answer
            && !expected
        {
            let refusals = &self.shared.refusals;
            refusals.note(&ask.what, answer.status, &answer.body);
        }
        answer
    }

    /// A right that the agent misses, in a sentence; one of them, if there are several.
    pub fn forbidden(&self) -> Option<String> {
        self.shared.refusals.standing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_missed_until_the_same_request_is_allowed() {
        let refusals = Refusals::default();
        refusals.note("read a", 403, br#"{"message":"pods \"a\" is forbidden"}"#);
        refusals.note("read a", 500, b"");
        refusals.note("read b", 200, b"{}");
        let words = refusals.standing().expect("it is missed");
        assert!(words.contains("read a: pods \"a\" is forbidden"), "{words}");
        refusals.note("read a", 200, b"{}");
        assert_eq!(refusals.standing(), None);
    }

    #[test]
    fn no_more_are_kept_than_people_can_read() {
        let refusals = Refusals::default();
        for number in 0..100 {
            refusals.note(&format!("read {number:03}"), 403, b"{}");
        }
        assert_eq!(refusals.0.lock().expect("its own").len(), KEPT_MAX);
    }
}
