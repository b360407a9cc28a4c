//! Which replication slots there have to be on this member's server, and what is changed for it.
//!
//! Every member keeps a physical slot for every other one, so that whoever leads next still has the
//! WAL that the rest needs. The leader publishes how far each slot is, and a replica moves its own
//! there. Permanent slots are kept the same way; logical ones come to a replica as a copy
//! ([`super::slot_copies`]).
//!
//! A slot is dropped only if it is ours: made here, or published by a leader as the cluster's.
//! Anybody else's may be the last thing that keeps WAL for somebody.

use super::effect::{Effect, Rule};
use super::event::PgFacts;
use super::model::{Lsn, Ms};
use super::slots::{ClusterType, SlotChange, SlotFacts, SlotKind, SlotRecord, slot_name};
use super::step::Turn;
use std::collections::{BTreeMap, BTreeSet};

/// A change that was ordered and never answered is not waited for longer.
const BUSY_MS: Ms = 120_000;

impl Turn<'_> {
    /// The leader's slots.
    pub(super) fn keep_slots(&mut self, facts: &PgFacts) {
        self.note_members();
        self.reconcile_slots(facts);
    }

    /// A member whose Pod is being replaced needs its WAL when it comes back.
    fn note_members(&mut self) {
        let epoch = self.s.lease.held.as_ref().map(|held| held.epoch);
        if self.s.slots.seen_in != epoch {
            // Kept by the leader before me: the time runs anew.
            self.s.slots.seen_in = epoch;
            for slot in self.s.lock.slots.retained.clone() {
                self.s.slots.seen.entry(slot).or_insert(self.now);
            }
        }
        for slot in self.slots_of_members() {
            match self.s.slots.seen.get_mut(&slot) {
                Some(seen_at) => *seen_at = self.now,
                None => drop(self.s.slots.seen.insert(slot, self.now)),
            }
        }
        for slot in self.slots_without_stream() {
            self.s.slots.seen.remove(&slot);
        }
        let kept_ms = self.s.rules.member_slots_ttl_ms;
        let (now, paused) = (self.now, self.s.rules.pause);
        let seen = &mut self.s.slots.seen;
        seen.retain(|_, seen_at| paused || now <= *seen_at + kept_ms);
    }

    /// Of the members that are there, this one included.
    fn slots_of_members(&mut self) -> BTreeSet<String> {
        let mut slots = BTreeSet::new();
        let mut clash = None;
        let shared = self.s.shared.as_ref();
        let names = || shared.iter().flat_map(|shared| shared.members.keys());
        for name in names() {
            let slot = slot_name(name);
            if slots.contains(&slot) {
                let other = names().find(|other| slot_name(other) == slot);
                clash = other.map(|other| (slot, other.clone(), name.clone()));
            } else {
                slots.insert(slot);
            }
        }
        match clash {
            None => self.settled("slot-clash"),
            Some((slot, one, other)) => {
                let words = format!(
                    "name: {one} and {other} would both use the slot {slot}: one of them cannot \
                     stream; rename it"
                );
                self.explain_once("slot-clash", Rule::Slots, words);
            }
        }
        slots
    }

    /// Of the members that take their WAL from an archive: they would never move. So none is kept
    /// either once such a member is gone.
    fn slots_without_stream(&self) -> Vec<String> {
        let shared = self.s.shared.as_ref();
        let there = shared.into_iter().flat_map(|shared| &shared.members);
        let nostream = there.filter(|(_, member)| member.nostream());
        nostream.map(|(name, _)| slot_name(name)).collect()
    }

    /// What there has to be here, but for my own slot; logical ones are only made on a primary.
    fn wanted_slots(&mut self) -> BTreeMap<String, SlotKind> {
        let mine = slot_name(&self.s.me.name);
        let mut members: BTreeSet<String> = if self.s.lease.held.is_some() {
            self.s.slots.seen.keys().cloned().collect()
        } else {
            let retained = self.s.lock.slots.retained.clone();
            self.slots_of_members()
                .into_iter()
                .chain(retained)
                .collect()
        };
        for slot in self.slots_without_stream() {
            members.remove(&slot);
        }
        let standby = self.follows_another_cluster();
        let mut wanted: BTreeMap<String, SlotKind> = BTreeMap::new();
        let mut clash = None;
        for (name, slot) in &self.s.rules.slots.permanent {
            let here = match slot.cluster_type {
                None => !(standby && slot.kind.is_logical()),
                Some(ClusterType::Primary) => !standby,
                Some(ClusterType::Standby) => standby,
            };
            if slot.kind.is_logical() && (members.contains(name) || *name == mine) {
                clash = Some(name.clone());
            } else if here {
                wanted.insert(name.clone(), slot.kind.clone());
            }
        }
        match clash {
            None => self.settled("slot-member"),
            Some(name) => {
                let words = format!(
                    "slots.{name}: a logical slot with the name of a member's; expected another \
                     name"
                );
                self.explain_once("slot-member", Rule::Slots, words);
            }
        }
        wanted.extend(members.into_iter().map(|slot| (slot, SlotKind::Physical)));
        wanted.remove(&mine);
        wanted
    }

    /// Made or taken over here, or published as the cluster's.
    fn owns_slot(&self, name: &str) -> bool {
        let record = &self.s.lock.slots;
        self.s.slots.owned.contains(name)
            || record.positions.contains_key(name)
            || record.retained.contains(name)
    }

    fn may_drop_slot(&self, slot: &SlotFacts) -> bool {
        let mut patterns = self.s.rules.slots.ignore.iter();
        !slot.active
            && !self.s.rules.pause
            && self.owns_slot(&slot.name)
            && !patterns.any(|pattern| pattern.fits(&slot.name, &slot.kind))
    }

    /// Compare what is with what should be, and order what is missing.
    pub(super) fn reconcile_slots(&mut self, facts: &PgFacts) {
        let Some(found) = &facts.slots else {
            return;
        };
        let stale = facts.asked_at < self.s.slots.changed_at;
        let compared = self.s.slots.compared == Some(facts.asked_at);
        if self.s.rules.slots.off || stale || compared || self.now < self.s.slots.busy_until {
            return;
        }
        self.note_use(facts.in_recovery, found);
        let wanted = self.wanted_slots();
        let mut changes = Vec::new();
        for slot in found.iter().filter(|slot| !slot.by_server) {
            match wanted.get(&slot.name) {
                Some(kind) if *kind == slot.kind => self.tend_slot(slot, facts, &mut changes),
                Some(kind) => self.replace_slot(slot, kind, facts, &mut changes),
                None if self.may_drop_slot(slot) => {
                    let name = slot.name.clone();
                    self.explain(
                        Rule::Slots,
                        format!("nobody needs the slot {name} any more"),
                    );
                    changes.push(SlotChange::Drop { name });
                }
                None => {}
            }
        }
        let known: BTreeSet<&String> = found.iter().map(|slot| &slot.name).collect();
        for (name, kind) in wanted.iter().filter(|(name, _)| !known.contains(name)) {
            if kind.is_logical() && facts.in_recovery {
                continue;
            }
            let (name, kind) = (name.clone(), kind.clone());
            changes.push(SlotChange::Create { name, kind });
        }
        let owned = &mut self.s.slots.owned;
        owned.retain(|name| known.contains(name) || wanted.contains_key(name));
        // Decoding may take its time: what keeps WAL for the members does not wait for it.
        changes.sort_by_key(SlotChange::decodes);
        let settled = changes.is_empty();
        if settled || self.may("slots", self.s.budgets.renew_ms) {
            self.s.slots.compared = Some(facts.asked_at);
            self.order_slots(changes);
        }
    }

    fn order_slots(&mut self, changes: Vec<SlotChange>) {
        if changes.is_empty() {
            return;
        }
        for change in &changes {
            // Remembered before it is there, so that it is never without an owner.
            if let SlotChange::Create { name, .. } = change {
                self.s.slots.owned.insert(name.clone());
            }
        }
        self.s.slots.busy_until = self.now + BUSY_MS;
        self.emit(Effect::SetSlots { changes });
    }

    fn note_use(&mut self, in_recovery: bool, found: &[SlotFacts]) {
        let slots = &mut self.s.slots;
        if slots.used_in_recovery != in_recovery {
            slots.used_in_recovery = in_recovery;
            slots.used.clear();
        }
        let used = found.iter().filter(|slot| slot.active);
        slots.used.extend(used.map(|slot| slot.name.clone()));
    }

    /// It is as it should be; where does it stand?
    fn tend_slot(&mut self, slot: &SlotFacts, facts: &PgFacts, changes: &mut Vec<SlotChange>) {
        let name = slot.name.clone();
        self.s.slots.owned.insert(name.clone());
        if slot.active {
            return;
        }
        let logical = slot.kind.is_logical();
        let broken = logical && facts.in_recovery && self.s.slots.broken.contains(&name);
        if slot.lost || broken || (!logical && slot.position.is_none()) {
            return self.renew_slot(slot, facts, changes);
        }
        if !logical && slot.holds_xmin && self.is_left_over(&name, facts) {
            if self.may_drop_slot(slot) {
                let words = format!("the slot {name} holds vacuum back for nobody: made anew");
                self.explain(Rule::Slots, words);
                let kind = SlotKind::Physical;
                changes.push(SlotChange::Drop { name: name.clone() });
                changes.push(SlotChange::Create { name, kind });
            }
        } else if let Some(to) = self.position_for(slot, facts) {
            let database = match &slot.kind {
                SlotKind::Physical => None,
                SlotKind::Logical { database, .. } => Some(database.clone()),
            };
            changes.push(SlotChange::Advance { name, database, to });
        }
    }

    /// Nobody has used it since this server has its role: what a standby of before has left in it
    /// (it cannot be taken out of a slot). A new leader first gives its standbys time to come.
    fn is_left_over(&mut self, name: &str, facts: &PgFacts) -> bool {
        let since = self.s.lease.held.as_ref().map(|held| held.since);
        let due = since.map_or(0, |since| since + 2 * self.s.rules.ttl_ms);
        if self.s.slots.used.contains(name) || (!facts.in_recovery && self.now < due) {
            return false;
        }
        true
    }

    /// What it was to keep is gone: begin anew, and say so once.
    fn renew_slot(&mut self, slot: &SlotFacts, facts: &PgFacts, changes: &mut Vec<SlotChange>) {
        if !self.may_drop_slot(slot) {
            return;
        }
        let name = slot.name.clone();
        let words = match (&slot.kind, facts.in_recovery) {
            (SlotKind::Logical { .. }, false) => format!(
                "the slot {name} was invalidated: it begins anew, and its consumer has missed \
                 changes"
            ),
            (SlotKind::Logical { .. }, true) => {
                format!("the copy of the slot {name} is of no use: the next one will be")
            }
            _ => format!("the slot {name} has lost what it kept: it begins anew"),
        };
        self.explain(Rule::Slots, words);
        self.s.slots.broken.remove(&name);
        changes.push(SlotChange::Drop { name: name.clone() });
        if !(slot.kind.is_logical() && facts.in_recovery) {
            let kind = slot.kind.clone();
            changes.push(SlotChange::Create { name, kind });
        }
    }

    /// Another kind of slot has the name.
    fn replace_slot(
        &mut self,
        slot: &SlotFacts,
        kind: &SlotKind,
        facts: &PgFacts,
        changes: &mut Vec<SlotChange>,
    ) {
        let name = slot.name.clone();
        if self.may_drop_slot(slot) {
            let words = format!("the slot {name} is to be another one: {kind}");
            self.explain(Rule::Slots, words);
            changes.push(SlotChange::Drop { name: name.clone() });
            if !(kind.is_logical() && facts.in_recovery) {
                let kind = kind.clone();
                changes.push(SlotChange::Create { name, kind });
            }
        } else {
            let words = format!(
                "slots: {name} is to be {kind}, and somebody's {} slot has the name; drop that, \
                 or name another",
                slot.kind
            );
            self.explain_once(&format!("slot {name}"), Rule::Slots, words);
        }
    }

    /// Where a slot that nobody uses here has to go, if that is forward.
    fn position_for(&self, slot: &SlotFacts, facts: &PgFacts) -> Option<Lsn> {
        let target = if facts.in_recovery && self.s.lease.held.is_none() {
            let published = *self.s.lock.slots.positions.get(&slot.name)?;
            published.min(facts.replay_lsn?)
        } else {
            self.fed_elsewhere(&slot.name)?.min(facts.lsn)
        };
        (Some(target) > slot.position).then_some(target)
    }

    /// A member that another one feeds: what it has, it needs no more from me.
    fn fed_elsewhere(&self, slot: &str) -> Option<Lsn> {
        let mut members = self.s.shared.as_ref()?.members.iter();
        let (_, member) = members.find(|(name, _)| slot_name(name) == slot)?;
        let from = member.tags.get("replicatefrom")?;
        let streams = member.replication_state.as_deref() == Some("streaming");
        (streams && *from != self.s.me.name).then_some(member.receive_lsn?)
    }

    pub(super) fn absorb_slots_set(&mut self, broken: BTreeSet<String>, failed: Option<String>) {
        self.s.slots.busy_until = 0;
        self.s.slots.changed_at = self.now;
        self.s.slots.broken.extend(broken);
        match failed {
            None => self.settled("slots"),
            Some(why) => self.explain_once("slots", Rule::Slots, why),
        }
    }

    /// What goes into the lock record; while nothing serves here, what was there.
    pub(super) fn slot_record(&self) -> SlotRecord {
        let facts = self.s.pg.facts.as_ref().filter(|_| self.serves_as_leader());
        let Some((facts, found)) = facts.and_then(|f| Some((f, f.slots.as_ref()?))) else {
            return self.s.lock.slots.clone();
        };
        if self.s.rules.slots.off {
            return SlotRecord::default();
        }
        let mine = slot_name(&self.s.me.name);
        let permanent = &self.s.rules.slots.permanent;
        let seen = &self.s.slots.seen;
        let published = found.iter().filter(|slot| {
            let wanted = seen.contains_key(&slot.name)
                || permanent
                    .get(&slot.name)
                    .is_some_and(|p| p.kind == slot.kind);
            wanted && !slot.lost && !slot.by_server
        });
        let positions = published.filter_map(|slot| Some((slot.name.clone(), slot.position?)));
        let mut record = SlotRecord {
            positions: positions.collect(),
            retained: seen.keys().cloned().collect(),
        };
        if !record.is_empty() {
            // The others keep one for me.
            record.positions.insert(mine, facts.lsn);
        }
        record
    }
}
