//! Settings that wait for a restart: looked at for a while after anything that may change them, since
//! a reload takes its time and says nothing at its end.

use super::Context;
use crate::ha::model::{Ms, PendingRestart};
use crate::postgres::probe::{Facts, Probe};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// How long a reload may take to show.
const WATCHED_MS: Ms = 5_000;

/// What was seen last.
#[derive(Default)]
pub(super) struct Pending {
    known: BTreeMap<String, PendingRestart>,
    /// The postmaster's start, what the server itself says, and how often it was configured.
    of: Option<(i64, bool, u64)>,
    until: Ms,
}

impl Pending {
    /// Complete the facts; a question that fails leaves what was known.
    pub(super) async fn complete(
        &mut self,
        context: &Context,
        probe: &mut Probe,
        facts: &mut Facts,
        now: Ms,
    ) {
        let configured = context.configured.load(SeqCst);
        let of = Some((facts.postmaster_start_ms, facts.pending_restart, configured));
        if self.of != of {
            self.of = of;
            self.until = now + WATCHED_MS;
        }
        if now < self.until {
            let pg = context.checked_postgres().await;
            match probe.pending(&pg, Duration::from_secs(2)).await {
                Ok(Some(known)) => self.known = known,
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "what waits for a restart is not known"),
            }
        }
        facts.pending.clone_from(&self.known);
        facts.pending_restart |= !self.known.is_empty();
    }
}
