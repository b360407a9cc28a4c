//! Logical slots that are brought to a replica: the leader's state files, put in place while the
//! replica's server is down.
//!
//! A server reads the directory of its slots when it starts, checks each file's version and
//! checksum, and ends if one is not whole. So a slot is made beside its place and moved there.

use super::session::{Session, SqlError, parse_lsn};
use super::{Postgres, lines, quote};
use crate::ha::model::Lsn;
use crate::sys::durable;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// PostgreSQL's directory of slots.
const DIR: &str = "pg_replslot";
/// A state file has some hundred bytes.
const STATE_MAX: u32 = 1 << 20;
/// For a replica to receive what its leader's consumer has confirmed.
const MOMENT: Duration = Duration::from_secs(2);
/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(50);

/// State files by slot.
pub type States = BTreeMap<String, Vec<u8>>;

/// What the leader gave.
#[derive(Debug, Default)]
pub struct Fetched {
    /// What can be put in place.
    pub states: States,
    /// Why others cannot, in words.
    pub failed: Vec<String>,
}

/// Those of the slots that are not on this disk.
pub fn absent(data_dir: &Path, slots: &BTreeSet<String>) -> BTreeSet<String> {
    let there = |name: &&String| data_dir.join(DIR).join(name).exists();
    slots.iter().filter(|name| !there(name)).cloned().collect()
}

/// Reads the leader's state files, which takes a right that `pg_rewind`'s user has. `reached` is how
/// far the WAL goes here: a slot beyond would pass over what is written there after a promotion.
///
/// A consumer that keeps up is always a moment ahead of what was read here last: where a server runs
/// (`own`), it gets that moment to receive the rest.
pub async fn fetch(
    leader: &Session,
    data_dir: &Path,
    slots: &BTreeSet<String>,
    (reached, own): (Lsn, Option<&Session>),
    deadline: Duration,
) -> Result<Fetched, SqlError> {
    let list: Vec<String> = slots.iter().map(|name| quote::literal(name)).collect();
    let sql = format!(
        "SELECT slot_name::text, restart_lsn::text, confirmed_flush_lsn::text, \
         (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'), \
         pg_read_binary_file('{DIR}/' || slot_name || '/state', 0, {STATE_MAX}, false) \
         FROM pg_replication_slots WHERE slot_type = 'logical' AND slot_name IN ({}) \
         AND confirmed_flush_lsn IS NOT NULL AND wal_status <> 'lost'",
        list.join(", ")
    );
    let mut fetched = Fetched::default();
    for row in leader.query(&sql, deadline).await? {
        let garbled = |error: tokio_postgres::Error| SqlError::Garbled(error.to_string());
        let name: String = row.try_get(0).map_err(garbled)?;
        let begins: String = row.try_get(1).map_err(garbled)?;
        let confirmed: String = row.try_get(2).map_err(garbled)?;
        let segment: i64 = row.try_get(3).map_err(garbled)?;
        let state: Vec<u8> = row.try_get(4).map_err(garbled)?;
        let begins = parse_lsn(&begins)?;
        let confirmed = parse_lsn(&confirmed)?;
        let segment = u64::try_from(segment).unwrap_or(1);
        if confirmed > reached && !comes_to(own, confirmed).await {
            let words = format!("slot {name}: its consumer is ahead of what this replica has");
            fetched.failed.push(words);
        } else if let Some(why) = without_wal(data_dir, begins, segment) {
            fetched.failed.push(format!("slot {name}: {why}"));
        } else {
            fetched.states.insert(name, state);
        }
    }
    Ok(fetched)
}

/// A slot begins somewhere in its segment: that one has to be here.
fn without_wal(data_dir: &Path, begins: Lsn, segment: u64) -> Option<String> {
    match lines::written_on(data_dir, Lsn(begins.0 + 1), segment) {
        Ok(Some(_)) => None,
        Ok(None) => Some(format!(
            "the WAL from {begins} on, where it begins, is not here; it can be copied once its \
             consumer has gone on"
        )),
        Err(error) => Some(format!("pg_wal cannot be listed: {error}")),
    }
}

/// Puts them in place; one that is there already stays. No server may run.
pub fn put(data_dir: &Path, states: &States) -> io::Result<()> {
    let dir = data_dir.join(DIR);
    for (name, state) in states {
        let place = dir.join(name);
        if place.exists() {
            continue;
        }
        // PostgreSQL clears such a one away, should this end here.
        let making = making_of(&dir, name);
        if making.exists() {
            durable::remove_tree(&making)?;
        }
        durable::make_private_dir(&making)?;
        durable::write_atomic(&making.join("state"), state, 0o600)?;
        durable::sync_dir(&making)?;
        durable::rename_durably(&making, &place)?;
    }
    Ok(())
}

fn making_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.tmp"))
}

/// How far these slots are on the leader, if it keeps what this replica's slots of the same names
/// need: the slot `through` holds catalog rows at least as old as the oldest of them does.
pub async fn confirmed(
    pg: &Postgres,
    leader: &Session,
    through: &str,
    slots: &BTreeSet<String>,
    deadline: Duration,
) -> Result<BTreeMap<String, Lsn>, SqlError> {
    let list: Vec<String> = slots.iter().map(|name| quote::literal(name)).collect();
    let list = list.join(", ");
    let local = Session::local(pg, deadline).await?;
    let mine: Option<String> = local
        .value(
            &format!(
                "SELECT (SELECT catalog_xmin::text FROM pg_replication_slots \
                 WHERE slot_name IN ({list}) AND catalog_xmin IS NOT NULL \
                 ORDER BY age(catalog_xmin) DESC LIMIT 1)"
            ),
            deadline,
        )
        .await?;
    let Some(mine) = mine else {
        return Ok(BTreeMap::new());
    };
    let sql = format!(
        "SELECT slot_name::text, confirmed_flush_lsn::text FROM pg_replication_slots \
         WHERE slot_name IN ({list}) AND confirmed_flush_lsn IS NOT NULL AND EXISTS (\
         SELECT FROM pg_replication_slots WHERE slot_name = {} AND active \
         AND age(catalog_xmin) >= age({}::xid))",
        quote::literal(through),
        quote::literal(&mine)
    );
    let mut positions = BTreeMap::new();
    for row in leader.query(&sql, deadline).await? {
        let garbled = |error: tokio_postgres::Error| SqlError::Garbled(error.to_string());
        let name: String = row.try_get(0).map_err(garbled)?;
        let position: String = row.try_get(1).map_err(garbled)?;
        positions.insert(name, parse_lsn(&position)?);
    }
    Ok(positions)
}

/// Whether this server has received as much, or does so soon.
async fn comes_to(own: Option<&Session>, lsn: Lsn) -> bool {
    let Some(own) = own else {
        return false;
    };
    let sql = format!("SELECT coalesce(pg_last_wal_receive_lsn() >= '{lsn}', false)");
    let comes = async {
        while !own.value::<bool>(&sql, MOMENT).await.unwrap_or(false) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(MOMENT, comes).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_state_file_comes_whole_or_not_at_all_and_none_is_replaced() {
        let dir = std::env::temp_dir().join(format!("pgw-slots-{}", std::process::id()));
        fs::create_dir_all(dir.join(DIR).join("there")).unwrap();
        // What a kill left of an attempt before.
        fs::create_dir_all(dir.join(DIR).join("new.tmp")).unwrap();
        let names = BTreeSet::from(["new".to_owned(), "there".to_owned()]);
        assert_eq!(absent(&dir, &names), BTreeSet::from(["new".to_owned()]));
        let states = names.iter().map(|name| (name.clone(), b"state".to_vec()));
        put(&dir, &states.collect()).unwrap();
        let read = |name: &str| fs::read(dir.join(DIR).join(name).join("state"));
        assert_eq!(read("new").unwrap(), b"state");
        assert!(read("there").is_err() && !dir.join(DIR).join("new.tmp").exists());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_slot_needs_the_segment_in_which_it_begins() {
        let dir = std::env::temp_dir().join(format!("pgw-begins-{}", std::process::id()));
        fs::create_dir_all(dir.join("pg_wal")).unwrap();
        let segment = 16 << 20;
        fs::write(dir.join("pg_wal/000000010000000000000003"), "").unwrap();
        // A position at the very beginning of a segment lies in that one.
        assert_eq!(without_wal(&dir, Lsn(3 * segment), segment), None);
        assert!(without_wal(&dir, Lsn(3 * segment - 1), segment).is_some());
        fs::remove_dir_all(&dir).unwrap();
    }
}
