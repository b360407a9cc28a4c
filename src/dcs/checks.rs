//! Questions asked once: is the Service fit for the dialect, does another dialect rule, what does a
//! Pod say.

use super::client::Dcs;
use super::codec::object::{Notes, create_body};
use super::codec::pod::{self, PodFacts};
use super::dialect::Dialect;
use super::error::DcsError;
use super::names::DcsNames;
use super::request::Ask;
use crate::ha::lock::Outcome;
use serde_json::{Value, json};
use tokio::time::Instant;

/// What the check at start found that is not wrong enough to refuse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// To be logged as warnings.
    pub warnings: Vec<String>,
}

impl Dcs {
    /// L7 and L8: the leader Service is as the dialect needs it, and no other dialect's lock is
    /// held here.
    ///
    /// An object that may not be read (403) cannot be judged: a warning, not a refusal, for the
    /// rights of lease mode do not need Endpoints.
    pub async fn check_service(&self) -> Result<Checked, DcsError> {
        let mut checked = Checked::default();
        let DcsNames { scope, dialect, .. } = self.names();
        let service = self
            .look(("api/v1", "services"), scope, &mut checked)
            .await?;
        match (service, dialect) {
            (Some(service), Dialect::ConfigMap) => {
                let warning = no_label(self.names(), &service["spec"]["selector"]);
                checked.warnings.extend(warning);
            }
            (Some(service), Dialect::Lease | Dialect::Endpoints) => {
                no_selector(scope, &service["spec"]["selector"])?;
            }
            (None, Dialect::Lease) => checked.warnings.push(format!(
                "there is no Service {scope}: clients find the leader only once it exists, without selector"
            )),
            // Called as somebody likes, or the role does not let the agent see it.
            (None, Dialect::Endpoints | Dialect::ConfigMap) => {}
        }
        for other in Dialect::ALL.iter().filter(|other| *other != dialect) {
            let (place, name) = (other.lock(), other.lock_name(scope));
            let object = self.look(place.path(), &name, &mut checked).await?;
            if let Some(leader) = object.as_ref().and_then(|lock| holder(*other, lock)) {
                return Err(DcsError::OtherDialect {
                    object: format!("{}/{name}", place.resource),
                    leader,
                    setting: other.setting(),
                });
            }
        }
        if *dialect == Dialect::Endpoints {
            self.keep_config_endpoints().await;
        }
        Ok(checked)
    }

    /// The headless Service that Patroni makes for its configuration's Endpoints, which a
    /// controller would take for left-overs without it. As there, it need not be allowed, nor
    /// succeed.
    async fn keep_config_endpoints(&self) {
        let names = self.names();
        let mut body = create_body(
            names,
            ("v1", "Service"),
            &names.config_name(),
            &Notes::new(),
        );
        body["spec"] = json!({ "clusterIP": "None" });
        let path = self.collection("api/v1", "services");
        let ask = Ask::create("create the Service of the configuration", &path, &body).spare();
        let (outcome, _) = self.write_until(&ask, Instant::now() + self.call).await;
        match outcome {
            Outcome::Done(_) | Outcome::Conflict => {}
            other => tracing::debug!("{}: {other:?}", ask.what),
        }
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
        )
        .spare();
        let patronis = self.names().dialect != Dialect::Lease;
        match self.read_until(&ask, Instant::now() + self.call).await {
            Ok(object) => Ok(Some(object)),
            Err(DcsError::Missing { .. }) => Ok(None),
            // Patroni's users never gave this right, and lose nothing they had.
            Err(DcsError::Refused { status: 403, .. }) if patronis => Ok(None),
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

/// With the lock in ConfigMaps the pods' label is the route.
fn no_label(names: &DcsNames, selector: &Value) -> Option<String> {
    let DcsNames {
        scope,
        role_label,
        leader_label_value,
        ..
    } = names;
    let chosen = selector[role_label].as_str();
    (chosen != Some(leader_label_value)).then(|| {
        format!(
            "Service {scope} does not select {role_label}={leader_label_value}: it does not follow the leader"
        )
    })
}

fn holder(dialect: Dialect, object: &Value) -> Option<String> {
    let name = match dialect {
        Dialect::Lease => object["spec"]["holderIdentity"].as_str(),
        Dialect::Endpoints | Dialect::ConfigMap => {
            object["metadata"]["annotations"]["leader"].as_str()
        }
    };
    name.filter(|name| !name.is_empty()).map(str::to_owned)
}
