//! Which settings wait for a restart, with what is in use and what is wanted.
//!
//! Two kinds: those in the files that the server itself reports (`pg_settings.pending_restart`),
//! and the controlled ones, which stand on the command line, where the server knows no other
//! value.

use super::control_data::ControlData;
use super::session::{Session, SqlError};
use super::{Postgres, start};
use crate::ha::model::PendingRestart;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// One JSON object in one row. What the files say is asked only where the server says that it
/// differs: reading them anew costs more than all the rest of a probe.
const QUESTION: &str = r"
SELECT json_build_object(
  'files', (SELECT coalesce(json_object_agg(s.name, json_build_object(
      'old_value', current_setting(s.name),
      'new_value', coalesce((SELECT f.setting FROM pg_file_settings f WHERE f.name = s.name
                    ORDER BY f.seqno DESC LIMIT 1), s.boot_val))), '{}')
    FROM pg_settings s WHERE s.pending_restart),
  'running', (SELECT json_object_agg(name, setting) FROM pg_settings WHERE name IN (
      'max_connections', 'max_wal_senders', 'max_replication_slots', 'max_worker_processes',
      'max_locks_per_transaction', 'max_prepared_transactions', 'wal_level', 'wal_log_hints',
      'track_commit_timestamp', 'recovery_target', 'recovery_target_lsn', 'recovery_target_name',
      'recovery_target_time', 'recovery_target_xid'))
)::text";

#[derive(Deserialize)]
struct Answer {
    files: BTreeMap<String, PendingRestart>,
    running: BTreeMap<String, String>,
}

/// What the server says of its settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Those that wait for a restart.
    pub pending: BTreeMap<String, PendingRestart>,
    /// The controlled ones as they are in use.
    pub running: BTreeMap<String, String>,
}

impl Standing {
    /// What a standby has less of than its primary, or where it was told to stop, in words: its
    /// replay stands still, and it must not be promoted, until it is started without.
    pub fn starved(&self, control: &ControlData) -> Option<String> {
        let short = start::minimums(control)
            .into_iter()
            .filter_map(|(name, least)| {
                let running: u32 = self.running.get(name)?.parse().ok()?;
                (running < least).then(|| format!("{name} is {running}, the primary had {least}"))
            });
        let short: Vec<_> = short.chain(self.targets()).collect();
        (!short.is_empty()).then(|| short.join(", "))
    }

    /// Left from a configuration of before: what lies beyond would be lost by a promotion.
    fn targets(&self) -> Vec<String> {
        let set = self.running.iter();
        let set =
            set.filter(|(name, value)| name.starts_with("recovery_target") && !value.is_empty());
        set.map(|(name, value)| format!("{name} is {value}"))
            .collect()
    }
}

/// Ask the server, and compare with the settings.
pub async fn settings(
    session: &Session,
    pg: &Postgres,
    deadline: Duration,
) -> Result<Standing, SqlError> {
    let text: String = session.value(QUESTION, deadline).await?;
    let answer =
        serde_json::from_str(&text).map_err(|error| SqlError::Garbled(error.to_string()))?;
    Ok(compare(
        answer,
        &start::controlled(pg, None, &mut Vec::new()),
    ))
}

fn compare(answer: Answer, wanted: &[(&'static str, String)]) -> Standing {
    let Answer { mut files, running } = answer;
    for (name, value) in wanted {
        if let Some(current) = running.get(*name).filter(|current| *current != value) {
            let change = PendingRestart {
                old_value: current.clone(),
                new_value: value.clone(),
            };
            files.insert((*name).to_owned(), change);
        }
    }
    Standing {
        pending: files,
        running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controlled_settings_are_compared_with_what_runs() {
        let answer: Answer = serde_json::from_str(
            r#"{"files": {"shared_buffers": {"old_value": "32MB", "new_value": "64MB"}},
                "running": {"max_connections": "100", "wal_level": "replica"}}"#,
        )
        .expect("it is good");
        let wanted = [
            ("max_connections", "120".to_owned()),
            ("wal_level", "replica".to_owned()),
            ("port", "5432".to_owned()),
        ];
        let standing = compare(answer, &wanted);
        let shown: Vec<_> = standing
            .pending
            .iter()
            .map(|(name, change)| format!("{name} {} {}", change.old_value, change.new_value))
            .collect();
        assert_eq!(
            shown,
            ["max_connections 100 120", "shared_buffers 32MB 64MB"]
        );
    }
    #[test]
    fn a_target_of_recovery_holds_replay_like_anything_that_is_short() {
        let running = [("recovery_target_lsn", "0/5"), ("recovery_target_time", "")];
        let running = running.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let standing = Standing {
            running: running.into(),
            ..Standing::default()
        };
        assert_eq!(standing.targets(), ["recovery_target_lsn is 0/5"]);
    }
}
