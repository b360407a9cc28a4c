//! The members' journals: why somebody was allowed to take the lock.

use super::cluster::Cluster;
use super::member::Member;
use crate::api::client;
use crate::cli::explain::Entry;
use jiff::Timestamp;
use std::time::Duration;

const ASK: Duration = Duration::from_secs(5);
/// As many as a member keeps in memory.
const ENTRIES_MAX: usize = 10_000;

/// A member's journal, as its agent tells it now; empty if it does not answer.
pub(super) async fn read(member: &Member, last: usize) -> Vec<Entry> {
    let url = format!("{}/explain?last={last}", member.api_url());
    let Ok(answer) = client::get(&url, ASK).await else {
        return Vec::new();
    };
    if answer.status != 200 {
        return Vec::new();
    }
    answer
        .text()
        .lines()
        .filter_map(|line| Entry::read(line, &member.name))
        .collect()
}

/// Why the leader of now was allowed to take the lock, if it took it since then.
pub(super) async fn proof(cluster: &Cluster, leader: &Member, since: Timestamp) -> String {
    let journal = read(leader, ENTRIES_MAX).await;
    let lock = cluster.kubelet.lock_fields().await.unwrap_or_default();
    let Some(epoch) = lock["leaseTransitions"].as_u64() else {
        return "the lock cannot be read".to_owned();
    };
    proof_in(&journal, epoch, since)
}

fn proof_in(journal: &[Entry], epoch: u64, since: Timestamp) -> String {
    let claim = format!("acquire the lock as epoch {epoch} ");
    let recent = |entry: &&Entry| entry.at.is_some_and(|at| at >= since);
    let steps: Vec<&Entry> = journal.iter().filter(recent).collect();
    let claims = |entry: &&Entry| {
        entry
            .effects
            .iter()
            .any(|effect| effect.starts_with(&claim))
    };
    let Some(claimed) = steps.iter().rposition(claims) else {
        return format!("none needed (epoch {epoch} went on)");
    };
    let free = |words: &&String| words.starts_with("the lock is free: ");
    let because = steps[..=claimed]
        .iter()
        .rev()
        .find_map(|entry| entry.words.iter().find(free));
    because.map_or_else(|| "not in the journal".to_owned(), |words| short(words))
}

/// `the lock is free: proof: Terminated; I am at …` → `terminated`.
fn short(words: &str) -> String {
    let because = words.trim_start_matches("the lock is free: ");
    let because = because.split("; I am at ").next().unwrap_or(because);
    match because.strip_prefix("proof: ") {
        Some(kind) => kind.to_lowercase(),
        None => because.split_once(" did not change for ").map_or_else(
            || because.to_owned(),
            |(what, age)| format!("age {age} ({})", what.trim_start_matches("the ")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(wall: &str, words: &str, effect: &str) -> Entry {
        let line = serde_json::json!({"wall": wall, "words": [words], "effects": [effect]});
        Entry::read(&line.to_string(), "pg-1").unwrap()
    }

    #[test]
    fn the_reason_is_that_of_the_last_claim_of_the_epoch() {
        let since: Timestamp = "2026-01-02T10:00:00Z".parse().unwrap();
        let journal = [
            entry(
                "2026-01-02T09:59:00Z",
                "the lock is free: proof: Release; I am at x",
                "ask",
            ),
            entry(
                "2026-01-02T10:00:01Z",
                "the lock is free: proof: Terminated; I am at x",
                "ask",
            ),
            entry(
                "2026-01-02T10:00:02Z",
                "",
                "acquire the lock as epoch 4 (attempt 9)",
            ),
            entry(
                "2026-01-02T10:00:03Z",
                "",
                "renew the lock of epoch 4 (attempt 10)",
            ),
        ];
        assert_eq!(proof_in(&journal, 4, since), "terminated");
        assert_eq!(
            proof_in(&journal, 3, since),
            "none needed (epoch 3 went on)"
        );
        let aged =
            "the lock is free: the record of pg-0 (epoch 3) did not change for 6000 ms; I am at 1";
        assert!(short(aged).starts_with("age 6000 ms"), "{}", short(aged));
    }
}
