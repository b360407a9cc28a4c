//! Who will stay: pods come and go by plan (a rolling update, a scale-down), and a lock handed to a
//! member that goes next costs a second handover.
//!
//! Only ever a preference between equals: who is admitted, and who is ahead, decides first.

use super::effect::{Effect, Rule, Stop};
use super::event::PgFacts;
use super::model::{Lsn, Member, Ms, Name, Walsender};
use super::state::Process;
use super::step::Turn;
use std::cmp::Reverse;

/// How long a leader that is to go waits for a standby that stays to become the synchronous one.
const HEIR_WAIT_MS: Ms = 10_000;

/// The same where no standby is published at all, and one could be.
const HEIR_NEEDED_MS: Ms = 60_000;
/// How long who handed over stays at most, so that its address answers.
const LINGER_MAX_MS: Ms = 5_000;
/// How long the way of clients to a new leader takes to be built on every node.
const ROUTE_MS: Ms = 1_500;

/// What the platform has planned for a member's Pod, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outlook {
    /// Nothing.
    Stays,
    /// A newer revision of the Pods is about: this one may be replaced next.
    Outdated,
    /// It is being deleted.
    Leaving,
}

impl Turn<'_> {
    /// What is planned for a member; one that is not known is taken to stay.
    pub(super) fn outlook(&self, name: &str) -> Outlook {
        let Some(shared) = &self.s.shared else {
            return Outlook::Stays;
        };
        let of = |member: &Member| {
            let controller = controller_of(member);
            let of_same = |other: &&Member| controller_of(other) == controller;
            let newest = shared.members.values().filter(of_same);
            let newest = newest.max_by_key(|other| &other.created);
            if member.leaving {
                Outlook::Leaving
            } else if newest.is_some_and(|newest| newest.revision != member.revision) {
                Outlook::Outdated
            } else {
                Outlook::Stays
            }
        };
        shared.members.get(name).map_or(Outlook::Stays, of)
    }

    /// `failover_priority`: whom people would rather see lead.
    pub(super) fn priority(&self, name: &str) -> i64 {
        let members = self.s.shared.as_ref().map(|shared| &shared.members);
        let member = members.and_then(|members| members.get(name));
        member.map_or(1, Member::failover_priority)
    }

    /// The standbys that may confirm commits.
    fn confirming<'a>(&self, facts: &'a PgFacts) -> Vec<&'a Walsender> {
        let Some(shared) = &self.s.shared else {
            return Vec::new();
        };
        let known = |w: &&Walsender| {
            shared
                .members
                .get(&w.name)
                .is_some_and(|m| m.state == "running" && !m.nosync() && !m.nofailover())
        };
        let mut streaming: Vec<_> = facts
            .walsenders
            .iter()
            .filter(|w| self.is_streaming(w) && w.name != self.s.me.name)
            // A base backup streams under its member's name too, and confirms nothing: enforcing
            // it would hold every commit until the clone is done.
            .filter(|w| w.flush_lsn > Lsn(0))
            .filter(known)
            .collect();
        let behind = |w: &&Walsender| {
            let lag_max_bytes = self.s.rules.sync.lag_max_bytes;
            lag_max_bytes.is_some_and(|max| facts.lsn.0.saturating_sub(w.flush_lsn.0) > max)
        };
        // One that lags too far is better than none.
        if !streaming.iter().all(behind) {
            streaming.retain(|w| !behind(w));
        }
        streaming
    }

    /// The outlook of a standby that would replace another: one that lags would hold commits.
    fn challenge(&self, facts: &PgFacts, sender: &Walsender) -> Outlook {
        let lag_bytes = facts.lsn.0.saturating_sub(sender.flush_lsn.0);
        let outlook = self.outlook(&sender.name);
        if lag_bytes > self.s.rules.maximum_lag_on_failover_bytes {
            outlook.max(Outlook::Outdated)
        } else {
            outlook
        }
    }

    /// The standbys that may confirm commits, the best first: between two with the same outlook
    /// and priority the published one stays, then the one already asked for, so that equals do not
    /// take turns.
    pub(super) fn choose_standbys(&self, facts: &PgFacts, published: &[Name]) -> Vec<Name> {
        let mut streaming = self.confirming(facts);
        let members = self.s.shared.as_ref().map(|shared| &shared.members);
        let priority = |name: &Name| {
            let member = members.and_then(|members| members.get(name));
            member.map_or(1, Member::sync_priority)
        };
        let incumbency = |name: &Name| match () {
            () if published.contains(name) => 0,
            () if self.s.sync.asked.names.contains(name) => 1,
            () => 2,
        };
        let rank = |w: &Walsender| {
            let outlook = match incumbency(&w.name) {
                2 => self.challenge(facts, w),
                _ => self.outlook(&w.name),
            };
            (
                outlook,
                Reverse(priority(&w.name)),
                incumbency(&w.name),
                Reverse(w.flush_lsn),
            )
        };
        streaming.sort_by(|a, b| rank(a).cmp(&rank(b)).then(a.name.cmp(&b.name)));
        streaming.iter().map(|w| w.name.clone()).collect()
    }

    /// Clients are sent to me until the new route is everywhere. While my address is there they are
    /// refused at once and try again; once it is gone they hang until their own time-out. So who
    /// handed over stays until its successor is reached; until when to look again, if so.
    pub(super) fn lingers_until(&mut self) -> Option<Ms> {
        let succeeded = self.s.other_holder().map(|held| held.holder.name.clone());
        let serves = |name: &Name| {
            let member = self.s.shared.as_ref().and_then(|s| s.members.get(name));
            member.is_some_and(Member::serves_as_leader)
        };
        let serves = succeeded.as_ref().is_some_and(serves);
        let now = self.now;
        let succession = self.s.succession.as_mut()?;
        if serves {
            succession.succeeded_at.get_or_insert(now);
        }
        let last = succession.released_at + LINGER_MAX_MS;
        let until = succession
            .succeeded_at
            .map_or(last, |at| last.min(at + ROUTE_MS));
        (now < until).then_some(until)
    }

    /// SIGTERM without the lock: stop and go.
    pub(super) fn leave(&mut self) {
        match self.s.pg.process {
            Process::Running { .. } => {
                self.stop_in_order(Stop::Fast, Rule::Handover, "terminating");
            }
            Process::Down if self.s.lease.in_flight.is_none() => {
                if let Some(until) = self.lingers_until() {
                    return self.wake_at(until);
                }
                self.s.said_bye = true;
                self.emit(Effect::Bye);
            }
            Process::Down | Process::Unknown => {}
        }
    }

    /// A leader that is to go first lets its synchronous set move to a member that stays; until
    /// when, if it is worth waiting.
    pub(super) fn heir_awaited_until(&mut self) -> Option<Ms> {
        let facts = self.s.pg.facts.clone()?;
        let published = self.s.sync_record().standbys;
        // Released with an empty set, the lock could be taken by nobody but me.
        let wait_ms = if published.is_empty() {
            HEIR_NEEDED_MS
        } else {
            HEIR_WAIT_MS
        };
        let until = self.asked_since() + wait_ms;
        if !self.s.rules.syncs() || self.now >= until {
            return None;
        }
        let heir = self
            .choose_standbys(&facts, &published)
            .into_iter()
            .next()?;
        let ready = published.contains(&heir);
        let wanted = published.is_empty() || self.outlook(&heir) != Outlook::Leaving;
        (!ready && wanted).then_some(until)
    }
}

/// Revisions are compared only within one controller: some operators give each member its own. A
/// StatefulSet's revision begins with its name.
fn controller_of(member: &Member) -> &str {
    let name = member.revision.rsplit_once('-');
    name.map_or("", |(controller, _)| controller)
}
