//! What an agent after this one must know is on disk before anything that follows from it leaves.

use super::Runner;
use crate::ha::effect::Effect;

/// The topic of a complaint.
const FORGETFUL: &str = "the lock's holder cannot be noted beside the data directory";
/// The topic of another.
const OWNERLESS: &str = "the own slots cannot be noted beside the data directory";

impl Runner {
    /// G1: on disk before anything that follows from it. False: it is not, and an agent after me
    /// would not know.
    pub(super) fn remember(&mut self) -> bool {
        self.remember_slots();
        if self.remembered.is_of(&self.state.lock) {
            return true;
        }
        let memory = self.state.lock.memory();
        match crate::agent::notes::write_memory(&self.memory_file, &memory) {
            Ok(()) => {
                self.context.complaints.settle(FORGETFUL);
                self.remembered = memory;
                true
            }
            // Tried again with the next step.
            Err(error) => {
                self.context.complaints.say(FORGETFUL, error.to_string());
                false
            }
        }
    }

    /// A slot has an owner before it is there.
    fn remember_slots(&mut self) {
        let owned = &self.state.slots.owned;
        if self.slots_remembered == *owned {
            return;
        }
        match crate::agent::notes::write_slots(&self.slots_file, owned) {
            Ok(()) => {
                self.context.complaints.settle(OWNERLESS);
                self.slots_remembered.clone_from(owned);
            }
            Err(error) => self.context.complaints.say(OWNERLESS, error.to_string()),
        }
    }
}

/// What may leave although the memory could not be written: no vote, since an agent after me would
/// not stand by it (G10).
pub(super) fn unvouched(effect: Effect) -> Effect {
    match effect {
        Effect::Vote { id, .. } => Effect::Answer {
            id,
            done: false,
            text: "the vote cannot be kept beside the data directory".to_owned(),
        },
        other => other,
    }
}
