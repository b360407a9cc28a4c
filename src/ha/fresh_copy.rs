//! A directory that was made anew does not hold what the published set says of its member's name.
//!
//! Whoever is listed has confirmed every acknowledged commit, with the data that it had then. A
//! member that lost its volume and was filled again, from a backup or from a replica, still has the
//! name; and where its leader could not take it off the list, the election would believe the list.
//! So it remembers, beside the data directory and before the copy begins, that the list is not about
//! this copy, until it has streamed from its leader to where that leader's WAL ended after the copy
//! was made: from there on a commit that waited for it is here.

use super::effect::{Effect, Rule};
use super::event::{Op, PgFacts};
use super::lock::MadeAnew;
use super::model::{DataDir, Lsn, Name};
use super::step::Turn;
use serde::{Deserialize, Serialize};

/// How far this copy has to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FreshCopy {
    /// The copies that this agent has begun: an answer about one before is of no use.
    pub number: u64,
    /// The epoch of the leader that was asked, and where its WAL ended.
    pub end: Option<(u64, Lsn)>,
}

impl Turn<'_> {
    /// A copy begins.
    pub(super) fn note_fresh_copy(&mut self) {
        let before = match (&self.s.pg.data, &self.s.lock.made_anew) {
            (_, Some(known)) => known.before,
            (Some(DataDir::Present(data)), None) => Some((data.timeline, data.lsn)),
            _ => None,
        };
        self.s.lock.made_anew = Some(MadeAnew { before });
        let number = self.s.pg.fresh_copy.number + 1;
        self.s.pg.fresh_copy = FreshCopy { number, end: None };
    }

    /// It is there: the directory before it is gone.
    pub(super) fn complete_fresh_copy(&mut self) {
        if let Some(made_anew) = &mut self.s.lock.made_anew {
            made_anew.before = None;
        }
    }

    /// After a copy that failed, or whose agent died: where the directory before it was left, that
    /// one counts.
    pub(super) fn recognize_copy(&mut self, data: &DataDir) {
        let before = self.s.lock.made_anew.and_then(|made_anew| made_anew.before);
        let (Some(before), DataDir::Present(data)) = (before, data) else {
            return;
        };
        if self.s.pg.op == Some(Op::Clone) {
            return;
        }
        if (data.timeline, data.lsn) == before {
            self.s.lock.made_anew = None;
        } else {
            self.complete_fresh_copy();
        }
    }

    /// A replica that runs: has it what its leader had after the copy was made?
    pub(super) fn prove_fresh_copy(&mut self, facts: &PgFacts, leader: &Name) {
        let direct = facts.streaming && self.s.pg.upstream.as_ref() == Some(leader);
        if self.s.lock.made_anew.is_none() || !direct {
            return;
        }
        let FreshCopy { number, end } = self.s.pg.fresh_copy;
        match end.filter(|(epoch, _)| Some(*epoch) == self.record_epoch()) {
            Some((_, end)) if facts.lsn >= end => {
                self.s.lock.made_anew = None;
                let words = format!("my new copy has come to {end}, where {leader}'s WAL ended");
                self.explain(Rule::Sync, words);
            }
            Some(_) => {}
            None if self.may("AskEnd", self.s.budgets.renew_ms) => {
                let with = leader.clone();
                self.emit(Effect::AskEnd { with, number });
            }
            None => {}
        }
    }

    pub(super) fn absorb_end(&mut self, with: &Name, number: u64, lsn: Lsn) {
        let current = self.leader_name().as_ref() == Some(with);
        let epoch = self.record_epoch().filter(|_| current);
        if number == self.s.pg.fresh_copy.number {
            self.s.pg.fresh_copy.end = epoch.map(|epoch| (epoch, lsn));
        }
    }

    /// It leads, or is about to: what it has is what counts.
    pub(super) fn lead_with_this_copy(&mut self) {
        self.s.lock.made_anew = None;
    }
}
