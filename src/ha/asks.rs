//! What people ask over REST: written down where everybody reads it, and answered once decided.
//!
//! Any member takes a person's question and writes it into the shared object; the leader acts on
//! the object. What nobody could carry out in time is taken back.

use super::belief::Vacancy;
use super::effect::{Effect, Rule};
use super::event::Ask;
use super::model::{Ms, Name};
use super::shared::SharedWrite;
use super::step::Turn;
use serde::{Deserialize, Serialize};

/// How long a person's question may wait for a checkpoint and a stop.
const ASK_MAX_MS: u64 = 60_000;
/// Questions waiting at once.
const ASKS_MAX: usize = 8;

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
    /// Though acknowledged commits may be lost with it.
    #[serde(default)]
    pub accepts_loss: bool,
    /// The request is in the shared object.
    pub written: bool,
    /// The answer is due.
    pub until: Ms,
    /// It was answered, and the request is being taken back.
    #[serde(default)]
    pub withdrawn: bool,
}

impl Turn<'_> {
    pub(super) fn absorb_ask(&mut self, id: u64, ask: Ask) {
        let mut accepted = false;
        let (failover, from, to) = match ask {
            Ask::Switchover { from, to } => (false, Some(from), to),
            Ask::Failover { to, accepts_loss } => {
                accepted = accepts_loss;
                (true, None, Some(to))
            }
            Ask::Vouch { holder } => return self.absorb_vouch(id, &holder),
            Ask::Promise {
                holder,
                epoch,
                ttl_ms,
            } => return self.absorb_request(id, holder, epoch, ttl_ms),
            Ask::Vote { fields } => return self.absorb_vote_question(id, &fields),
            Ask::Restart { timeout_ms } => return self.absorb_restart(id, timeout_ms),
            Ask::Reinitialize { force } => return self.absorb_reinitialize(id, force),
        };
        let takes_place = accepted && self.nobody_leads();
        let busy = self
            .s
            .shared
            .as_ref()
            .is_none_or(|shared| !shared.failover.is_empty() && !takes_place);
        if busy || self.s.asks.len() >= ASKS_MAX {
            let text =
                "another switchover or failover is in progress, or the cluster is not known yet";
            return self.emit(Effect::Answer {
                id,
                done: false,
                text: text.into(),
            });
        }
        if takes_place {
            self.drop_asks();
        }
        let until = self.now + ASK_MAX_MS + 2 * self.s.rules.ttl_ms;
        let what = if failover { "failover" } else { "switchover" };
        let of = |name: &Option<Name>| name.clone().unwrap_or_else(|| "anybody".to_owned());
        let words = format!("asked for a {what} from {} to {}", of(&from), of(&to));
        self.explain(Rule::Handover, words);
        self.s.refusal = None;
        self.s.asks.push(PendingAsk {
            id,
            failover,
            from,
            to,
            accepts_loss: accepted,
            written: false,
            until,
            withdrawn: false,
        });
    }

    /// Write the questions down, and answer those that are decided.
    pub(super) fn answer_asks(&mut self) {
        let Some(mut ask) = self.s.asks.first().cloned() else {
            return;
        };
        let Some(shared) = self.s.shared.clone() else {
            return;
        };
        let record = &shared.failover;
        let is_written = record.from == ask.from
            && record.to == ask.to
            && record.accepts_loss >= ask.accepts_loss
            && !record.is_empty();
        if ask.withdrawn {
            return self.take_back(is_written, record.resource_version.clone());
        }
        let takes_place = ask.accepts_loss && self.nobody_leads();
        if !ask.written && !is_written && (record.is_empty() || takes_place) {
            self.write_shared(SharedWrite::Failover {
                from: ask.from.clone(),
                to: ask.to.clone(),
                accepts_loss: ask.accepts_loss,
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
        let what = if ask.failover {
            "Failover"
        } else {
            "Switchover"
        };
        let answer = match moved {
            Some(name) if ask.written => Some((true, said(&ask, name))),
            _ if ask.written && record.is_empty() && leader.is_some() => {
                Some((false, format!("{what} failed{}", self.why_refused())))
            }
            _ if self.now >= ask.until => {
                let mut text = format!("{what} status unknown");
                text += &self.missing_acceptance(&ask);
                // Nobody expects it any more when whoever is to act comes back at last. A person's
                // word in the same record stands.
                if is_written && record.dead.is_none() && self.s.handover.is_none() {
                    text += ": it was not carried out in time, and is being taken back";
                    self.s.asks[0].withdrawn = true;
                }
                Some((false, text))
            }
            _ => None,
        };
        if let Some((done, text)) = answer {
            if !self.s.asks[0].withdrawn {
                self.s.asks.remove(0);
            }
            self.emit(Effect::Answer {
                id: ask.id,
                done,
                text,
            });
        } else {
            self.wake_at(ask.until);
        }
    }

    /// Nobody could carry out what stands in the record, or refuse it: a person's word that commits
    /// may be lost takes its place, and is not refused for as long as the other is waited for.
    fn nobody_leads(&self) -> bool {
        matches!(self.vacancy(), Vacancy::Free { .. })
    }

    /// Another takes their place; what is being taken back still is.
    fn drop_asks(&mut self) {
        let text = "another failover, which accepts that commits are lost, took its place";
        let (withdrawn, dropped) = std::mem::take(&mut self.s.asks)
            .into_iter()
            .partition(|ask| ask.withdrawn);
        self.s.asks = withdrawn;
        for PendingAsk { id, .. } in dropped {
            self.emit(Effect::Answer {
                id,
                done: false,
                text: text.into(),
            });
        }
    }

    /// Until it is gone, however often the API refuses.
    fn take_back(&mut self, stands: bool, expect: Option<String>) {
        if !stands {
            self.s.asks.remove(0);
            return;
        }
        self.write_no_request(expect);
    }

    fn write_no_request(&mut self, expect: Option<String>) {
        self.write_shared(SharedWrite::Failover {
            from: None,
            to: None,
            accepts_loss: false,
            expect,
        });
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

    /// Whoever leads has refused it.
    fn why_refused(&self) -> String {
        match (&self.s.refusal, self.s.other_holder()) {
            (Some(why), _) => format!(": {why}"),
            (None, Some(held)) => {
                let name = &held.holder.name;
                format!(": {name}, which leads, says why in its explanations (GET /explain)")
            }
            (None, None) => String::new(),
        }
    }

    /// What a failover by hand would have needed, for people.
    fn missing_acceptance(&self, ask: &PendingAsk) -> String {
        let name = ask
            .to
            .as_ref()
            .filter(|_| ask.failover && !ask.accepts_loss);
        match name.filter(|name| self.may_lose() && !self.sync_admits(name)) {
            Some(name) => format!(
                ": {name} is not known to have every acknowledged commit, and nobody has said \
                 that they may be lost (accept_data_loss)"
            ),
            None => String::new(),
        }
    }

    /// What a person's word overrules, where the lack is known.
    pub(super) fn word_of_failover(&self) -> String {
        let asked = "a person asked for a failover to me";
        let mine = self.s.position().map(|(_, lsn)| lsn);
        match (mine, self.s.lock.optime) {
            (Some(mine), Some(end)) if end > mine => {
                format!("{asked}: what the leader wrote from {mine} to {end} is given up")
            }
            _ => asked.into(),
        }
    }

    /// A request that is fulfilled, refused or about another leader.
    pub(super) fn clear_failover_request(&mut self) {
        let Some(record) = self.s.shared.as_ref().map(|shared| shared.failover.clone()) else {
            return;
        };
        let mine = self.s.asks.iter().any(|ask| !ask.written);
        if (!record.is_empty() || record.dead.is_some()) && !mine {
            self.write_no_request(record.resource_version);
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
