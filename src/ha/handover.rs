//! Giving the lock away on purpose: switchover, failover by hand, SIGTERM.
//!
//! Release and claim: checkpoint, stop, verified stop, release with proof. Any member takes a
//! person's question and writes it into the shared object; the leader acts on the object.

use super::effect::{Effect, Rule, Stop};
use super::event::{Ask, Op};
use super::model::{Ms, Name};
use super::shared::{FailoverRecord, SharedWrite};
use super::state::Process;
use super::step::Turn;
use serde::{Deserialize, Serialize};

/// How long a person's question may wait for a checkpoint and a stop.
const ASK_MAX_MS: u64 = 60_000;
/// Questions waiting at once.
const ASKS_MAX: usize = 8;

/// A handover in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Handover {
    /// The candidate, when named.
    pub to: Option<Name>,
    /// Why, in words.
    pub because: String,
    /// The step it is at.
    pub phase: HandoverPhase,
    /// It must have ended by.
    pub until: Ms,
}

/// The steps of a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HandoverPhase {
    /// A checkpoint first.
    Checkpoint,
    /// PostgreSQL stops.
    Stopping,
    /// The release is on its way.
    Releasing,
}

/// A person's question.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PendingAsk {
    /// Its number.
    pub id: u64,
    /// It is a failover by hand.
    pub failover: bool,
    /// From whom.
    pub from: Option<Name>,
    /// To whom.
    pub to: Option<Name>,
    /// The request is in the shared object.
    pub written: bool,
    /// The answer is due.
    pub until: Ms,
}

/// The time after a release.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Succession {
    /// When I released the lock.
    pub released_at: Ms,
    /// When I saw another as the running primary.
    pub succeeded_at: Option<Ms>,
}

impl Turn<'_> {
    pub(super) fn absorb_ask(&mut self, id: u64, ask: Ask) {
        let (failover, from, to) = match ask {
            Ask::Switchover { from, to } => (false, Some(from), to),
            Ask::Failover { to } => (true, None, Some(to)),
            Ask::Vouch { holder } => return self.absorb_vouch(id, &holder),
            Ask::Promise {
                holder,
                epoch,
                ttl_ms,
            } => return self.absorb_request(id, holder, epoch, ttl_ms),
            Ask::Restart { timeout_ms } => return self.absorb_restart(id, timeout_ms),
            Ask::Reinitialize { force } => return self.absorb_reinitialize(id, force),
        };
        let busy = self
            .s
            .shared
            .as_ref()
            .is_none_or(|shared| !shared.failover.is_empty());
        if busy || self.s.asks.len() >= ASKS_MAX {
            let text =
                "another switchover or failover is in progress, or the cluster is not known yet";
            return self.emit(Effect::Answer {
                id,
                done: false,
                text: text.into(),
            });
        }
        let until = self.now + ASK_MAX_MS + 2 * self.s.rules.ttl_ms;
        let words = format!(
            "asked for a {}",
            if failover { "failover" } else { "switchover" }
        );
        self.explain(Rule::Handover, format!("{words} from {from:?} to {to:?}"));
        self.s.asks.push(PendingAsk {
            id,
            failover,
            from,
            to,
            written: false,
            until,
        });
    }

    /// Write the questions down, and answer those that are decided.
    pub(super) fn answer_asks(&mut self) {
        let Some(shared) = self.s.shared.clone() else {
            return;
        };
        let Some(mut ask) = self.s.asks.first().cloned() else {
            return;
        };
        let record = &shared.failover;
        let is_written = record.from == ask.from && record.to == ask.to && !record.is_empty();
        if !ask.written && !is_written && record.is_empty() {
            self.write_shared(SharedWrite::Failover {
                from: ask.from.clone(),
                to: ask.to.clone(),
                expect: record.resource_version.clone(),
            });
        }
        ask.written |= is_written;
        self.s.asks[0].written = ask.written;
        let leader = self.primary_now();
        let moved = leader.as_ref().filter(|name| {
            ask.from.as_ref() != Some(*name)
                && (ask.from.is_some() || ask.to.as_ref() == Some(*name))
        });
        let answer = match moved {
            Some(name) if ask.written => Some((true, said(&ask, name))),
            _ if ask.written && record.is_empty() && leader.is_some() => {
                let what = if ask.failover {
                    "Failover failed"
                } else {
                    "Switchover failed"
                };
                Some((false, what.to_owned()))
            }
            _ if self.now >= ask.until => {
                let what = if ask.failover {
                    "Failover"
                } else {
                    "Switchover"
                };
                Some((false, format!("{what} status unknown")))
            }
            _ => None,
        };
        if let Some((done, text)) = answer {
            self.s.asks.remove(0);
            self.emit(Effect::Answer {
                id: ask.id,
                done,
                text,
            });
        } else {
            self.wake_at(ask.until);
        }
    }

    /// The holder that runs as a primary, as far as I see.
    fn primary_now(&self) -> Option<Name> {
        if self.s.holds(self.now) {
            return self.serves_as_leader().then(|| self.s.me.name.clone());
        }
        let held = self.s.other_holder()?;
        let member = self.s.shared.as_ref()?.members.get(&held.holder.name)?;
        member.serves_as_leader().then(|| held.holder.name.clone())
    }

    /// Carry on with a handover, or begin one; true while it is in progress.
    pub(super) fn hand_over(&mut self) -> bool {
        if self.s.handover.is_none() {
            self.begin_handover();
        }
        let Some(handover) = self.s.handover.clone() else {
            return false;
        };
        match handover.phase {
            HandoverPhase::Checkpoint => {
                if self.s.pg.op.is_none() {
                    self.set_phase(HandoverPhase::Stopping);
                    return self.hand_over();
                }
                self.wake_at(handover.until);
                if self.now >= handover.until {
                    self.set_phase(HandoverPhase::Stopping);
                }
            }
            // A start on its way may yet reach an armed guardian: it runs first and is stopped, or
            // it fails. Once the release has left, nothing writable may start (L4).
            HandoverPhase::Stopping
                if self.s.pg.process == Process::Down && self.s.pg.op == Some(Op::StartPrimary) => {
            }
            HandoverPhase::Stopping if self.s.pg.process == Process::Down => {
                self.set_phase(HandoverPhase::Releasing);
                return self.hand_over();
            }
            HandoverPhase::Stopping => {
                self.stop(Stop::Fast, Rule::Handover, &handover.because);
            }
            HandoverPhase::Releasing if self.s.pg.process != Process::Down => {
                self.set_phase(HandoverPhase::Stopping);
                return self.hand_over();
            }
            HandoverPhase::Releasing => {
                if self.end_awaited() {
                    return true;
                }
                let due = self.may_write_lock();
                if let Some(epoch) = self.s.lease.held.as_ref().map(|held| held.epoch)
                    && due
                {
                    self.explain(Rule::L4, "verified stop: release the lock with proof");
                    self.release(epoch);
                }
            }
        }
        true
    }

    fn set_phase(&mut self, phase: HandoverPhase) {
        if let Some(handover) = &mut self.s.handover {
            handover.phase = phase;
        }
    }

    fn begin_handover(&mut self) {
        // It ends soon, and the checkpoint before the stop is worth the wait.
        if self.s.pg.op == Some(Op::Configure) {
            return;
        }
        if self.s.terminating && self.s.rules.pause {
            let because = "terminating in maintenance mode: stop, and nobody takes over";
            return self.start_handover(None, because.to_owned());
        }
        if self.s.terminating {
            if let Some(until) = self.heir_awaited_until() {
                let words = "terminating: the synchronous set moves to a member that stays first";
                self.explain_once("heir", Rule::Handover, words);
                return self.wake_at(until);
            }
            let because = "terminating: hand the lock over".to_owned();
            return self.start_handover(None, because);
        }
        let Some(record) = self.s.shared.as_ref().map(|shared| shared.failover.clone()) else {
            return;
        };
        let to_me = record.to.as_ref() == Some(&self.s.me.name);
        if record.is_empty() || to_me || !self.serves_as_leader() {
            self.s.asked_since = None;
            return;
        }
        if let Some(from) = &record.from
            && *from != self.s.me.name
        {
            self.s.asked_since = None;
            return; // About a leader of before: cleared by the duties.
        }
        let unnamed = self.s.rules.pause && record.to.is_none();
        let candidate = if unnamed {
            Err("in maintenance mode a switchover needs a candidate".to_owned())
        } else {
            self.candidate(&record)
        };
        match candidate {
            Ok(name) => {
                let because = format!("asked to hand over to {name}");
                self.start_handover(Some(name), because);
            }
            // The probe may not have seen yet what whoever asks has: a standby that streams again.
            Err(why) => {
                let until = self.asked_since() + 2 * self.s.budgets.renew_ms;
                if self.now < until {
                    return self.wake_at(until);
                }
                self.explain_once(
                    "handover",
                    Rule::Handover,
                    format!("the request is refused: {why}"),
                );
                self.clear_failover_request();
            }
        }
    }

    pub(super) fn asked_since(&mut self) -> Ms {
        *self.s.asked_since.get_or_insert(self.now)
    }

    fn start_handover(&mut self, to: Option<Name>, because: String) {
        self.explain(Rule::Handover, because.clone());
        let until = self.now + 30_000;
        let running = self.s.is_primary() && self.s.pg.op.is_none() && self.s.pg.stopping.is_none();
        let phase = if running {
            HandoverPhase::Checkpoint
        } else {
            HandoverPhase::Stopping
        };
        self.s.handover = Some(Handover {
            to,
            because,
            phase,
            until,
        });
        if running {
            self.begin(Op::Checkpoint, Effect::Checkpoint);
        }
    }

    /// A member that can take over now, as the request says.
    fn candidate(&self, record: &FailoverRecord) -> Result<Name, String> {
        let by_hand = record.from.is_none();
        let Some(shared) = &self.s.shared else {
            return Err("the cluster is not known".into());
        };
        let Some(facts) = &self.s.pg.facts else {
            return Err("PostgreSQL does not answer".into());
        };
        let usable = |name: &Name| -> Result<(), String> {
            let Some(member) = shared.members.get(name) else {
                return Err(format!("{name} is no member"));
            };
            if member.nofailover() {
                return Err(format!("{name} has the tag nofailover"));
            }
            if !by_hand && !self.sync_admits(name) {
                return Err(format!("{name} is not in the synchronous set"));
            }
            let sender = facts
                .walsenders
                .iter()
                .find(|w| w.name == *name && self.is_streaming(w));
            let Some(sender) = sender else {
                return Err(format!("{name} is not streaming"));
            };
            let lag_bytes = facts.lsn.0.saturating_sub(sender.flush_lsn.0);
            if !by_hand && lag_bytes > self.s.rules.maximum_lag_on_failover_bytes {
                return Err(format!("{name} is {lag_bytes} bytes behind"));
            }
            Ok(())
        };
        if let Some(name) = &record.to {
            return usable(name).map(|()| name.clone());
        }
        let mut senders: Vec<_> = facts
            .walsenders
            .iter()
            .filter(|w| usable(&w.name).is_ok())
            .collect();
        senders.sort_by(|a, b| {
            let order = self.outlook(&a.name).cmp(&self.outlook(&b.name));
            order
                .then(b.flush_lsn.cmp(&a.flush_lsn))
                .then(a.name.cmp(&b.name))
        });
        senders
            .first()
            .map(|w| w.name.clone())
            .ok_or_else(|| "no healthy candidate".into())
    }

    /// A request that is fulfilled, refused or about another leader.
    pub(super) fn clear_failover_request(&mut self) {
        let Some(record) = self.s.shared.as_ref().map(|shared| shared.failover.clone()) else {
            return;
        };
        let mine = self.s.asks.iter().any(|ask| !ask.written);
        if (!record.is_empty() || record.dead.is_some()) && !mine {
            let expect = record.resource_version;
            self.write_shared(SharedWrite::Failover {
                from: None,
                to: None,
                expect,
            });
        }
    }
}

fn said(ask: &PendingAsk, leader: &str) -> String {
    match &ask.to {
        Some(to) if to != leader => format!("Switched over to \"{leader}\" instead of \"{to}\""),
        _ if ask.failover => format!("Successfully failed over to \"{leader}\""),
        _ => format!("Successfully switched over to \"{leader}\""),
    }
}
