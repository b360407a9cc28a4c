//! From a request to an answer: the table of routes, and the two that change something.

use super::access::{self, Caller};
use super::answers::{
    Answer, EXPOSITION, JSON, JSON_LINES, bare, close_after, full, refusal, reply_answer, text,
};
use super::command::{Ask, Command, Reply};
use super::config::ConfigChange;
use super::connections::Slot;
use super::lines::tail;
use super::query::Query;
use super::security::Handle;
use super::server::{Journal, Limits, Parts};
use super::switchover::{self, Verb};
use super::view::View;
use super::{cluster, config, failsafe, health, metrics, reinitialize, restart, status, vote};
use crate::ha::model::Ms;
use crate::sys::clock::wall_ms;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

/// As many entries as the journal keeps in memory.
const JOURNAL_ENTRIES_MAX: usize = 10_000;
/// As many as are given to who names no number.
const JOURNAL_ENTRIES: usize = 1_000;
/// Older lines are left out of a larger answer: an agent is small, and stays small.
const JOURNAL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Questions of a leader at one time: there is one leader.
const PROMISING_MAX: usize = 4;
/// Readers of the journal at one time: its tail is the only large answer.
const JOURNAL_READERS_MAX: usize = 2;

/// Everything an answer is made of.
pub(super) struct Routes {
    view: watch::Receiver<Arc<View>>,
    commands: mpsc::Sender<Command>,
    journal: Journal,
    now: fn() -> Ms,
    security: Arc<Handle>,
    limits: Limits,
    deciding: Semaphore,
    promising: Semaphore,
    reading_journal: Semaphore,
}

impl Routes {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            view,
            commands,
            journal,
            now,
            security,
            limits,
        } = parts;
        Self {
            view,
            commands,
            journal,
            now,
            security,
            deciding: Semaphore::new(limits.max_deciding),
            promising: Semaphore::new(PROMISING_MAX),
            reading_journal: Semaphore::new(JOURNAL_READERS_MAX),
            limits,
        }
    }

    pub(super) fn security(&self) -> &Arc<Handle> {
        &self.security
    }

    pub(super) fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Answer one request, with what every answer carries.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        caller: &Caller,
        slot: &Slot,
    ) -> Answer {
        let mut answer = self.route(request, caller, slot).await;
        let security = self.security.current();
        for (name, value) in security.headers() {
            answer.headers_mut().insert(name.clone(), value.clone());
        }
        // The certificates it rests on were replaced: it ends with this answer.
        if !caller.transport.is(security.transport()) {
            return close_after(answer);
        }
        answer
    }

    /// Only the first segment of a path counts, as in Patroni.
    async fn route(&self, request: Request<Incoming>, caller: &Caller, slot: &Slot) -> Answer {
        let path = first_segment(request.uri().path()).to_owned();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        match *request.method() {
            Method::GET if path == "/explain" => self.explain(&query).await,
            Method::GET => self.get(&path, &query),
            Method::HEAD | Method::OPTIONS => {
                let code = health::status(&path, &query, &self.view(), (self.now)());
                bare(code)
            }
            _ => self.change(request, &path, caller, slot).await,
        }
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    fn get(&self, path: &str, query: &Query) -> Answer {
        let (view, now_ms) = (self.view(), (self.now)());
        match path {
            "/liveness" => bare(health::liveness(&view, now_ms)),
            "/readiness" => bare(health::readiness(query, &view, now_ms)),
            "/patroni" => full(200, JSON, status::body(&view)),
            "/cluster" => full(200, JSON, cluster::cluster(&view).to_string()),
            "/config" => reply_answer(config::stored(&view)),
            "/metrics" => full(200, EXPOSITION, metrics::page(&view, now_ms)),
            "/failsafe" => reply_answer(failsafe::shown(&view)),
            "/history" => full(200, JSON, cluster::history(&view).to_string()),
            _ => full(
                health::status(path, query, &view, now_ms),
                JSON,
                status::body(&view),
            ),
        }
    }

    async fn explain(&self, query: &Query) -> Answer {
        let last = match query.get("last").map(str::parse::<usize>) {
            None => JOURNAL_ENTRIES,
            Some(Ok(last)) => last.min(JOURNAL_ENTRIES_MAX),
            Some(Err(_)) => return text(400, "last= must be a number of entries"),
        };
        let Ok(_permit) = self.reading_journal.try_acquire() else {
            return text(503, "the journal is being read by others; try again");
        };
        let patience = Duration::from_millis(self.limits.journal_ms);
        match timeout(patience, (self.journal)(last)).await {
            Ok(Ok(lines)) => {
                let tail = tail(&lines, JOURNAL_BYTES_MAX).to_owned();
                full(200, JSON_LINES, tail)
            }
            Ok(Err(why)) => text(503, format!("the journal cannot be read: {why}")),
            Err(_) => text(503, "the journal did not answer in time"),
        }
    }

    async fn change(
        &self,
        request: Request<Incoming>,
        path: &str,
        caller: &Caller,
        slot: &Slot,
    ) -> Answer {
        if let Err(why) = access::check(&self.security, caller, &self.view(), request.headers()) {
            return refusal(why);
        }
        let method = request.method().clone();
        match (method.as_str(), path) {
            ("POST", "/switchover") => self.decide(request, Verb::Switchover, slot).await,
            ("POST", "/failover") => self.decide(request, Verb::Failover, slot).await,
            ("POST", "/restart") => {
                let read = |body: &[u8], view: &View| restart::read(body, view, wall_ms());
                self.optional(request, read, "Restart", slot).await
            }
            ("PATCH", "/config") => self.configure(request, ConfigChange::Merge, slot).await,
            ("PUT", "/config") => self.configure(request, ConfigChange::Replace, slot).await,
            ("DELETE", "/switchover") => self.forward(Ask::DropSwitchover, "Delete", slot).await,
            ("DELETE", "/restart") => self.forward(Ask::DropRestart, "Delete", slot).await,
            ("POST", "/reload") => self.forward(Ask::Reload, "Reload", slot).await,
            ("POST", "/reinitialize") => {
                let read = reinitialize::read;
                self.optional(request, |body, _| read(body), "Reinitialize", slot)
                    .await
            }
            ("POST", "/failsafe") => self.promise(request, slot).await,
            ("POST", "/vote") => self.vote(request, slot).await,
            _ => {
                let mut answer = text(501, format!("Unsupported method ('{method}')"));
                answer
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
                answer
            }
        }
    }

    async fn decide(&self, request: Request<Incoming>, verb: Verb, slot: &Slot) -> Answer {
        let body = match self.body(request).await {
            Ok(body) => body,
            Err(refusal) => return close_after(refusal),
        };
        let ask = switchover::parse(&body)
            .and_then(|request| switchover::validate(verb, &request, &self.view(), wall_ms()));
        let ask = match ask {
            Ok(ask) => ask,
            Err(reply) => return reply_answer(reply),
        };
        let word = if verb == Verb::Switchover {
            "Switchover"
        } else {
            "Failover"
        };
        self.forward(ask, word, slot).await
    }

    /// An empty body is no body: `curl -X POST` sends neither a length nor anything.
    async fn optional(
        &self,
        request: Request<Incoming>,
        read: impl FnOnce(&[u8], &View) -> Result<Ask, Reply>,
        word: &str,
        slot: &Slot,
    ) -> Answer {
        let headers = request.headers();
        let bare =
            !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING);
        let body = match self.body(request).await {
            Ok(body) => body,
            Err(_) if bare => Bytes::new(),
            Err(refusal) => return close_after(refusal),
        };
        match read(&body, &self.view()) {
            Ok(ask) => self.forward(ask, word, slot).await,
            Err(reply) => reply_answer(reply),
        }
    }

    /// Beside the permits of others: people who wait for their verbs must not keep a leader from going on.
    async fn promise(&self, request: Request<Incoming>, slot: &Slot) -> Answer {
        let body = match self.body(request).await {
            Ok(body) => body,
            Err(refusal) => return close_after(refusal),
        };
        let ask = match failsafe::read(&body, &self.view()) {
            Ok(ask) => ask,
            Err(reply) => return reply_answer(reply),
        };
        let Ok(_permit) = self.promising.try_acquire() else {
            return busy("Failsafe");
        };
        let epoch = match &ask {
            Ask::Promise { epoch, .. } => *epoch,
            _ => 0,
        };
        let mut answer = self.submit(ask, "Failsafe", slot).await;
        if answer.status() == 200 {
            for (name, value) in failsafe::headers(&self.view(), epoch) {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    answer.headers_mut().insert(name, value);
                }
            }
        }
        answer
    }

    /// As with promises: nobody's verbs must keep a cluster from electing.
    async fn vote(&self, request: Request<Incoming>, slot: &Slot) -> Answer {
        let body = match self.body(request).await {
            Ok(body) => body,
            Err(refusal) => return close_after(refusal),
        };
        let ask = match vote::read(&body, &self.view()) {
            Ok(ask) => ask,
            Err(reply) => return reply_answer(reply),
        };
        let Ok(_permit) = self.promising.try_acquire() else {
            return busy("Vote");
        };
        self.submit(ask, "Vote", slot).await
    }

    async fn configure(
        &self,
        request: Request<Incoming>,
        how: fn(serde_json::Map<String, serde_json::Value>) -> ConfigChange,
        slot: &Slot,
    ) -> Answer {
        let body = match self.body(request).await {
            Ok(body) => body,
            Err(refusal) => return close_after(refusal),
        };
        match config::parse(&body) {
            Ok(change) => self.forward(Ask::Config(how(change)), "Change", slot).await,
            Err(reply) => reply_answer(reply),
        }
    }

    /// Into the decision loop's queue, and wait for its answer.
    async fn forward(&self, ask: Ask, word: &str, slot: &Slot) -> Answer {
        let Ok(_permit) = self.deciding.try_acquire() else {
            return busy(word);
        };
        tracing::info!("asked over the REST API: {ask}");
        self.submit(ask, word, slot).await
    }

    async fn submit(&self, ask: Ask, word: &str, slot: &Slot) -> Answer {
        let patience_ms = ask.patience_ms().unwrap_or(self.limits.decision_ms);
        let _protected = slot.decide();
        let (reply, answered) = oneshot::channel();
        let deadline_ms = (self.now)() + patience_ms;
        if self
            .commands
            .try_send(Command {
                ask,
                deadline_ms,
                reply,
            })
            .is_err()
        {
            return busy(word);
        }
        match timeout(Duration::from_millis(patience_ms), answered).await {
            Ok(Ok(reply)) => reply_answer(reply),
            // Dropped or late: it may still happen, and nobody here can say.
            _ => text(503, format!("{word} status unknown: look at /cluster")),
        }
    }

    /// The body, whole, in time and not too large; without a length it is refused as in Patroni.
    async fn body(&self, request: Request<Incoming>) -> Result<Bytes, Answer> {
        let max = self.limits.max_body_bytes;
        let too_large = || text(413, format!("the body is larger than {max} bytes"));
        let headers = request.headers();
        match headers
            .get(CONTENT_LENGTH)
            .map(|value| value.to_str().unwrap_or("").parse::<u64>())
        {
            Some(Ok(length)) if length > max as u64 => return Err(too_large()),
            None if !headers.contains_key(TRANSFER_ENCODING) => {
                return Err(text(411, "Length Required"));
            }
            _ => {}
        }
        let body = Limited::new(request.into_body(), max).collect();
        match timeout(Duration::from_millis(self.limits.body_ms), body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(text(400, "the body ended before it was complete")),
            Err(_) => Err(text(408, "the body did not arrive in time")),
        }
    }
}

fn busy(word: &str) -> Answer {
    text(
        503,
        format!("{word} failed: others are being decided; try again"),
    )
}

fn first_segment(path: &str) -> &str {
    let end = path
        .get(1..)
        .and_then(|rest| rest.find('/'))
        .map_or(path.len(), |at| at + 1);
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_segment_of_a_path_counts() {
        for (path, first) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a"),
            ("/a/b", "/a"),
            ("//", "/"),
            ("*", "*"),
        ] {
            assert_eq!(first_segment(path), first, "{path}");
        }
    }
}
