//! `kubernetes`: where the lock and the shared state live.

use super::Env;
use crate::settings::problem::Problem;
use crate::settings::raw::{Node, Value};
use crate::settings::section::{Problems, Section};
use crate::settings::types::{Kubernetes, LockDialect, RoutePort, Settings};
use std::net::IpAddr;
use std::path::PathBuf;

const CHOICES: &str = "expected lock: lease, or Patroni's use_endpoints: true (Endpoints) or false \
                       (ConfigMaps)";

pub(super) fn read(section: &Section<'_>, env: Env<'_>, out: &Problems) -> Option<Kubernetes> {
    let lock = lock(section, out);
    let label = |key: &str, default: &str, valid: fn(&str) -> bool| match section.text(key, "text")
    {
        Some(text) if valid(&text) => text,
        Some(text) => {
            section.error(
                key,
                format!("found {text:?}; Kubernetes does not accept it as a label"),
            );
            default.to_owned()
        }
        None => default.to_owned(),
    };
    let path = |key: &str| section.text(key, "the path of a file").map(PathBuf::from);
    let kubernetes = Kubernetes {
        namespace: namespace(section, env),
        labels: labels(section, "labels"),
        scope_label: label("scope_label", "cluster-name", is_label_key),
        role_label: label("role_label", "role", is_label_key),
        leader_label_value: label("leader_label_value", "primary", is_label_value),
        standby_leader_label_value: label("standby_leader_label_value", "primary", is_label_value),
        follower_label_value: label("follower_label_value", "replica", is_label_value),
        tmp_role_label: section
            .has("tmp_role_label")
            .then(|| label("tmp_role_label", "", is_label_key))
            .filter(|key| !key.is_empty()),
        bootstrap_labels: labels(section, "bootstrap_labels"),
        pod_ip: pod_ip(section, env),
        pod_uid: pod_uid(section, env),
        ports: ports(section),
        cacert: path("cacert"),
        bypass_api_service: section.boolean("bypass_api_service").unwrap_or(false),
        kubeconfig: path("kubeconfig"),
        context: section.text("context", "the name of a context"),
        lock: lock?,
    };
    if kubernetes.leader_label_value == kubernetes.follower_label_value {
        let message = "leader and replicas would carry the same label; expected two values";
        section.error("follower_label_value", message);
    }
    let tmp = kubernetes.tmp_role_label.as_ref();
    if tmp == Some(&kubernetes.role_label) || tmp == Some(&kubernetes.scope_label) {
        let message = "it is the same label as role_label or scope_label; expected another";
        section.error("tmp_role_label", message);
    }
    for key in kubernetes.bootstrap_labels.keys() {
        let taken = [
            Some(&kubernetes.role_label),
            Some(&kubernetes.scope_label),
            tmp,
        ];
        if taken.contains(&Some(key)) || kubernetes.labels.contains_key(key) {
            let message = format!("{key} has a meaning already; expected labels of their own");
            section.error("bootstrap_labels", message);
        }
    }
    if kubernetes.scope_label == kubernetes.role_label {
        section.error(
            "role_label",
            "it is the same label as scope_label; expected another",
        );
    }
    Some(kubernetes)
}

/// L8: one dialect per cluster, chosen as in Patroni's files, where silence means ConfigMaps. Two
/// choices are none: whoever guesses wrong keeps a second lock.
fn lock(section: &Section<'_>, out: &Problems) -> Option<LockDialect> {
    if !section.present() {
        let message = format!("it is missing; {CHOICES} in this section");
        out.push(Problem::error("kubernetes", message));
        return None;
    }
    let endpoints = if section.has("use_endpoints") {
        Some(section.boolean("use_endpoints")?)
    } else {
        None
    };
    if !section.has("lock") {
        return Some(if endpoints == Some(true) {
            LockDialect::Endpoints
        } else {
            LockDialect::ConfigMap
        });
    }
    let lock = section.text("lock", "lease")?;
    if lock != "lease" {
        section.error("lock", format!("found {lock:?}; {CHOICES}"));
        return None;
    }
    if endpoints == Some(true) {
        let message = format!("found true beside lock: lease, which are two dialects; {CHOICES}");
        section.error("use_endpoints", message);
        return None;
    }
    Some(LockDialect::Lease)
}

fn namespace(section: &Section<'_>, env: Env<'_>) -> String {
    let given = section.text("namespace", "the name of a namespace");
    let name = given.or_else(|| env("POD_NAMESPACE").filter(|name| !name.is_empty()));
    let name = name.unwrap_or_else(|| "default".to_owned());
    if !super::is_object_name(&name) || name.contains('.') || name.len() > 63 {
        section.error(
            "namespace",
            format!("found {name:?}; expected a namespace, as default"),
        );
    }
    name
}

fn labels(section: &Section<'_>, name: &str) -> std::collections::BTreeMap<String, String> {
    let labels = section.text_map(name, false);
    for (key, value) in &labels {
        if !is_label_key(key) || !is_label_value(value) {
            section.error(
                name,
                format!("{key}={value} is not a label Kubernetes accepts"),
            );
        }
    }
    labels
}

fn pod_ip(section: &Section<'_>, env: Env<'_>) -> Option<IpAddr> {
    let text = match section.text("pod_ip", "an address, as 10.0.0.7") {
        Some(text) => text,
        None if section.has("pod_ip") => return None,
        None => env("POD_IP").filter(|text| !text.is_empty())?,
    };
    let parsed = text.parse();
    if parsed.is_err() {
        section.error(
            "pod_ip",
            format!("found {text:?}; expected an address, as 10.0.0.7"),
        );
    }
    parsed.ok()
}

fn pod_uid(section: &Section<'_>, env: Env<'_>) -> Option<String> {
    let uid = section.text("pod_uid", "the UID of the pod");
    if uid.is_some() || section.has("pod_uid") {
        return uid;
    }
    let uid = env("POD_UID").filter(|uid| !uid.is_empty());
    if uid.is_none() {
        let message = "it is missing, here and in the environment as POD_UID (downward API, \
                       metadata.uid); it will be read from the Pod object of this name";
        section.warn("pod_uid", message);
    }
    uid
}

fn ports(section: &Section<'_>) -> Vec<RoutePort> {
    let Some(node) = section.get("ports") else {
        return Vec::new();
    };
    let Value::List(items) = &node.value else {
        let found = node.value.kind();
        let message =
            format!("found {found}; expected a list, as [{{name: postgresql, port: 5432}}]");
        section.error("ports", message);
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| route_port(section, item))
        .collect()
}

fn route_port(section: &Section<'_>, item: &Node) -> Option<RoutePort> {
    let text = |key: &str| match item.get(key).map(|node| &node.value) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let port = match item.get("port").map(|node| &node.value) {
        Some(Value::Int(port)) => u16::try_from(*port).ok().filter(|port| *port > 0),
        Some(Value::Text(port)) => port.parse().ok().filter(|port| *port > 0),
        _ => None,
    };
    let Some(port) = port else {
        section.error(
            "ports",
            "a port has no number; expected {name: postgresql, port: 5432}",
        );
        return None;
    };
    let protocol = text("protocol").unwrap_or_else(|| "TCP".to_owned());
    if protocol != "TCP" {
        section.error(
            "ports",
            format!("found protocol {protocol:?}; PostgreSQL speaks TCP"),
        );
    }
    Some(RoutePort {
        name: text("name").unwrap_or_default(),
        port,
        protocol,
    })
}

/// Without `ports` the route has one unnamed port: the one PostgreSQL is reached by.
pub(super) fn default_port(settings: &mut Settings) {
    if settings.kubernetes.ports.is_empty() {
        let port = settings.postgresql.connect_address.port;
        let route = RoutePort {
            name: String::new(),
            port,
            protocol: "TCP".to_owned(),
        };
        settings.kubernetes.ports.push(route);
    }
}

/// `[prefix/]name` of a label.
fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => {
            super::is_object_name(prefix) && !name.is_empty() && is_label_value(name)
        }
        None => !key.is_empty() && is_label_value(key),
    }
}

/// The value of a label; the empty one is legal.
fn is_label_value(value: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && edge(value.chars().next())
        && edge(value.chars().next_back())
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
