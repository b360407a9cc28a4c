//! The Kubernetes store: objects with versions, compare-and-swap, and what can go wrong with it.

use pgwarden::ha::lock::{Claim, Held, LockSnapshot, LockState, LockWrite, Outcome};
use pgwarden::ha::model::{Member, Name};
use pgwarden::ha::remote::Standby;
use pgwarden::ha::shared::{
    ConfigRecord, FailoverRecord, Initialize, Rules, Scheduled, Shared, SharedWrite, SyncRecord,
};
use pgwarden::ha::slots::SlotRecord;
use std::collections::BTreeMap;
use std::sync::Arc;

/// No cluster's identifier.
const FALSE_ID: &str = "4711";

/// The store, as etcd has it.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) version: u64,
    pub(crate) lock: Option<StoredLock>,
    /// Config, sync and failover; members beside them.
    shared: Shared,
    members: BTreeMap<Name, Member>,
    /// What the agents' local files would store.
    pub(crate) local_rules: Rules,
    pub(crate) ignore_versions: bool,
    objects: u64,
    /// What `initialize` was before a hand edited it.
    true_id: Initialize,
    /// The record of the synchronous set that was deleted last.
    deleted_sync: Option<SyncRecord>,
    /// A hand has deleted or damaged the lock, and with it who led last.
    pub(crate) lock_lost: bool,
    view: Option<Arc<Shared>>,
}

/// The lock object.
#[derive(Clone)]
pub(crate) struct StoredLock {
    uid: u64,
    version: u64,
    writes: u64,
    /// What the fields of the lock look like, for comparison.
    fields: String,
    pub(crate) state: LockState,
    optime: Option<pgwarden::ha::model::Lsn>,
    slots: SlotRecord,
    /// The writer's wall clock at the last renewal.
    pub(crate) wall_ms: i64,
}

impl Store {
    pub(crate) fn new(local_rules: Rules, ignore_versions: bool) -> Self {
        Self {
            version: 100,
            lock: None,
            shared: Shared::default(),
            members: BTreeMap::new(),
            local_rules,
            ignore_versions,
            objects: 0,
            true_id: Initialize::Never,
            deleted_sync: None,
            lock_lost: false,
            view: None,
        }
    }

    fn next(&mut self) -> u64 {
        self.version += 1;
        self.view = None;
        self.version
    }

    pub(crate) fn lock_snapshot(&self) -> LockSnapshot {
        match &self.lock {
            None => LockSnapshot {
                resource_version: None,
                fields: "absent".into(),
                state: LockState::Absent,
                optime: None,
                slots: SlotRecord::default(),
            },
            Some(lock) => LockSnapshot {
                resource_version: Some(lock.version.to_string()),
                fields: lock.fields.clone(),
                state: lock.state.clone(),
                optime: lock.optime,
                slots: lock.slots.clone(),
            },
        }
    }

    pub(crate) fn members_mut(&mut self) -> &mut BTreeMap<Name, Member> {
        self.view = None;
        &mut self.members
    }

    pub(crate) fn shared_mut(&mut self) -> &mut Shared {
        self.view = None;
        &mut self.shared
    }

    /// As it is now; made anew only after a change.
    pub(crate) fn shared_view(&mut self) -> Arc<Shared> {
        if let Some(view) = &self.view {
            return Arc::clone(view);
        }
        let view = Arc::new(Shared {
            members: self.members.clone(),
            ..self.shared.clone()
        });
        self.view = Some(Arc::clone(&view));
        view
    }

    pub(crate) fn write_lock(
        &mut self,
        expect: Option<&str>,
        write: &LockWrite,
        wall_ms: i64,
    ) -> Outcome<LockSnapshot> {
        let current = self.lock.as_ref().map(|lock| lock.version.to_string());
        if current.as_deref() != expect && !(self.ignore_versions && current.is_some()) {
            return Outcome::Conflict;
        }
        let held = |claim: &Claim, acquire_time: String| {
            LockState::Held(Held {
                holder: claim.holder.clone(),
                epoch: claim.epoch,
                ttl_ms: claim.ttl_ms,
                acquire_time,
                nonce: claim.nonce,
                place: claim.place.clone(),
                paused: claim.paused,
                failsafe: claim.failsafe.clone(),
                led_last: claim.led_last.clone(),
            })
        };
        let (state, optime) = match write {
            LockWrite::Acquire(claim) => (held(claim, format!("at {wall_ms}")), claim.optime),
            LockWrite::Renew {
                claim,
                acquire_time,
            } => (held(claim, acquire_time.clone()), claim.optime),
            LockWrite::Release { release, optime } => {
                (LockState::Released(release.clone()), *optime)
            }
        };
        self.put_lock(state, optime, wall_ms);
        if let (LockWrite::Acquire(claim) | LockWrite::Renew { claim, .. }, Some(lock)) =
            (write, &mut self.lock)
        {
            lock.slots = claim.slots.clone();
        }
        Outcome::Done(self.lock_snapshot())
    }

    pub(crate) fn put_lock(
        &mut self,
        state: LockState,
        optime: Option<pgwarden::ha::model::Lsn>,
        wall_ms: i64,
    ) {
        let version = self.next();
        let slots = self.lock.as_ref().map(|lock| lock.slots.clone());
        let (uid, writes) = if let Some(lock) = &self.lock {
            (lock.uid, lock.writes + 1)
        } else {
            self.objects += 1;
            (self.objects, 0)
        };
        self.lock = Some(StoredLock {
            uid,
            version,
            writes,
            fields: format!("{uid}|{writes}|{state:?}"),
            state,
            optime,
            slots: slots.unwrap_or_default(),
            wall_ms,
        });
    }

    /// Something else of the object was written: its version changes, the lock fields do not.
    pub(crate) fn touch_lock(&mut self) {
        let version = self.next();
        if let Some(lock) = &mut self.lock {
            lock.version = version;
        }
    }

    pub(crate) fn delete_lock(&mut self) {
        self.next();
        self.lock_lost = true;
        self.lock = None;
    }

    pub(crate) fn put_member(&mut self, name: &str, member: Member) {
        self.next();
        self.members.insert(name.to_owned(), member);
    }

    pub(crate) fn write_shared(&mut self, what: &SharedWrite) -> Outcome<String> {
        let (current, expect) = match what {
            SharedWrite::Initialize { expect, .. }
            | SharedWrite::History { expect, .. }
            | SharedWrite::Config { expect } => (&self.shared.config.resource_version, expect),
            SharedWrite::Sync { expect, .. } => (&self.shared.sync.resource_version, expect),
            SharedWrite::Failover { expect, .. } | SharedWrite::Dead { expect, .. } => {
                (&self.shared.failover.resource_version, expect)
            }
        };
        if current != expect && !self.ignore_versions {
            return Outcome::Conflict;
        }
        let version = self.next().to_string();
        let stored = Some(version.clone());
        match what.clone() {
            SharedWrite::Initialize { value, .. } => {
                self.shared.config.initialize = value;
                self.shared.config.resource_version = stored;
            }
            SharedWrite::History {
                history,
                timeline,
                epoch,
                ttl_ms,
                ..
            } => {
                self.shared.config.history = history;
                self.shared.config.timeline = Some(timeline);
                self.shared.config.epoch = epoch;
                self.shared.config.ttl_ms = ttl_ms;
                self.shared.config.resource_version = stored;
            }
            SharedWrite::Config { .. } => {
                self.shared.config.rules = Some(self.local_rules.clone());
                self.shared.config.resource_version = stored;
            }
            SharedWrite::Sync {
                leader,
                standbys,
                quorum,
                ..
            } => {
                self.shared.sync.quorum = quorum;
                self.shared.sync.leader = Some(leader);
                self.shared.sync.standbys = standbys;
                self.shared.sync.resource_version = stored;
            }
            SharedWrite::Failover {
                from,
                to,
                accepts_loss,
                ..
            } => {
                let asked = from.is_some() || to.is_some();
                self.shared.failover = FailoverRecord {
                    from,
                    to,
                    accepts_loss,
                    dead: self.shared.failover.dead.take().filter(|_| asked),
                    resource_version: stored,
                    ..FailoverRecord::default()
                };
            }
            SharedWrite::Dead { holder, .. } => {
                self.shared.failover.dead = Some(holder);
                self.shared.failover.resource_version = stored;
            }
        }
        Outcome::Done(version)
    }

    /// A switchover is planned, in place of whatever was asked for.
    pub(crate) fn plan(&mut self, scheduled: Scheduled) {
        let version = self.next().to_string();
        self.shared.failover = FailoverRecord {
            scheduled: Some(scheduled),
            resource_version: Some(version),
            ..FailoverRecord::default()
        };
    }

    /// Change the stored dynamic configuration as a person would.
    pub(crate) fn edit_rules(&mut self, edit: impl FnOnce(&mut Rules)) {
        let version = self.next().to_string();
        if let Some(rules) = &mut self.shared.config.rules {
            edit(rules);
            self.shared.config.resource_version = Some(version);
        }
    }

    /// The whole cluster is to follow a primary of elsewhere, or nobody.
    pub(crate) fn follow(&mut self, standby: Option<Standby>) {
        let local = self.local_rules.clone();
        self.shared.config.rules.get_or_insert(local);
        self.edit_rules(|rules| rules.standby = standby);
    }

    /// Maintenance mode ends. Where the object is gone, a person's word is written into a new one.
    pub(crate) fn resume(&mut self) {
        let local = self.local_rules.clone();
        self.shared.config.rules.get_or_insert(local);
        self.edit_rules(|rules| rules.pause = false);
    }

    pub(crate) fn delete_config(&mut self) {
        self.next();
        self.shared.config = ConfigRecord::default();
    }

    pub(crate) fn delete_sync(&mut self) {
        self.next();
        let deleted = std::mem::take(&mut self.shared.sync);
        if deleted.leader.is_some() {
            self.deleted_sync = Some(deleted);
        }
    }

    pub(crate) fn falsify_id(&mut self) {
        let false_id = Initialize::Done(FALSE_ID.into());
        let before = std::mem::replace(&mut self.shared.config.initialize, false_id.clone());
        if before != false_id {
            self.true_id = before;
        }
        self.touch_config();
    }

    /// What only a person can know: which cluster this is, and, where nothing tells who led last,
    /// who holds every commit.
    pub(crate) fn mend_by_hand(&mut self) {
        let false_id = Initialize::Done(FALSE_ID.into());
        if self.shared.config.initialize == false_id {
            self.shared.config.initialize = self.true_id.clone();
            self.touch_config();
        }
        let unknown = match self.lock_snapshot().state {
            LockState::Absent | LockState::Garbled { .. } => true,
            LockState::Released(released) => released.led_last.is_none(),
            LockState::Held(held) => held.led_last.is_none() && self.lock_lost,
        };
        if self.shared.sync.leader.is_none() && unknown {
            self.shared.sync = self.deleted_sync.clone().unwrap_or_default();
            self.shared.sync.resource_version = Some(self.next().to_string());
        }
    }

    /// Somebody edited the object.
    pub(crate) fn touch_config(&mut self) {
        self.shared.config.resource_version = Some(self.next().to_string());
    }

    pub(crate) fn is_bootstrapped(&self) -> bool {
        matches!(self.shared.config.initialize, Initialize::Done(_))
    }
}
