//! From the core's state and the probe's last answer to what the REST API answers from.

use super::{Context, Runner, Watchful};
use crate::api::{ReplicationRow, View, Xlog};
use crate::ha::event::Op;
use crate::ha::model::{Ms, Name, Walsender};
use crate::ha::state::{Process, State};
use crate::postgres::probe::Facts;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

impl Runner {
    /// The prober, the Pod and the REST API learn what was decided.
    pub(super) fn tell_everybody(&mut self, now: Ms) {
        // Writing files is no phase in which a server may be silent (G9).
        let quiet = |op: &Op| *op != Op::Configure;
        let op = self.state.pg.op.as_ref().is_some_and(quiet) || self.state.pg.stopping.is_some();
        let next = Watchful {
            running: matches!(self.state.pg.process, Process::Running { .. }),
            ordered: op,
            ttl_ms: self.state.budgets.ttl_ms,
            renew_ms: self.state.budgets.renew_ms,
        };
        self.watchful.send_if_modified(|current| {
            let news = *current != next;
            *current = next;
            news
        });
        self.context
            .dcs
            .note_standby(self.state.is_standby_leader());
        let facts = self.facts.borrow().clone();
        let mut view = build(
            &self.context,
            &self.state,
            facts.as_deref(),
            self.dcs_last_seen,
            now,
        );
        view.config.clone_from(&self.config_raw);
        let plan = self.planned.as_ref().map(|plan| plan.shown.clone());
        view.scheduled_restart.clone_from(&plan);
        self.tell_of_volumes(now);
        self.tell_of_obstacles(now);
        let trouble = self.troubles.words(
            self.full_volume.borrow().as_deref(),
            self.obstacle.as_deref(),
        );
        if !trouble.is_empty() {
            // The own word needs no way through the API.
            let own = view.members.entry(self.state.me.name.clone());
            own.or_default().trouble.clone_from(&trouble);
        }
        self.publish.send_if_modified(|current| {
            current.update(&self.context, &self.state, facts.as_deref(), trouble, plan)
        });
        self.view.send_replace(Arc::new(view));
    }
}

pub(super) fn build(
    context: &Context,
    state: &State,
    facts: Option<&Facts>,
    dcs_last_seen: u64,
    now: Ms,
) -> View {
    let settings = context.settings();
    let member = state.public_member(&crate::ha::model::Member::default());
    let shared = state.shared.as_ref();
    let running = member.state == "running";
    let facts = facts.filter(|_| running);
    View {
        state: member.state,
        role: member.role,
        // A promotion that has not ended is no primary to route to.
        lock_until_ms: state
            .holds_until()
            .filter(|_| state.is_primary() || state.is_standby_leader())
            .filter(|_| !state.is_on_trial()),
        epoch: state
            .lock
            .snapshot
            .as_deref()
            .and_then(crate::ha::lock::LockSnapshot::epoch),
        server_version: facts.map(|facts| facts.server_version),
        postmaster_start_time: facts.and_then(|facts| timestamp(facts.postmaster_start_ms)),
        xlog: facts.map(xlog),
        timeline: member.timeline.filter(|_| running),
        replication_state: member.replication_state,
        replication: facts
            .map(|facts| rows(context, &facts.walsenders))
            .unwrap_or_default(),
        leader: leader(state, now),
        pause: state.is_paused(),
        members: shared
            .map(|shared| shared.members.clone())
            .unwrap_or_default(),
        synchronous_mode: state.rules.syncs(),
        quorum: state.rules.syncs() && state.rules.sync.quorum,
        standby_cluster: state.rules.standby.is_some(),
        sync_standbys: shared
            .filter(|_| state.rules.standby.is_none())
            .map(|shared| shared.sync.standbys.clone())
            .unwrap_or_default(),
        optime: state.lock.snapshot.as_ref().and_then(|lock| lock.optime),
        tags: settings.tags.clone(),
        pending_restart: facts.is_some_and(|facts| facts.pending_restart),
        pending_restart_reason: facts.map(|facts| facts.pending.clone()).unwrap_or_default(),
        history: shared
            .map(|shared| shared.config.history.clone())
            .unwrap_or_default(),
        scheduled_switchover: shared.and_then(|shared| shared.failover.scheduled.clone()),
        cloning: *context
            .cloning
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
        dcs_last_seen,
        system_id: member.system_id,
        ttl_ms: state.budgets.ttl_ms,
        maximum_lag_on_failover_bytes: state.rules.maximum_lag_on_failover_bytes,
        failsafe_mode: state.rules.failsafe,
        failsafe: failsafe_map(state),
        failsafe_is_active: state.failsafe_is_active(now),
        race: state.peer_status(now),
        ..View::starting(
            &settings.scope,
            state.me.clone(),
            env!("CARGO_PKG_VERSION"),
            now,
        )
    }
}

/// The map that the last record carries, as Patroni shows it.
fn failsafe_map(state: &State) -> Option<BTreeMap<Name, String>> {
    let map = state.lock.mapped.as_ref()?.failsafe.as_ref()?;
    let urls = map
        .iter()
        .map(|(name, mapped)| (name.clone(), mapped.api_url.clone()));
    Some(urls.collect())
}

/// Who holds a lock that is alive, as far as I see.
fn leader(state: &State, now: Ms) -> Option<String> {
    if state.holds(now) {
        return Some(state.me.name.clone());
    }
    let held = state.other_holder()?;
    // With the mark of maintenance mode it leads however old its record is.
    let promised = state.promised_until(now).is_some();
    (held.paused || promised || now < state.lock.changed_at + held.ttl_ms)
        .then(|| held.holder.name.clone())
}

fn timestamp(ms: i64) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(ms).ok()?;
    Some(at.strftime("%Y-%m-%d %H:%M:%S.%6f+00:00").to_string())
}

fn xlog(facts: &Facts) -> Xlog {
    if !facts.in_recovery {
        return Xlog::Primary {
            location: facts.write_lsn.unwrap_or_default(),
        };
    }
    Xlog::Replica {
        received: facts.receive_lsn.or(facts.replay_lsn).unwrap_or_default(),
        replayed: facts.replay_lsn.unwrap_or_default(),
        replayed_timestamp: facts.replay_timestamp_ms.and_then(timestamp),
        paused: facts.replay_paused,
        latest_end: facts
            .receiver
            .as_ref()
            .and_then(|receiver| receiver.latest_end_lsn),
    }
}

fn rows(context: &Context, senders: &[Walsender]) -> Vec<ReplicationRow> {
    senders
        .iter()
        .map(|sender| ReplicationRow {
            usename: context
                .settings()
                .postgresql
                .authentication
                .replication
                .username
                .clone(),
            application_name: sender.name.clone(),
            client_addr: sender.client_addr.clone(),
            state: sender.state.clone(),
            sync_state: sender.sync_state.clone(),
            sync_priority: i32::from(sender.sync_state == "sync"),
        })
        .collect()
}
