//! The health checks: a path, a query, a view and the time give 200 or 503.

use super::query::{Query, size_bytes};
use super::view::{View, Xlog};
use crate::ha::model::{Lsn, Ms};

/// Who may answer 200 to a check.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    /// The holder of the lock. Tags are not looked at.
    Leader,
    /// The same, where it is a primary.
    Primary,
    /// The same, where it follows a primary of another cluster.
    StandbyLeader,
    /// A replica fit to read from.
    Replica,
    /// Either.
    ReadOnly,
    /// A replica of the synchronous set.
    Sync,
    /// The leader or such a replica.
    ReadOnlySync,
    /// A replica of a quorum.
    Quorum,
    /// The leader or such a replica.
    ReadOnlyQuorum,
    /// A replica outside the synchronous set.
    Async,
    /// Any running server.
    Running,
}

fn check_of(path: &str) -> Option<Check> {
    Some(match path {
        "/" | "/primary" | "/master" | "/read-write" => Check::Primary,
        "/leader" => Check::Leader,
        "/standby-leader" | "/standby_leader" => Check::StandbyLeader,
        "/replica" => Check::Replica,
        "/read-only" => Check::ReadOnly,
        "/synchronous" | "/sync" => Check::Sync,
        "/read-only-sync" | "/read-only-synchronous" => Check::ReadOnlySync,
        "/quorum" => Check::Quorum,
        "/read-only-quorum" => Check::ReadOnlyQuorum,
        "/asynchronous" | "/async" => Check::Async,
        "/health" => Check::Running,
        _ => return None,
    })
}

/// The status of a health check. `path` is the first segment of the request's path.
///
/// A path that is no health check is answered as one that fails: load balancers configured with a
/// misspelt path must not route.
pub fn status(path: &str, query: &Query, view: &View, now_ms: Ms) -> u16 {
    let Some(check) = check_of(path) else {
        return 503;
    };
    let leader = view.holds_lock(now_ms);
    let replica = || replica_passes(query, view);
    let passes = match check {
        Check::Leader => return code(leader),
        Check::Primary => return code(leader && !view.leads_standby(now_ms)),
        Check::StandbyLeader => return code(view.leads_standby(now_ms)),
        Check::Replica => replica(),
        Check::ReadOnly => leader || replica(),
        Check::Sync => view.is_sync_standby() && replica(),
        Check::ReadOnlySync => leader || (view.is_sync_standby() && replica()),
        Check::Quorum => view.is_quorum_standby() && replica(),
        Check::ReadOnlyQuorum => leader || (view.is_quorum_standby() && replica()),
        Check::Async => !view.is_sync_standby() && !view.is_quorum_standby() && replica(),
        Check::Running => view.is_running(),
    };
    code(passes && tags_match(query, view))
}

fn code(passes: bool) -> u16 {
    if passes { 200 } else { 503 }
}

fn replica_passes(query: &Query, view: &View) -> bool {
    let noloadbalance = view
        .tags
        .get("noloadbalance")
        .is_some_and(|value| value == "true");
    let state_matches = query
        .get("replication_state")
        .is_none_or(|wanted| view.replication_state.as_deref() == Some(wanted));
    view.is_running()
        && view.role == "replica"
        && !noloadbalance
        && state_matches
        && query
            .get("lag")
            .and_then(size_bytes)
            .is_none_or(|limit| lag_at_most(view, limit))
}

fn lag_at_most(view: &View, limit_bytes: u64) -> bool {
    match &view.xlog {
        Some(Xlog::Replica { replayed, .. }) => lag_bytes(view, *replayed) <= limit_bytes,
        _ => true,
    }
}

/// How far `position` is behind the furthest the leader is known to be.
fn lag_bytes(view: &View, position: Lsn) -> u64 {
    let latest_end = match &view.xlog {
        Some(Xlog::Replica { latest_end, .. }) => *latest_end,
        _ => None,
    };
    let reference = view.optime.max(latest_end).unwrap_or_default();
    reference.0.saturating_sub(position.0)
}

fn tags_match(query: &Query, view: &View) -> bool {
    query
        .with_prefix("tag_")
        .all(|(name, wanted)| view.tags.get(name).is_some_and(|value| value == wanted))
}

/// `/liveness`: the decision loop shows signs of life, or nobody expects it to.
pub fn liveness(view: &View, now_ms: Ms) -> u16 {
    let running_primary = view.is_running() && view.role == "primary";
    let patience_ms = if running_primary {
        view.ttl_ms
    } else {
        view.ttl_ms.saturating_mul(2)
    };
    code(view.pause || now_ms.saturating_sub(view.beat_ms) < patience_ms)
}

/// The others see this very Pod as a member: one that cannot say what it is must not be counted on
/// by a rolling update.
fn is_known(view: &View) -> bool {
    let me = &view.identity;
    let member = view.members.get(&me.name);
    member.is_some_and(|m| m.pod_uid == me.pod_uid && !m.state.is_empty())
}

/// `/readiness`: the leader, or a streaming replica that is a member and near enough.
///
/// `mode=apply` (default) measures what was replayed, `mode=write` what was received.
pub fn readiness(query: &Query, view: &View, now_ms: Ms) -> u16 {
    if view.holds_lock(now_ms) {
        return 200;
    }
    // Unlike with `/replica`, what is no size is no limit of one's own, and the cluster's counts.
    let limit = query
        .get("lag")
        .and_then(size_bytes)
        .unwrap_or(view.maximum_lag_on_failover_bytes);
    let near = match &view.xlog {
        Some(Xlog::Replica {
            received, replayed, ..
        }) => {
            let position = if query.get("mode") == Some("write") {
                // After a restart the receiver begins with the segment: behind what was replayed.
                (*received).max(*replayed)
            } else {
                *replayed
            };
            lag_bytes(view, position) <= limit
        }
        _ => false,
    };
    let streaming = view.replication_state.as_deref() == Some("streaming");
    code(view.is_running() && streaming && near && is_known(view))
}
