//! The members' REST addresses, for whoever steers a cluster and is no member of it.

use super::codec::member::{self, SlimPod};
use super::error::DcsError;
use super::outcome;
use super::request::{self, Ask, escaped};
use kube::Client;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;

/// A list of Pods.
#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<SlimPod>,
}

/// The `api_url` of each Pod of the selector that has published one, in the order of their names.
pub async fn addresses(
    client: &Client,
    namespace: &str,
    selector: &str,
    patience: Duration,
) -> Result<Vec<String>, DcsError> {
    let what = "list the members' Pods";
    let path = format!(
        "/api/v1/namespaces/{}/pods?labelSelector={}",
        escaped(namespace),
        escaped(selector)
    );
    let answer = request::send(client, &Ask::get(what, &path), Instant::now() + patience).await;
    let body = outcome::of_read(what, answer)?;
    let list: List = serde_json::from_slice(&body).map_err(|error| DcsError::Unavailable {
        what: what.to_owned(),
        why: format!("the answer cannot be read: {error}"),
    })?;
    let mut pods = list.items;
    pods.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    let members = pods.iter().filter_map(member::decode);
    Ok(members
        .map(|member| member.api_url)
        .filter(|url| !url.is_empty())
        .collect())
}
