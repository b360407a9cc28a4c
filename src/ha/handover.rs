//! Giving the lock away on purpose: switchover, failover by hand, SIGTERM.
//!
//! Release and claim: checkpoint, stop, verified stop, release with proof. What was asked stands in
//! the shared object ([`super::asks`]).

use super::effect::{Effect, Rule, Stop};
use super::event::Op;
use super::model::{Ms, Name};
use super::received::Asked;
use super::shared::FailoverRecord;
use super::state::Process;
use super::step::Turn;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// Between two looks at the server while a request waits for what they show.
const LOOK_MS: Ms = 50;

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
    /// Whether the candidate has everything: what it was asked.
    #[serde(default)]
    pub asked: Option<Asked>,
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

/// The time after a release.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Succession {
    /// When I released the lock.
    pub released_at: Ms,
    /// When I saw another as the running primary.
    pub succeeded_at: Option<Ms>,
}

impl Turn<'_> {
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
            HandoverPhase::Stopping if self.start_may_land() => {}
            HandoverPhase::Stopping if self.s.pg.process == Process::Down => {
                self.set_phase(HandoverPhase::Releasing);
                return self.hand_over();
            }
            HandoverPhase::Stopping => {
                self.stop_in_order(Stop::Fast, Rule::Handover, &handover.because);
            }
            HandoverPhase::Releasing if self.s.pg.process != Process::Down => {
                self.set_phase(HandoverPhase::Stopping);
                return self.hand_over();
            }
            HandoverPhase::Releasing => {
                if self.end_awaited() || !self.successor_has_everything(&handover) {
                    return self.s.handover.is_some();
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
            let shared = self.s.shared.as_ref();
            if shared.is_some_and(|shared| !shared.failover.is_empty()) {
                self.asked_since();
            }
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
            self.forget_question();
            return;
        }
        if record.resource_version.is_some() && record.resource_version == self.s.refused {
            self.forget_question();
            let begun = "it was begun, and nobody else has led since".to_owned();
            self.s.refusal.get_or_insert(begun);
            return self.clear_failover_request();
        }
        if let Some(from) = &record.from
            && *from != self.s.me.name
        {
            self.forget_question();
            return; // About a leader of before: cleared by the duties.
        }
        let candidate = if self.s.rules.pause && record.to.is_none() {
            Err("in maintenance mode a switchover needs a candidate".to_owned())
        } else if self.end_is_known() {
            self.candidate(&record)
        } else {
            Err("PostgreSQL does not answer".to_owned())
        };
        match candidate {
            Ok(name) => {
                // Once: a candidate that gives the lock back would be asked again without end.
                self.s.refused.clone_from(&record.resource_version);
                let because = format!("asked to hand over to {name}");
                self.start_handover(Some(name), because);
            }
            // The probe may not have seen yet what whoever asks has: a standby that streams again.
            Err(why) => {
                let until = self.asked_since() + 2 * self.s.budgets.renew_ms;
                if self.now < until {
                    self.look_again(until);
                    return;
                }
                let words = format!("the request is refused: {why}");
                self.explain_once("handover", Rule::Handover, words);
                self.s.refusal = Some(why);
                self.refuse_request();
            }
        }
    }

    /// Where my WAL ended when somebody asked. An answer from before does not tell what was
    /// acknowledged since.
    fn end_is_known(&mut self) -> bool {
        let since = self.asked_since();
        let facts = self.s.pg.facts.as_ref();
        let fresh = facts.filter(|facts| facts.asked_at >= since);
        self.s.asked_lsn = self.s.asked_lsn.or(fresh.map(|facts| facts.lsn));
        self.s.asked_lsn.is_some()
    }

    fn look_again(&mut self, until: Ms) {
        if self.may("look", LOOK_MS) {
            self.emit(Effect::Look);
        }
        self.wake_at(until.min(self.now + LOOK_MS));
    }

    /// The request as it stands is not carried out, and is taken off.
    pub(super) fn refuse_request(&mut self) {
        let shared = self.s.shared.as_ref();
        let version = shared.and_then(|shared| shared.failover.resource_version.clone());
        self.s.refused = version;
        self.clear_failover_request();
    }

    fn forget_question(&mut self) {
        self.s.asked_since = None;
        self.s.asked_lsn = None;
    }

    pub(super) fn asked_since(&mut self) -> Ms {
        *self.s.asked_since.get_or_insert(self.now)
    }

    pub(super) fn start_handover(&mut self, to: Option<Name>, because: String) {
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
            asked: None,
        });
        if running {
            self.begin(Op::Checkpoint, Effect::Checkpoint);
        }
    }

    /// A member that can take over now, as the request says.
    pub(super) fn candidate(&self, record: &FailoverRecord) -> Result<Name, String> {
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
            if !by_hand && member.full {
                return Err(format!("the volume of {name} is full"));
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
            // One whose receiver hangs is shown as streaming for a while: it is to confirm what was
            // there when somebody asked, before anything is stopped for it.
            if let Some(end) = self.s.asked_lsn.filter(|end| sender.flush_lsn < *end) {
                let at = sender.flush_lsn;
                return Err(format!(
                    "{name} has confirmed my WAL up to {at}, and not up to {end}"
                ));
            }
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
            let rank = |name| (self.outlook(name), Reverse(self.priority(name)));
            let order = rank(&a.name).cmp(&rank(&b.name));
            order
                .then(b.flush_lsn.cmp(&a.flush_lsn))
                .then(a.name.cmp(&b.name))
        });
        senders
            .first()
            .map(|w| w.name.clone())
            .ok_or_else(|| "no healthy candidate".into())
    }
}
