//! What the guardian says, as events.

use super::Runner;
use crate::guardian::protocol::Notice;
use crate::ha::event::Event;
use std::sync::atomic::Ordering::SeqCst;

impl Runner {
    pub(super) fn translate(&mut self, notice: Notice) -> Option<Event> {
        match notice {
            Notice::Started { pid } => {
                self.context.postmaster.send_modify(|p| {
                    p.pid = Some(pid);
                    p.answers += 1;
                    p.refused = None;
                });
                let as_primary = self.context.starting_as_primary.load(SeqCst);
                Some(Event::PostmasterRuns { as_primary })
            }
            Notice::Refused { what, reason } => {
                tracing::warn!("the guardian refused {what:?}: {reason}");
                let pid = self.context.postmaster.borrow().pid;
                self.context
                    .postmaster
                    .send_modify(|p| p.refuse(&what, &reason));
                (pid.is_none() && self.state.pg.stopping.is_some())
                    .then_some(Event::PostmasterGone { why: reason })
            }
            Notice::Exited(exit) => {
                self.context.postmaster.send_modify(|p| p.pid = None);
                let how = match (exit.code, exit.signal) {
                    (_, Some(signal)) => format!("ended by signal {signal}"),
                    (Some(code), None) => format!("ended with code {code}"),
                    (None, None) => "ended".to_owned(),
                };
                let why = exit
                    .fenced
                    .map_or(how.clone(), |why| format!("{how}, fenced: {why}"));
                Some(Event::PostmasterGone { why })
            }
            Notice::Cleared { reason } => Some(Event::PostmasterGone { why: reason }),
            Notice::Fencing { reason } => {
                tracing::error!("the guardian fences PostgreSQL: {reason}");
                None
            }
            Notice::Hello(_) => None,
        }
    }
}
