//! What keeps this member from its work, for people who look at the whole cluster: published with
//! its status, and shown by every other member.
//!
//! No decision depends on it. A full volume stands for what fails because of it.

use super::Context;
use super::news;
use super::server::blocking;
use crate::dcs::codec::trouble::bounded;
use crate::ha::event::{Event, Op};
use crate::ha::model::DataDir;
use crate::postgres::probe::Facts;
use crate::postgres::room;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks at the volumes.
const LOOK: Duration = Duration::from_secs(5);
/// What PostgreSQL needs at once, unless a running server says otherwise.
const SEGMENT_BYTES: u64 = 16 << 20;

/// What stands in the way at the moment.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    failed: Option<(Op, String)>,
    untouched: Option<String>,
}

impl Troubles {
    pub(super) fn absorb(&mut self, event: &Event) {
        match event {
            Event::OpDone { op, result } => match news::failure(op, result) {
                Some(why) => self.keep_failure(op, bounded(&why)),
                None if self.failed.as_ref().is_some_and(|(failed, _)| failed == op) => {
                    self.failed = None;
                }
                None => {}
            },
            Event::PgSeen(_) => self.failed = None,
            Event::DataSeen(DataDir::Unusable(why)) => self.untouched = Some(bounded(why)),
            Event::DataSeen(_) => self.untouched = None,
            _ => {}
        }
    }

    /// The first one of those that are alike: each further one would be written to the Pod.
    fn keep_failure(&mut self, op: &Op, why: String) {
        let known = self.failed.as_ref();
        if !known.is_some_and(|(_, known)| news::is_alike(known, &why)) {
            self.failed = Some((op.clone(), why));
        }
    }

    /// In one sentence; empty: nothing. `obstacle` is what the Kubernetes side stands in the way
    /// with.
    pub(super) fn words(&self, full_volume: Option<&str>, obstacle: Option<&str>) -> String {
        let failed = self.failed.as_ref().map(|(_, why)| why);
        let own = self.untouched.as_ref().or(failed);
        let first = full_volume.or(own.map(String::as_str)).or(obstacle);
        first.unwrap_or_default().to_owned()
    }
}

/// Looks at the volumes again and again. A file system that hangs holds up nothing but this.
pub(super) async fn watch_volumes(
    context: Arc<Context>,
    facts: watch::Receiver<Option<Arc<Facts>>>,
    full: watch::Sender<Option<String>>,
) {
    loop {
        let known = facts.borrow().as_ref().map(|facts| facts.wal_segment_bytes);
        let segment = known.unwrap_or(SEGMENT_BYTES);
        // Once full, it takes more to have room again: no news at every byte.
        let needed = if full.borrow().is_some() { 2 } else { 1 } * segment;
        let dir = context.settings().postgresql.data_dir.clone();
        let look = move || {
            Ok((
                room::full_volume(&dir, needed),
                room::full_volume(&dir, segment),
            ))
        };
        match blocking(look).await {
            Ok((lacking, lacking_one)) => {
                let mut turned = None;
                full.send_if_modified(|current| {
                    // The words of the smaller need, so that they stay the same.
                    let next = lacking.and(lacking_one.or_else(|| current.clone()));
                    let news = *current != next;
                    turned = (next.is_some() != current.is_some()).then_some(next.is_some());
                    *current = next;
                    news
                });
                if let Some(full) = turned {
                    context.tell(Event::Volume { full }).await;
                }
            }
            Err(error) => tracing::error!(%error, "looking at the volumes failed"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::event::PgFacts;

    fn done(op: Op, result: Result<(), &str>) -> Event {
        let result = result.map_err(str::to_owned);
        Event::OpDone { op, result }
    }

    #[test]
    fn a_failure_is_shown_until_it_went_well_and_a_full_volume_before_it() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.words(None, None), "");
        assert_eq!(troubles.words(None, Some("403")), "403");
        troubles.absorb(&done(Op::Clone, Err("no route")));
        assert_eq!(
            troubles.words(None, None),
            "the copy of the leader failed: no route"
        );
        assert_eq!(troubles.words(Some("full"), Some("403")), "full");
        troubles.absorb(&done(Op::Clone, Err("12:00 [7] no route")));
        troubles.absorb(&done(Op::Clone, Err("12:01 [8] no route")));
        assert!(troubles.words(None, None).ends_with("12:00 [7] no route"));
        troubles.absorb(&done(Op::Stop, Ok(())));
        troubles.absorb(&Event::Tick);
        assert!(troubles.words(None, None).contains("no route"));
        troubles.absorb(&done(Op::Clone, Ok(())));
        assert_eq!(troubles.words(None, None), "");
    }

    #[test]
    fn a_server_that_answers_and_a_directory_that_can_be_used_settle_it() {
        let mut troubles = Troubles::default();
        troubles.absorb(&done(Op::StartReplica, Err("ended")));
        troubles.absorb(&Event::PgSeen(PgFacts::default()));
        assert_eq!(troubles.words(None, None), "");
        troubles.absorb(&Event::DataSeen(DataDir::Unusable("foreign files".into())));
        assert_eq!(troubles.words(None, None), "foreign files");
        troubles.absorb(&Event::DataSeen(DataDir::Empty));
        assert_eq!(troubles.words(None, None), "");
    }
}
