//! The members that may be asked, in order; the first that answers is believed.

use crate::api::client::{self, Answer, Client, Error};
use crate::api::{Credentials, PeerStatus};
use crate::cli::cluster::Row;
use crate::cli::{Exit, Failure};
use serde_json::Value;
use std::io::{self, Write};
use std::time::Duration;

/// The longest one question may take.
const QUESTION: Duration = Duration::from_secs(5);
/// The longest a change may take: longer than the server's own patience.
const CHANGE: Duration = Duration::from_secs(30);

/// As which program the verbs were called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// `pgwarden ctl`.
    #[default]
    Ours,
    /// `patronictl`.
    Patronictl,
}

impl Manner {
    /// Whether scripts made for patronictl may be reading along.
    pub fn is_patronictl(self) -> bool {
        self == Self::Patronictl
    }
}

/// Addresses and credentials.
#[derive(Clone, Debug)]
pub struct Remote {
    urls: Vec<String>,
    credentials: Option<Credentials>,
    client: Client,
    manner: Manner,
}

impl Remote {
    /// At least one address, each without a path.
    pub fn new(urls: Vec<String>, credentials: Option<Credentials>, client: Client) -> Self {
        Self {
            urls,
            credentials,
            client,
            manner: Manner::default(),
        }
    }

    /// The same, called as another program.
    #[must_use]
    pub fn speaking(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    /// As which program it was called.
    pub fn manner(&self) -> Manner {
        self.manner
    }

    /// The addresses, each without a path.
    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Who asks.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// GET a JSON value from the first member that gives one.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        let mut errors = Vec::new();
        for base in &self.urls {
            match self
                .client
                .get_json(&format!("{base}{path}"), QUESTION)
                .await
            {
                Ok((200, value)) => return Ok(value),
                Ok((status, _)) => errors.push(format!("{base}{path} answered {status}")),
                Err(error) => errors.push(error.to_string()),
            }
        }
        Err(unreachable(&errors))
    }

    /// The status of the first member that answers.
    pub async fn status(&self) -> Option<PeerStatus> {
        for base in &self.urls {
            if let Ok(status) = self.client.get_patroni(base, QUESTION).await {
                return Some(status);
            }
        }
        None
    }

    /// POST to the first member that can be reached. `None`: it was sent and nobody answered, so
    /// another member must not be asked: it would be asked twice.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Option<Answer>, Failure> {
        self.send("POST", path, body).await
    }

    /// The same with another method.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Option<Answer>, Failure> {
        self.send_within(method, path, body, CHANGE).await
    }

    /// Change the dynamic configuration; stored when it returns.
    pub async fn patch_config(&self, change: &Value) -> Result<(), Failure> {
        match self.send("PATCH", "/config", change).await? {
            Some(answer) if answer.status == 200 => Ok(()),
            Some(answer) => Err(refused(&answer)),
            None => {
                let what = "nobody answered: it may be stored; look at the list";
                Err(Failure::new(Exit::Temporary, what))
            }
        }
    }

    /// The same credentials towards this member alone.
    #[must_use]
    pub fn at(&self, row: &Row) -> Self {
        let base = base_of(&row.api_url);
        Self {
            urls: base.into_iter().collect(),
            ..self.clone()
        }
    }

    /// The same with another deadline.
    pub async fn send_within(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        deadline: Duration,
    ) -> Result<Option<Answer>, Failure> {
        let mut errors = Vec::new();
        for base in &self.urls {
            let url = format!("{base}{path}");
            let credentials = self.credentials.as_ref();
            let sent = self
                .client
                .send_json(method, &url, body, credentials, deadline);
            match sent.await {
                Ok(answer) => return Ok(Some(answer)),
                Err(error @ (Error::Connect { .. } | Error::Tls { .. } | Error::Url { .. })) => {
                    errors.push(error.to_string());
                }
                Err(_) => return Ok(None),
            }
        }
        Err(unreachable(&errors))
    }
}

/// The address of a member's API without its path; none where it has published none.
pub(crate) fn base_of(api_url: &str) -> Option<String> {
    let base = client::base_of(api_url);
    (!base.is_empty()).then(|| base.to_owned())
}

fn unreachable(errors: &[String]) -> Failure {
    if errors.is_empty() {
        let what = "it has published no address of its REST API";
        return Failure::new(Exit::Unavailable, what);
    }
    let what = format!(
        "{}; give the address of a running member with --api",
        errors.join("; ")
    );
    Failure::new(Exit::Unavailable, what)
}

/// A refusal in the words of who refused.
pub(super) fn refused(answer: &Answer) -> Failure {
    let text = answer.text();
    let what = if answer.status == 401 {
        format!("{text}: set PGWARDEN_API_USERNAME and PGWARDEN_API_PASSWORD")
    } else {
        format!("{text} (status {})", answer.status)
    };
    Failure::new(Exit::Refused, what)
}

/// What came of asking one member after the other.
pub(super) struct Tally {
    verb: &'static str,
    done: &'static str,
    asked: usize,
    failed: usize,
    /// The last failure was an answer.
    answered: bool,
}

impl Tally {
    /// `restart`, and what a member is after it: `restarted`.
    pub(super) fn new(verb: &'static str, done: &'static str) -> Self {
        Self {
            verb,
            done,
            asked: 0,
            failed: 0,
            answered: false,
        }
    }

    /// The last one that failed said so itself: what went wrong there may go wrong elsewhere.
    pub(super) fn was_told_of_failure(&self) -> bool {
        self.answered
    }

    /// Tell what went wrong, in Patroni's words, which scripts look for; the answer of one who
    /// agreed, or whose refusal is as good.
    pub(super) fn judge(
        &mut self,
        row: &Row,
        answer: Result<Option<Answer>, Failure>,
        as_good: impl Fn(&Answer) -> bool,
        out: &mut dyn Write,
    ) -> io::Result<Option<Answer>> {
        let (verb, name) = (self.verb, &row.name);
        self.asked += 1;
        self.answered = matches!(answer, Ok(Some(_)));
        let why = match answer {
            Ok(Some(answer)) if (200..300).contains(&answer.status) => return Ok(Some(answer)),
            Ok(Some(answer)) => {
                let (status, text) = (answer.status, answer.text());
                let words = format!("status code={status}, ({text})");
                if as_good(&answer) {
                    writeln!(out, "Failed: {verb} for member {name}, {words}")?;
                    return Ok(Some(answer));
                }
                words
            }
            Ok(None) => "it did not answer in time".to_owned(),
            Err(failure) => failure.to_string(),
        };
        self.failed += 1;
        writeln!(out, "Failed: {verb} for member {name}, {why}")?;
        out.flush()?;
        Ok(None)
    }

    /// A failure if one of them failed.
    pub(super) fn end(self) -> Result<Exit, Failure> {
        if self.failed == 0 {
            return Ok(Exit::Ok);
        }
        let what = format!("{} of {} not {}", self.failed, self.asked, self.done);
        Err(Failure::new(Exit::Refused, what))
    }
}
