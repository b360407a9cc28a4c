//! The part of Kubernetes that is no API: the kubelet's word about containers, and the objects a
//! chart would have made. Written through a client, so that it is the same for a real API server.

use super::member::{Member, NAMESPACE, SCOPE};
use crate::dcs::Dialect;
use crate::dcs::codec::lease;
use crate::sys::host::random_incarnation;
use anyhow::{Context, anyhow};
use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use std::time::Duration;

/// The name of the one container.
const CONTAINER: &str = "postgresql";
/// The format of a change.
const MERGE: &str = "application/merge-patch+json";
/// How long one call may take.
const CALL: Duration = Duration::from_secs(5);

/// A client of the API that no fault concerns.
#[derive(Clone)]
pub(super) struct Kubelet {
    client: Client,
    dialect: Dialect,
    terminated: bool,
}

/// What the kubelet knows of a member's container.
#[derive(Clone, Debug, Default)]
pub(super) struct Container {
    /// Its id; a new one with every start.
    pub(super) id: String,
    started: Option<Timestamp>,
    restarts: u32,
    last: Option<Value>,
}

impl Kubelet {
    /// `terminated`: the end of a container is reported.
    pub(super) fn new(client: Client, dialect: Dialect, terminated: bool) -> Self {
        Self {
            client,
            dialect,
            terminated,
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The Service of the leader: without a selector, unless the pods' label is the route.
    pub(super) async fn create_service(&self, port: u16) -> anyhow::Result<()> {
        let mut body = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": SCOPE, "labels": {"cluster-name": SCOPE}},
            "spec": {"ports": [{"name": "postgresql", "port": 5432, "targetPort": port}]},
        });
        if self.dialect == Dialect::ConfigMap {
            body["spec"]["selector"] = json!({"cluster-name": SCOPE, "role": "primary"});
        }
        let uri = uri("services", "");
        let created = self.call("POST", &uri, "application/json", &body);
        created.await.map(drop)
    }

    /// The Pod of a member; answers its UID.
    pub(super) async fn create_pod(&self, name: &str) -> anyhow::Result<String> {
        let body = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"application": "pgwarden", "cluster-name": SCOPE}},
            "spec": {
                "nodeName": "playground", "terminationGracePeriodSeconds": 0,
                "containers": [{"name": CONTAINER, "image": "pgwarden-playground"}],
            },
        });
        let uri = uri("pods", "");
        let pod = self.call("POST", &uri, "application/json", &body).await?;
        let uid = pod["metadata"]["uid"].as_str();
        uid.map(str::to_owned)
            .ok_or_else(|| anyhow!("the Pod {name} was given no UID"))
    }

    /// The container was started.
    pub(super) async fn started(
        &self,
        member: &Member,
        container: &mut Container,
    ) -> anyhow::Result<()> {
        let (one, two) = (random_incarnation()?, random_incarnation()?);
        container.id = format!("containerd://{one}{two}{two}{one}");
        container.started = Some(Timestamp::now());
        let state = json!({"running": {"startedAt": seconds(container.started)}});
        self.report(member, container, state, true).await
    }

    /// The container has ended, and with it every process in it.
    pub(super) async fn ended(
        &self,
        member: &Member,
        container: &mut Container,
        code: i32,
    ) -> anyhow::Result<()> {
        container.restarts += 1;
        if !self.terminated {
            return Ok(());
        }
        let ended = json!({"terminated": {
            "containerID": container.id, "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
            "startedAt": seconds(container.started), "finishedAt": seconds(Some(Timestamp::now())),
        }});
        container.last = Some(ended.clone());
        self.report(member, container, ended, false).await
    }

    async fn report(
        &self,
        member: &Member,
        container: &Container,
        state: Value,
        running: bool,
    ) -> anyhow::Result<()> {
        let ip = member.ip.to_string();
        let body = json!({"status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": ip,
            "conditions": [{"type": "Ready", "status": if running { "True" } else { "False" }}],
            "containerStatuses": [{
                "name": CONTAINER, "image": "pgwarden-playground", "imageID": "",
                "ready": running, "started": running, "restartCount": container.restarts,
                "containerID": container.id, "state": state,
                "lastState": container.last.clone().unwrap_or_else(|| json!({})),
            }],
        }});
        let uri = uri("pods", &format!("/{}/status", member.name));
        self.call("PATCH", &uri, MERGE, &body).await.map(drop)
    }

    /// The lock as it is stored.
    pub(super) async fn lock(&self) -> anyhow::Result<Value> {
        self.read(&self.lock_uri()).await
    }

    /// Its fields, as a Lease has them.
    pub(super) async fn lock_fields(&self) -> anyhow::Result<Value> {
        Ok(lease::spec(self.dialect, &self.lock().await?))
    }

    /// An object as it is stored.
    pub(super) async fn read(&self, uri: &str) -> anyhow::Result<Value> {
        let request = http::Request::get(uri).body(Vec::new())?;
        let sent = self.send(request).await;
        sent.with_context(|| format!("GET {uri}"))
    }

    /// Changes the lock behind everybody's back.
    pub(super) async fn change_lock(&self, change: &Value) -> anyhow::Result<()> {
        let uri = self.lock_uri();
        self.call("PATCH", &uri, MERGE, change).await.map(drop)
    }

    /// Where the lock is.
    pub(super) fn lock_uri(&self) -> String {
        let (place, name) = (self.dialect.lock(), self.dialect.lock_name(SCOPE));
        let (group, resource) = (place.group, place.resource);
        format!("/{group}/namespaces/{NAMESPACE}/{resource}/{name}")
    }

    /// Where the configuration is.
    pub(super) fn config_uri(&self) -> String {
        uri(self.dialect.state().resource, &format!("/{SCOPE}-config"))
    }

    /// Deletes an object.
    pub(super) async fn delete(&self, uri: &str) -> anyhow::Result<()> {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        let deleted = self.call("DELETE", uri, "application/json", &options);
        deleted.await.map(drop)
    }

    async fn call(
        &self,
        method: &str,
        uri: &str,
        content: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header("content-type", content)
            .body(serde_json::to_vec(body)?)?;
        let sent = self.send(request).await;
        sent.with_context(|| format!("{method} {uri}"))
    }

    async fn send(&self, request: http::Request<Vec<u8>>) -> anyhow::Result<Value> {
        let asked = tokio::time::timeout(CALL, self.client.request::<Value>(request));
        Ok(asked.await??)
    }
}

/// Where objects of the core group are.
fn uri(plural: &str, path: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{plural}{path}")
}

/// As the kubelet writes instants: cut to seconds.
fn seconds(at: Option<Timestamp>) -> String {
    at.unwrap_or_default()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}
