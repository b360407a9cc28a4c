//! What one agent asks another when the API does not tell: promises and votes.

use super::auth::Credentials;
use super::client::{Client, base_of};
use super::{failsafe, vote};
use crate::ha::lock::Mapped;
use crate::ha::model::{Lsn, Timeline};
use std::time::Duration;

impl Client {
    /// Ask a member of the failsafe map for its promise; an error says in words why there is none.
    pub async fn ask_promise(
        &self,
        name: &str,
        mapped: &Mapped,
        request: &failsafe::Request,
        credentials: Option<&Credentials>,
        deadline: Duration,
    ) -> Result<(), String> {
        let url = format!("{}/failsafe", base_of(&mapped.api_url));
        let body = request.body();
        let answer = self
            .send_json("POST", &url, &body, credentials, deadline)
            .await;
        let answer = answer.map_err(|error| error.to_string())?;
        let promise = answer.headers.get(failsafe::PROMISE);
        let promise = promise.and_then(|value| value.to_str().ok());
        request.judge(name, mapped, answer.status, &answer.text(), promise)
    }

    /// Ask a member of a quorum for its vote; an error says in words why there is none.
    pub async fn ask_vote(
        &self,
        name: &str,
        url: &str,
        request: &vote::Request,
        credentials: Option<&Credentials>,
        deadline: Duration,
    ) -> Result<(Timeline, Lsn), String> {
        let url = format!("{}/vote", base_of(url));
        let body = request.body();
        let answer = self
            .send_json("POST", &url, &body, credentials, deadline)
            .await;
        let answer = answer.map_err(|error| error.to_string())?;
        request.judge(name, answer.status, &answer.body)
    }
}
