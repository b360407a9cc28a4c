//! What a member must not forget while its agent restarts: whose record does not grow old (G1).
//!
//! A fresh observer of a record waits for D, which is safe for a record that grows old. One with
//! the mark of maintenance mode or with a failsafe map does not, and who finds it deleted or damaged
//! cannot know that unless it remembers. Nor does a vote end with the agent that cast it.

use super::lock::{FailsafeMap, Held, LockBelief, MadeAnew};
use super::model::Identity;
use serde::{Deserialize, Serialize};

/// Kept beside the data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The last record with the mark of maintenance mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marked: Option<Held>,
    /// The last record with a failsafe map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapped: Option<Held>,
    /// The lock fields about which it voted last (G10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voted: Option<String>,
    /// The copy in the data directory is not known to hold what the published set says of its
    /// member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_anew: Option<MadeAnew>,
}

impl Memory {
    /// There is nothing to remember.
    pub fn is_empty(&self) -> bool {
        let records = self.marked.is_none() && self.mapped.is_none();
        records && self.voted.is_none() && self.made_anew.is_none()
    }

    /// Whether it is that of this belief, renewals aside: an older renewal forbids the same.
    pub fn is_of(&self, belief: &LockBelief) -> bool {
        same(self.marked.as_ref(), belief.marked.as_ref())
            && same(self.mapped.as_ref(), belief.mapped.as_ref())
            && self.voted == belief.voted
            && self.made_anew == belief.made_anew
    }
}

fn same(known: Option<&Held>, new: Option<&Held>) -> bool {
    known.map(what_counts) == new.map(what_counts)
}

fn what_counts(held: &Held) -> (&Identity, u64, Option<&FailsafeMap>) {
    (&held.holder, held.epoch, held.failsafe.as_ref())
}

impl LockBelief {
    /// The last holder with the mark of maintenance mode, unless one with a map has followed it: a
    /// restored store shows what is long over.
    pub fn marked_holder(&self) -> Option<&Held> {
        let later = self.mapped.as_ref().map_or(0, |mapped| mapped.epoch);
        self.marked.as_ref().filter(|marked| marked.epoch >= later)
    }

    /// The last holder with a failsafe map, unless one with the mark has followed it.
    pub fn mapped_holder(&self) -> Option<&Held> {
        let later = self.marked.as_ref().map_or(0, |marked| marked.epoch);
        self.mapped.as_ref().filter(|mapped| mapped.epoch >= later)
    }

    /// Whose record does not grow old, for all or for some.
    pub fn ageless(&self) -> impl Iterator<Item = &Held> {
        self.marked_holder().into_iter().chain(self.mapped_holder())
    }

    /// What the next agent has to know.
    pub fn memory(&self) -> Memory {
        Memory {
            marked: self.marked.clone(),
            mapped: self.mapped.clone(),
            voted: self.voted.clone(),
            made_anew: self.made_anew,
        }
    }

    /// What an agent before me knew: older records prove nothing about whoever is remembered.
    pub fn recall(&mut self, memory: Memory) {
        for held in memory.marked.iter().chain(&memory.mapped) {
            self.greatest_epoch = self.greatest_epoch.max(held.epoch);
            self.last_good_ttl_ms = self.last_good_ttl_ms.max(held.ttl_ms);
        }
        self.marked = memory.marked;
        self.mapped = memory.mapped;
        self.voted = memory.voted;
        self.made_anew = memory.made_anew;
    }
}
