//! Who is connected, and who goes when there are too many.
//!
//! A new connection is always taken: it may be the kubelet's probe. When the bound is reached, the
//! connection that was silent longest is closed for it, unless a decision is being waited for on
//! it; those are bounded by themselves. So idle or slow clients can never keep a probe out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::task::{AbortHandle, Id};

/// What one connection tells of itself.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The number of its last sign of life: a count, not a time, so that order is total.
    active: AtomicU64,
    /// A decision of the loop is being waited for.
    deciding: AtomicBool,
}

impl Slot {
    /// Note a sign of life.
    pub(super) fn touch(&self, clock: &AtomicU64) {
        self.active
            .store(clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// A decision is being waited for on it.
    pub(super) fn is_deciding(&self) -> bool {
        self.deciding.load(Ordering::Relaxed)
    }

    /// Protect this connection while the guard lives.
    pub(super) fn decide(&self) -> Deciding<'_> {
        self.deciding.store(true, Ordering::Relaxed);
        Deciding(self)
    }
}

/// See [`Slot::decide`].
pub(super) struct Deciding<'a>(&'a Slot);

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        self.0.deciding.store(false, Ordering::Relaxed);
    }
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: HashMap<Id, (AbortHandle, Arc<Slot>)>,
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn add(&mut self, task: AbortHandle, slot: Arc<Slot>) {
        self.open.insert(task.id(), (task, slot));
    }

    pub(super) fn remove(&mut self, id: Id) {
        self.open.remove(&id);
    }

    /// Close the connection that was silent longest.
    pub(super) fn evict_one(&mut self) {
        let idle = self
            .open
            .iter()
            .filter(|(_, (_, slot))| !slot.deciding.load(Ordering::Relaxed));
        let silent = idle.min_by_key(|(_, (_, slot))| slot.active.load(Ordering::Relaxed));
        if let Some(id) = silent.map(|(id, _)| *id)
            && let Some((task, _)) = self.open.remove(&id)
        {
            task.abort();
        }
    }
}
