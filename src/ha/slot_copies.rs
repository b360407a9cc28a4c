//! Permanent logical slots on a replica: copies of the leader's.
//!
//! A server cannot make a logical slot that begins in the past, but it reads the files of its slots
//! when it starts. So a replica fetches them from its leader, and puts them in place while its
//! server is down. Where that alone is missing it restarts for it: after the others, and the only
//! synchronous standby last, since commits wait for it.
//!
//! A copy needs the WAL from where it begins, which is looked for before anything is done, and rows
//! of the catalog that the leader must not vacuum away. The replica's feedback sees to that from the
//! moment the leader has it; a slot that has come past where the leader's was at that moment is
//! safe to be used. Before that a promotion says that it may not be.

use super::effect::{Effect, Rule, Stop};
use super::event::{Op, PgFacts};
use super::model::{Lsn, Ms, Name};
use super::slots::slot_name;
use super::step::Turn;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The leader's answer is waited for no longer.
const FETCH_MS: Ms = 10_000;
/// What was fetched longer ago is fetched again.
const FRESH_MS: Ms = 60_000;
/// Between two restarts for a copy.
const RESTART_EVERY_MS: Ms = 600_000;
/// A replica before me in the order gets that long for its own restart.
const TURN_MS: Ms = 15_000;
/// The only synchronous standby waits at least that long for another one to be there.
const ALONE_MS: Ms = 60_000;
/// A member that does not run is waited for no longer.
const OTHERS_MS: Ms = 300_000;

/// Where the copies stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Copies {
    /// Slots that the leader has and this replica has not: since when.
    pub missing_since: Option<Ms>,
    /// The leader was asked, and its answer is waited for until.
    pub asked_until: Option<Ms>,
    /// The server went down at that moment, and the leader was asked since.
    pub asked_in_stop: Option<Ms>,
    /// What it gave, and when.
    pub fetched: Option<(BTreeSet<String>, Ms)>,
    /// By slot: how far the leader's was when it had my feedback.
    pub fed_back: BTreeMap<String, Lsn>,
    /// Slots that have come past that.
    pub safe: BTreeSet<String>,
}

impl Turn<'_> {
    /// Permanent logical slots that the leader has.
    fn logical_of_leader(&self) -> BTreeSet<String> {
        let rules = &self.s.rules.slots;
        if rules.off || self.follows_another_cluster() {
            return BTreeSet::new();
        }
        let published = &self.s.lock.slots.positions;
        let logical = rules.permanent.iter().filter(|(name, permanent)| {
            permanent.kind.is_logical() && published.contains_key(*name)
        });
        logical.map(|(name, _)| name.clone()).collect()
    }

    /// A replica that runs: ask for what is missing, and restart for it. True: it is being stopped.
    pub(super) fn tend_copies(&mut self, facts: &PgFacts) -> bool {
        let Some(found) = &facts.slots else {
            return false;
        };
        let mut missing = self.logical_of_leader();
        missing.retain(|name| found.iter().all(|slot| slot.name != *name));
        let may = !missing.is_empty() && !self.s.rules.pause;
        let Some(leader) = self.primary_leader_name().filter(|_| may).cloned() else {
            self.s.slots.copies.missing_since = None;
            return false;
        };
        let now = self.now;
        let since = *self.s.slots.copies.missing_since.get_or_insert(now);
        let due = since + self.patience();
        if now < due {
            self.wake_at(due);
            return false;
        }
        if self.fresh_copies().is_none() {
            let every_ms = 10 * self.s.budgets.renew_ms;
            if self.s.slots.copies.asked_until.is_none() && self.may("FetchSlots", every_ms) {
                self.fetch_slots(leader, missing, facts.lsn);
            }
            return false;
        }
        if !self.may_restart_for_copies() {
            return false;
        }
        let words = format!("start again with copies of {leader}'s logical slots: {missing:?}");
        self.stop(Stop::Fast, Rule::Slots, &words);
        true
    }

    fn fetch_slots(&mut self, from: Name, slots: BTreeSet<String>, reached: Lsn) {
        self.s.slots.copies.asked_until = Some(self.now + FETCH_MS);
        self.emit(Effect::FetchSlots {
            from,
            slots,
            reached,
        });
    }

    fn fresh_copies(&self) -> Option<&BTreeSet<String>> {
        let (slots, at) = self.s.slots.copies.fetched.as_ref()?;
        (!slots.is_empty() && self.now < at + FRESH_MS).then_some(slots)
    }

    /// How long after a slot was missed it is my turn to restart for it.
    fn patience(&self) -> Ms {
        let Some(shared) = &self.s.shared else {
            return TURN_MS;
        };
        let listed = |name: &Name| self.s.rules.syncs() && shared.sync.standbys.contains(name);
        let place = |name: &Name| (listed(name), name.clone());
        let me = &self.s.me.name;
        let others = shared.members.iter();
        let before = others.filter(|(name, member)| {
            *name != me && member.role == "replica" && place(name) < place(me)
        });
        let turn_ms = before.map(|_| TURN_MS).sum::<Ms>();
        let alone = listed(me) && shared.sync.standbys.len() == 1;
        turn_ms.max(if alone { ALONE_MS } else { 0 })
    }

    /// Seldom, and while nobody needs me more than ever.
    fn may_restart_for_copies(&mut self) -> bool {
        let Some(shared) = &self.s.shared else {
            return false;
        };
        let me = &self.s.me.name;
        let mut others = shared.members.iter().filter(|(name, _)| *name != me);
        let since = self.s.slots.copies.missing_since.unwrap_or(self.now);
        let all_run =
            others.all(|(_, member)| member.state == "running") || self.now >= since + OTHERS_MS;
        let asked = !shared.failover.is_empty();
        let calm = all_run && !asked && !self.has_voted() && self.s.restart.is_none();
        calm && self.may("copies", RESTART_EVERY_MS)
    }

    /// A replica that is about to start: with copies, if the leader has any. True: not yet.
    pub(super) fn copies_first(&mut self) -> bool {
        let down_since = self.s.pg.down_since;
        let copies = &mut self.s.slots.copies;
        if copies.asked_until.is_some_and(|until| self.now < until) {
            let until = copies.asked_until.unwrap_or(self.now);
            self.wake_at(until);
            return true;
        }
        copies.asked_until = None;
        if let Some(slots) = self.fresh_copies().cloned() {
            self.s.slots.copies.fetched = None;
            self.s.slots.copies.asked_in_stop = Some(down_since);
            self.begin(Op::PutSlots, Effect::PutSlots { slots });
            return true;
        }
        let slots = self.logical_of_leader();
        let asked = self.s.slots.copies.asked_in_stop == Some(down_since);
        let reached = self.s.position().map(|(_, lsn)| lsn);
        let leader = self.primary_leader_name().cloned();
        match (leader, reached) {
            (Some(leader), Some(reached)) if !asked && !slots.is_empty() => {
                self.s.slots.copies.asked_in_stop = Some(down_since);
                self.fetch_slots(leader, slots, reached);
                true
            }
            _ => false,
        }
    }

    pub(super) fn absorb_fetched(&mut self, slots: BTreeSet<String>, failed: Option<String>) {
        self.s.slots.copies.asked_until = None;
        match failed {
            None => self.settled("copies"),
            Some(why) => self.explain_once("copies", Rule::Slots, why),
        }
        self.s.slots.copies.fetched = Some((slots, self.now));
    }

    /// Copies that are there: does the leader keep what they need?
    pub(super) fn confirm_copies(&mut self, facts: &PgFacts) {
        let Some(found) = &facts.slots else {
            return;
        };
        let logical = self.logical_of_leader();
        let mut unsure = BTreeSet::new();
        for slot in found.iter().filter(|slot| logical.contains(&slot.name)) {
            let copies = &mut self.s.slots.copies;
            match copies.fed_back.get(&slot.name) {
                None => drop(unsure.insert(slot.name.clone())),
                Some(from) if slot.position >= Some(*from) => {
                    copies.safe.insert(slot.name.clone());
                }
                Some(_) => {}
            }
        }
        if unsure.is_empty() {
            return;
        }
        let Some(leader) = self.primary_leader_name().cloned() else {
            return;
        };
        if facts.streaming && self.may("ConfirmSlots", 3 * self.s.budgets.renew_ms) {
            // Whoever feeds me passes my feedback on as its own.
            let upstream = self.s.pg.upstream.clone();
            let through = upstream.filter(|name| *name != leader);
            let through = slot_name(through.as_ref().unwrap_or(&self.s.me.name));
            self.emit(Effect::ConfirmSlots {
                with: leader,
                through,
                slots: unsure,
            });
        }
    }

    pub(super) fn absorb_confirmed(&mut self, positions: BTreeMap<String, Lsn>) {
        self.s.slots.copies.fed_back.extend(positions);
    }

    /// Nothing of a server that is gone is known of the next one.
    pub(super) fn forget_copies(&mut self) {
        let copies = &mut self.s.slots.copies;
        copies.missing_since = None;
        copies.fed_back.clear();
        copies.safe.clear();
    }

    /// Before a promotion: which logical slots may not give their consumers everything.
    pub(super) fn warn_of_copies(&mut self) {
        let found = self.s.pg.facts.as_ref().and_then(|f| f.slots.clone());
        let permanent = &self.s.rules.slots.permanent;
        let kept = |name: &str| permanent.get(name).is_some_and(|p| p.kind.is_logical());
        let mut unsafe_slots: Vec<String> =
            found.iter().flatten().map(|s| s.name.clone()).collect();
        unsafe_slots.retain(|name| kept(name) && !self.s.slots.copies.safe.contains(name));
        let there = |name: &&String| found.iter().flatten().any(|slot| slot.name == **name);
        let absent = permanent.keys().filter(|name| kept(name) && !there(name));
        let absent: Vec<String> = absent.cloned().collect();
        if !unsafe_slots.is_empty() {
            let words = format!(
                "logical slots that were copied a moment ago, {}: the catalog rows that they need \
                 may be gone; compare what their consumers have",
                unsafe_slots.join(", ")
            );
            self.explain(Rule::Slots, words);
        }
        if !absent.is_empty() && found.is_some() && !self.s.rules.slots.off {
            let words = format!(
                "logical slots that were never copied here, {}: they begin anew, and their \
                 consumers miss changes",
                absent.join(", ")
            );
            self.explain(Rule::Slots, words);
        }
    }
}
