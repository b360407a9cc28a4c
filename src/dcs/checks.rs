//! Questions asked once: is the Service fit for lease mode, does another dialect rule, what does a
//! Pod say.

use super::client::Dcs;
use super::codec::object::Meta;
use super::codec::pod::{self, PodFacts};
use super::error::DcsError;
use super::request::Ask;
use serde_json::Value;
use tokio::time::Instant;

/// What the check at start found that is not wrong enough to refuse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// To be logged as warnings.
    pub warnings: Vec<String>,
}

impl Dcs {
    /// L7 and L8: the leader Service has no selector, and no other dialect's lock is held here.
    ///
    /// An object that may not be read (403) cannot be judged: a warning, not a refusal, for the
    /// rights of lease mode do not need Endpoints.
    pub async fn check_service(&self) -> Result<Checked, DcsError> {
        let mut checked = Checked::default();
        let scope = &self.names().scope;
        match self.look(("api/v1", "services"), scope, &mut checked).await? {
            Some(service) => no_selector(scope, &service["spec"]["selector"])?,
            None => checked.warnings.push(format!(
                "there is no Service {scope}: clients find the leader only once it exists, without selector"
            )),
        }
        let leader = format!("{scope}-leader");
        for (resource, name) in [("endpoints", scope), ("configmaps", &leader)] {
            let object = self.look(("api/v1", resource), name, &mut checked).await?;
            if let Some(leader) = object.as_ref().and_then(holder) {
                return Err(DcsError::OtherDialect {
                    object: format!("{resource}/{name}"),
                    leader,
                });
            }
        }
        Ok(checked)
    }

    /// A Pod by quorum read: what the kubelet says of its containers.
    pub async fn read_pod(&self, name: &str) -> Result<PodFacts, DcsError> {
        let ask = Ask::get(
            &format!("read pod {name}"),
            &self.path("api/v1", "pods", name),
        );
        Ok(pod::decode(
            &self.read_until(&ask, Instant::now() + self.call).await?,
        ))
    }

    async fn look(
        &self,
        place: (&str, &str),
        name: &str,
        checked: &mut Checked,
    ) -> Result<Option<Value>, DcsError> {
        let ask = Ask::get(
            &format!("look at {}/{name}", place.1),
            &self.path(place.0, place.1, name),
        );
        match self.read_until(&ask, Instant::now() + self.call).await {
            Ok(object) => Ok(Some(object)),
            Err(DcsError::Missing { .. }) => Ok(None),
            Err(error @ DcsError::Refused { status: 403, .. }) => {
                checked.warnings.push(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

pub(super) fn no_selector(service: &str, selector: &Value) -> Result<(), DcsError> {
    match selector.as_object() {
        Some(labels) if !labels.is_empty() => Err(DcsError::ServiceSelector {
            service: service.to_owned(),
            selector: selector.to_string(),
        }),
        _ => Ok(()),
    }
}

fn holder(object: &Value) -> Option<String> {
    Meta::of(object).note("leader").map(str::to_owned)
}
