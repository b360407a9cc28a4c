//! The route in Patroni's dialects (L7): the subsets beside the lock, or the role label of the pods.

use super::calls::WithoutValue;
use super::client::Dcs;
use super::codec::object::{Meta, Slim};
use super::codec::route::RouteTarget;
use super::codec::subsets::{self, Plan};
use super::error::DcsError;
use super::request::{Ask, escaped};
use super::route::{LOOKS, of_error};
use crate::ha::lock::Outcome;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

impl Dcs {
    /// Point the subsets of the lock object at `target`; `Done(false)`: they were so already.
    pub(super) async fn publish_subsets(
        &self,
        epoch: u64,
        target: Option<&RouteTarget>,
    ) -> Outcome<bool> {
        let deadline = Instant::now() + self.call;
        for _ in 0..LOOKS {
            let stored = match self.read_lock_object(deadline).await {
                Ok(stored) => stored,
                Err(DcsError::Missing { .. }) => return Outcome::Conflict,
                Err(error) => return of_error(error),
            };
            let body = match subsets::plan(self.names(), &stored, epoch, target) {
                Plan::Nothing => return Outcome::Done(false),
                Plan::NotMine => return Outcome::Conflict,
                Plan::Patch(body) => body,
            };
            let (group, resource) = self.names().dialect.lock().path();
            let path = self.path(group, resource, &self.names().lock_name());
            let ask = Ask::patch("publish the route in the subsets", &path, &body);
            match self.write_until(&ask, deadline).await.0 {
                Outcome::Done(_) => return Outcome::Done(true),
                Outcome::Conflict => {}
                other => return other.without_value(),
            }
        }
        Outcome::Conflict
    }

    /// Take the leader's label from every other pod: one whose node is gone keeps it, and the Service
    /// would go on sending clients there. The own label is [`Dcs::set_role`]'s.
    ///
    /// The pods are listed before the lock is read: one that carries the label now and got it from a
    /// later leader has another version by then, and its swap is refused.
    pub(super) async fn unlabel_others(&self, epoch: u64) -> Outcome<bool> {
        let deadline = Instant::now() + self.call;
        let others = match self.others_with_the_leaders_label(deadline).await {
            Ok(others) => others,
            Err(error) => return of_error(error),
        };
        if others.is_empty() {
            return Outcome::Done(false);
        }
        match self.read_lock_object(deadline).await {
            Ok(lock) if subsets::is_mine(self.names(), &lock, epoch) => {}
            Ok(_) | Err(DcsError::Missing { .. }) => return Outcome::Conflict,
            Err(error) => return of_error(error),
        }
        for pod in &others {
            let body = json!({ "metadata": {
                "resourceVersion": pod.resource_version,
                "labels": { &self.names().role_label: null },
            }});
            let what = format!("take the leader's label from pod {}", pod.name);
            let ask = Ask::patch(&what, &self.path("api/v1", "pods", &pod.name), &body);
            match self.write_until(&ask, deadline).await.0 {
                Outcome::Done(_) => tracing::warn!("{what}: the lock is mine"),
                // It changed: the next look tells whether it still carries the label.
                Outcome::Conflict => {}
                other => return other.without_value(),
            }
        }
        Outcome::Done(true)
    }

    async fn others_with_the_leaders_label(
        &self,
        deadline: Instant,
    ) -> Result<Vec<Meta>, DcsError> {
        let names = self.names();
        let selector = format!(
            "{},{}={}",
            names.selector(),
            names.role_label,
            names.leader_label_value
        );
        let path = format!(
            "{}?labelSelector={}",
            self.collection("api/v1", "pods"),
            escaped(&selector)
        );
        let ask = Ask::get("list the pods with the leader's label", &path);
        let list = self.read_until(&ask, deadline).await?;
        let items = list["items"].as_array().map(Vec::as_slice);
        let pods = items.unwrap_or_default().iter().filter_map(slim);
        Ok(pods.filter(|pod| pod.name != names.pod_name).collect())
    }

    async fn read_lock_object(&self, deadline: Instant) -> Result<Value, DcsError> {
        let (group, resource) = self.names().dialect.lock().path();
        let path = self.path(group, resource, &self.names().lock_name());
        self.read_until(&Ask::get("read the lock for its route", &path), deadline)
            .await
    }
}

fn slim(pod: &Value) -> Option<Meta> {
    Slim::deserialize(pod).ok().map(|slim| slim.metadata)
}
