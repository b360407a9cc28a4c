//! A consumer of a permanent logical slot: it follows the leader, and in the end it has seen every
//! row that the cluster still has.
//!
//! It reads first and confirms after, as a consumer that may not miss anything has to; what it read
//! and could not confirm comes again.

use super::member::Member;
use super::sql::Connection;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The slot, as the dynamic configuration names it.
pub(super) const SLOT: &str = "exercise_feed";
/// Between two looks for changes, or for a leader.
const PAUSE: Duration = Duration::from_millis(50);

const PEEK: &str = "SELECT lsn::text, data FROM pg_logical_slot_peek_changes('exercise_feed', \
                    NULL, 300) WHERE NOT pg_is_in_recovery()";

/// The ids it has seen, and who reads them; dropping it ends it.
pub(super) struct Consumer {
    seen: Arc<Mutex<BTreeSet<i64>>>,
    _task: JoinSet<()>,
}

impl Consumer {
    /// Starts it.
    pub(super) fn start(members: &[Arc<Member>]) -> Self {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let mut task = JoinSet::new();
        task.spawn(consume(members.to_vec(), Arc::clone(&seen)));
        Self { seen, _task: task }
    }

    /// Waits until it has seen all of these; how many, or what it lacks.
    pub(super) async fn until_seen(
        &self,
        rows: &BTreeSet<i64>,
        within: Duration,
    ) -> Result<usize, String> {
        let begun = Instant::now();
        loop {
            let (missing, first) = {
                let seen = locked(&self.seen);
                let mut missing = rows.difference(&seen);
                let first = missing.next().copied();
                (missing.count() + usize::from(first.is_some()), first)
            };
            let Some(first) = first else {
                return Ok(rows.len());
            };
            if begun.elapsed() > within {
                return Err(format!(
                    "the consumer of {SLOT} has not seen {missing} of {} rows, the first {first}",
                    rows.len()
                ));
            }
            sleep(PAUSE).await;
        }
    }
}

/// Waits until every member has the slot: before that a failover may lose it.
pub(super) async fn until_everywhere(
    members: &[Arc<Member>],
    within: Duration,
) -> Result<(), String> {
    let query = format!("SELECT 1 FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
    let begun = Instant::now();
    for member in members {
        loop {
            if let Some(connection) = Connection::open(member, "exercise check").await
                && connection.row(&query).await.is_some()
            {
                break;
            }
            if begun.elapsed() > within {
                let name = &member.name;
                return Err(format!(
                    "{name} has no slot {SLOT} within {} s",
                    within.as_secs()
                ));
            }
            sleep(PAUSE).await;
        }
    }
    Ok(())
}

fn locked(seen: &Mutex<BTreeSet<i64>>) -> MutexGuard<'_, BTreeSet<i64>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn consume(members: Vec<Arc<Member>>, seen: Arc<Mutex<BTreeSet<i64>>>) {
    loop {
        for member in &members {
            if let Some(connection) = Connection::open(member, "consumer").await {
                while let Some(rows) = connection.rows(PEEK).await {
                    let Some(last) = rows.last() else { break };
                    let end: String = last.get(0);
                    let ids = rows.iter().filter_map(|row| id_of(row.get(1)));
                    locked(&seen).extend(ids);
                    let confirm = format!("SELECT pg_replication_slot_advance('{SLOT}', '{end}')");
                    if connection.row(&confirm).await.is_none() {
                        break;
                    }
                }
            }
        }
        sleep(PAUSE).await;
    }
}

/// `table public.exercise: INSERT: id[bigint]:17 member[integer]:0 …`
fn id_of(change: &str) -> Option<i64> {
    let rest = change.strip_prefix("table public.exercise: INSERT: id[bigint]:")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_what_the_plugin_says() {
        let change = "table public.exercise: INSERT: id[bigint]:17 member[integer]:0";
        assert_eq!(id_of(change), Some(17));
        for other in [
            "BEGIN 735",
            "COMMIT 735",
            "table public.other: INSERT: id[bigint]:17",
        ] {
            assert_eq!(id_of(other), None);
        }
    }
}
