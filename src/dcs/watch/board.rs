//! The index between the streams and the reader: synchronous, small, newest state only.

use super::super::client::Dcs;
use super::super::codec::config::{self, ConfigView};
use super::super::codec::member::{self, SlimPod};
use super::super::codec::object::{Meta, Slim};
use super::super::codec::{Problem, failover, lease, sync};
use super::stream::Change;
use super::{RawLease, SharedView, is_held};
use crate::ha::lock::LockSnapshot;
use crate::ha::model::{Member, Name};
use crate::ha::shared::SyncRecord;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// See the module.
pub(super) struct Board {
    dcs: Dcs,
    notify: Notify,
    inner: Mutex<Inner>,
}

struct Inner {
    /// The newest lock seen, and whether it waits for delivery.
    lock: Option<LockSnapshot>,
    lock_waits: bool,
    lock_at: Instant,
    /// The objects with the shared state, once they were listed.
    maps: Option<BTreeMap<String, Meta>>,
    /// The members, once the pods were listed.
    members: Option<BTreeMap<Name, Member>>,
    shared_waits: bool,
    config: ConfigView,
    sync: SyncRecord,
    delivered: Option<SharedView>,
}

impl Board {
    pub(super) fn new(dcs: Dcs) -> Self {
        let inner = Inner {
            lock: None,
            lock_waits: false,
            lock_at: Instant::now(),
            maps: None,
            members: None,
            shared_waits: false,
            config: ConfigView::default(),
            sync: SyncRecord::default(),
            delivered: None,
        };
        Self {
            dcs,
            notify: Notify::new(),
            inner: Mutex::new(inner),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves after a change; one change may stand for many.
    pub(super) async fn changed(&self) {
        self.notify.notified().await;
    }

    // === the lock ===

    pub(super) fn lock_changed(&self, change: Change<RawLease>) {
        let names = self.dcs.names();
        let (dialect, name) = (names.dialect, names.lock_name());
        match change {
            Change::All(leases, known) => {
                // The selector is trusted by nobody but this line.
                let found = leases
                    .iter()
                    .find(|lease| lease["metadata"]["name"] == name.as_str());
                let snapshot = lease::decode(dialect, found);
                self.dcs.note_quorum_version(&snapshot, known);
                if !self.dcs.is_overtaken(&snapshot, known) {
                    self.see_lock(snapshot);
                }
            }
            Change::Put(lease) if self.is_news(&lease) => {
                self.see_lock(lease::decode(dialect, Some(&lease)));
            }
            Change::Gone(lease) if self.is_news(&lease) => {
                self.see_lock(lease::decode(dialect, None));
            }
            Change::Put(_) | Change::Gone(_) => {}
        }
    }

    /// Not older than what own writes and quorum reads have shown already.
    fn is_news(&self, lease: &RawLease) -> bool {
        let meta = Meta::of(lease);
        meta.name == self.dcs.names().lock_name()
            && meta
                .resource_version
                .parse()
                .map_or(true, |version: u64| version >= self.dcs.newest_lock())
    }

    fn see_lock(&self, snapshot: LockSnapshot) {
        let mut inner = self.lock();
        if inner.lock.as_ref() == Some(&snapshot) {
            return;
        }
        inner.lock = Some(snapshot);
        inner.lock_at = Instant::now();
        inner.lock_waits = true;
        self.notify.notify_one();
    }

    /// A quorum read made because of silence, begun when `known` was the newest version; true: it
    /// showed what the watch had not.
    pub(super) fn lock_read(&self, snapshot: &LockSnapshot, known: u64) -> bool {
        if self.dcs.is_overtaken(snapshot, known) {
            return false;
        }
        {
            let inner = self.lock();
            let Some(last) = &inner.lock else {
                return false;
            };
            if last == snapshot {
                return false;
            }
        }
        self.see_lock(snapshot.clone());
        true
    }

    /// Since when the lock has shown no change, and whether somebody should be renewing it.
    pub(super) fn lock_silence(&self) -> (Instant, bool) {
        let inner = self.lock();
        (inner.lock_at, inner.lock.as_ref().is_some_and(is_held))
    }

    pub(super) fn take_lock(&self) -> Option<LockSnapshot> {
        let mut inner = self.lock();
        if !std::mem::take(&mut inner.lock_waits) {
            return None;
        }
        inner.lock.clone()
    }

    // === the shared objects ===

    pub(super) fn maps_changed(&self, change: Change<Slim>) {
        let names = self.dcs.names();
        let ours = [
            names.config_name(),
            names.sync_name(),
            names.failover_name(),
        ];
        let mut inner = self.lock();
        match change {
            Change::All(all, _) => {
                let kept = all
                    .into_iter()
                    .map(|map| map.metadata)
                    .filter(|meta| ours.contains(&meta.name));
                inner.maps = Some(kept.map(|meta| (meta.name.clone(), meta)).collect());
            }
            Change::Put(map) if ours.contains(&map.metadata.name) => {
                let maps = inner.maps.get_or_insert_default();
                maps.insert(map.metadata.name.clone(), map.metadata);
            }
            Change::Gone(map) => {
                inner
                    .maps
                    .get_or_insert_default()
                    .remove(&map.metadata.name);
            }
            Change::Put(_) => return,
        }
        inner.shared_waits = true;
        self.notify.notify_one();
    }

    pub(super) fn pods_changed(&self, change: Change<SlimPod>) {
        let own = &self.dcs.names().pod_name;
        let mut inner = self.lock();
        match change {
            Change::All(all, _) => {
                self.dcs
                    .note_own_pod(all.iter().find(|pod| pod.metadata.name == *own));
                let members = all
                    .iter()
                    .filter_map(|pod| Some((pod.metadata.name.clone(), member::decode(pod)?)));
                inner.members = Some(members.collect());
            }
            Change::Put(pod) => {
                if pod.metadata.name == *own {
                    self.dcs.note_own_pod(Some(&pod));
                }
                let members = inner.members.get_or_insert_default();
                match member::decode(&pod) {
                    Some(member) => members.insert(pod.metadata.name, member),
                    None => members.remove(&pod.metadata.name),
                };
            }
            Change::Gone(pod) => {
                if pod.metadata.name == *own {
                    self.dcs.note_own_pod(None);
                }
                inner
                    .members
                    .get_or_insert_default()
                    .remove(&pod.metadata.name);
            }
        }
        inner.shared_waits = true;
        self.notify.notify_one();
    }

    /// The whole view, if it is complete and differs from the last one delivered.
    pub(super) fn take_view(&self) -> Option<SharedView> {
        let mut inner = self.lock();
        if !inner.shared_waits {
            return None;
        }
        let view = self.view(&mut inner)?;
        inner.shared_waits = false;
        self.dcs.tell_problems(&view.problems);
        if inner.delivered.as_ref() == Some(&view) {
            return None;
        }
        inner.delivered = Some(view.clone());
        Some(view)
    }

    fn view(&self, inner: &mut Inner) -> Option<SharedView> {
        let names = self.dcs.names();
        let members = inner.members.clone()?;
        let maps = inner.maps.as_ref()?;
        let mut problems: Vec<Problem> = Vec::new();
        let resolve = &*self.dcs.shared.resolve;
        let config = config::decode(
            maps.get(&names.config_name()),
            &inner.config,
            resolve,
            &mut problems,
        );
        let sync = sync::decode(maps.get(&names.sync_name()), &inner.sync, &mut problems);
        let failover = failover::decode(maps.get(&names.failover_name()), &mut problems);
        let mut view = SharedView {
            problems,
            config_raw: config.raw.clone(),
            ..SharedView::default()
        };
        view.shared.members = members;
        view.shared.config = config.record.clone();
        view.shared.sync = sync.clone();
        view.shared.failover = failover;
        (inner.config, inner.sync) = (config, sync);
        Some(view)
    }
}
