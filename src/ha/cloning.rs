//! A copy of the leader in place of what is here, or of nothing.

use super::effect::{Effect, Rule};
use super::event::Op;
use super::model::{Ms, Name};
use super::step::Turn;

/// The longest pause after clones that failed.
const PAUSE_MAX_MS: Ms = 60_000;

impl Turn<'_> {
    pub(super) fn clone_from(&mut self, from: Name, why: &str) {
        let epoch = self.record_epoch();
        if self.s.pg.failed_clones.1 != epoch {
            // Another leader may have what the last one could not give.
            self.s.pg.failed_clones = (0, epoch);
            self.s.not_before.remove("Clone");
        }
        if self.may("Clone", 2 * self.s.budgets.renew_ms) {
            self.explain(Rule::Replica, format!("clone {from}: {why}"));
            self.begin(Op::Clone, Effect::Clone { from });
        }
    }

    /// Each copies everything anew: one that fails again and again must not burden the leader.
    pub(super) fn pause_after_clone(&mut self) -> Ms {
        let failed = &mut self.s.pg.failed_clones.0;
        let pause_ms = self.s.budgets.renew_ms << (*failed).min(5);
        *failed += 1;
        pause_ms.min(PAUSE_MAX_MS)
    }
}
