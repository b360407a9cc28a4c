//! Every effect has its `run_…` twin; this is the table that connects them.

use super::{Postmaster, Runner, hooks, kube};
use crate::api::{self, Reply, failsafe, vote};
use crate::guardian::deadline::{Deadline, DeadlineError};
use crate::ha::effect::Effect;
use crate::ha::event::{Event, Op};
use crate::ha::hooks::Guard;
use crate::ha::lock::{FailsafeMap, LockWrite};
use crate::ha::model::{Lsn, Ms, Name, Timeline};
use crate::ha::pause::FOREVER;
use crate::ha::remote::REMOTE;
use crate::postgres::Source;
use crate::postgres::config::{Follow, Remote};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

impl Runner {
    /// Begin one effect; what waits goes on in a task.
    pub(super) fn run_effect(&mut self, effect: Effect) {
        let context = self.context.clone();
        let call_ms = self.state.budgets.call_ms;
        match effect {
            Effect::Explain { .. } | Effect::Wake { .. } => {}
            Effect::ReadLock => self.spawn(kube::run_read_lock(context, call_ms)),
            Effect::WriteLock {
                nonce,
                expect,
                write,
            } => {
                if let LockWrite::Acquire(claim) = &write {
                    self.remember_epoch(claim.epoch);
                }
                self.spawn(kube::run_write_lock(context, call_ms, nonce, expect, write));
            }
            Effect::ReadShared => self.spawn(kube::run_read_shared(context, call_ms)),
            Effect::WriteShared(what) => self.spawn(kube::run_write_shared(context, call_ms, what)),
            Effect::MoveDeadline { to } => self.run_move_deadline(to),
            Effect::SuspendDeadline => self.run_suspend_deadline(),
            Effect::SeekProof {
                fields,
                holder,
                place,
            } => {
                self.spawn(kube::run_seek_proof(context, fields, holder, place));
            }
            Effect::AskPeers { round, peers } => self.ask_peers(round, peers),
            Effect::AskPromises {
                round,
                epoch,
                ttl_ms,
                peers,
            } => {
                let request = self.promise_request(epoch, ttl_ms);
                self.ask_promises(round, request, peers);
            }
            Effect::AskVotes {
                round,
                fields,
                peers,
            } => self.ask_votes(round, fields, peers),
            Effect::Vote { id, timeline, lsn } => self.run_vote(id, timeline, lsn),
            Effect::PublishRoute { epoch } => self.spawn(kube::run_publish_route(context, epoch)),
            Effect::Answer { id, done, text } => self.run_answer(id, done, text),
            Effect::Callback { action, role } => context.hooks.call(action, role),
            Effect::RunHook { guard, number } => self.run_hook(guard, number),
            Effect::EndHook { guard, number } => context.hooks.end(guard, number),
            Effect::Bye => self.bye = true,
            effect @ (Effect::Inspect
            | Effect::StartPrimary { .. }
            | Effect::StartReplica { .. }
            | Effect::Stop { .. }
            | Effect::Promote { .. }
            | Effect::StopReceiver
            | Effect::Follow { .. }
            | Effect::AskRemote
            | Effect::Initdb
            | Effect::Clone { .. }
            | Effect::Rewind { .. }
            | Effect::CompareWal { .. }
            | Effect::CompareHistory { .. }
            | Effect::AskEnd { .. }
            | Effect::Look
            | Effect::CrashRecover
            | Effect::Checkpoint
            | Effect::Configure
            | Effect::SetSync { .. }
            | Effect::SetSlots { .. }
            | Effect::FetchSlots { .. }
            | Effect::PutSlots { .. }
            | Effect::ConfirmSlots { .. }) => self.run_on_postgres(effect),
        }
    }

    fn run_hook(&mut self, guard: Guard, number: u64) {
        let context = self.context.clone();
        // Here, so that an order to end it finds it.
        let enough = context.hooks.begin(guard, number);
        self.spawn(hooks::run_guard(context, guard, number, enough));
    }

    /// What is known at once is an event like any other.
    fn tell(&mut self, event: Event) {
        let context = self.context.clone();
        self.spawn(async move { context.tell(event).await });
    }

    pub(super) fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.work.spawn(work);
    }

    /// G1: both processes see the new deadline before anything else happens.
    fn run_move_deadline(&mut self, to: Ms) {
        let words = &self.context.words;
        let ttl_ms = self.state.budgets.ttl_ms;
        // Raising D first widens what the guardian accepts; lowering it first shortens the
        // deadline.
        let suspended = words.deadline() == Deadline::Suspended;
        let lowering = !suspended && words.deadline_ms().is_some_and(|current| to < current);
        if !lowering {
            words.set_ttl_ms(ttl_ms);
        }
        let moved = words.move_deadline(to);
        words.set_ttl_ms(ttl_ms);
        let event = match moved {
            Ok(()) => Event::DeadlineMoved { to },
            Err(error) => {
                tracing::error!(%error, "the deadline could not be moved");
                Event::DeadlineLatched
            }
        };
        self.tell(event);
    }

    /// G1: the mark of maintenance mode is acknowledged.
    fn run_suspend_deadline(&mut self) {
        let event = match self.context.words.suspend_deadline() {
            Ok(()) => Event::DeadlineMoved { to: FOREVER },
            // PostgreSQL has gone since: there is nothing to suspend.
            Err(DeadlineError::Unarmed) => return,
            Err(error) => {
                tracing::error!(%error, "the deadline could not be suspended");
                Event::DeadlineLatched
            }
        };
        self.tell(event);
    }

    fn run_answer(&mut self, id: u64, done: bool, text: String) {
        if let Some((ask, reply)) = self.questions.remove(&id) {
            let status = match (done, ask) {
                (true, _) => 200,
                // As Patroni answers it.
                (false, api::Ask::Promise { .. }) => 500,
                (false, _) => 503,
            };
            // Who asked may have gone.
            let _ = reply.send(Reply::new(status, text));
        } else {
            // Nobody waits for it: a restart that was planned.
            tracing::info!("{text}");
        }
    }

    fn run_vote(&mut self, id: u64, timeline: Timeline, lsn: Lsn) {
        if let Some((_, reply)) = self.questions.remove(&id) {
            let scope = &self.context.settings().scope;
            // Who asked may have gone.
            let _ = reply.send(vote::cast(scope, &self.state.me.name, timeline, lsn));
        }
    }

    fn ask_votes(&mut self, round: u64, fields: String, peers: Vec<(Name, String)>) {
        let call_ms = self.state.budgets.call_ms;
        let request = Arc::new(vote::Request {
            scope: self.context.settings().scope.clone(),
            candidate: self.state.me.name.clone(),
            fields,
        });
        for who in peers {
            let (context, request) = (self.context.clone(), Arc::clone(&request));
            self.spawn(kube::run_ask_vote(context, call_ms, round, who, request));
        }
    }

    fn ask_peers(&mut self, round: u64, peers: Vec<(Name, String)>) {
        let call_ms = self.state.budgets.call_ms;
        for (name, url) in peers {
            let context = self.context.clone();
            self.spawn(kube::run_ask_peer(context, call_ms, round, name, url));
        }
    }

    fn ask_promises(&mut self, round: u64, request: failsafe::Request, peers: FailsafeMap) {
        let call_ms = self.state.budgets.call_ms;
        let request = Arc::new(request);
        for who in peers {
            let (context, request) = (self.context.clone(), Arc::clone(&request));
            self.spawn(kube::run_ask_promise(context, call_ms, round, who, request));
        }
    }

    fn promise_request(&self, epoch: u64, ttl_ms: Ms) -> failsafe::Request {
        let me = &self.state.me;
        let members = self.state.shared.as_ref().map(|shared| &shared.members);
        let own = members.and_then(|members| members.get(&me.name));
        let own = own.cloned().unwrap_or_default();
        failsafe::Request {
            scope: self.context.settings().scope.clone(),
            holder: me.clone(),
            epoch,
            ttl_ms,
            conn_url: format!("postgres://{}:{}/postgres", own.host, own.port),
            api_url: own.api_url,
        }
    }

    /// L1: an epoch of mine is on disk before the request that writes it leaves.
    fn remember_epoch(&self, epoch: u64) {
        if let Err(error) = crate::agent::notes::write_epoch(&self.epoch_file, epoch) {
            tracing::warn!(%error, "the epoch could not be written beside the data directory");
        }
    }

    /// The remote primary of a standby cluster, as it is configured.
    fn remote(&self) -> Option<Remote> {
        let dynamic = self.context.dynamic.read().ok()?;
        let remote = dynamic.standby_cluster.clone()?;
        let port = remote.port;
        Some(Remote {
            source: remote.host.map(|host| Source { host, port }),
            slot: remote.primary_slot_name,
            settings: remote.recovery,
        })
    }

    /// How to follow a member, or the remote primary.
    pub(super) fn follow(&self, name: &str) -> Option<Follow> {
        if name == REMOTE {
            return self.remote().map(Follow::Remote);
        }
        self.source(name).map(Follow::Leader)
    }

    /// Where a member's PostgreSQL listens, as the shared state shows it, or the remote primary's.
    pub(super) fn source(&self, name: &str) -> Option<Source> {
        if name == REMOTE {
            return self.remote()?.source;
        }
        let member = self.state.shared.as_ref()?.members.get(name)?;
        (!member.host.is_empty()).then(|| Source {
            host: member.host.clone(),
            port: member.port,
        })
    }

    pub(super) fn with_source<F>(
        &mut self,
        op: Op,
        name: &str,
        work: impl FnOnce(std::sync::Arc<super::Context>, Source) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let context = self.context.clone();
        if let Some(source) = self.source(name) {
            let work = work(context, source);
            return self.spawn(work);
        }
        self.no_address(op, name);
    }

    pub(super) fn no_address(&mut self, op: Op, name: &str) {
        let result = Err(format!("the address of {name} is not known"));
        self.tell(Event::OpDone { op, result });
    }
}

/// A duration of integer milliseconds.
pub(super) fn ms(value: Ms) -> Duration {
    Duration::from_millis(value)
}

impl Postmaster {
    /// The guardian refused: an answer for who waits for a start. A stop or a signal that came too
    /// late says nothing about that.
    pub(super) fn refuse(&mut self, what: &str, why: &str) {
        if what == "start" || what == "message" {
            self.answers += 1;
            self.refused = Some(why.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refused_start_answers_who_waits_for_a_start() {
        let mut postmaster = Postmaster::default();
        postmaster.refuse("signal", "no PostgreSQL is running");
        postmaster.refuse("stop", "no PostgreSQL is running");
        assert_eq!((postmaster.answers, &postmaster.refused), (0, &None));
        postmaster.refuse("start", "unarmed");
        assert_eq!(postmaster.answers, 1);
        assert_eq!(postmaster.refused.as_deref(), Some("unarmed"));
    }
}
