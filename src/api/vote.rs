//! Votes over the wire: what a candidate of a quorum asks, and what the answer has to say.
//!
//! `POST /vote` is pgwarden's own. The answer names cluster and member: an address that a stranger
//! has by now does not vote. A member of that name with another copy refuses by itself
//! (`ha::fresh_copy`).

use super::command::{Ask, Reply};
use super::view::View;
use crate::ha::model::{Lsn, Name, Timeline};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The body of `POST /vote`.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    scope: String,
    candidate: Name,
    fields: String,
}

/// The body of a vote.
#[derive(Debug, Serialize, Deserialize)]
struct Vote {
    scope: String,
    name: Name,
    timeline: Timeline,
    lsn: u64,
}

/// What a candidate asks in one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its cluster.
    pub scope: String,
    /// Itself.
    pub candidate: Name,
    /// The lock fields as it sees them.
    pub fields: String,
}

impl Request {
    pub(super) fn body(&self) -> Value {
        serde_json::json!(Question {
            scope: self.scope.clone(),
            candidate: self.candidate.clone(),
            fields: self.fields.clone(),
        })
    }

    /// How far that member came, by its answer; else why that is no vote.
    ///
    /// # Errors
    /// In words: a refusal, or an answer that may be a stranger's.
    pub fn judge(&self, name: &str, status: u16, body: &[u8]) -> Result<(Timeline, Lsn), String> {
        if status != 200 {
            let text = String::from_utf8_lossy(body);
            return Err(format!("it says {text:?} ({status})"));
        }
        let vote: Vote = serde_json::from_slice(body)
            .map_err(|error| format!("its answer is no vote: {error}"))?;
        if (vote.scope.as_str(), vote.name.as_str()) != (self.scope.as_str(), name) {
            return Err(format!("{}/{} answers in its place", vote.scope, vote.name));
        }
        Ok((vote.timeline, Lsn(vote.lsn)))
    }
}

/// What is asked, if it may be.
pub(super) fn read(body: &[u8], view: &View) -> Result<Ask, Reply> {
    let question: Question = serde_json::from_slice(body).map_err(|error| {
        let keys = "\"scope\", \"candidate\" and \"fields\", each a text";
        Reply::new(
            400,
            format!("the body must be a JSON object with {keys}: {error}"),
        )
    })?;
    if question.scope != view.scope {
        let words = format!(
            "found the cluster {:?}; this is {:?}",
            question.scope, view.scope
        );
        return Err(Reply::new(400, words));
    }
    Ok(Ask::Vote {
        candidate: question.candidate,
        fields: question.fields,
    })
}

/// The answer: a vote.
pub fn cast(scope: &str, name: &str, timeline: Timeline, lsn: Lsn) -> Reply {
    let vote = Vote {
        scope: scope.to_owned(),
        name: name.to_owned(),
        timeline,
        lsn: lsn.0,
    };
    Reply::json(200, serde_json::json!(vote).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            scope: "demo".into(),
            candidate: "pg-0".into(),
            fields: "f".into(),
        }
    }

    #[test]
    fn a_vote_names_who_casts_it() {
        let body = cast("demo", "pg-1", 3, Lsn(77)).body;
        let judged = request().judge("pg-1", 200, body.as_bytes());
        assert_eq!(judged, Ok((3, Lsn(77))));
        assert!(request().judge("pg-2", 200, body.as_bytes()).is_err());
        let stranger = cast("other", "pg-1", 3, Lsn(77)).body;
        assert!(request().judge("pg-1", 200, stranger.as_bytes()).is_err());
        assert!(request().judge("pg-1", 503, b"I lead").is_err());
        assert!(request().judge("pg-1", 200, b"Accepted").is_err());
    }

    #[test]
    fn a_question_names_the_cluster_it_is_about() {
        let me = crate::ha::model::Identity {
            name: "pg-1".into(),
            pod_uid: "u".into(),
            incarnation: "1".into(),
        };
        let view = View::starting("demo", me, "0", 0);
        let body = request().body().to_string();
        let ask = read(body.as_bytes(), &view);
        assert!(matches!(ask, Ok(Ask::Vote { ref fields, .. }) if fields == "f"));
        let other = body.replace("demo", "prod");
        assert_eq!(read(other.as_bytes(), &view).unwrap_err().status, 400);
        assert_eq!(read(b"{}", &view).unwrap_err().status, 400);
    }
}
