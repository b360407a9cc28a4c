//! Replication slots: changed on the own server, and the leader's logical ones copied.

use super::Context;
use super::server::{STATEMENT, blocking, report, words};
use crate::ha::event::{Event, Op};
use crate::ha::model::{Lsn, Name};
use crate::ha::slots::SlotChange;
use crate::postgres::session::Session;
use crate::postgres::slot_copies::{self, States};
use crate::postgres::{Source, slots, stale};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The topic of a standing complaint.
const KEPT: &str = "the replication slots";
/// And of another.
const COPIED: &str = "the copies of logical slots";

/// What is between two effects.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// One change at a time: two that compare and create would trip over each other.
    changing: tokio::sync::Mutex<()>,
    /// Fetched, and not in place yet.
    fetched: Mutex<States>,
}

pub(super) async fn run_set_slots(context: Arc<Context>, changes: Vec<SlotChange>) {
    let _one = context.shelf.changing.lock().await;
    let outcome = slots::change(&context.postgres(), &changes, STATEMENT).await;
    context.complaints.keep(KEPT, &outcome.failed);
    let failed = (!outcome.failed.is_empty()).then(|| outcome.failed.join("; "));
    let broken = outcome.broken;
    context.tell(Event::SlotsSet { broken, failed }).await;
    context.kick.notify_one();
}

pub(super) async fn run_fetch_slots(
    context: Arc<Context>,
    source: Option<(Name, Source)>,
    wanted: BTreeSet<String>,
    reached: Lsn,
) {
    let fetched = match source {
        Some((from, source)) => fetch(&context, (&from, source), wanted, reached).await,
        None => Err("the leader's address is not known".to_owned()),
    };
    let (states, failed) = match fetched {
        Ok(fetched) => (fetched.states, fetched.failed),
        Err(error) => (States::new(), vec![error]),
    };
    context.complaints.keep(COPIED, &failed);
    let slots = states.keys().cloned().collect();
    *context.shelf.lock() = states;
    let failed = (!failed.is_empty()).then(|| format!("{COPIED}: {}", failed.join("; ")));
    context.tell(Event::SlotsFetched { slots, failed }).await;
}

async fn fetch(
    context: &Context,
    (from, source): (&Name, Source),
    wanted: BTreeSet<String>,
    reached: Lsn,
) -> Result<slot_copies::Fetched, String> {
    let pg = context.postgres();
    let dir = pg.data_dir.clone();
    let absent = blocking(move || Ok(slot_copies::absent(&dir, &wanted))).await?;
    if absent.is_empty() {
        return Ok(slot_copies::Fetched::default());
    }
    let told = |error: crate::postgres::session::SqlError| format!("{from}: {error}");
    let leader = Session::remote(&source, pg.rewind_user(), &pg.database, STATEMENT)
        .await
        .map_err(told)?;
    // None while the server is down.
    let own = Session::local(&pg, STATEMENT).await.ok();
    let mine = (reached, own.as_ref());
    slot_copies::fetch(&leader, &pg.data_dir, &absent, mine, STATEMENT)
        .await
        .map_err(told)
}

pub(super) async fn run_put_slots(context: Arc<Context>, turn: u64, wanted: BTreeSet<String>) {
    let mut states = std::mem::take(&mut *context.shelf.lock());
    states.retain(|name, _| wanted.contains(name));
    let (files, dir) = (Arc::clone(&context.files), context.postgres().data_dir);
    let put = blocking(move || {
        files.write(turn, || {
            if let Some(server) = stale::running_server(&dir) {
                return Err(format!("a server runs on the directory: process {server}"));
            }
            slot_copies::put(&dir, &states).map_err(words)
        })
    });
    report(&context, Op::PutSlots, put.await).await;
}

pub(super) async fn run_confirm_slots(
    context: Arc<Context>,
    source: Source,
    through: String,
    wanted: BTreeSet<String>,
) {
    match confirm(&context, &source, &through, &wanted).await {
        Ok(positions) if positions.is_empty() => {}
        Ok(positions) => context.tell(Event::SlotsConfirmed { positions }).await,
        Err(error) => tracing::debug!("the leader does not confirm the copies of slots: {error}"),
    }
}

async fn confirm(
    context: &Context,
    source: &Source,
    through: &str,
    wanted: &BTreeSet<String>,
) -> Result<BTreeMap<String, Lsn>, String> {
    let pg = context.postgres();
    let leader = Session::remote(source, pg.rewind_user(), &pg.database, STATEMENT)
        .await
        .map_err(words)?;
    slot_copies::confirmed(&pg, &leader, through, wanted, STATEMENT)
        .await
        .map_err(words)
}

impl Shelf {
    fn lock(&self) -> std::sync::MutexGuard<'_, States> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
