//! The route to the leader (L7): reading, comparing and swapping what leads clients to it.
//!
//! In lease mode that is a pair of EndpointSlices; with Endpoints the subsets of the lock object
//! itself; with ConfigMaps the role label, which only one pod may carry as the leader's.

use super::calls::WithoutValue;
use super::client::Dcs;
use super::codec::route::{Family, Plan, RouteTarget, of_service, plan, repair, strays};
use super::dialect::Dialect;
use super::error::DcsError;
use super::request::{Ask, escaped};
use crate::ha::lock::Outcome;
use serde_json::Value;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

const GROUP: &str = "apis/discovery.k8s.io/v1";
const RESOURCE: &str = "endpointslices";
/// A slice swapped under our hands is looked at again this often; the epoch decides each time.
pub(super) const LOOKS: usize = 3;

impl Dcs {
    /// Point the leader Service at `target`, or with `None` at nobody; `Done(false)`: it was so
    /// already.
    ///
    /// `Conflict`: a higher epoch has written, the route is not ours any more.
    pub async fn publish_route(&self, epoch: u64, target: Option<&RouteTarget>) -> Outcome<bool> {
        match self.names().dialect {
            Dialect::Lease => {}
            Dialect::Endpoints => return self.publish_subsets(epoch, target).await,
            Dialect::ConfigMap => return self.publish_label(epoch).await,
        }
        let mut changed = false;
        for family in Family::ALL {
            match self.publish_family(family, epoch, target).await {
                Outcome::Done(wrote) => changed |= wrote,
                other => return other,
            }
        }
        Outcome::Done(changed)
    }

    async fn publish_family(
        &self,
        family: Family,
        epoch: u64,
        target: Option<&RouteTarget>,
    ) -> Outcome<bool> {
        let deadline = Instant::now() + self.call;
        for _ in 0..LOOKS {
            let stored = match self.read_slice(family, deadline).await {
                Ok(stored) => stored,
                Err(error) => return of_error(error),
            };
            let name = family.object_name(&self.names().scope);
            let what = format!("publish the route in {name}");
            let mut plan = plan(self.names(), family, stored.as_ref(), epoch, target);
            if let Plan::HigherEpoch(higher) = plan {
                match self.is_nobodys(epoch, deadline).await {
                    Ok(true) => {
                        tracing::warn!("the route carries epoch {higher}, which is nobody's");
                        plan = repair(self.names(), family, stored.as_ref(), epoch, target);
                    }
                    Ok(false) => return Outcome::Conflict,
                    Err(error) => return of_error(error),
                }
            }
            let ask = match plan {
                Plan::Nothing => return Outcome::Done(false),
                Plan::HigherEpoch(_) => return Outcome::Conflict,
                Plan::Create(body) => Ask::create(&what, &self.collection(GROUP, RESOURCE), &body),
                Plan::Patch(body) => Ask::patch(&what, &self.path(GROUP, RESOURCE, &name), &body),
            };
            match self.write_until(&ask, deadline).await.0 {
                Outcome::Done(_) => return Outcome::Done(true),
                Outcome::Conflict => {}
                other => return other.without_value(),
            }
        }
        Outcome::Conflict
    }

    /// Whoever publishes a higher epoch has taken the lock under it before. A lock that is read
    /// later than the slice and still stands at `epoch` shows that a hand wrote the slice's.
    async fn is_nobodys(&self, epoch: u64, deadline: Instant) -> Result<bool, DcsError> {
        let lock = self.read_lock_until(deadline).await?;
        Ok(lock.held().is_some_and(|held| held.epoch == epoch))
    }

    /// What else leads the leader Service's clients somewhere, in sentences: its own selector, and
    /// slices that a selector, a hand or an Endpoints object left behind (L7).
    pub async fn other_ways(&self) -> Result<Vec<String>, DcsError> {
        let (deadline, scope) = (Instant::now() + self.call, &self.names().scope);
        if self.names().dialect == Dialect::ConfigMap {
            return Ok(Vec::new());
        }
        let service = Ask::get(
            &format!("read Service {scope}"),
            &self.path("api/v1", "services", scope),
        )
        .spare();
        let selector = match self.read_until(&service, deadline).await {
            Ok(service) => {
                self.shared.service_seen.store(true, Ordering::Relaxed);
                selector_of(scope, &service)
            }
            // Who never had one has another way to the leader.
            Err(DcsError::Missing { .. }) if self.shared.service_seen.load(Ordering::Relaxed) => {
                Some(format!(
                    "Service {scope} is gone: nobody finds the leader through it until it is made again"
                ))
            }
            Err(DcsError::Missing { .. }) => None,
            Err(error) => return Err(error),
        };
        if self.names().dialect == Dialect::Endpoints {
            // Its slices are a controller's mirror of the subsets.
            return Ok(selector.into_iter().collect());
        }
        let path = format!(
            "{}?labelSelector={}",
            self.collection(GROUP, RESOURCE),
            escaped(&of_service(scope))
        );
        let slices = Ask::get(&format!("list the EndpointSlices of {scope}"), &path);
        let slices = self.read_until(&slices, deadline).await?;
        let strays = strays(scope, &slices);
        let strays = strays.into_iter().map(|name| {
            format!(
                "EndpointSlice {name} leads clients of Service {scope} past its leader: delete it; \
                 if it comes back, delete Endpoints {scope} too"
            )
        });
        Ok(selector.into_iter().chain(strays).collect())
    }

    async fn read_slice(
        &self,
        family: Family,
        deadline: Instant,
    ) -> Result<Option<Value>, DcsError> {
        let name = family.object_name(&self.names().scope);
        let ask = Ask::get(&format!("read {name}"), &self.path(GROUP, RESOURCE, &name));
        match self.read_until(&ask, deadline).await {
            Ok(slice) => Ok(Some(slice)),
            Err(DcsError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn selector_of(scope: &str, service: &Value) -> Option<String> {
    let error = super::checks::no_selector(scope, &service["spec"]["selector"]).err()?;
    Some(error.to_string())
}

pub(super) fn of_error<T>(error: DcsError) -> Outcome<T> {
    match error {
        DcsError::Refused {
            status,
            why,
            retry_after_ms,
            ..
        } => Outcome::Refused {
            status,
            why,
            retry_after_ms,
        },
        other => Outcome::Unknown {
            why: other.to_string(),
        },
    }
}
