//! The members' physical replication slots: they keep the WAL that a member still needs.

use super::quote;
use super::session::{Session, SqlError};
use std::collections::BTreeSet;
use std::time::Duration;

/// What [`sync_member_slots`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotChanges {
    /// Created.
    pub created: Vec<String>,
    /// Dropped.
    pub dropped: Vec<String>,
    /// Should have been dropped, but a receiver still uses them.
    pub in_use: Vec<String>,
}

/// Gives every member of `wanted` its slot, and drops those of `owned` members that are gone.
///
/// Both are names of members. A slot that belongs to no owned member, is logical, or is in use is
/// never dropped: somebody else may depend on it.
pub async fn sync_member_slots(
    session: &Session,
    wanted: &BTreeSet<String>,
    owned: &BTreeSet<String>,
    deadline: Duration,
) -> Result<SlotChanges, SqlError> {
    let slots = |members: &BTreeSet<String>| -> BTreeSet<String> {
        members
            .iter()
            .map(|member| quote::slot_name(member))
            .collect()
    };
    let (wanted, owned) = (slots(wanted), slots(owned));
    let rows = session
        .query(
            "SELECT slot_name::text, slot_type = 'physical' AND NOT temporary, active \
             FROM pg_replication_slots",
            deadline,
        )
        .await?;
    let mut changes = SlotChanges::default();
    let mut present = BTreeSet::new();
    for row in rows {
        let garbled = |error: tokio_postgres::Error| SqlError::Garbled(error.to_string());
        let name: String = row.try_get(0).map_err(garbled)?;
        let physical: bool = row.try_get(1).map_err(garbled)?;
        let active: bool = row.try_get(2).map_err(garbled)?;
        if physical && owned.contains(&name) && !wanted.contains(&name) {
            if active {
                changes.in_use.push(name.clone());
            } else {
                let sql = format!("SELECT pg_drop_replication_slot({})", quote::literal(&name));
                session.execute(&sql, deadline).await?;
                changes.dropped.push(name.clone());
            }
        }
        present.insert(name);
    }
    for name in wanted.difference(&present) {
        // WAL is kept from now on, not from the first connection.
        let sql = format!(
            "SELECT pg_create_physical_replication_slot({}, true)",
            quote::literal(name)
        );
        session.execute(&sql, deadline).await?;
        changes.created.push(name.clone());
    }
    Ok(changes)
}

/// Drops the slots of these members on a server in recovery, where nobody uses them; their names.
pub async fn drop_idle(
    session: &Session,
    members: &BTreeSet<String>,
    deadline: Duration,
) -> Result<Vec<String>, SqlError> {
    let names: Vec<String> = members
        .iter()
        .map(|member| quote::literal(&quote::slot_name(member)))
        .collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    // In one statement: a promotion in between would need them.
    let sql = format!(
        "SELECT slot_name::text FROM (SELECT slot_name FROM pg_replication_slots WHERE \
         pg_is_in_recovery() AND slot_type = 'physical' AND NOT temporary AND NOT active AND \
         slot_name::text IN ({})) idle, LATERAL pg_drop_replication_slot(slot_name)",
        names.join(", ")
    );
    let rows = session.query(&sql, deadline).await?;
    let name = |row: &tokio_postgres::Row| {
        let name = row.try_get::<_, String>(0);
        name.map_err(|error| SqlError::Garbled(error.to_string()))
    };
    rows.iter().map(name).collect()
}
