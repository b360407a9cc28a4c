//! GET `/metrics`: Patroni's names for the dashboards and alerts that people have (contract §2.8),
//! and the agent's own beside them. Text exposition format 0.0.4; all from memory.

use super::view::{View, Xlog};
use crate::ha::model::Ms;
use crate::ha::pause::FOREVER;
use std::fmt::Write;

/// The state words in the order of Patroni's numbers.
const STATES: [&str; 15] = [
    "initializing new cluster",
    "initdb failed",
    "running custom bootstrap script",
    "custom bootstrap failed",
    "creating replica",
    "running",
    "starting",
    "starting after custom bootstrap",
    "start failed",
    "restarting",
    "restart failed",
    "stopping",
    "stopped",
    "stop failed",
    "crashed",
];

/// The whole page.
pub(super) fn page(view: &View, now_ms: Ms) -> String {
    let mut page = Page::new(view);
    patronis(&mut page, view, now_ms);
    ours(&mut page, view, now_ms);
    page.text
}

/// A page in the making: every line carries the same two labels.
struct Page {
    labels: String,
    text: String,
}

impl Page {
    fn new(view: &View) -> Self {
        let (scope, name) = (escaped(&view.scope), escaped(&view.identity.name));
        Self {
            labels: format!("{{scope=\"{scope}\",name=\"{name}\"}}"),
            text: String::new(),
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl ToString) {
        self.line(name, help, "gauge", &value.to_string());
    }

    fn flag(&mut self, name: &str, help: &str, value: bool) {
        self.gauge(name, help, u8::from(value));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.line(name, help, "counter", &value.to_string());
    }

    fn line(&mut self, name: &str, help: &str, kind: &str, value: &str) {
        let labels = &self.labels;
        // Writing into a text does not fail.
        let _ = writeln!(
            self.text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{labels} {value}"
        );
    }
}

fn patronis(page: &mut Page, view: &View, now_ms: Ms) {
    let standby_leader = view.leads_standby(now_ms);
    let leads = view.holds_lock(now_ms) && !standby_leader;
    let running = view.is_running();
    let replica = running && view.role == "replica";
    page.gauge(
        "patroni_version",
        "The agent's version, two digits a part.",
        version(&view.version),
    );
    page.flag("patroni_postgres_running", "1: PostgreSQL runs.", running);
    let started = view.postmaster_start_time.as_deref().and_then(seconds);
    page.gauge(
        "patroni_postmaster_start_time",
        "When PostgreSQL started, in seconds since 1970; 0: it does not run.",
        started.unwrap_or_default(),
    );
    page.flag("patroni_primary", "1: this member leads.", leads);
    let (location, received, replayed, timestamp, paused) = positions(view);
    page.counter(
        "patroni_xlog_location",
        "The leader's position in the WAL; 0: not the leader.",
        location,
    );
    page.flag(
        "patroni_standby_leader",
        "1: this member leads a standby cluster.",
        standby_leader,
    );
    page.flag("patroni_replica", "1: this member is a replica.", replica);
    page.flag(
        "patroni_sync_standby",
        "1: this member is a synchronous standby.",
        view.is_sync_standby(),
    );
    page.flag(
        "patroni_quorum_standby",
        "1: this member is in the quorum.",
        view.is_quorum_standby(),
    );
    page.counter(
        "patroni_xlog_received_location",
        "The position up to which a replica has received the WAL; 0: no replica.",
        received,
    );
    page.counter(
        "patroni_xlog_replayed_location",
        "The position up to which a replica has replayed the WAL; 0: no replica.",
        replayed,
    );
    page.gauge(
        "patroni_xlog_replayed_timestamp",
        "When the last replayed transaction was committed, in seconds since 1970; 0: none.",
        timestamp,
    );
    page.flag("patroni_xlog_paused", "1: replay is paused.", paused);
    if running {
        let state = view.replication_state.as_deref();
        page.flag(
            "patroni_postgres_streaming",
            "1: the WAL is streamed.",
            state == Some("streaming"),
        );
        page.flag(
            "patroni_postgres_in_archive_recovery",
            "1: the WAL comes from the archive.",
            state == Some("in archive recovery"),
        );
    }
    of_the_cluster(page, view);
}

fn of_the_cluster(page: &mut Page, view: &View) {
    page.gauge(
        "patroni_postgres_server_version",
        "PostgreSQL's version as a number; 0: it does not run.",
        view.server_version.unwrap_or(0),
    );
    page.flag(
        "patroni_cluster_unlocked",
        "1: nobody holds the lock.",
        view.leader.is_none(),
    );
    page.flag(
        "patroni_failsafe_mode_is_active",
        "1: failsafe mode is active.",
        view.failsafe_is_active,
    );
    page.gauge(
        "patroni_postgres_timeline",
        "The timeline; 0: PostgreSQL does not run.",
        view.timeline.unwrap_or(0),
    );
    page.gauge(
        "patroni_dcs_last_seen",
        "When Kubernetes answered last, in seconds since 1970.",
        view.dcs_last_seen,
    );
    page.flag(
        "patroni_pending_restart",
        "1: a setting waits for a restart.",
        view.pending_restart,
    );
    page.flag(
        "patroni_is_paused",
        "1: automatic failover is suspended.",
        view.pause,
    );
    state(page, view);
}

/// Patroni puts the meaning of the numbers between HELP and TYPE, and so do we.
fn state(page: &mut Page, view: &View) {
    let number = STATES.iter().position(|state| *state == view.state);
    let number = number.map_or("-1".to_owned(), |at| at.to_string());
    let (name, labels) = ("patroni_postgres_state", page.labels.clone());
    let values = STATES.iter().enumerate();
    let values: Vec<_> = values.map(|(at, word)| format!("{at}={word}")).collect();
    let _ = writeln!(
        page.text,
        "# HELP {name} What PostgreSQL is doing, as a number.\n# Values: {}, -1=unknown\n\
         # TYPE {name} gauge\n{name}{labels} {number}",
        values.join(", ")
    );
}

fn ours(page: &mut Page, view: &View, now_ms: Ms) {
    page.gauge(
        "pgwarden_lock_epoch",
        "How often the lock was taken, as this member saw it last.",
        view.epoch.unwrap_or(0),
    );
    page.gauge(
        "pgwarden_lock_ttl_seconds",
        "The lock's time to live.",
        view.ttl_ms as f64 / 1000.0,
    );
    let left = match view.lock_until_ms {
        Some(FOREVER) => "+Inf".to_owned(),
        Some(until) => (until.saturating_sub(now_ms) as f64 / 1000.0).to_string(),
        None => "0".to_owned(),
    };
    page.gauge(
        "pgwarden_lock_left_seconds",
        "How long this member may lead without another renewal; 0: it does not lead, +Inf: \
         maintenance mode.",
        left,
    );
    page.gauge(
        "pgwarden_loop_age_seconds",
        "How long ago the decision loop gave its last sign of life.",
        now_ms.saturating_sub(view.beat_ms) as f64 / 1000.0,
    );
    page.gauge(
        "pgwarden_members",
        "How many members the cluster has, as this one sees it.",
        view.members.len(),
    );
    let troubled = view.members.values().filter(|m| !m.trouble.is_empty());
    page.gauge(
        "pgwarden_members_troubled",
        "How many of them cannot run or serve as they should; ctl list says why.",
        troubled.count(),
    );
    page.gauge(
        "pgwarden_sync_standbys",
        "How many standbys every commit waits for.",
        view.sync_standbys.len(),
    );
}

/// Location, received, replayed, the commit time of the last replayed transaction, paused.
fn positions(view: &View) -> (u64, u64, u64, f64, bool) {
    match &view.xlog {
        Some(Xlog::Primary { location }) => (location.0, 0, 0, 0.0, false),
        Some(Xlog::Replica {
            received,
            replayed,
            replayed_timestamp,
            paused,
            ..
        }) => {
            let at = replayed_timestamp.as_deref().and_then(seconds);
            (0, received.0, replayed.0, at.unwrap_or(0.0), *paused)
        }
        None => (0, 0, 0, 0.0, false),
    }
}

/// `YYYY-MM-DD HH:MM:SS.ffffff+00:00` in seconds since 1970.
fn seconds(text: &str) -> Option<f64> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(at.as_microsecond() as f64 / 1_000_000.0)
}

/// `4.1.5` as `040105`.
fn version(text: &str) -> String {
    let parts = text
        .split(['.', '-'])
        .filter_map(|part| part.parse::<u32>().ok());
    parts.take(3).fold(String::new(), |mut text, part| {
        let _ = write!(text, "{part:02}");
        text
    })
}

/// A label's value may hold anything but these three.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_instants_and_labels_are_written_as_their_readers_take_them() {
        assert_eq!(version("4.1.5"), "040105");
        assert_eq!(version("0.12.3-rc1"), "001203");
        let at = seconds("2026-11-22 18:11:04.357226+00:00").expect("an instant");
        assert!((at - 1_795_371_064.357_226).abs() < 1e-6, "{at}");
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
