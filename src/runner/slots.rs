//! What a replica must not keep: slots of members that nobody streams from it with.
//!
//! A primary of before, and every member that Patroni ran, has a slot for each other member. On a
//! replica they stand still, and the WAL behind them is kept until the volume is full.

use super::Context;
use super::server::STATEMENT;
use crate::ha::model::Name;
use crate::postgres::session::Session;
use crate::postgres::slots;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) async fn run_drop_slots(context: Arc<Context>, members: BTreeSet<Name>) {
    // Not while slots are made: this server may have become the primary meanwhile.
    let _owned = context.slots_owned.lock().await;
    let dropped = match Session::local(&context.postgres(), STATEMENT).await {
        Ok(session) => slots::drop_idle(&session, &members, STATEMENT).await,
        Err(error) => Err(error),
    };
    match dropped {
        Ok(dropped) if dropped.is_empty() => {}
        Ok(dropped) => {
            tracing::info!("slots that would keep WAL on a replica: dropped {dropped:?}");
        }
        Err(error) => tracing::debug!(%error, "idle slots were not dropped"),
    }
}
