//! A volume that is full: full is not dead (G9), and it is left before it becomes so.
//!
//! A server that finds no room for its next WAL segment panics, and cannot start again. While it
//! still serves it can stop in order, and a member whose volume has room goes on with everything.
//! Where nobody has room it is left as it is: a move would only fill another volume.

use super::effect::Rule;
use super::model::Ms;
use super::shared::FailoverRecord;
use super::step::Turn;

/// Between two attempts to leave.
const AGAIN_MS: Ms = 60_000;

impl Turn<'_> {
    pub(super) fn leave_full_volume(&mut self) {
        if !self.s.pg.full {
            return self.settled("full");
        }
        let wanted = FailoverRecord {
            from: Some(self.s.me.name.clone()),
            ..FailoverRecord::default()
        };
        let found = if self.s.rules.pause {
            Err("in maintenance mode nobody takes over".to_owned())
        } else {
            self.candidate(&wanted)
        };
        match found {
            Ok(name) if self.may("leave-full", AGAIN_MS) => {
                let because = format!("the volume of my data is full, and that of {name} is not");
                self.start_handover(Some(name), because);
            }
            Ok(_) => {}
            Err(why) => {
                let words = format!("the volume of my data is full, and {why}: I go on");
                self.explain_once("full", Rule::G9, words);
            }
        }
    }

    /// As far as it has said.
    pub(super) fn has_full_volume(&self, name: &str) -> bool {
        if *name == self.s.me.name {
            return self.s.pg.full;
        }
        let shared = self.s.shared.as_ref();
        let member = shared.and_then(|shared| shared.members.get(name));
        member.is_some_and(|member| member.full)
    }
}
