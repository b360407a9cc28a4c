//! What the API server tells by itself: the lock, the shared objects, the pods.
//!
//! Three streams ([`stream`]) feed one synchronous [`board::Board`]; one task delivers what changed
//! over a bounded channel, newest state only, so a slow reader costs no memory and never sees an
//! old lock after a new one. A silent stall, which no error announces, is found by what should have
//! happened: a held lock is renewed every R, so after 2R of silence it is read, and if it did move
//! the streams start anew.

mod board;
mod stream;

use super::bypass;
use super::client::Dcs;
use super::codec::member::SlimPod;
use super::codec::object::Slim;
use super::error::DcsError;
use super::request::escaped;
use crate::ha::lock::{LockSnapshot, LockState};
use crate::ha::shared::Shared;
use board::Board;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use stream::{Change, Source};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

pub use super::codec::Problem;

/// A lock nobody renews is read this often at least, should the watch have died silently.
const LOOK_AT_LEAST: Duration = Duration::from_secs(5);

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// R: a held lock that shows no change for twice this is read.
    pub renew_ms: u64,
    /// The length of the channel.
    pub queue: usize,
}

/// Something that was seen.
// At most `queue` of them exist, and the lock is the common one: a box would only cost.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The lock object changed.
    Lock(LockSnapshot),
    /// The members or a shared object changed: the whole view.
    Shared(Box<SharedView>),
}

/// The shared state with what only people and the REST interface need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedView {
    /// What decisions depend on.
    pub shared: Shared,
    /// The dynamic configuration as stored.
    pub config_raw: Option<String>,
    /// What could not be understood.
    pub problems: Vec<Problem>,
}

/// The running watch. Dropping it ends it.
pub struct Watching {
    /// What was seen, newest last.
    pub seen: mpsc::Receiver<Seen>,
    /// The tasks; one that ends while the receiver lives is a bug to be handled, not ignored.
    pub tasks: JoinSet<()>,
}

impl Dcs {
    /// Start watching; the first lock and the first view follow as soon as the API has answered.
    pub fn watch(&self, options: WatchOptions) -> Watching {
        let (sender, seen) = mpsc::channel(options.queue.max(1));
        let board = Arc::new(Board::new(self.clone()));
        let (stalled, _) = watch::channel(0_u64);
        let mut tasks = JoinSet::new();

        let lock = Arc::clone(&board);
        let source = self.lock_source();
        tasks.spawn(stream::follow(
            self.clone(),
            source,
            stalled.subscribe(),
            move |change| {
                lock.lock_changed(change);
            },
        ));
        let maps = Arc::clone(&board);
        let source = self.source(self.names().dialect.state().resource);
        tasks.spawn(stream::follow(
            self.clone(),
            source,
            stalled.subscribe(),
            move |change| {
                maps.maps_changed(change);
            },
        ));
        let pods = Arc::clone(&board);
        let source = self.source("pods");
        tasks.spawn(stream::follow(
            self.clone(),
            source,
            stalled.subscribe(),
            move |change| {
                pods.pods_changed(change);
            },
        ));
        let period = Duration::from_millis(options.renew_ms.max(1)) * 2;
        tasks.spawn(look_when_silent(
            self.clone(),
            Arc::clone(&board),
            period,
            stalled,
        ));
        tasks.spawn(deliver(board, sender));
        if let Some(servers) = self.shared.servers.clone() {
            tasks.spawn(bypass::keep_up(self.clone(), servers));
        }
        Watching { seen, tasks }
    }

    /// The shared state by quorum reads.
    pub async fn read_shared(&self) -> Result<SharedView, DcsError> {
        let board = Board::new(self.clone());
        let maps: Vec<Slim> =
            stream::list(self, &self.source(self.names().dialect.state().resource))
                .await?
                .items;
        board.maps_changed(Change::All(maps, 0));
        let pods: Vec<SlimPod> = stream::list(self, &self.source("pods")).await?.items;
        board.pods_changed(Change::All(pods, 0));
        Ok(board.take_view().unwrap_or_default())
    }

    fn lock_source(&self) -> Source {
        let name = self.names().lock_name();
        let (group, resource) = self.names().dialect.lock().path();
        Source {
            what: format!("the lock {name}"),
            path: self.collection(group, resource),
            selector: format!(
                "fieldSelector={}",
                escaped(&format!("metadata.name={name}"))
            ),
        }
    }

    fn source(&self, resource: &str) -> Source {
        Source {
            what: format!("the {resource} of {}", self.names().scope),
            path: self.collection("api/v1", resource),
            selector: format!("labelSelector={}", escaped(&self.names().selector())),
        }
    }
}

/// Send the newest of what changed until nobody listens any more.
async fn deliver(board: Arc<Board>, sender: mpsc::Sender<Seen>) {
    loop {
        tokio::select! {
            () = board.changed() => {}
            () = sender.closed() => return,
        }
        // The lock first: it is what an election waits for.
        while let Some(seen) = board
            .take_lock()
            .map(Seen::Lock)
            .or_else(|| board.take_view().map(|view| Seen::Shared(Box::new(view))))
        {
            if sender.send(seen).await.is_err() {
                return;
            }
        }
    }
}

/// Read the lock when it should have changed and did not.
async fn look_when_silent(
    dcs: Dcs,
    board: Arc<Board>,
    period: Duration,
    stalled: watch::Sender<u64>,
) {
    let mut looked_at = Instant::now();
    loop {
        let (seen_at, held) = board.lock_silence();
        let period = if held {
            period
        } else {
            period.max(LOOK_AT_LEAST)
        };
        let due = seen_at.max(looked_at) + period;
        if Instant::now() < due {
            sleep_until(due).await;
            continue;
        }
        looked_at = Instant::now();
        let known = dcs.newest_lock();
        let Ok(snapshot) = dcs.read_lock().await else {
            continue;
        };
        // One read can overtake its event; the event then brings nothing new.
        if board.lock_read(&snapshot, known) {
            tracing::warn!("the watch of the lock was silent while it changed; watching anew");
            stalled.send_modify(|count| *count += 1);
        }
    }
}

/// What a list or an event says about the lock object.
fn is_held(snapshot: &LockSnapshot) -> bool {
    matches!(snapshot.state, LockState::Held(_))
}

/// Lock objects are decoded from raw values: any field may hold anything.
type RawLease = Value;
