//! The requests: reading and swapping the lock.

use super::bypass::Servers;
use super::calls::WithoutValue;
use super::codec::Problem;
use super::codec::config::Resolve;
use super::codec::{lease, lease_write};
use super::error::DcsError;
use super::names::DcsNames;
use super::own_pod::OwnPod;
use super::refusals::Refusals;
use super::request::Ask;
use crate::ha::lock::{LockSnapshot, LockWrite, Outcome};
use kube::Client;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How many Events may be under way; more are dropped.
const EVENTS_UNDER_WAY: usize = 2;

/// What the composition root supplies.
#[derive(Clone)]
pub struct DcsOptions {
    /// The deadline of a request, unless [`Dcs::with_deadline`] says otherwise.
    pub call_ms: u64,
    /// Dynamic configuration → rules.
    pub resolve: Arc<Resolve>,
    /// The dynamic configuration that `SharedWrite::Config` stores until a newer one is known.
    pub initial_config: Value,
    /// The client's way past the Service, to be kept up to date while watching; none: it has none.
    pub servers: Option<Servers>,
}

/// The cluster's objects behind one API client. Cheap to clone.
#[derive(Clone)]
pub struct Dcs {
    pub(super) shared: Arc<DcsInner>,
    pub(super) call: Duration,
}

/// What all clones of a [`Dcs`] share.
pub(super) struct DcsInner {
    pub(super) client: Client,
    pub(super) names: DcsNames,
    pub(super) resolve: Arc<Resolve>,
    pub(super) initial_config: Mutex<Value>,
    pub(super) servers: Option<Servers>,
    /// The newest version of the lock known: a watch event from before it is old news.
    newest_lock: AtomicU64,
    pub(super) own_pod: Mutex<OwnPod>,
    /// The leader Service was there.
    pub(super) service_seen: AtomicBool,
    /// This member leads a standby cluster.
    pub(super) leads_standby: AtomicBool,
    pub(super) events: Semaphore,
    pub(super) refusals: Refusals,
    told: Mutex<Vec<Problem>>,
}

impl Dcs {
    /// Nothing is sent yet.
    pub fn new(client: Client, names: DcsNames, options: DcsOptions) -> Result<Self, DcsError> {
        names.check()?;
        let DcsOptions {
            call_ms,
            resolve,
            initial_config,
            servers,
        } = options;
        let shared = DcsInner {
            client,
            names,
            resolve,
            initial_config: Mutex::new(initial_config),
            servers,
            newest_lock: AtomicU64::new(0),
            own_pod: Mutex::default(),
            service_seen: AtomicBool::new(false),
            leads_standby: AtomicBool::new(false),
            events: Semaphore::new(EVENTS_UNDER_WAY),
            refusals: Refusals::default(),
            told: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            call: Duration::from_millis(call_ms),
        })
    }

    /// The same with another deadline for each request.
    #[must_use]
    pub fn with_deadline(&self, call_ms: u64) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            call: Duration::from_millis(call_ms),
        }
    }

    /// The names it works with.
    pub fn names(&self) -> &DcsNames {
        &self.shared.names
    }

    /// The lock by a quorum read.
    pub async fn read_lock(&self) -> Result<LockSnapshot, DcsError> {
        self.read_lock_until(Instant::now() + self.call).await
    }

    pub(super) async fn read_lock_until(
        &self,
        deadline: Instant,
    ) -> Result<LockSnapshot, DcsError> {
        let known = self.newest_lock();
        let dialect = self.names().dialect;
        let ask = Ask::get("read the lock", &self.lock_path());
        let read = self.read_until(&ask, deadline).await;
        let snapshot = match read {
            Ok(object) => lease::decode(dialect, Some(&object)),
            Err(DcsError::Missing { .. }) => lease::decode(dialect, None),
            Err(error) => return Err(error),
        };
        self.note_quorum_version(&snapshot, known);
        Ok(snapshot)
    }

    /// Swap the record: `expect` is the version the decision was made on, `None` creates it.
    ///
    /// Failures that came back quickly are tried again until the deadline. When an attempt's answer
    /// was lost and a later one meets a conflict, the record is read: with this write's own nonce
    /// in it, the write is done. So `sent_at` read before this call is right for every `Done` (G1).
    pub async fn write_lock(
        &self,
        write: &LockWrite,
        expect: Option<&str>,
    ) -> Outcome<LockSnapshot> {
        let deadline = Instant::now() + self.call;
        let body = match lease_write::encode(self.names(), write, expect, jiff::Timestamp::now()) {
            Ok(body) => body,
            Err(error) => return cannot_encode(&error),
        };
        let ask = self.ask(
            "write the lock",
            self.names().dialect.lock().path(),
            &self.names().lock_name(),
            &body,
            expect,
        );
        let (outcome, ambiguous) = self.write_until(&ask, deadline).await;
        match outcome {
            Outcome::Done(object) => self.acknowledged(&object, write, expect),
            Outcome::Conflict if ambiguous => match self.read_lock_until(deadline).await {
                Ok(snapshot) if lease_write::is_result_of(&snapshot, write) => {
                    Outcome::Done(snapshot)
                }
                Ok(_) => Outcome::Conflict,
                Err(error) => Outcome::Unknown {
                    why: format!("an answer was lost, then {error}"),
                },
            },
            other => other.without_value(),
        }
    }

    /// L2: a success counts only if the record really is what was written, in a new version.
    fn acknowledged(
        &self,
        object: &Value,
        write: &LockWrite,
        expect: Option<&str>,
    ) -> Outcome<LockSnapshot> {
        let snapshot = lease::decode(self.names().dialect, Some(object));
        if !lease_write::is_result_of(&snapshot, write) {
            return Outcome::Unknown {
                why: "the answer shows another record".to_owned(),
            };
        }
        if snapshot.resource_version.as_deref() == expect {
            return Outcome::Conflict;
        }
        if let Some(version) = version_of(&snapshot) {
            self.shared
                .newest_lock
                .fetch_max(version, Ordering::Relaxed);
        }
        Outcome::Done(snapshot)
    }

    /// Warn of what was not there at the last look, whether that was a watch's or a read's.
    pub(super) fn tell_problems(&self, problems: &[Problem]) {
        let mut told = self
            .shared
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for problem in problems.iter().filter(|problem| !told.contains(problem)) {
            tracing::warn!("{problem}");
        }
        *told = problems.to_vec();
    }

    /// The version below which sights of the lock are old.
    pub(super) fn newest_lock(&self) -> u64 {
        self.shared.newest_lock.load(Ordering::Relaxed)
    }

    /// After a quorum read that began when `known` was the newest: a lower version means a restored
    /// store, whose versions are the ones that count from now on.
    pub(super) fn note_quorum_version(&self, snapshot: &LockSnapshot, known: u64) {
        match version_of(snapshot) {
            Some(version) if version < known => {
                self.shared.newest_lock.store(version, Ordering::Relaxed);
            }
            Some(version) => {
                self.shared
                    .newest_lock
                    .fetch_max(version, Ordering::Relaxed);
            }
            None => {}
        }
    }

    /// A read that began when `known` was the newest version was overtaken by a newer sight.
    pub(super) fn is_overtaken(&self, snapshot: &LockSnapshot, known: u64) -> bool {
        match version_of(snapshot) {
            Some(version) => version < self.newest_lock(),
            None => self.newest_lock() != known,
        }
    }
}

fn cannot_encode<T>(error: &super::codec::EncodeError) -> Outcome<T> {
    Outcome::Refused {
        status: 422,
        why: error.to_string(),
        retry_after_ms: None,
    }
}

fn version_of(snapshot: &LockSnapshot) -> Option<u64> {
    snapshot.resource_version.as_ref()?.parse().ok()
}
