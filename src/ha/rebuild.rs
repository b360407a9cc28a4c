//! A new copy of the leader over data that look sound: only because a person asked.
//!
//! The copy is made beside the old data and takes their place when it is whole, and only a running
//! primary that holds the lock is copied. Until then the old data are there: should the leader be
//! lost meanwhile, they may be the last ones that hold a commit, and they stand for election again.

use super::effect::{Effect, Rule, Stop};
use super::event::Op;
use super::model::DataDir;
use super::state::Process;
use super::step::Turn;
use serde::{Deserialize, Serialize};

/// Copies that may fail before the old data are started again.
const FAILED_MAX: u32 = 3;

/// A new copy that a person asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rebuild {
    /// Copies that failed.
    pub failed: u32,
    /// A server that does not stop politely is not waited for.
    pub force: bool,
}

impl Turn<'_> {
    pub(super) fn absorb_reinitialize(&mut self, id: u64, force: bool) {
        let answer = self.may_reinitialize(force);
        let done = answer.is_ok();
        if done {
            self.explain(Rule::Replica, "asked for a new copy of the leader");
            self.s.rebuild = Some(Rebuild { failed: 0, force });
            // What an earlier copy waits for is not waited for again.
            self.s.not_before.remove("Clone");
        }
        let text = answer
            .err()
            .unwrap_or_else(|| "reinitialize started".into());
        self.emit(Effect::Answer { id, done, text });
    }

    /// Patroni's words where it has them.
    fn may_reinitialize(&self, force: bool) -> Result<(), String> {
        if self.s.lease.held.is_some() || self.s.may_be_writable() {
            return Err("I am the leader, can not reinitialize".into());
        }
        if self.s.terminating {
            return Err("the member is being stopped".into());
        }
        if self.primary_leader_name().is_none() {
            return Err("Cluster has no leader, can not reinitialize".into());
        }
        if let Some(why) = self.untouchable() {
            return Err(why);
        }
        match &self.s.pg.op {
            Some(Op::Clone) => Err("reinitialize already in progress".into()),
            _ if self.s.rebuild.is_some() && !force => {
                Err("reinitialize already in progress".into())
            }
            Some(op) if !force => Err(format!("{op:?} already in progress")),
            _ => Ok(()),
        }
    }

    /// Stop, then copy. True: it is being done, and nothing else is to be.
    pub(super) fn rebuild(&mut self) -> bool {
        let Some(rebuild) = self.s.rebuild else {
            return false;
        };
        let Some(from) = self.primary_leader_name().cloned() else {
            return self.give_up_rebuild("there is no leader to copy any more");
        };
        match self.s.pg.process {
            // What is here is looked at first, as ever.
            Process::Unknown => return false,
            Process::Down if self.s.pg.data.is_none() => return false,
            Process::Running { .. } => {
                let how = if rebuild.force {
                    Stop::Immediate
                } else {
                    Stop::Fast
                };
                let why = "a new copy of the leader was asked for";
                if rebuild.force {
                    self.stop(how, Rule::Replica, why);
                } else {
                    self.stop_in_order(how, Rule::Replica, why);
                }
            }
            Process::Down => match self.untouchable() {
                Some(why) => return self.give_up_rebuild(&why),
                None => self.clone_from(from, "a person asked for it"),
            },
        }
        true
    }

    /// What is no data directory of this cluster is not replaced by a copy of it, whoever asks: a
    /// wrong `data_dir` looks like that.
    fn untouchable(&self) -> Option<String> {
        match &self.s.pg.data {
            Some(DataDir::Unusable(why)) => Some(why.clone()),
            _ => self.foreign_system_id(),
        }
    }

    /// The old data are as good as they were.
    fn give_up_rebuild(&mut self, why: &str) -> bool {
        self.s.rebuild = None;
        let words = format!("the new copy is given up: {why}; the old data go on");
        self.explain(Rule::Replica, words);
        false
    }

    pub(super) fn count_failed_rebuild(&mut self) {
        if let Some(rebuild) = &mut self.s.rebuild {
            rebuild.failed += 1;
            if rebuild.failed >= FAILED_MAX {
                self.give_up_rebuild("it failed again and again");
            }
        }
    }
}
