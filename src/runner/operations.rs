//! The effects that work on PostgreSQL and its directory, each with its `run_…` twin.

use super::{Runner, files, inspect, lines, making, server, slots, standbys};
use crate::ha::cloning::NOBODY;
use crate::ha::effect::Effect;
use crate::ha::event::Op;
use crate::ha::model::Name;
use crate::ha::remote::REMOTE;
use crate::ha::shared::Initialize;
use crate::postgres::Source;
use crate::postgres::config::Follow;
use std::sync::atomic::Ordering::SeqCst;

impl Runner {
    /// Begin one.
    pub(super) fn run_on_postgres(&mut self, effect: Effect) {
        let context = self.context.clone();
        let turn = if works_on_files(&effect) {
            context.files.turn()
        } else {
            0
        };
        match effect {
            Effect::Inspect => self.spawn(inspect::run_inspect(context)),
            Effect::StartPrimary { sync } => {
                self.spawn(server::run_start_primary(context, turn, sync));
            }
            Effect::StartReplica { upstream } => {
                let follow = upstream.and_then(|name| self.follow(&name));
                let follow = follow.unwrap_or(Follow::Nobody);
                self.spawn(server::run_start_replica(context, turn, follow));
            }
            Effect::Stop { how } => self.spawn(server::run_stop(context, how)),
            Effect::Promote { sync } => self.spawn(server::run_promote(context, turn, sync)),
            Effect::StopReceiver => self.spawn(files::run_stop_receiver(context, turn)),
            Effect::Follow { upstream } => match self.follow(&upstream) {
                Some(follow) => self.spawn(files::run_follow(context, turn, follow)),
                None => self.no_address(Op::Follow, &upstream),
            },
            Effect::AskRemote => {
                if let Some(source) = self.source(REMOTE) {
                    let shared = self.state.shared.as_ref();
                    let members = shared.iter().flat_map(|shared| shared.members.keys());
                    let places =
                        members.filter_map(|name| Some((name.clone(), self.source(name)?)));
                    let places: Vec<(Name, Source)> = places.collect();
                    self.spawn(lines::run_ask_remote(context, source, places));
                }
            }
            Effect::Initdb => self.spawn(making::run_initdb(context)),
            Effect::Clone { from } => self.run_clone(from),
            Effect::Rewind { from } => {
                self.with_source(Op::Rewind, &from, |context, source| {
                    server::run_rewind(context, source)
                });
            }
            Effect::CompareWal { with } => {
                if let Some(source) = self.source(&with) {
                    self.spawn(lines::run_compare_wal(context, source, with));
                }
            }
            Effect::CompareHistory { with, mine } => {
                if let Some(source) = self.source(&with) {
                    self.spawn(lines::run_compare_history(context, source, with, mine));
                }
            }
            Effect::AskEnd { with, number } => {
                let shared = self.state.shared.as_ref();
                let member = shared.and_then(|shared| shared.members.get(&with));
                let api_url = member.map_or_else(String::new, |member| member.api_url.clone());
                if let Some(source) = self.source(&with) {
                    let ask = lines::AskEnd { with, number };
                    self.spawn(lines::run_ask_end(context, source, api_url, ask));
                }
            }
            Effect::Look => context.kick.notify_one(),
            Effect::CrashRecover => self.spawn(server::run_crash_recover(context)),
            Effect::Checkpoint => self.spawn(server::run_checkpoint(context)),
            Effect::Configure => self.spawn(files::run_configure(context, turn)),
            Effect::SetSync { wanted } => {
                // The turn is taken here, in the order of the decisions.
                let turn = context.sync_turn.fetch_add(1, SeqCst) + 1;
                self.spawn(standbys::run_set_sync(context, wanted, turn));
            }
            Effect::SetSlots { changes } => self.spawn(slots::run_set_slots(context, changes)),
            Effect::FetchSlots {
                from,
                slots,
                reached,
            } => {
                let source = self.source(&from).map(|source| (from, source));
                self.spawn(slots::run_fetch_slots(context, source, slots, reached));
            }
            Effect::PutSlots { slots } => self.spawn(slots::run_put_slots(context, turn, slots)),
            Effect::ConfirmSlots {
                with,
                through,
                slots,
            } => {
                if let Some(source) = self.source(&with) {
                    self.spawn(slots::run_confirm_slots(context, source, through, slots));
                }
            }
            // The table of all effects sends no others here.
            other => tracing::error!("nothing carries out: {other}"),
        }
    }

    fn run_clone(&mut self, from: Name) {
        let cluster = match self.state.shared.as_ref().map(|s| &s.config.initialize) {
            Some(Initialize::Done(id)) => Some(id.clone()),
            _ => None,
        };
        if from == NOBODY {
            let context = self.context.clone();
            let how = (true, cluster);
            return self.spawn(making::run_clone(context, None, from, how));
        }
        // Only a primary's copy may take the place of what is here.
        let holder = self.state.other_holder().map(|held| &held.holder.name);
        let replaces = from == REMOTE || holder == Some(&from);
        self.with_source(Op::Clone, &from.clone(), |context, source| {
            making::run_clone(context, Some(source), from, (replaces, cluster))
        });
    }
}

/// It writes PostgreSQL's files, or the whole directory.
fn works_on_files(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::StartPrimary { .. }
            | Effect::StartReplica { .. }
            | Effect::Promote { .. }
            | Effect::Follow { .. }
            | Effect::Configure
            | Effect::StopReceiver
            | Effect::Initdb
            | Effect::Clone { .. }
            | Effect::Rewind { .. }
            | Effect::CrashRecover
            | Effect::PutSlots { .. }
    )
}
