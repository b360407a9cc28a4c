//! The requests: reading and swapping the lock and the shared objects.

use super::codec::config::{self, ConfigView, Resolve};
use super::codec::object::{Meta, Notes, create_body, patch_body};
use super::codec::{failover, lease, lease_write, sync};
use super::error::DcsError;
use super::names::DcsNames;
use super::outcome::{self, NoAnswer};
use super::own_pod::OwnPod;
use super::request::{Ask, send};
use super::retry::Pauses;
use crate::ha::lock::{LockSnapshot, LockWrite, Outcome};
use crate::ha::shared::{ConfigRecord, FailoverRecord, SharedWrite, SyncRecord};
use kube::Client;
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

/// How many Events may be under way; more are dropped.
const EVENTS_UNDER_WAY: usize = 2;
/// A retry with less time than this left could only end as "unknown".
const WORTHWHILE: Duration = Duration::from_millis(50);

/// What the composition root supplies.
#[derive(Clone)]
pub struct DcsOptions {
    /// The deadline of a request, unless [`Dcs::with_deadline`] says otherwise.
    pub call_ms: u64,
    /// Dynamic configuration → rules.
    pub resolve: Arc<Resolve>,
    /// The dynamic configuration that `SharedWrite::Config` stores.
    pub initial_config: Value,
}

/// The shared object as stored by a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedPart {
    /// `<scope>-config`.
    Config(ConfigRecord),
    /// `<scope>-sync`.
    Sync(SyncRecord),
    /// `<scope>-failover`.
    Failover(FailoverRecord),
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
    initial_config: Value,
    /// The newest version of the lock known: a watch event from before it is old news.
    newest_lock: AtomicU64,
    pub(super) own_pod: Mutex<OwnPod>,
    pub(super) events: Semaphore,
}

impl Dcs {
    /// Nothing is sent yet.
    pub fn new(client: Client, names: DcsNames, options: DcsOptions) -> Result<Self, DcsError> {
        names.check()?;
        let DcsOptions {
            call_ms,
            resolve,
            initial_config,
        } = options;
        let shared = DcsInner {
            client,
            names,
            resolve,
            initial_config,
            newest_lock: AtomicU64::new(0),
            own_pod: Mutex::default(),
            events: Semaphore::new(EVENTS_UNDER_WAY),
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

    async fn read_lock_until(&self, deadline: Instant) -> Result<LockSnapshot, DcsError> {
        let known = self.newest_lock();
        let path = self.path("apis/coordination.k8s.io/v1", "leases", &self.names().scope);
        let read = self
            .read_until(&Ask::get("read the lock", &path), deadline)
            .await;
        let snapshot = match read {
            Ok(object) => lease::decode(Some(&object)),
            Err(DcsError::Missing { .. }) => lease::decode(None),
            Err(error) => return Err(error),
        };
        self.note_quorum_version(&snapshot, known);
        Ok(snapshot)
    }

    /// Swap the record: `expect` is the version the decision was made on, `None` creates it.
    ///
    /// Failures that came back quickly are tried again until the deadline. When an attempt's answer was
    /// lost and a later one meets a conflict, the record is read: with this write's own nonce in it, the
    /// write is done. So `sent_at` read before this call is right for every `Done` (G1).
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
        let group = "apis/coordination.k8s.io/v1";
        let ask = self.ask(
            "write the lock",
            (group, "leases"),
            &self.names().scope,
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
        let snapshot = lease::decode(Some(object));
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

    /// Swap one of the shared objects.
    pub async fn write_shared(&self, write: &SharedWrite) -> Outcome<SharedPart> {
        let (notes, expect, part): (Notes, _, Part) = match write {
            SharedWrite::Initialize { value, expect } => {
                (config::initialize_notes(value), expect, Part::Config)
            }
            SharedWrite::History {
                history,
                epoch,
                ttl_ms,
                expect,
            } => (
                config::history_notes(history, *epoch, *ttl_ms),
                expect,
                Part::Config,
            ),
            SharedWrite::Config { expect } => (
                config::config_notes(&self.shared.initial_config),
                expect,
                Part::Config,
            ),
            SharedWrite::Sync {
                leader,
                standbys,
                expect,
            } => (sync::notes(leader, standbys), expect, Part::Sync),
            SharedWrite::Failover {
                from: None,
                to: None,
                expect: None,
            } => {
                return Outcome::Done(SharedPart::Failover(FailoverRecord::default()));
            }
            SharedWrite::Failover { from, to, expect } => (
                failover::notes(from.as_ref(), to.as_ref()),
                expect,
                Part::Failover,
            ),
        };
        self.write_part(part, &notes, expect.as_deref()).await
    }

    /// Store a dynamic configuration.
    pub async fn write_config(&self, config: &Value, expect: Option<&str>) -> Outcome<SharedPart> {
        self.write_part(Part::Config, &config::config_notes(config), expect)
            .await
    }

    async fn write_part(
        &self,
        part: Part,
        notes: &Notes,
        expect: Option<&str>,
    ) -> Outcome<SharedPart> {
        let names = self.names();
        let name = match part {
            Part::Config => names.config_name(),
            Part::Sync => names.sync_name(),
            Part::Failover => names.failover_name(),
        };
        let body = match expect {
            Some(_) => patch_body(names, notes, expect),
            None => create_body(names, ("v1", "ConfigMap"), &name, notes),
        };
        let what = format!("write {name}");
        let ask = self.ask(&what, ("api/v1", "configmaps"), &name, &body, expect);
        match self.write_until(&ask, Instant::now() + self.call).await.0 {
            Outcome::Done(object) => Outcome::Done(self.decode_part(part, &Meta::of(&object))),
            other => other.without_value(),
        }
    }

    fn decode_part(&self, part: Part, meta: &Meta) -> SharedPart {
        // What was just written has no problems worth telling; the watch tells those of strangers.
        let mut problems = Vec::new();
        match part {
            Part::Config => {
                let last = ConfigView::default();
                let resolve = &*self.shared.resolve;
                let view = config::decode(Some(meta), &last, resolve, &mut problems);
                SharedPart::Config(view.record)
            }
            Part::Sync => SharedPart::Sync(sync::decode(
                Some(meta),
                &SyncRecord::default(),
                &mut problems,
            )),
            Part::Failover => SharedPart::Failover(failover::decode(Some(meta), &mut problems)),
        }
    }

    /// A PATCH of the object with a version, a POST into its collection without.
    pub(super) fn ask(
        &self,
        what: &str,
        place: (&str, &str),
        name: &str,
        body: &Value,
        expect: Option<&str>,
    ) -> Ask {
        match expect {
            Some(_) => Ask::patch(what, &self.path(place.0, place.1, name), body),
            None => Ask::create(what, &self.collection(place.0, place.1), body),
        }
    }

    pub(super) fn collection(&self, group: &str, resource: &str) -> String {
        format!("/{group}/namespaces/{}/{resource}", self.names().namespace)
    }

    pub(super) fn path(&self, group: &str, resource: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(group, resource))
    }

    /// Read, and on failures that came back quickly again, until the deadline.
    pub(super) async fn read_until(&self, ask: &Ask, deadline: Instant) -> Result<Value, DcsError> {
        let mut pauses = Pauses::new();
        loop {
            let answer = send(&self.shared.client, ask, deadline).await;
            let read = outcome::of_read(&ask.what, &answer).and_then(|body| {
                serde_json::from_slice(&body).map_err(|error| DcsError::Unavailable {
                    what: ask.what.clone(),
                    why: format!("the answer cannot be read: {error}"),
                })
            });
            let again = matches!(read, Err(DcsError::Unavailable { .. }));
            if !again || !pause(pauses.next(), deadline).await {
                return read;
            }
        }
    }

    /// Write, and on failures that came back quickly again, until the deadline. The flag says that an
    /// attempt before the last may have been applied.
    pub(super) async fn write_until(&self, ask: &Ask, deadline: Instant) -> (Outcome<Value>, bool) {
        let mut pauses = Pauses::new();
        let mut ambiguous = false;
        loop {
            let answer = send(&self.shared.client, ask, deadline).await;
            let outcome = outcome::of_write(&answer);
            let wait = match &outcome {
                Outcome::Unknown { .. } => pauses.next(),
                Outcome::Refused {
                    retry_after_ms: Some(ms),
                    ..
                } => Duration::from_millis(*ms),
                _ => return (outcome, ambiguous),
            };
            let lost = matches!(outcome, Outcome::Unknown { .. });
            let never_sent = matches!(answer, Err(NoAnswer::NotSent(_)));
            if !pause(wait, deadline).await {
                return (outcome, ambiguous);
            }
            ambiguous |= lost && !never_sent;
        }
    }
}

#[derive(Clone, Copy)]
enum Part {
    Config,
    Sync,
    Failover,
}

/// Wait, unless a request after it would have no time left.
async fn pause(wait: Duration, deadline: Instant) -> bool {
    if Instant::now() + wait + WORTHWHILE > deadline {
        return false;
    }
    sleep(wait).await;
    true
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

/// Everything but `Done` says the same whatever was written.
pub(super) trait WithoutValue {
    /// The same outcome of another kind of write; `Done` must have been handled.
    fn without_value<T>(self) -> Outcome<T>;
}

impl<V> WithoutValue for Outcome<V> {
    fn without_value<T>(self) -> Outcome<T> {
        match self {
            Outcome::Done(_) => Outcome::Unknown {
                why: "an answer was not understood".to_owned(),
            },
            Outcome::Conflict => Outcome::Conflict,
            Outcome::Refused {
                status,
                why,
                retry_after_ms,
            } => Outcome::Refused {
                status,
                why,
                retry_after_ms,
            },
            Outcome::Unknown { why } => Outcome::Unknown { why },
        }
    }
}
