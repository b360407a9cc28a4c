//! The race for a free lock: who may take part, who should win, and the proof before the claim.

use super::belief::Vacancy;
use super::effect::{Effect, Rule};
use super::eligibility::UNLED;
use super::event::PeerStatus;
use super::model::{DataDir, Lsn, Ms, Name};
use super::shared::FailoverRecord;
use super::state::{Answered, Race, Sabotage};
use super::step::Turn;
use std::cmp::Reverse;
use std::collections::BTreeMap;

impl Turn<'_> {
    pub(super) fn absorb_answer(&mut self, round: u64, name: Name, status: Option<PeerStatus>) {
        if let Some(status) = &status {
            self.absorb_successor(round, &name, (status.timeline, status.lsn));
        }
        if let Some(race) = self.s.race.as_mut().filter(|race| race.round == round) {
            race.answers
                .insert(name, status.map_or(Answered::Unreachable, Answered::Said));
        }
    }

    /// Take the lock if it is free and nobody is better.
    pub(super) fn campaign(&mut self) {
        let because = match self.vacancy() {
            Vacancy::Held { until } => {
                self.s.race = None;
                self.s.deferring_since = None;
                self.settled("vacancy");
                self.settled(UNLED);
                self.wake_at(until);
                self.explain_mark();
                self.explain_map();
                return self.seek_proof();
            }
            Vacancy::Free { because } => because,
        };
        if let Err(why) = self.may_race_in_pause() {
            self.s.race = None;
            return self.explain_once("eligible", Rule::Pause, why);
        }
        if let Err(why) = self.eligible() {
            self.s.race = None;
            self.explain_once("eligible", Rule::Election, format!("no candidate: {why}"));
            return self.explain_unled(&why);
        }
        self.settled("eligible");
        self.settled(UNLED);
        self.explain_admission();
        if self.now < self.s.stand_aside_until {
            return self.wake_at(self.s.stand_aside_until);
        }
        if let Some(until) = self.looks_again_until() {
            return self.wake_at(until);
        }
        let fields = self
            .s
            .lock
            .snapshot
            .as_ref()
            .map(|lock| lock.fields.clone());
        let fields = fields.unwrap_or_default();
        if self
            .s
            .race
            .as_ref()
            .is_none_or(|race| race.fields != fields)
        {
            self.start_race(fields, &because);
        }
        self.advance_race();
    }

    /// L5: look for proof while the record's age is no reason yet.
    fn seek_proof(&mut self) {
        let ageless = self.s.lock.ageless().next();
        let Some(held) = self.s.other_holder().or(ageless) else {
            return;
        };
        let streaming = self
            .s
            .pg
            .facts
            .as_ref()
            .is_some_and(|facts| facts.streaming);
        let old = self.now >= self.s.lock.changed_at + 2 * self.s.budgets.renew_ms;
        if (streaming && !old) || self.s.pg.data == Some(DataDir::Empty) {
            return;
        }
        if held.place.container_id.is_empty() {
            return;
        }
        let (holder, place) = (held.holder.clone(), held.place.clone());
        if self.may("proof", 1_000) {
            let fields = self
                .s
                .lock
                .snapshot
                .as_ref()
                .map(|lock| lock.fields.clone());
            self.emit(Effect::SeekProof {
                fields: fields.unwrap_or_default(),
                holder,
                place,
            });
        }
    }

    fn start_race(&mut self, fields: String, because: &str) {
        if !self.may("race", self.s.budgets.renew_ms / 2) {
            return;
        }
        let mine = self.s.position();
        let place = mine.map_or("no data".into(), |(tl, lsn)| {
            format!("timeline {tl}, {lsn}")
        });
        self.explain_once(
            "vacancy",
            Rule::Election,
            format!("the lock is free: {because}; I am at {place}"),
        );
        self.s.rounds += 1;
        let peers = self.peers();
        let answers = peers
            .iter()
            .map(|(name, _)| (name.clone(), Answered::Waiting))
            .collect();
        self.s.race = Some(Race {
            round: self.s.rounds,
            fields,
            until: self.now + self.s.budgets.call_ms,
            answers,
            confirming: false,
            confirmed: false,
        });
        if !peers.is_empty() {
            self.emit(Effect::AskPeers {
                round: self.s.rounds,
                peers,
            });
        }
        let fields = self.s.race.as_ref().map(|race| race.fields.clone());
        self.ask_votes(&fields.unwrap_or_default());
    }

    /// Members to ask; nobody when there is no cluster yet.
    fn peers(&self) -> Vec<(Name, String)> {
        let Some(shared) = &self.s.shared else {
            return Vec::new();
        };
        if self.s.position().is_none() {
            return Vec::new();
        }
        let others = shared
            .members
            .iter()
            .filter(|(name, _)| **name != self.s.me.name);
        others
            .filter(|(_, member)| !member.api_url.is_empty())
            .map(|(name, member)| (name.clone(), member.api_url.clone()))
            .collect()
    }

    fn advance_race(&mut self) {
        let Some(race) = self.s.race.clone() else {
            return;
        };
        if race.confirmed {
            if self.may_write_lock() {
                let Some(lock) = self.s.lock.snapshot.clone() else {
                    return;
                };
                self.explain(
                    Rule::L2,
                    "the quorum read shows the same record: claim the lock",
                );
                // A conflict or an unknown outcome starts over from a new read.
                self.s.race = None;
                self.claim(&lock);
            }
            return;
        }
        if race.confirming {
            // What the others said is too old to act on by then.
            if self.now >= race.until {
                self.s.race = None;
            }
            return self.wake_at(race.until);
        }
        let waiting = race
            .answers
            .values()
            .any(|answer| *answer == Answered::Waiting);
        let waiting = waiting || self.enough_votes(&race.answers).is_err();
        if waiting && self.now < race.until {
            return self.wake_at(race.until);
        }
        match self.judge(&race.answers) {
            Ok(words) => {
                self.explain(Rule::Election, words);
                self.seal_ballot(&race.answers);
                if let Some(race) = &mut self.s.race {
                    race.confirming = true;
                    race.until = self.now + self.s.budgets.call_ms;
                }
                self.read_lock_again();
            }
            Err(why) => {
                self.explain_once("defer", Rule::Election, why);
                self.s.race = None;
            }
        }
    }

    /// Whether I should win, and why.
    fn judge(&mut self, answers: &BTreeMap<Name, Answered>) -> Result<String, String> {
        let said: Vec<(&Name, &PeerStatus)> = answers
            .iter()
            .filter_map(|(name, answer)| match answer {
                Answered::Said(status) => Some((name, status)),
                Answered::Waiting | Answered::Unreachable => None,
            })
            .collect();
        let heard = said.len();
        if self.failover_to_me() {
            return Ok(self.word_of_failover());
        }
        if let Some((name, _)) = said.iter().find(|(_, status)| status.primary) {
            return Err(format!("{name} answers as a running primary"));
        }
        let mine = self.s.position().unwrap_or((0, Lsn(0)));
        let wanted = self.wanted_candidate();
        let may_lead = |name: &Name, status: &PeerStatus| {
            let released = || self.has_released_line(status.timeline, status.lsn);
            self.sync_admits(name) || (!self.s.runs_patroni(name) && released())
        };
        let better = said
            .iter()
            .filter(|(name, status)| status.eligible && may_lead(name, status))
            .find(|(name, status)| {
                let theirs = (status.timeline, status.lsn);
                let chosen = wanted.as_ref() == Some(name);
                let me = &self.s.me.name;
                let rank = |name: &Name| {
                    let full = self.has_full_volume(name);
                    (full, self.outlook(name), Reverse(self.priority(name)))
                };
                let before = theirs == mine && (rank(name), *name) < (rank(me), me);
                let before = before && !self.s.runs_patroni(name);
                chosen || theirs > mine || (before && wanted.as_ref() != Some(&self.s.me.name))
            });
        if let Some((name, status)) = better
            && !self.s.sabotaged(Sabotage::TimelineCheckOff)
        {
            let since = *self.s.deferring_since.get_or_insert(self.now);
            let patience_ms = self.patience_ms((status.timeline, status.lsn) > mine);
            if self.now < since + patience_ms {
                let (tl, lsn) = (status.timeline, status.lsn);
                return Err(format!("{name} goes first: timeline {tl}, {lsn}"));
            }
            let words = format!("{name} should have led and did not act for {patience_ms} ms");
            return self.enough_votes(answers).map(|()| words);
        }
        self.enough_votes(answers)?;
        Ok(format!(
            "nobody of {heard} who answered (of {} asked) is ahead",
            answers.len()
        ))
    }

    /// A more advanced member gets a whole D to act; one that only sorts first, a moment.
    fn patience_ms(&self, ahead: bool) -> Ms {
        if ahead {
            self.s.rules.ttl_ms
        } else {
            self.s.budgets.renew_ms
        }
    }

    /// A person named me, whatever I lack: where commits have waited for others, only by a word
    /// that they may be lost. Without that word I am one who is wanted, and has to be admitted.
    pub(super) fn failover_to_me(&self) -> bool {
        let request = self.s.shared.as_ref().map(|shared| &shared.failover);
        let me = Some(&self.s.me.name);
        let named = |r: &&FailoverRecord| r.from.is_none() && r.to.as_ref() == me;
        let request = request.filter(named);
        request.is_some_and(|r| r.accepts_loss || !self.may_lose())
    }

    fn wanted_candidate(&self) -> Option<Name> {
        self.s.shared.as_ref()?.failover.to.clone()
    }
}
