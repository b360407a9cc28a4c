//! The stream of a watch: reads the store's log from its own position, so it needs no queue and
//! loses nothing.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::defaults;
use super::resources::Resource;
use super::rules::Call;
use super::selector::Selector;
use super::server::Shared;
use super::status::ApiError;
use super::store::{Change, Store};

/// Upstream's: a watch with a deadline gets a last bookmark this long before it ends.
const LAST_BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// What a watch request asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) resource: &'static Resource,
    pub(super) namespace: Option<String>,
    pub(super) selector: Selector,
    /// Missing or 0: begin with the objects there are.
    pub(super) since: Option<u64>,
    pub(super) bookmarks: bool,
    /// Mark the end of the objects there are by a bookmark.
    pub(super) initial_events: bool,
    pub(super) timeout: Duration,
}

struct Watcher {
    shared: Arc<Shared>,
    call: Call,
    wanted: Wanted,
    position: u64,
    incarnation: u64,
    pending: VecDeque<Bytes>,
    ends: Instant,
    next_bookmark: Option<Instant>,
    over: bool,
}

/// What to do next.
enum Turn {
    Deliver(Bytes),
    End,
    Wait,
    WaitForFaults,
}

/// The body of the answer to a watch.
pub(super) fn body(
    shared: Arc<Shared>,
    call: Call,
    wanted: Wanted,
) -> StreamBody<impl Stream<Item = io::Result<Frame<Bytes>>> + Send> {
    let now = Instant::now();
    let ends = now + wanted.timeout;
    let mut watcher = Watcher {
        position: 0,
        incarnation: 0,
        pending: VecDeque::new(),
        ends,
        next_bookmark: None,
        over: false,
        shared,
        call,
        wanted,
    };
    watcher.begin();
    watcher.plan_bookmark(now);
    StreamBody::new(stream::unfold(watcher, |mut watcher| async move {
        let item = watcher.next().await?;
        Some((item.map(Frame::data), watcher))
    }))
}

impl Watcher {
    fn begin(&mut self) {
        let shared = Arc::clone(&self.shared);
        let store = shared.store();
        self.incarnation = store.incarnation;
        self.position = self.wanted.since.unwrap_or_default();
        if self.position > 0 && !self.wanted.initial_events {
            return;
        }
        self.position = store.now.revision;
        let kind = self.wanted.resource;
        for object in store
            .now
            .of_kind(kind.plural, self.wanted.namespace.as_deref())
        {
            if self.wanted.selector.matches(object) {
                self.pending
                    .push_back(line("ADDED", &defaults::to_served(kind, object)));
            }
        }
        if self.wanted.initial_events {
            let mut bookmark = self.bookmark();
            bookmark["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            self.pending.push_back(line("BOOKMARK", &bookmark));
        }
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            // Subscribed before looking, so that nothing between looking and waiting is missed.
            let mut faults = self.shared.faults.changes();
            let mut revisions = self.shared.revisions();
            if let Some((rule, reset)) = self.shared.faults.standing_cut(&self.call)
                && !self.over
            {
                // The client notices at once, or only when the partition has healed.
                if !reset {
                    self.shared.faults.until_cleared(rule).await;
                }
                self.over = true;
                return Some(Err(io::ErrorKind::ConnectionReset.into()));
            }
            match self.turn() {
                Turn::Deliver(bytes) => return Some(Ok(bytes)),
                Turn::End => return None,
                Turn::WaitForFaults => drop(faults.changed().await),
                Turn::Wait => {
                    let next = self.next_bookmark.map_or(self.ends, |it| it.min(self.ends));
                    tokio::select! {
                        _ = faults.changed() => {}
                        _ = revisions.changed() => {}
                        () = sleep_until(next) => {}
                    }
                }
            }
        }
    }

    fn turn(&mut self) -> Turn {
        if self.over {
            return Turn::End;
        }
        if self.shared.faults.is_watch_stalled(&self.call) {
            return Turn::WaitForFaults;
        }
        if self.shared.faults.take_watch_gone(&self.call) {
            return self.gone(&ApiError::injected(410, None));
        }
        if let Some(refusal) = self.collect() {
            return self.gone(&refusal);
        }
        if let Some(bytes) = self.pending.pop_front() {
            return Turn::Deliver(bytes);
        }
        let now = Instant::now();
        if self.over || now >= self.ends {
            return Turn::End;
        }
        if self.next_bookmark.is_some_and(|due| now >= due) {
            self.plan_bookmark(now);
            return Turn::Deliver(line("BOOKMARK", &self.bookmark()));
        }
        Turn::Wait
    }

    fn plan_bookmark(&mut self, now: Instant) {
        let next = now + self.shared.options.bookmark_interval;
        let last = self.ends.checked_sub(LAST_BOOKMARK_BEFORE_END);
        let last = last.filter(|last| self.wanted.bookmarks && now < *last);
        self.next_bookmark = last.map(|last| last.min(next));
    }

    fn gone(&mut self, refusal: &ApiError) -> Turn {
        self.over = true;
        Turn::Deliver(line("ERROR", &refusal.to_status()))
    }

    /// Takes over what happened since; the answer is why this watch cannot go on.
    fn collect(&mut self) -> Option<ApiError> {
        let shared = Arc::clone(&self.shared);
        let store = shared.store();
        if store.incarnation != self.incarnation {
            self.over = true;
            return None;
        }
        if self.position < store.forgotten {
            return Some(ApiError::expired(self.position, store.forgotten));
        }
        self.take_changes(&store);
        None
    }

    fn take_changes(&mut self, store: &Store) {
        let fresh = store.changes_after(self.position);
        let lines: Vec<Bytes> = fresh.filter_map(|change| self.event(change)).collect();
        self.pending.extend(lines);
        // A watch from beyond the present stays there: upstream leaves out what is not newer.
        self.position = self.position.max(store.now.revision);
    }

    /// How this change looks through the selector: leaving it is a deletion, entering it an
    /// addition.
    fn event(&self, change: &Change) -> Option<Bytes> {
        let kind = self.wanted.resource;
        let elsewhere = self
            .wanted
            .namespace
            .as_ref()
            .is_some_and(|it| *it != change.key.namespace);
        if change.key.plural != kind.plural || elsewhere {
            return None;
        }
        let selector = &self.wanted.selector;
        let before = change.before.as_ref().filter(|it| selector.matches(it));
        let is_in = !change.deleted && selector.matches(&change.object);
        let (event, object) = match (before, is_in) {
            (None, false) => return None,
            (None, true) => ("ADDED", defaults::to_served(kind, &change.object)),
            (Some(_), true) => ("MODIFIED", defaults::to_served(kind, &change.object)),
            (Some(before), false) => {
                let mut last = defaults::to_served(kind, before);
                last["metadata"]["resourceVersion"] = change.revision.to_string().into();
                ("DELETED", last)
            }
        };
        Some(line(event, &object))
    }

    fn bookmark(&self) -> Value {
        json!({
            "kind": self.wanted.resource.kind,
            "apiVersion": self.wanted.resource.api_version(),
            "metadata": {"resourceVersion": self.position.to_string()},
        })
    }
}

fn line(event: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": event, "object": object})))
}
