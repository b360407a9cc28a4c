//! Replication slots of a running server: read, made, dropped, moved forward.

use super::session::{Session, SqlError};
use super::{Postgres, quote};
use crate::ha::model::Lsn;
use crate::ha::slots::{SlotChange, SlotFacts, SlotKind};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The part of the probe's question that is about slots: every column this server has.
pub(super) const QUESTION: &str = "(SELECT coalesce(json_agg(row_to_json(s) ORDER BY slot_name), \
                                   '[]') FROM pg_replication_slots s WHERE NOT temporary)";

/// Decoding what a logical slot passes over takes its time.
const DECODING: Duration = Duration::from_mins(1);
/// A row of `pg_replication_slots`; later versions have more columns.
#[derive(Deserialize)]
pub(super) struct Row {
    slot_name: String,
    slot_type: String,
    plugin: Option<String>,
    database: Option<String>,
    active: bool,
    xmin: Option<serde_json::Value>,
    catalog_xmin: Option<serde_json::Value>,
    restart_lsn: Option<String>,
    confirmed_flush_lsn: Option<String>,
    wal_status: Option<String>,
    /// From 16 on.
    #[serde(default)]
    conflicting: Option<bool>,
    /// From 17 on.
    #[serde(default)]
    failover: bool,
    #[serde(default)]
    synced: bool,
}

impl TryFrom<Row> for SlotFacts {
    type Error = SqlError;

    fn try_from(row: Row) -> Result<Self, SqlError> {
        let kind = match (row.slot_type.as_str(), row.database, row.plugin) {
            ("physical", ..) => SlotKind::Physical,
            (_, database, plugin) => SlotKind::Logical {
                database: database.unwrap_or_default(),
                plugin: plugin.unwrap_or_default(),
            },
        };
        let position = if kind.is_logical() {
            row.confirmed_flush_lsn
        } else {
            row.restart_lsn
        };
        let position = position.map(|text| text.parse::<Lsn>()).transpose();
        Ok(Self {
            name: row.slot_name,
            active: row.active,
            position: position.map_err(|error| SqlError::Garbled(error.to_string()))?,
            lost: row.wal_status.as_deref() == Some("lost") || row.conflicting == Some(true),
            // A logical slot is there to hold the catalog's rows.
            holds_xmin: !kind.is_logical() && (row.xmin.is_some() || row.catalog_xmin.is_some()),
            by_server: row.failover || row.synced,
            kind,
        })
    }
}

/// What came of changes.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Logical slots that could not be moved because their WAL is not here.
    pub broken: BTreeSet<String>,
    /// What failed, in words.
    pub failed: Vec<String>,
}

/// Carries the changes out in their order; one that fails does not hold up the next.
pub async fn change(pg: &Postgres, changes: &[SlotChange], deadline: Duration) -> Outcome {
    let mut outcome = Outcome::default();
    let mut sessions = Sessions::new(pg, deadline);
    for change in changes {
        let done = carry_out(&mut sessions, change, deadline).await;
        let Err(error) = done else { continue };
        match (change, &error) {
            // Somebody was faster, or uses it by now: the next look tells.
            (_, SqlError::Other { sqlstate, .. })
                if ["42710", "55006"].contains(&sqlstate.as_str()) => {}
            (
                SlotChange::Advance {
                    name,
                    database: Some(_),
                    ..
                },
                SqlError::Other { sqlstate, .. },
            ) if sqlstate == "58P01" => {
                outcome.broken.insert(name.clone());
            }
            _ => outcome.failed.push(format!("cannot {change}: {error}")),
        }
    }
    outcome
}

/// One session for each database that is worked in; a logical slot can only be touched in its own.
struct Sessions<'a> {
    pg: &'a Postgres,
    deadline: Duration,
    open: BTreeMap<String, Session>,
}

impl<'a> Sessions<'a> {
    fn new(pg: &'a Postgres, deadline: Duration) -> Self {
        Self {
            pg,
            deadline,
            open: BTreeMap::new(),
        }
    }

    async fn of(&mut self, database: Option<&String>) -> Result<&Session, SqlError> {
        let database = database.unwrap_or(&self.pg.database).clone();
        let usable = self.open.get(&database).is_some_and(|s| !s.is_closed());
        if !usable {
            let pg = Postgres {
                database: database.clone(),
                ..self.pg.clone()
            };
            let session = Session::local(&pg, self.deadline).await?;
            self.open.insert(database.clone(), session);
        }
        self.open
            .get(&database)
            .ok_or_else(|| SqlError::Garbled("no session".to_owned()))
    }
}

async fn carry_out(
    sessions: &mut Sessions<'_>,
    change: &SlotChange,
    deadline: Duration,
) -> Result<(), SqlError> {
    match change {
        SlotChange::Create { name, kind } => {
            let name = quote::literal(name);
            let (database, sql) = match kind {
                // WAL is kept from now on, not from the first connection.
                SlotKind::Physical => (
                    None,
                    format!("SELECT pg_create_physical_replication_slot({name}, true)"),
                ),
                SlotKind::Logical { database, plugin } => {
                    let plugin = quote::literal(plugin);
                    let sql =
                        format!("SELECT pg_create_logical_replication_slot({name}, {plugin})");
                    (Some(database), sql)
                }
            };
            // A logical one waits for the transactions that run.
            decode(sessions.of(database).await?, &sql, deadline).await
        }
        SlotChange::Drop { name } => {
            let sql = format!(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                 WHERE slot_name = {} AND NOT active",
                quote::literal(name)
            );
            sessions.of(None).await?.execute(&sql, deadline).await
        }
        SlotChange::Advance { name, database, to } => {
            let sql = format!(
                "SELECT pg_replication_slot_advance(slot_name, '{to}') FROM pg_replication_slots \
                 WHERE slot_name = {} AND NOT active",
                quote::literal(name)
            );
            let session = sessions.of(database.as_ref()).await?;
            if database.is_none() {
                return session.execute(&sql, deadline).await;
            }
            decode(session, &sql, deadline).await
        }
    }
}

async fn decode(session: &Session, sql: &str, deadline: Duration) -> Result<(), SqlError> {
    session.limit(DECODING, deadline).await?;
    let done = session.execute(sql, DECODING).await;
    let limited = session.limit(deadline, deadline).await;
    done.and(limited)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(row: &str) -> SlotFacts {
        let row: Row = serde_json::from_str(row).unwrap();
        SlotFacts::try_from(row).unwrap()
    }

    #[test]
    fn rows_of_every_version_are_understood() {
        let old = slot(
            r#"{"slot_name":"m","slot_type":"physical","plugin":null,"database":null,
            "active":false,"xmin":"731","catalog_xmin":null,"restart_lsn":"0/3000148",
            "confirmed_flush_lsn":null,"wal_status":"reserved","two_phase":false}"#,
        );
        assert_eq!(
            (old.kind, old.position),
            (SlotKind::Physical, Some(Lsn(0x300_0148)))
        );
        assert!(old.holds_xmin && !old.lost && !old.by_server);
        let new = slot(
            r#"{"slot_name":"l","slot_type":"logical","plugin":"pgoutput","database":"app",
            "active":true,"xmin":null,"catalog_xmin":"700","restart_lsn":"0/1",
            "confirmed_flush_lsn":"0/2","wal_status":"lost","conflicting":true,"failover":true,
            "synced":false,"invalidation_reason":"rows_removed"}"#,
        );
        assert!(new.lost && new.by_server && !new.holds_xmin);
        assert_eq!(new.position, Some(Lsn(2)));
        assert!(new.kind.is_logical());
    }
}
