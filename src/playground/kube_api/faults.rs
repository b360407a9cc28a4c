//! The rules in force: which ones hit a call, and the waiting for partitions to come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::rules::{Call, Fault, Rule, Verb};
use super::store::Snapshot;

/// Names an injected rule.
pub type RuleId = u64;

/// A rule and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Injected {
    /// Its name.
    pub id: RuleId,
    /// How many calls it hit.
    pub fired: u64,
    seen: u32,
    /// The rule as given.
    pub rule: Rule,
}

impl Injected {
    fn is_spent(&self) -> bool {
        self.rule
            .count
            .is_some_and(|count| self.fired >= u64::from(count))
    }

    /// Counts this call and says whether it is hit.
    fn hit(&mut self, call: &Call) -> bool {
        if self.is_spent() || !self.rule.matches(call) {
            return false;
        }
        self.seen = self.seen.saturating_add(1);
        if self.seen <= self.rule.skip {
            return false;
        }
        self.fired += 1;
        true
    }
}

/// Everything that goes wrong for one call.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) cut: Option<(RuleId, bool)>,
    pub(super) delay_before: Duration,
    pub(super) delay_after: Duration,
    pub(super) answer: Option<(u16, Option<u32>)>,
    /// Whether the lost answer leaves the connection hanging.
    pub(super) lose_answer: Option<bool>,
    pub(super) stale: Option<Arc<Snapshot>>,
}

#[derive(Debug, Default)]
struct Book {
    rules: Vec<Injected>,
    next_id: RuleId,
    snapshots: BTreeMap<String, Arc<Snapshot>>,
    calls: BTreeMap<(String, Verb, &'static str), u64>,
}

/// The rules in force.
#[derive(Debug)]
pub(super) struct Faults {
    book: Mutex<Book>,
    changed: watch::Sender<u64>,
}

impl Faults {
    pub(super) fn new() -> Self {
        Self {
            book: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn inject(&self, rule: Rule) -> RuleId {
        let mut book = self.book();
        book.next_id += 1;
        let id = book.next_id;
        book.rules.push(Injected {
            id,
            fired: 0,
            seen: 0,
            rule,
        });
        drop(book);
        self.changed.send_modify(|generation| *generation += 1);
        id
    }

    /// Removes the rule, or all.
    pub(super) fn clear(&self, id: Option<RuleId>) {
        self.book()
            .rules
            .retain(|it| id.is_some_and(|id| id != it.id));
        self.changed.send_modify(|generation| *generation += 1);
    }

    pub(super) fn list(&self) -> Vec<Injected> {
        self.book().rules.clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn save_snapshot(&self, name: &str, snapshot: Snapshot) {
        self.book()
            .snapshots
            .insert(name.to_owned(), Arc::new(snapshot));
    }

    pub(super) fn snapshot(&self, name: &str) -> Option<Arc<Snapshot>> {
        self.book().snapshots.get(name).cloned()
    }

    /// Calls received so far, by client, verb and kind.
    pub(super) fn calls(&self) -> BTreeMap<(String, Verb, &'static str), u64> {
        self.book().calls.clone()
    }

    /// Counts the call and collects what goes wrong for it.
    pub(super) fn plan(&self, call: &Call) -> Plan {
        let mut book = self.book();
        *book
            .calls
            .entry((call.client.clone(), call.verb, call.resource))
            .or_default() += 1;
        let mut plan = Plan::default();
        let Book {
            rules, snapshots, ..
        } = &mut *book;
        for injected in rules {
            if matches!(injected.rule.fault, Fault::WatchStall | Fault::WatchGone)
                || !injected.hit(call)
            {
                continue;
            }
            match &injected.rule.fault {
                Fault::Cut { reset } => plan.cut = Some((injected.id, *reset)),
                Fault::DelayBefore { ms } => plan.delay_before += Duration::from_millis(*ms),
                Fault::DelayAfter { ms } => plan.delay_after += Duration::from_millis(*ms),
                Fault::Answer {
                    code,
                    retry_after_s,
                } => {
                    plan.answer = Some((*code, *retry_after_s));
                }
                Fault::LoseAnswer { hang } => plan.lose_answer = Some(*hang),
                Fault::Stale { snapshot } => plan.stale = snapshots.get(snapshot).cloned(),
                Fault::WatchStall | Fault::WatchGone => {}
            }
        }
        plan
    }

    /// The partition that stands between this client and the server now, if any. A cut of only so
    /// many calls is none: it concerns new calls alone.
    pub(super) fn standing_cut(&self, call: &Call) -> Option<(RuleId, bool)> {
        self.book().rules.iter().find_map(|it| match it.rule.fault {
            Fault::Cut { reset } if it.rule.count.is_none() && it.rule.matches(call) => {
                Some((it.id, reset))
            }
            _ => None,
        })
    }

    pub(super) fn is_watch_stalled(&self, call: &Call) -> bool {
        let stalls = |it: &Injected| it.rule.fault == Fault::WatchStall && it.rule.matches(call);
        self.book().rules.iter().any(stalls)
    }

    /// Whether this watch is to be told 410 now; uses up one count.
    pub(super) fn take_watch_gone(&self, call: &Call) -> bool {
        let gone = |it: &mut Injected| it.rule.fault == Fault::WatchGone && it.hit(call);
        self.book().rules.iter_mut().any(gone)
    }

    /// Waits until the rule is cleared.
    pub(super) async fn until_cleared(&self, id: RuleId) {
        let mut changes = self.changes();
        loop {
            if !self.book().rules.iter().any(|it| it.id == id) {
                return;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until a partition stands between this client and the server.
    pub(super) async fn until_cut(&self, call: &Call) -> (RuleId, bool) {
        let mut changes = self.changes();
        loop {
            if let Some(cut) = self.standing_cut(call) {
                return cut;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
