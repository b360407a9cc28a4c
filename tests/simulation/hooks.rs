//! The twins of the user's commands: callbacks are heard, hooks take their time, fail, hang for
//! longer than anybody waits, and answer too late.

use crate::world::{Faults, World};
use pgwarden::ha::event::Event;
use pgwarden::ha::hooks::{Guard, Wanted};

impl World {
    /// Every third seed has hooks; without a look at the dice, so that the others stay as they are.
    pub(crate) fn hooks_wanted(&self) -> Option<Event> {
        let all = Wanted {
            callbacks: true,
            pre_promote: true,
            before_stop: true,
            copies_without_leader: self.options.faults == Faults::WipedStandby,
            bootstraps: true,
        };
        self.options
            .seed
            .is_multiple_of(if all.copies_without_leader { 1 } else { 3 })
            .then_some(Event::HooksWanted(all))
    }

    pub(crate) fn run_hook(&mut self, node: usize, guard: Guard, number: u64) {
        let life = self.nodes[node].life;
        let (hangs, fails) = (self.rng.percent(4), self.rng.percent(15));
        let delay = match (self.healed, hangs) {
            (false, true) => self.rng.range(5_000, 20_000),
            _ => self.rng.range(5, 400),
        };
        let failure = (!self.healed && fails).then(|| "the hook says no".to_owned());
        let done = Event::HookDone {
            guard,
            number,
            result: failure.map_or(Ok(()), Err),
        };
        self.tell(delay, node, life, done);
    }
}
