//! The route in Patroni's dialects (L7): the subsets beside the lock, or the role label of the
//! pods.

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
use std::sync::atomic::Ordering;
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
            let ask = Ask::patch("publish the route in the subsets", &self.lock_path(), &body);
            match self.write_until(&ask, deadline).await.0 {
                Outcome::Done(_) => return Outcome::Done(true),
                Outcome::Conflict => {}
                other => return other.without_value(),
            }
        }
        Outcome::Conflict
    }

    /// Give the own pod the leader's label, and take it from every other: one whose node is gone
    /// keeps it, and the Service would go on sending clients there.
    ///
    /// The pods are read before the lock, and swapped in the version read: a later leader that has
    /// changed one since then is not overwritten, and a PATCH that arrives late is refused.
    pub(super) async fn publish_label(&self, epoch: u64) -> Outcome<bool> {
        let deadline = Instant::now() + self.call;
        let mut changed = false;
        for _ in 0..LOOKS {
            let pods = match self.mislabelled(deadline).await {
                Ok(pods) => pods,
                Err(error) => return of_error(error),
            };
            if pods.is_empty() {
                return Outcome::Done(changed);
            }
            match self.read_lock_object(deadline).await {
                Ok(lock) if subsets::is_mine(self.names(), &lock, epoch) => {}
                Ok(_) | Err(DcsError::Missing { .. }) => return Outcome::Conflict,
                Err(error) => return of_error(error),
            }
            for pod in &pods {
                match self.relabel(pod, deadline).await {
                    Outcome::Done(()) => changed = true,
                    // It changed: the next look tells whether it is still wrong.
                    Outcome::Conflict => {}
                    other => return other.without_value(),
                }
            }
        }
        Outcome::Conflict
    }

    /// What the own pod's label says while it leads.
    fn own_leader_label(&self) -> &str {
        let names = self.names();
        if self.shared.leads_standby.load(Ordering::Relaxed) {
            &names.standby_leader_label_value
        } else {
            &names.leader_label_value
        }
    }

    /// Whether this member, where it leads, leads a standby cluster: for its label.
    pub fn note_standby(&self, leads_standby: bool) {
        let noted = &self.shared.leads_standby;
        noted.store(leads_standby, Ordering::Relaxed);
    }

    async fn relabel(&self, pod: &Meta, deadline: Instant) -> Outcome<()> {
        let names = self.names();
        let own = pod.name == names.pod_name;
        let label = own.then(|| self.own_leader_label());
        let body = json!({ "metadata": {
            "uid": pod.uid,
            "resourceVersion": pod.resource_version,
            "labels": { &names.role_label: label },
        }});
        let what = if own {
            "set the leader's label".to_owned()
        } else {
            format!("take the leader's label from pod {}", pod.name)
        };
        let ask = Ask::patch(&what, &self.path("api/v1", "pods", &pod.name), &body);
        match self.write_until(&ask, deadline).await.0 {
            Outcome::Done(pod) => {
                if own {
                    self.note_own_pod(serde_json::from_value(pod).ok().as_ref());
                } else {
                    tracing::warn!("{what}: the lock is mine");
                }
                Outcome::Done(())
            }
            other => other.without_value(),
        }
    }

    /// The own pod without the leader's label, and others with it.
    async fn mislabelled(&self, deadline: Instant) -> Result<Vec<Meta>, DcsError> {
        let names = self.names();
        let path = self.path("api/v1", "pods", &names.pod_name);
        let ask = Ask::get("read the own pod's label", &path);
        let own = slim(&self.read_until(&ask, deadline).await?);
        let wanted = self.own_leader_label();
        let is_leaders = |pod: &Meta| {
            let label = pod.labels.get(&names.role_label);
            label.is_some_and(|label| label == wanted)
        };
        let own = own.filter(|pod| !is_leaders(pod));
        let mut all = self.others_with_the_leaders_label(deadline).await?;
        all.extend(own);
        Ok(all)
    }

    async fn others_with_the_leaders_label(
        &self,
        deadline: Instant,
    ) -> Result<Vec<Meta>, DcsError> {
        let names = self.names();
        let selector = format!(
            "{},{} in ({},{})",
            names.selector(),
            names.role_label,
            names.leader_label_value,
            names.standby_leader_label_value
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
        let ask = Ask::get("read the lock for its route", &self.lock_path());
        self.read_until(&ask, deadline).await
    }
}

fn slim(pod: &Value) -> Option<Meta> {
    Slim::deserialize(pod).ok().map(|slim| slim.metadata)
}
