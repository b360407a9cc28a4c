//! Votes: before one of a quorum leads, enough others have stopped receiving WAL and said how far
//! they came (G10).
//!
//! In quorum mode a commit is on some of the set, and a candidate cannot know by itself whether on
//! itself. Who votes has stopped its WAL receiver first: what it says is its last word about the
//! leader of before, which may be frozen, wake up later, and find nobody left to confirm a commit.
//! A vote is no choice between candidates: whoever asks about the same free lock gets one, and the
//! lock decides. It stands until the lock changes; a new agent stands by it ([`super::memory`]).

use super::belief::Vacancy;
use super::effect::{Effect, Rule};
use super::event::Op;
use super::model::{Lsn, Ms, Name, Timeline};
use super::state::{Answered, Process, Sabotage};
use super::step::Turn;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The topic of the operation.
const STOP_RECEIVER: &str = "StopReceiver";
/// Questions that wait at once.
const QUESTIONS_MAX: usize = 8;

/// What a member knows of votes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Votes {
    /// Those for me.
    pub ballot: Option<Ballot>,
    /// Questions that wait for the receiver's end: their numbers, and until when.
    pub questions: Vec<(u64, Ms)>,
    /// The WAL receiver has been stopped since, for the lock that I voted about.
    pub stopped_at: Option<Ms>,
}

/// The votes for me about one state of the lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// The round.
    pub round: u64,
    /// The epoch that I claim with them.
    pub epoch: u64,
    /// How far who voted had come.
    pub votes: BTreeMap<Name, (Timeline, Lsn)>,
    /// What the members of the race said beside it.
    pub answers: BTreeMap<Name, Answered>,
}

impl Turn<'_> {
    /// The race needs votes: ask for them.
    pub(super) fn ask_votes(&mut self, fields: &str) {
        self.s.votes.ballot = None;
        if self.votes_needed() == 0 {
            return;
        }
        let members = self.s.shared.as_ref().map(|shared| &shared.members);
        let api_url = |name: &Name| members.and_then(|m| m.get(name)).map(|m| m.api_url.clone());
        let voters = self.voters();
        let known = voters
            .iter()
            .filter_map(|name| Some((name.clone(), api_url(name)?)));
        let peers: Vec<(Name, String)> = known.filter(|(_, url)| !url.is_empty()).collect();
        let round = self.s.rounds;
        self.s.votes.ballot = Some(Ballot {
            round,
            epoch: self.s.lock.greatest_epoch + 1,
            ..Ballot::default()
        });
        self.emit(Effect::AskVotes {
            round,
            fields: fields.to_owned(),
            peers,
        });
    }

    pub(super) fn absorb_vote(
        &mut self,
        round: u64,
        name: Name,
        vote: Result<(Timeline, Lsn), String>,
    ) {
        let ballot = self.s.votes.ballot.as_mut();
        let Some(ballot) = ballot.filter(|ballot| ballot.round == round) else {
            return;
        };
        match vote {
            Ok(position) => {
                ballot.votes.insert(name, position);
            }
            Err(why) => {
                self.explain_once("vote", Rule::Election, format!("no vote of {name}: {why}"));
            }
        }
    }

    /// The race is won: the votes go with the claim.
    pub(super) fn seal_ballot(&mut self, answers: &BTreeMap<Name, Answered>) {
        if let Some(ballot) = &mut self.s.votes.ballot {
            ballot.answers.clone_from(answers);
        }
    }

    /// A candidate asks me about the lock with these fields.
    pub(super) fn absorb_vote_question(&mut self, id: u64, fields: &str) {
        if let Err(why) = self.may_vote(fields) {
            return self.refuse_vote(id, why);
        }
        if self.s.votes.questions.len() >= QUESTIONS_MAX {
            return self.refuse_vote(id, "too many questions at once".to_owned());
        }
        if self.s.lock.voted.as_deref() != Some(fields) {
            self.explain(
                Rule::G10,
                "the lock is free: I receive no more WAL, and vote",
            );
            self.s.lock.voted = Some(fields.to_owned());
            self.s.votes.stopped_at = None;
        }
        let until = self.now + self.s.budgets.call_ms;
        self.s.votes.questions.push((id, until));
    }

    fn may_vote(&self, fields: &str) -> Result<(), String> {
        let state = &self.s;
        let seen = state
            .lock
            .snapshot
            .as_ref()
            .map(|lock| lock.fields.as_str());
        if seen != Some(fields) {
            return Err("I see another record of the lock".to_owned());
        }
        if state.lease.held.is_some() || state.may_be_writable() {
            return Err("I lead".to_owned());
        }
        if state.is_unproven_copy() {
            return Err(
                "my copy was made anew and has not caught up with a leader since".to_owned(),
            );
        }
        if let Vacancy::Held { .. } = self.vacancy() {
            return Err("the lock is not free as I see it".to_owned());
        }
        if state.pg.facts.is_none() || !matches!(state.pg.process, Process::Running { .. }) {
            return Err("my PostgreSQL does not answer".to_owned());
        }
        Ok(())
    }

    fn refuse_vote(&mut self, id: u64, text: String) {
        let done = false;
        self.emit(Effect::Answer { id, done, text });
    }

    /// The lock that I voted about has not changed since: nobody is followed.
    pub(super) fn has_voted(&self) -> bool {
        self.s.lock.voted.is_some() && !self.s.sabotaged(Sabotage::VoterGoesOn)
    }

    /// Stop the receiver for who asks, then answer.
    pub(super) fn tend_votes(&mut self) {
        if self.s.lock.voted.is_none() {
            self.s.votes.stopped_at = None;
            let why = "the lock has changed".to_owned();
            return self.end_questions(&Err(why));
        }
        let running = matches!(self.s.pg.process, Process::Running { .. });
        let sabotaged = self.s.sabotaged(Sabotage::VoterGoesOn);
        if running && self.s.votes.stopped_at.is_none() && self.s.pg.op.is_none() {
            if sabotaged {
                self.s.votes.stopped_at = Some(self.now);
            } else if self.may(STOP_RECEIVER, self.s.budgets.renew_ms / 4) {
                self.s.pg.upstream = None;
                self.begin(Op::StopReceiver, Effect::StopReceiver);
            }
        }
        if self.s.votes.questions.is_empty() {
            return;
        }
        match self.last_word() {
            Some(word) => self.end_questions(&word),
            None => self.expire_questions(),
        }
    }

    /// How far I came, read after the receiver had stopped; `None`: not known yet.
    fn last_word(&self) -> Option<Result<(Timeline, Lsn), String>> {
        let stopped_at = self.s.votes.stopped_at?;
        let facts = self.s.pg.facts.as_ref()?;
        if facts.asked_at < stopped_at {
            return None;
        }
        if !facts.drained {
            let why = "I may have more WAL than I have replayed since my start";
            return Some(Err(why.to_owned()));
        }
        Some(Ok((facts.timeline, facts.lsn)))
    }

    fn end_questions(&mut self, word: &Result<(Timeline, Lsn), String>) {
        for (id, _) in std::mem::take(&mut self.s.votes.questions) {
            match word {
                Ok((timeline, lsn)) => self.emit(Effect::Vote {
                    id,
                    timeline: *timeline,
                    lsn: *lsn,
                }),
                Err(why) => self.refuse_vote(id, why.clone()),
            }
        }
    }

    fn expire_questions(&mut self) {
        let questions = std::mem::take(&mut self.s.votes.questions);
        for (id, until) in questions {
            if self.now < until {
                self.wake_at(until);
                self.s.votes.questions.push((id, until));
            } else {
                self.refuse_vote(id, "my WAL receiver has not stopped in time".to_owned());
            }
        }
    }

    /// The lock has changed, or its holder lives: whom I voted about is nobody's concern any more.
    pub(super) fn forget_vote(&mut self) {
        if self.s.lock.voted.take().is_some() {
            self.s.votes.stopped_at = None;
        }
    }
}
