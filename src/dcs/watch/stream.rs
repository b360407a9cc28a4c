//! One list-and-watch: the list by quorum, the watch from its version on, and again when it ends.

use super::super::client::Dcs;
use super::super::codec::object::Meta;
use super::super::error::DcsError;
use super::super::outcome::{self, NoAnswer};
use super::super::request::{Ask, open};
use super::super::retry::Pauses;
use http_body_util::BodyExt;
use kube::api::WatchEvent;
use kube::client::Body;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// The server ends a watch after this.
const SERVER_ENDS_AFTER_S: u32 = 300;
/// Bookmarks come once a minute; a stream silent for longer is dead.
const SILENCE_MAX: Duration = Duration::from_secs(75);
/// After a watch that ended sooner than this comes a pause: no hot loop against a broken proxy.
const TOO_SHORT: Duration = Duration::from_secs(1);
/// However long a server asks to be left alone, this is the longest the lock stays unwatched for
/// it.
const LEFT_ALONE_MAX: Duration = Duration::from_secs(5);
/// The longest line of a stream.
const LINE_MAX_BYTES: usize = 8 << 20;

/// What is watched.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// In words.
    pub(super) what: String,
    /// The collection.
    pub(super) path: String,
    /// The query that selects.
    pub(super) selector: String,
}

/// News of a collection.
#[derive(Debug)]
pub(super) enum Change<T> {
    /// All there is, by a quorum list that began when the given lock version was the newest known.
    All(Vec<T>, u64),
    /// New or changed.
    Put(T),
    /// Deleted; as it last was.
    Gone(T),
}

/// A list, trimmed while parsing.
#[derive(Deserialize)]
pub(super) struct List<T> {
    #[serde(default)]
    metadata: Meta,
    #[serde(default = "Vec::new")]
    pub(super) items: Vec<T>,
}

/// Why a stream ended. However it did, the next one begins with a list: the version reached may be
/// one the server has forgotten, or after a restore of its store one that lies in the future, and a
/// server may be silent about either.
enum Ended {
    /// The server ended it, forgot its version (410), or it was given up as stalled.
    Normally,
    /// Something else.
    Failed(String),
}

/// List by a quorum read.
pub(super) async fn list<T: DeserializeOwned + Send>(
    dcs: &Dcs,
    source: &Source,
) -> Result<List<T>, DcsError> {
    let what = format!("list {}", source.what);
    let ask = Ask::get(&what, &format!("{}?{}", source.path, source.selector));
    let answer = dcs.send(&ask, Instant::now() + dcs.call).await;
    let body = outcome::of_read(&what, answer)?;
    serde_json::from_slice(&body).map_err(|error| DcsError::Unavailable {
        what,
        why: format!("the answer cannot be read: {error}"),
    })
}

/// List, watch, and again, for ever; `on` is called in the order of the server's versions.
pub(super) async fn follow<T, F>(
    dcs: Dcs,
    source: Source,
    mut stalled: watch::Receiver<u64>,
    mut on: F,
) where
    T: DeserializeOwned + Send,
    F: FnMut(Change<T>) + Send,
{
    let mut health = Health::new(&source);
    loop {
        let known = dcs.newest_lock();
        let from = match list::<T>(&dcs, &source).await {
            Ok(all) => {
                on(Change::All(all.items, known));
                all.metadata.resource_version
            }
            Err(error) => {
                health.failed(&error.to_string(), error.retry_after()).await;
                continue;
            }
        };
        let began = Instant::now();
        stalled.mark_unchanged();
        let ended = tokio::select! {
            ended = watch_from(&dcs, &source, &from, &mut health, &mut on) => ended,
            _ = stalled.changed() => Ended::Normally,
        };
        let lasted = began.elapsed() >= TOO_SHORT;
        if lasted {
            health.pauses.reset();
        }
        match ended {
            Ended::Normally if lasted => {}
            Ended::Normally => health.pause().await,
            Ended::Failed(why) => health.failed(&why, None).await,
        }
    }
}

async fn watch_from<T, F>(
    dcs: &Dcs,
    source: &Source,
    from: &str,
    health: &mut Health,
    on: &mut F,
) -> Ended
where
    T: DeserializeOwned + Send,
    F: FnMut(Change<T>),
{
    let path = format!(
        "{}?{}&watch=true&allowWatchBookmarks=true&timeoutSeconds={SERVER_ENDS_AFTER_S}\
         &resourceVersion={from}",
        source.path, source.selector
    );
    let what = format!("watch {}", source.what);
    let ask = Ask::get(&what, &path);
    let answer = timeout_at(Instant::now() + dcs.call, open(&dcs.shared.client, &ask)).await;
    let response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(NoAnswer::NotSent(why) | NoAnswer::Lost(why))) => return Ended::Failed(why),
        Err(_) => return Ended::Failed("no answer within the deadline".to_owned()),
    };
    let status = response.status().as_u16();
    dcs.shared.refusals.note(&what, status, b"it is forbidden");
    match status {
        200..=299 => {}
        410 => return Ended::Normally,
        status => return Ended::Failed(format!("status {status}")),
    }
    health.works();
    let mut lines = Lines {
        body: response.into_body(),
        rest: Vec::new(),
    };
    loop {
        let line = match timeout(SILENCE_MAX, lines.next()).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => return Ended::Normally,
            Ok(Err(why)) => return Ended::Failed(why),
            Err(_) => return Ended::Failed("silent for longer than bookmarks allow".to_owned()),
        };
        match serde_json::from_slice::<WatchEvent<T>>(&line) {
            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                on(Change::Put(object));
            }
            Ok(WatchEvent::Deleted(object)) => {
                on(Change::Gone(object));
            }
            // Only a sign of life: the clock of the silence starts anew.
            Ok(WatchEvent::Bookmark(_)) => {}
            Ok(WatchEvent::Error(status)) if status.code == 410 => return Ended::Normally,
            Ok(WatchEvent::Error(status)) => return Ended::Failed(status.message),
            Err(error) => {
                // Its version is not known, so nothing may be continued from here.
                tracing::warn!("an event of {} cannot be read: {error}", source.what);
                return Ended::Normally;
            }
        }
    }
}

/// A body as lines.
struct Lines {
    body: Body,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line; keeps what it has when cancelled.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let tail = self.rest.split_off(at + 1);
                let mut line = std::mem::replace(&mut self.rest, tail);
                line.truncate(at);
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Some(line));
            }
            if self.rest.len() > LINE_MAX_BYTES {
                return Err(format!("a line of more than {LINE_MAX_BYTES} bytes"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(format!("the watch broke off: {error}")),
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.rest.extend_from_slice(bytes);
                    }
                }
            }
        }
    }
}

/// Says once that the API is away, and once that it is back.
struct Health {
    what: String,
    away_since: Option<Instant>,
    pauses: Pauses,
}

impl Health {
    fn new(source: &Source) -> Self {
        Self {
            what: source.what.clone(),
            away_since: None,
            pauses: Pauses::new(),
        }
    }

    async fn failed(&mut self, why: &str, wait: Option<Duration>) {
        if self.away_since.is_none() {
            self.away_since = Some(Instant::now());
            tracing::warn!(
                "cannot watch {}: {why}; trying again at least once a second",
                self.what
            );
        }
        let pause = self.pauses.next();
        sleep(wait.unwrap_or(pause).clamp(pause, LEFT_ALONE_MAX)).await;
    }

    async fn pause(&mut self) {
        sleep(self.pauses.next()).await;
    }

    fn works(&mut self) {
        if let Some(since) = self.away_since.take() {
            let ms = since.elapsed().as_millis();
            tracing::info!("watching {} again after {ms} ms", self.what);
        }
    }
}
