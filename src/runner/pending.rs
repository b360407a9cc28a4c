//! Settings that wait for a restart: looked at for a while after anything that may change them,
//! since a reload takes its time and says nothing at its end.

use super::Context;
use super::server::{blocking, words};
use crate::ha::model::{Ms, PendingRestart};
use crate::postgres::Postgres;
use crate::postgres::control_data::ControlData;
use crate::postgres::pending::Standing;
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
        // A standby whose primary was given more stands still: whether that is so is asked each
        // time.
        let still = facts.in_recovery && facts.replay_paused;
        if now < self.until || still {
            let pg = context.checked_postgres().await;
            match probe.pending(&pg, Duration::from_secs(2)).await {
                Ok(Some(standing)) => {
                    if still {
                        facts.starved = starved(&pg, &standing).await;
                    }
                    self.known = standing.pending;
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "what waits for a restart is not known"),
            }
        }
        facts.pending.clone_from(&self.known);
        facts.pending_restart |= !self.known.is_empty();
    }
}

async fn starved(pg: &Postgres, standing: &Standing) -> Option<String> {
    let dir = pg.data_dir.clone();
    let control = blocking(move || ControlData::read(&dir).map_err(words)).await;
    standing.starved(&control.ok()?)
}
