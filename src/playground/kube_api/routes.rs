//! From a URL to what is meant by it, and the answers of discovery.

use std::collections::HashMap;

use http::{Method, Uri};
use serde_json::{Value, json};

use super::resources::{RESOURCES, Resource};
use super::rules::Verb;

/// What a path names.
#[derive(Debug)]
pub(super) enum Route {
    /// A fixed answer.
    Discovery(Value),
    /// Plain `ok`.
    Health,
    /// Objects.
    Objects(Place),
}

/// Objects: one, those of a namespace, or all.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) resource: &'static Resource,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) status: bool,
}

pub(super) type Query = HashMap<String, String>;

pub(super) fn query(uri: &Uri) -> Query {
    axum::extract::Query::try_from_uri(uri)
        .map(|it| it.0)
        .unwrap_or_default()
}

pub(super) fn route(path: &str) -> Option<Route> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["version"] => Some(Route::Discovery(version())),
        ["healthz" | "livez" | "readyz", ..] => Some(Route::Health),
        ["api"] => Some(Route::Discovery(
            json!({"kind": "APIVersions", "versions": ["v1"]}),
        )),
        ["apis"] => Some(Route::Discovery(groups())),
        ["api", "v1"] => Some(Route::Discovery(resources(""))),
        ["apis", group, "v1"] if is_group(group) => Some(Route::Discovery(resources(group))),
        ["api", "v1", rest @ ..] => place("", rest).map(Route::Objects),
        ["apis", group, "v1", rest @ ..] => place(group, rest).map(Route::Objects),
        _ => None,
    }
}

fn place(group: &str, rest: &[&str]) -> Option<Place> {
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
        rest => (None, rest),
    };
    let [plural, rest @ ..] = rest else {
        return None;
    };
    let resource = Resource::find(group, plural)?;
    let (name, status) = match rest {
        [] => (None, false),
        [name] if namespace.is_some() => (Some((*name).to_owned()), false),
        [name, "status"] if namespace.is_some() && resource.has_status => {
            (Some((*name).to_owned()), true)
        }
        _ => return None,
    };
    Some(Place {
        resource,
        namespace,
        name,
        status,
    })
}

impl Place {
    /// The verb a method is here; nothing if the method has no meaning for this path.
    pub(super) fn verb(&self, method: &Method, query: &Query) -> Option<Verb> {
        let watches = flag(query, "watch");
        match (method.as_str(), self.name.is_some()) {
            ("GET", false) if watches => Some(Verb::Watch),
            ("GET", false) => Some(Verb::List),
            ("GET", true) => Some(Verb::Get),
            ("POST", false) if self.namespace.is_some() => Some(Verb::Create),
            ("PUT", true) => Some(Verb::Update),
            ("PATCH", true) => Some(Verb::Patch),
            ("DELETE", true) if !self.status => Some(Verb::Delete),
            ("DELETE", false) if self.namespace.is_some() => Some(Verb::DeleteCollection),
            _ => None,
        }
    }
}

/// A switch of the query as the real server reads it: anything but `0` and `false` is yes. Python's
/// clients write `True`.
pub(super) fn flag(query: &Query, name: &str) -> bool {
    query
        .get(name)
        .is_some_and(|it| it != "0" && !it.eq_ignore_ascii_case("false"))
}

fn is_group(group: &str) -> bool {
    RESOURCES.iter().any(|it| it.group == group)
}

fn version() -> Value {
    json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0+pgwarden", "gitCommit": "",
        "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
        "compiler": "", "platform": "linux"})
}

fn groups() -> Value {
    let mut named: Vec<&str> = RESOURCES
        .iter()
        .map(|it| it.group)
        .filter(|group| !group.is_empty())
        .collect();
    named.dedup();
    let groups: Vec<Value> = named
        .into_iter()
        .map(|group| {
            let version = json!({"groupVersion": format!("{group}/v1"), "version": "v1"});
            json!({"name": group, "versions": [version], "preferredVersion": version})
        })
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn resources(group: &str) -> Value {
    let verbs = [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];
    let mut listed = Vec::new();
    for it in RESOURCES.iter().filter(|it| it.group == group) {
        let singular = it.kind.to_lowercase();
        listed.push(
            json!({"name": it.plural, "singularName": singular, "namespaced": true,
            "kind": it.kind, "verbs": verbs}),
        );
        if it.has_status {
            listed.push(
                json!({"name": format!("{}/status", it.plural), "singularName": "",
                "namespaced": true, "kind": it.kind, "verbs": ["get", "patch", "update"]}),
            );
        }
    }
    let version = if group.is_empty() {
        "v1".to_owned()
    } else {
        format!("{group}/v1")
    };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
        "resources": listed})
}
