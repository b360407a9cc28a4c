//! One server and one namespace for a test, and requests as they go over the wire.

use std::sync::Arc;
use std::time::Duration;

use futures::AsyncBufReadExt as _;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config};
use pgwarden::playground::kube_api::{Handle, KubeApi, Options};
use serde_json::{Value, json};

pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
const JSON: &str = "application/json";

/// Generous: only a hang reaches it.
const DEADLINE: Duration = Duration::from_mins(1);

/// A server to test, embedded or real, and the test's own namespace in it.
pub(crate) struct Rig {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    api: Option<Arc<Handle>>,
}

impl Rig {
    pub(crate) async fn start(test: &str) -> Self {
        let Ok(path) = std::env::var("PGWARDEN_KUBECONFIG") else {
            return Self::embedded(Options::default()).await;
        };
        let file = Kubeconfig::read_from(&path)
            .unwrap_or_else(|error| panic!("PGWARDEN_KUBECONFIG={path}: {error}"));
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .expect("a usable kubeconfig");
        // What the server answers is what is tested, not what a second attempt would be told.
        config.default_retry = false;
        let client = Client::try_from(config).expect("a client of the real API");
        let unique = std::process::id();
        let namespace = format!("conformance-{test}-{unique}");
        let rig = Self {
            client,
            namespace,
            api: None,
        };
        let name = &rig.namespace;
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        rig.send("POST", "/api/v1/namespaces", JSON, &body)
            .await
            .expect("a new namespace");
        rig
    }

    /// Always the embedded server, as its client `a`.
    pub(crate) async fn embedded(options: Options) -> Self {
        let api = KubeApi::start(options)
            .await
            .expect("a free port on loopback");
        let client = api.client("a").expect("a client of the embedded API");
        Self {
            client,
            namespace: "test".into(),
            api: Some(Arc::new(api)),
        }
    }

    /// The same embedded server as another of its clients sees it.
    pub(crate) fn seen_by(&self, name: &str) -> Self {
        let client = self
            .api()
            .client(name)
            .expect("a client of the embedded API");
        Self {
            client,
            namespace: self.namespace.clone(),
            api: self.api.clone(),
        }
    }

    pub(crate) fn api(&self) -> &Handle {
        self.api
            .as_deref()
            .expect("this test is one of the embedded server")
    }

    /// `/api/v1/namespaces/NS/pods` for `pods`, with the group in front for the others.
    pub(crate) fn path(&self, plural: &str) -> String {
        let group = match plural {
            "leases" => "coordination.k8s.io",
            "endpointslices" => "discovery.k8s.io",
            "newevents" => "events.k8s.io",
            _ => "",
        };
        let plural = if plural == "newevents" {
            "events"
        } else {
            plural
        };
        let root = if group.is_empty() {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{group}/v1")
        };
        format!("{root}/namespaces/{}/{plural}", self.namespace)
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> Result<Value, Status> {
        let bytes = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        self.send_bytes(method, path, content_type, bytes).await
    }

    pub(crate) async fn send_bytes(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Value, Status> {
        let sent = self.try_send(method, path, content_type, body);
        let answered = tokio::time::timeout(DEADLINE, sent).await;
        match answered.unwrap_or_else(|_| panic!("{method} {path}: no answer")) {
            Ok(value) => Ok(value),
            Err(kube::Error::Api(status)) => Err(*status),
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    /// Like `send_bytes`, for requests that may find no answer at all.
    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Value, kube::Error> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .header("accept", JSON)
            .body(body)
            .expect("a valid request");
        self.client.request(request).await
    }

    pub(crate) async fn get(&self, plural: &str, name: &str) -> Result<Value, Status> {
        self.send(
            "GET",
            &format!("{}/{name}", self.path(plural)),
            JSON,
            &Value::Null,
        )
        .await
    }

    /// Lists (or whatever else GET means) with this query.
    pub(crate) async fn list(&self, plural: &str, query: &str) -> Result<Value, Status> {
        self.send(
            "GET",
            &format!("{}?{query}", self.path(plural)),
            JSON,
            &Value::Null,
        )
        .await
    }

    pub(crate) async fn create(&self, plural: &str, body: &Value) -> Result<Value, Status> {
        self.send("POST", &self.path(plural), JSON, body).await
    }

    pub(crate) async fn put(
        &self,
        plural: &str,
        name: &str,
        body: &Value,
    ) -> Result<Value, Status> {
        self.send("PUT", &format!("{}/{name}", self.path(plural)), JSON, body)
            .await
    }

    pub(crate) async fn patch(
        &self,
        plural: &str,
        name: &str,
        content_type: &str,
        body: &Value,
    ) -> Result<Value, Status> {
        self.send(
            "PATCH",
            &format!("{}/{name}", self.path(plural)),
            content_type,
            body,
        )
        .await
    }

    pub(crate) async fn delete(
        &self,
        plural: &str,
        name: &str,
        body: &Value,
    ) -> Result<Value, Status> {
        self.send(
            "DELETE",
            &format!("{}/{name}", self.path(plural)),
            JSON,
            body,
        )
        .await
    }

    /// The events of a watch, one by one.
    pub(crate) async fn watch(&self, plural: &str, query: &str) -> Watch {
        self.watch_asked("true", plural, query).await
    }

    /// The same, asked for with another word than `true`.
    pub(crate) async fn watch_asked(&self, word: &str, plural: &str, query: &str) -> Watch {
        let uri = format!("{}?watch={word}&{query}", self.path(plural));
        let request = Request::builder()
            .uri(uri)
            .body(Vec::new())
            .expect("a valid request");
        let lines = self
            .client
            .request_stream(request)
            .await
            .expect("a watch")
            .lines();
        Watch {
            lines: lines.map_err(|error| error.to_string()).boxed(),
        }
    }
}

/// An open watch.
pub(crate) struct Watch {
    lines: BoxStream<'static, Result<String, String>>,
}

impl Watch {
    /// The next event: its type and object. Nothing when the stream has ended well.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        self.try_next().await.expect("a watch that is not cut off")
    }

    pub(crate) async fn try_next(&mut self) -> Result<Option<(String, Value)>, String> {
        let line = tokio::time::timeout(DEADLINE, self.lines.next())
            .await
            .expect("an event");
        let Some(line) = line.transpose()? else {
            return Ok(None);
        };
        let event: Value = serde_json::from_str(&line).expect("an event is a line of JSON");
        let kind = event["type"]
            .as_str()
            .expect("an event has a type")
            .to_owned();
        Ok(Some((kind, event["object"].clone())))
    }

    /// The next event that is no bookmark, as `TYPE name`.
    pub(crate) async fn next_named(&mut self) -> String {
        loop {
            let (kind, object) = self.next().await.expect("a further event");
            if kind != "BOOKMARK" {
                return format!(
                    "{kind} {}",
                    object["metadata"]["name"].as_str().unwrap_or("?")
                );
            }
        }
    }
}

pub(crate) fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"]
        .as_str()
        .expect("a resourceVersion")
        .to_owned()
}

pub(crate) fn revision(object: &Value) -> u64 {
    version(object)
        .parse()
        .expect("a resourceVersion is a number here")
}

pub(crate) fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items");
    items
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect()
}

/// A refusal's essence: code, reason, and the fields its causes name.
pub(crate) fn essence(status: &Status) -> (u16, &str, Vec<&str>) {
    let causes = status
        .details
        .as_ref()
        .map(|it| it.causes.as_slice())
        .unwrap_or_default();
    let mut fields: Vec<&str> = causes.iter().map(|it| it.field.as_str()).collect();
    fields.dedup();
    (status.code, &status.reason, fields)
}
