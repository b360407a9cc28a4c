//! Failsafe mode over the wire: what a leader that cannot renew its lock asks, and what shows who
//! answered.
//!
//! The question is Patroni's (contract §2.5, `{name, conn_url, api_url, slots}`) with our identity
//! beside it. Patroni's answer, `Accepted`, does not say who accepts: an address that a stranger
//! has by now would do. Ours says it in the header [`PROMISE`].

use super::command::{Ask, Reply};
use super::view::{View, Xlog};
use crate::ha::lock::Mapped;
use crate::ha::model::{Identity, Ms, Name};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Who promises: cluster, member, the UID of its Pod, and the epoch that it promises for.
pub(super) const PROMISE: &str = "pgwarden-promise";
/// The position of who promises, as Patroni sends it.
pub(super) const LSN: &str = "lsn";
/// What callers of Patroni know.
const OFF: &str = "failsafe_mode is disabled";

/// The body of `POST /failsafe`.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    name: Name,
    #[serde(default)]
    pgwarden: Option<Asker>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Asker {
    scope: String,
    pod_uid: String,
    incarnation: String,
    epoch: u64,
    ttl_ms: Ms,
}

/// What a leader asks in one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its cluster.
    pub scope: String,
    /// Itself.
    pub holder: Identity,
    /// The epoch it leads.
    pub epoch: u64,
    /// D of its record.
    pub ttl_ms: Ms,
    /// Its PostgreSQL's and its REST address, for a Patroni that reads them.
    pub conn_url: String,
    /// The same of its REST API.
    pub api_url: String,
}

impl Request {
    pub(super) fn body(&self) -> Value {
        json!({
            "name": self.holder.name,
            "conn_url": self.conn_url,
            "api_url": self.api_url,
            "pgwarden": Asker {
                scope: self.scope.clone(),
                pod_uid: self.holder.pod_uid.clone(),
                incarnation: self.holder.incarnation.clone(),
                epoch: self.epoch,
                ttl_ms: self.ttl_ms,
            },
        })
    }

    /// Whether this answer is the promise of that member; else why it is none.
    ///
    /// # Errors
    /// In words: a refusal, or an answer that may be a stranger's.
    pub fn judge(
        &self,
        name: &str,
        mapped: &Mapped,
        status: u16,
        text: &str,
        promise: Option<&str>,
    ) -> Result<(), String> {
        if status != 200 || text != "Accepted" {
            return Err(format!("it says {text:?} ({status})"));
        }
        let wanted = promise_of(&self.scope, name, &mapped.pod_uid, self.epoch);
        match promise {
            Some(promise) if promise == wanted => Ok(()),
            Some(other) => Err(format!("{other:?} answers in its place")),
            None => Err("what answers does not say who it is (a Patroni?)".to_owned()),
        }
    }
}

fn promise_of(scope: &str, name: &str, pod_uid: &str, epoch: u64) -> String {
    format!("{scope}/{name}/{pod_uid}/{epoch}")
}

/// `GET /failsafe`: the map as the leader wrote it last.
pub(super) fn shown(view: &View) -> Reply {
    match &view.failsafe {
        Some(map) => Reply::json(200, json!(map).to_string()),
        None => Reply::new(502, OFF),
    }
}

/// What is asked, if it may be.
pub(super) fn read(body: &[u8], view: &View) -> Result<Ask, Reply> {
    if !view.failsafe_mode {
        return Err(Reply::new(502, OFF));
    }
    let question: Question = serde_json::from_slice(body).map_err(|error| {
        let words = format!("the body must be a JSON object with at least \"name\": {error}");
        Reply::new(400, words)
    })?;
    let asker = question.pgwarden;
    if let Some(other) = asker.as_ref().filter(|who| who.scope != view.scope) {
        let words = format!(
            "found the cluster {:?}; this is {:?}",
            other.scope, view.scope
        );
        return Err(Reply::new(400, words));
    }
    let (epoch, ttl_ms) = asker.as_ref().map_or((0, 0), |who| (who.epoch, who.ttl_ms));
    let (pod_uid, incarnation) = asker
        .map(|who| (who.pod_uid, who.incarnation))
        .unwrap_or_default();
    Ok(Ask::Promise {
        holder: Identity {
            name: question.name,
            pod_uid,
            incarnation,
        },
        epoch,
        ttl_ms,
    })
}

/// The headers that go with a promise.
pub(super) fn headers(view: &View, epoch: u64) -> [(&'static str, String); 2] {
    let lsn = match &view.xlog {
        Some(Xlog::Replica {
            received, replayed, ..
        }) => received.0.max(replayed.0),
        Some(Xlog::Primary { location }) => location.0,
        None => 0,
    };
    let (name, pod_uid) = (&view.identity.name, &view.identity.pod_uid);
    let promise = promise_of(&view.scope, name, pod_uid, epoch);
    [(LSN, lsn.to_string()), (PROMISE, promise)]
}
