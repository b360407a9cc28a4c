//! How the objects of one cluster are called and labelled: Patroni's `kubernetes:` section,
//! resolved.

use super::dialect::Dialect;
use super::error::DcsError;
use std::collections::BTreeMap;

/// A port of the published route; its name must equal the Service's or kube-proxy routes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePort {
    /// The name; empty for the only, unnamed port.
    pub name: String,
    /// The port number.
    pub port: u16,
}

/// Names and labels of the objects of a scope, and of the own pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DcsNames {
    /// Which objects carry the lock and the shared state.
    pub dialect: Dialect,
    /// The cluster's name, and that of its leader Service.
    pub scope: String,
    /// The namespace of everything.
    pub namespace: String,
    /// `kubernetes.labels`: together with the scope label they select what belongs to the cluster.
    pub labels: BTreeMap<String, String>,
    /// The label that carries the scope (`cluster-name`).
    pub scope_label: String,
    /// The pod label that carries the role (`role`).
    pub role_label: String,
    /// The role label's value of the leader (`primary`).
    pub leader_label_value: String,
    /// The role label's value of the leader of a standby cluster (`primary`).
    pub standby_leader_label_value: String,
    /// The role label's value of a running replica (`replica`).
    pub follower_label_value: String,
    /// Other labels of the own Pod that say how the member is.
    pub other_labels: Vec<String>,
    /// The own Pod's name: the member's name.
    pub pod_name: String,
    /// The own Pod's UID.
    pub pod_uid: String,
    /// The container the agent runs in; needed only in pods of several containers (L5).
    pub container: Option<String>,
    /// The ports of the route (default: one unnamed, 5432).
    pub ports: Vec<RoutePort>,
}

impl DcsNames {
    /// Patroni's defaults for everything that has one.
    pub fn new(scope: &str, namespace: &str, pod_name: &str, pod_uid: &str) -> Self {
        Self {
            dialect: Dialect::Lease,
            scope: scope.to_owned(),
            namespace: namespace.to_owned(),
            labels: BTreeMap::new(),
            scope_label: "cluster-name".to_owned(),
            role_label: "role".to_owned(),
            leader_label_value: "primary".to_owned(),
            standby_leader_label_value: "primary".to_owned(),
            follower_label_value: "replica".to_owned(),
            other_labels: Vec::new(),
            pod_name: pod_name.to_owned(),
            pod_uid: pod_uid.to_owned(),
            container: None,
            ports: vec![RoutePort {
                name: String::new(),
                port: 5432,
            }],
        }
    }

    /// The labels of every object of the cluster.
    pub fn object_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert(self.scope_label.clone(), self.scope.clone());
        labels
    }

    /// The same as a label selector.
    pub fn selector(&self) -> String {
        let pairs: Vec<_> = self
            .object_labels()
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join(",")
    }

    /// The name of the object with the lock.
    pub fn lock_name(&self) -> String {
        self.dialect.lock_name(&self.scope)
    }

    /// The name of the object with the dynamic configuration.
    pub fn config_name(&self) -> String {
        format!("{}-config", self.scope)
    }

    /// The name of the object with the synchronous set.
    pub fn sync_name(&self) -> String {
        format!("{}-sync", self.scope)
    }

    /// The name of the object with the failover request.
    pub fn failover_name(&self) -> String {
        format!("{}-failover", self.scope)
    }

    /// Refuse names that would change the meaning of a request's path.
    pub(super) fn check(&self) -> Result<(), DcsError> {
        for (field, text) in [
            ("scope", &self.scope),
            ("kubernetes.namespace", &self.namespace),
            ("name", &self.pod_name),
        ] {
            let inner =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
            let edge =
                |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            let good = text.len() <= 253
                && text.chars().all(inner)
                && edge(text.chars().next())
                && edge(text.chars().last());
            if !good {
                return Err(DcsError::BadSettings {
                    field: field.to_owned(),
                    why: format!("\"{text}\" cannot name a Kubernetes object"),
                    right: "lower-case letters, digits, '-' and '.', such as my-cluster".to_owned(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selector_joins_labels_and_scope() {
        let mut names = DcsNames::new("bench", "db", "pg-0", "u");
        names
            .labels
            .insert("application".to_owned(), "x".to_owned());
        assert_eq!(names.selector(), "application=x,cluster-name=bench");
        assert_eq!(names.check(), Ok(()));
    }

    #[test]
    fn a_name_that_leaves_its_path_is_refused() {
        for scope in ["", "../x", "a/b", "A", "a b", "-a", "a?x=1"] {
            assert!(
                DcsNames::new(scope, "db", "pg-0", "u").check().is_err(),
                "{scope}"
            );
        }
    }
}
