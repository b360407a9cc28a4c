//! The members that may be asked, in order; the first that answers is believed.

use crate::api::client::{Answer, Client, Error};
use crate::api::{Credentials, PeerStatus};
use crate::cli::{Exit, Failure};
use serde_json::Value;
use std::time::Duration;

/// The longest one question may take.
const QUESTION: Duration = Duration::from_secs(5);
/// The longest a change may take: longer than the server's own patience.
const CHANGE: Duration = Duration::from_secs(30);

/// Addresses and credentials.
#[derive(Clone, Debug)]
pub struct Remote {
    urls: Vec<String>,
    credentials: Option<Credentials>,
    client: Client,
}

impl Remote {
    /// At least one address, each without a path.
    pub fn new(urls: Vec<String>, credentials: Option<Credentials>, client: Client) -> Self {
        Self {
            urls,
            credentials,
            client,
        }
    }

    /// The addresses.
    pub fn urls(&self) -> &[String] {
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

    /// The same credentials towards this member alone, by its `api_url`.
    #[must_use]
    pub fn at(&self, api_url: &str) -> Self {
        let base = api_url.trim_end_matches('/').trim_end_matches("/patroni");
        let credentials = self.credentials.clone();
        Self::new(vec![base.to_owned()], credentials, self.client.clone())
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

fn unreachable(errors: &[String]) -> Failure {
    let what = format!(
        "{}; give the address of a running member with --api",
        errors.join("; ")
    );
    Failure::new(Exit::Unavailable, what)
}
