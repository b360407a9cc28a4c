//! What comes from outside as events: from the guardian, from the watches, from people.

use super::{Runner, configuration, reload, schedule};
use crate::api;
use crate::dcs::SharedView;
use crate::dcs::watch::Seen;
use crate::guardian::protocol::Notice;
use crate::ha::event::{Ask, Event};
use crate::ha::lock::LockState;
use std::sync::atomic::Ordering::SeqCst;

/// The topic of a standing complaint.
const OBJECTS: &str = "the cluster's objects";

impl Runner {
    pub(super) fn translate(&mut self, notice: Notice) -> Option<Event> {
        match notice {
            Notice::Started { pid } => {
                self.context.postmaster.send_modify(|p| {
                    p.pid = Some(pid);
                    p.answers += 1;
                    p.refused = None;
                });
                let as_primary = self.context.starting_as_primary.load(SeqCst);
                Some(Event::PostmasterRuns { as_primary })
            }
            Notice::Refused { what, reason } => {
                tracing::warn!("the guardian refused {what:?}: {reason}");
                let pid = self.context.postmaster.borrow().pid;
                self.context
                    .postmaster
                    .send_modify(|p| p.refuse(&what, &reason));
                (pid.is_none() && self.state.pg.stopping.is_some())
                    .then_some(Event::PostmasterGone { why: reason })
            }
            Notice::Exited(exit) => {
                self.context.postmaster.send_modify(|p| {
                    p.pid = None;
                    p.ends += 1;
                });
                let how = match (exit.code, exit.signal) {
                    (_, Some(signal)) => format!("ended by signal {signal}"),
                    (Some(code), None) => format!("ended with code {code}"),
                    (None, None) => "ended".to_owned(),
                };
                let why = exit
                    .fenced
                    .map_or(how.clone(), |why| format!("{how}, fenced: {why}"));
                Some(Event::PostmasterGone { why })
            }
            Notice::Cleared { reason } => Some(Event::PostmasterGone { why: reason }),
            Notice::Fencing { reason } => {
                tracing::error!("the guardian fences PostgreSQL: {reason}");
                None
            }
            Notice::Hello(_) => None,
        }
    }

    pub(super) fn seen(&mut self, seen: Seen) -> Event {
        self.dcs_last_seen = jiff::Timestamp::now().as_second().unsigned_abs();
        match seen {
            Seen::Lock(lock) => {
                if matches!(lock.state, LockState::Released(_)) {
                    // Who follows is decided by positions: mine is asked for at once.
                    self.context.kick.notify_one();
                }
                Event::LockSeen {
                    lock,
                    quorum: false,
                }
            }
            Seen::Shared(view) => self.shared(*view, false),
        }
    }

    fn shared(&mut self, view: SharedView, quorum: bool) -> Event {
        let told: Vec<_> = view.problems.iter().map(ToString::to_string).collect();
        self.context.complaints.keep(OBJECTS, &told);
        if let Some(raw) = &view.config_raw
            && self.config_raw.as_deref() != Some(raw)
        {
            let (changed, good) = self.context.resolve(raw);
            self.settings_changed |= changed;
            self.config_raw = Some(raw.as_str().into());
            if let Ok(document) = serde_json::from_str::<serde_json::Value>(raw) {
                if good {
                    self.context.note_good(&document);
                }
                self.context.dcs.remember_config(document);
            }
        }
        Event::SharedSeen {
            shared: view.shared.into(),
            quorum,
        }
    }

    /// `None`: it is nothing to decide about.
    pub(super) fn question(&mut self, command: api::Command) -> Option<Event> {
        let context = self.context.clone();
        let ask = match &command.ask {
            api::Ask::Switchover { leader, candidate } => Ask::Switchover {
                from: leader.clone(),
                to: candidate.clone(),
            },
            api::Ask::Failover {
                candidate,
                accept_data_loss,
            } => Ask::Failover {
                to: candidate.clone(),
                accepts_loss: *accept_data_loss,
            },
            api::Ask::Vouch { holder } => Ask::Vouch {
                holder: holder.clone(),
            },
            api::Ask::Promise {
                holder,
                epoch,
                ttl_ms,
            } => Ask::Promise {
                holder: holder.clone(),
                epoch: *epoch,
                ttl_ms: *ttl_ms,
            },
            api::Ask::Vote { fields, .. } => Ask::Vote {
                fields: fields.clone(),
            },
            api::Ask::Restart { timeout_ms } => Ask::Restart {
                // An answer reaches who asks before that one gives up.
                timeout_ms: timeout_ms.saturating_sub(500),
            },
            api::Ask::Reinitialize { force } => Ask::Reinitialize { force: *force },
            api::Ask::Config(change) => {
                let shared = self.state.shared.as_ref();
                let members = shared
                    .map(|shared| shared.members.clone())
                    .unwrap_or_default();
                let change = change.clone();
                let change = configuration::run_change(context, change, members, command.reply);
                self.work.spawn(change);
                return None;
            }
            api::Ask::Reload => {
                self.work.spawn(reload::run_reload(context, command.reply));
                return None;
            }
            api::Ask::PlanSwitchover {
                leader,
                candidate,
                at,
            } => {
                let plan = (leader.clone(), candidate.clone(), at.clone());
                let plan = schedule::run_plan_switchover(context, plan, command.reply);
                self.work.spawn(plan);
                return None;
            }
            api::Ask::DropSwitchover => {
                let dropping = schedule::run_drop_switchover(context, command.reply);
                self.work.spawn(dropping);
                return None;
            }
            api::Ask::PlanRestart(plan) => {
                let answer = self.plan_restart(plan.clone());
                let _ = command.reply.send(answer);
                return None;
            }
            api::Ask::DropRestart => {
                let answer = self.drop_restart();
                let _ = command.reply.send(answer);
                return None;
            }
        };
        self.questions.retain(|_, (_, reply)| !reply.is_closed());
        let id = self.next_question;
        self.next_question += 1;
        self.questions.insert(id, (command.ask, command.reply));
        Some(Event::Asked { id, ask })
    }
}
