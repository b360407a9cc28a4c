//! Plans by the wall clock: what it shows is told to the core, restarts of this member are kept
//! here until they are due, and planned switchovers go into the shared object.

use super::configuration::TRIES;
use super::{Context, Runner};
use crate::api::when::When;
use crate::api::{Reply, RestartPlan};
use crate::dcs::DcsError;
use crate::ha::event::{Ask, Event};
use crate::ha::lock::Outcome;
use crate::ha::model::{Ms, Name};
use crate::ha::schedule::{Due, WallClock};
use crate::ha::shared::Scheduled;
use crate::sys::clock::wall_ms;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A smaller drift is none.
const DRIFT_MS: u64 = 100;

impl Runner {
    /// What both clocks show, if the wall clock is not where the core takes it to be.
    pub(super) fn wall_clock(&self, now: Ms) -> Option<Event> {
        let wall_ms = wall_ms();
        let expected = self.state.wall.map(|clock| clock.shows(now));
        let known = expected.is_some_and(|expected| expected.abs_diff(wall_ms) <= DRIFT_MS);
        (!known).then_some(Event::WallClock { wall_ms })
    }

    /// The planned restart, when its time has come.
    pub(super) fn planned_restart(&mut self, now: Ms) -> Option<Event> {
        let plan = self.planned.as_ref()?;
        let view = self.view.borrow().clone();
        let clock = WallClock {
            wall_ms: wall_ms(),
            at: now,
        };
        let started = view.postmaster_start_time.as_ref();
        let restarted = started.is_some_and(|at| Some(at) != plan.postmaster_start_time.as_ref());
        let skipped = match clock.due(plan.at.wall_ms, now) {
            _ if restarted => "the server was started again since it was planned",
            Due::Later(_) => return None,
            Due::Stale(_) => "its time has passed",
            Due::Now if !plan.conditions.hold(&view) => "its conditions are not satisfied",
            Due::Now => {
                let timeout_ms = plan.timeout_ms;
                tracing::info!("the restart planned for {} begins", plan.at.text);
                self.planned = None;
                let ask = Ask::Restart { timeout_ms };
                return Some(Event::Asked { id: 0, ask });
            }
        };
        tracing::info!(
            "the restart planned for {} is dropped: {skipped}",
            plan.at.text
        );
        self.planned = None;
        None
    }

    pub(super) fn plan_restart(&mut self, plan: RestartPlan) -> Reply {
        if self.planned.is_some() {
            return Reply::new(409, "Another restart is already scheduled");
        }
        self.planned = Some(plan);
        Reply::new(202, "Restart scheduled")
    }

    pub(super) fn drop_restart(&mut self) -> Reply {
        match self.planned.take() {
            Some(_) => Reply::new(200, "scheduled restart deleted"),
            None => Reply::new(404, "no restarts are scheduled"),
        }
    }
}

pub(super) async fn run_plan_switchover(
    context: Arc<Context>,
    (from, to, at): (Name, Option<Name>, When),
    reply: oneshot::Sender<Reply>,
) {
    let plan = Scheduled {
        from: Some(from),
        to,
        at: at.text,
        at_wall_ms: at.wall_ms,
    };
    // Who asked may have gone.
    let _ = reply.send(planned(&context, &plan).await);
}

async fn planned(context: &Context, plan: &Scheduled) -> Reply {
    for _ in 0..TRIES {
        let record = match context.dcs.read_failover().await {
            Ok(record) => record,
            Err(error) => return unreadable(&error),
        };
        if !record.is_empty() {
            let text = "another switchover or failover is in progress";
            return Reply::new(503, text);
        }
        let expect = record.resource_version.as_deref();
        match context.dcs.write_plan(Some(plan), expect).await {
            Outcome::Done(_) => return Reply::new(202, "Switchover scheduled"),
            Outcome::Conflict => {}
            Outcome::Refused { why, .. } | Outcome::Unknown { why } => {
                let text = format!("failed to write failover key into DCS: {why}");
                return Reply::new(503, text);
            }
        }
    }
    Reply::new(
        503,
        "failed to write failover key into DCS: others write it",
    )
}

pub(super) async fn run_drop_switchover(context: Arc<Context>, reply: oneshot::Sender<Reply>) {
    let answer = match context.dcs.read_failover().await {
        Err(error) => unreadable(&error),
        Ok(record) if record.scheduled.is_none() => Reply::new(404, "no switchover is scheduled"),
        Ok(record) => {
            let expect = record.resource_version.as_deref();
            match context.dcs.write_plan(None, expect).await {
                Outcome::Done(_) => Reply::new(200, "scheduled switchover deleted"),
                failed => {
                    tracing::warn!("the planned switchover was not deleted: {failed:?}");
                    Reply::new(409, "failed to delete scheduled switchover")
                }
            }
        }
    };
    let _ = reply.send(answer);
}

fn unreadable(error: &DcsError) -> Reply {
    Reply::new(503, format!("what is planned cannot be read: {error}"))
}
