//! The objects, the one rising resourceVersion, and a bounded log of changes that watches read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

/// Where an object lives. Groups are not part of it: both APIs of events share their objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) plural: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// One committed write.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) key: Key,
    /// Missing for a creation.
    pub(super) before: Option<Arc<Value>>,
    /// For a deletion the last state, under the deletion's own resourceVersion.
    pub(super) object: Arc<Value>,
    pub(super) deleted: bool,
}

/// A point in the store's past: all objects and the resourceVersion they were read at.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) objects: BTreeMap<Key, Arc<Value>>,
    pub(super) revision: u64,
}

impl Snapshot {
    /// A cluster that has seen some writes before any client came: small resourceVersions are too
    /// old.
    pub(super) fn of_a_new_cluster() -> Self {
        Self {
            objects: BTreeMap::new(),
            revision: 100,
        }
    }

    /// The store's resourceVersion when this snapshot was taken.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The objects of one kind, in one namespace or in all, ordered by namespace and name.
    pub(super) fn of_kind<'a>(
        &'a self,
        plural: &'static str,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Value>> {
        self.objects
            .iter()
            .filter(move |(key, _)| {
                key.plural == plural && namespace.is_none_or(|wanted| wanted == key.namespace)
            })
            .map(|(_, object)| object)
    }
}

/// The store: its present and as much of its past as watches may still ask for.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) now: Snapshot,
    log: VecDeque<Change>,
    log_limit: usize,
    /// Changes up to and including this revision are forgotten.
    pub(super) forgotten: u64,
    /// Counts restores: a watch of an earlier incarnation ends.
    pub(super) incarnation: u64,
}

impl Store {
    pub(super) fn new(start: Snapshot, log_limit: usize) -> Self {
        let forgotten = start.revision;
        Self {
            now: start,
            log: VecDeque::new(),
            log_limit,
            forgotten,
            incarnation: 0,
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.now.objects.get(key)
    }

    /// Stores the object under a new resourceVersion.
    pub(super) fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.now.revision += 1;
        object["metadata"]["resourceVersion"] = self.now.revision.to_string().into();
        let object = Arc::new(object);
        let before = self.now.objects.insert(key.clone(), Arc::clone(&object));
        self.record(Change {
            revision: self.now.revision,
            key,
            before,
            object: Arc::clone(&object),
            deleted: false,
        });
        object
    }

    /// Forgets the object; the answer carries the deletion's resourceVersion.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let before = self.now.objects.remove(key)?;
        self.now.revision += 1;
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = self.now.revision.to_string().into();
        let object = Arc::new(last);
        self.record(Change {
            revision: self.now.revision,
            key: key.clone(),
            before: Some(before),
            object: Arc::clone(&object),
            deleted: true,
        });
        Some(object)
    }

    fn record(&mut self, change: Change) {
        self.log.push_back(change);
        while self.log.len() > self.log_limit {
            if let Some(oldest) = self.log.pop_front() {
                self.forgotten = oldest.revision;
            }
        }
    }

    /// The changes after a revision, oldest first. Only complete if `revision >= forgotten`.
    pub(super) fn changes_after(&self, revision: u64) -> impl Iterator<Item = &Change> {
        let start = self
            .log
            .partition_point(|change| change.revision <= revision);
        self.log.range(start..)
    }

    /// Forgets the whole log: every watch from the past is told that it is too old.
    pub(super) fn compact(&mut self) {
        self.log.clear();
        self.forgotten = self.now.revision;
    }

    /// Puts a snapshot in the place of everything: content and resourceVersion go back.
    pub(super) fn restore(&mut self, snapshot: Snapshot) {
        self.now = snapshot;
        self.incarnation += 1;
        self.compact();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(name: &str) -> Key {
        Key {
            plural: "leases",
            namespace: "ns".into(),
            name: name.into(),
        }
    }

    #[test]
    fn the_log_is_bounded_and_knows_what_it_forgot() {
        let mut store = Store::new(Snapshot::default(), 2);
        for name in ["a", "b", "c"] {
            store.put(key(name), json!({"metadata": {"name": name}}));
        }
        assert_eq!(store.forgotten, 1);
        let seen: Vec<u64> = store
            .changes_after(1)
            .map(|change| change.revision)
            .collect();
        assert_eq!(seen, [2, 3]);
        let seen: Vec<u64> = store
            .changes_after(2)
            .map(|change| change.revision)
            .collect();
        assert_eq!(seen, [3]);
    }

    #[test]
    fn a_restore_goes_backwards() {
        let mut store = Store::new(Snapshot::default(), 10);
        store.put(key("a"), json!({"metadata": {}}));
        let early = store.now.clone();
        store.put(key("b"), json!({"metadata": {}}));
        store.remove(&key("a"));
        assert_eq!(store.now.revision, 3);
        store.restore(early);
        assert_eq!(
            (store.now.revision, store.forgotten, store.incarnation),
            (1, 1, 1)
        );
        assert!(store.get(&key("a")).is_some() && store.get(&key("b")).is_none());
    }
}
