//! The twins of the user's commands: callbacks are heard, hooks take their time, fail, hang for
//! longer than anybody waits, and answer too late.

use crate::world::{Faults, TTL_MS, World};
use pgwarden::ha::event::Event;
use pgwarden::ha::hooks::{Guard, Wanted};

impl World {
    /// Every third seed has hooks; without a look at the dice, so that the others stay as they are.
    pub(crate) fn hooks_wanted(&self) -> Option<Event> {
        let about_them = matches!(
            self.options.faults,
            Faults::WipedStandby | Faults::HookHangs
        );
        let all = Wanted {
            callbacks: true,
            pre_promote: true,
            before_stop: true,
            copies_without_leader: self.options.faults == Faults::WipedStandby,
            bootstraps: true,
        };
        self.options
            .seed
            .is_multiple_of(if about_them { 1 } else { 3 })
            .then_some(Event::HooksWanted(all))
    }

    pub(crate) fn run_hook(&mut self, node: usize, guard: Guard, number: u64) {
        let life = self.nodes[node].life;
        let (hangs, fails) = (self.rng.percent(4), self.rng.percent(15));
        let stuck = guard == Guard::BeforeStop && self.options.faults == Faults::HookHangs;
        let delay = match (self.healed, hangs) {
            (false, _) if stuck => 3 * TTL_MS,
            (false, true) => self.rng.range(5_000, 20_000),
            _ => self.rng.range(5, 400),
        };
        self.nodes[node].hook_until = self.now + delay;
        let failure = (!self.healed && fails).then(|| "the hook says no".to_owned());
        let done = Event::HookDone {
            guard,
            number,
            result: failure.map_or(Ok(()), Err),
        };
        self.tell(delay, node, life, done);
    }
}
