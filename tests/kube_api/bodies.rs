//! One valid object of each kind.

use serde_json::{Value, json};

use crate::rig::Rig;

pub(crate) fn lease(name: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 1,
            "acquireTime": "2024-05-01T10:00:00.000000Z",
            "renewTime": "2024-05-01T10:00:00.123456Z"}})
}

pub(crate) fn config_map(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels, "annotations": {"a": "1", "b": "2"}},
        "data": {"key": "value"}})
}

pub(crate) fn endpoints(name: &str, ips: &[&str]) -> Value {
    let addresses: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name},
        "subsets": [{"addresses": addresses, "ports": [{"name": "postgresql", "port": 5432}]}]})
}

pub(crate) fn slice(name: &str, family: &str, ips: &[&str]) -> Value {
    let endpoints: Vec<Value> = ips.iter().map(|ip| json!({"addresses": [ip]})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "demo"}},
        "addressType": family, "endpoints": endpoints,
        "ports": [{"name": "postgresql", "port": 5432}]})
}

pub(crate) fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "demo"}},
        "spec": {"containers": [{"name": "postgres", "image": "demo:1"}]}})
}

pub(crate) fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": [{"name": "postgresql", "port": 5432}]}})
}

pub(crate) fn event(rig: &Rig, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": rig.namespace},
        "reason": "Promoted", "message": "p is the primary", "type": "Normal"})
}

pub(crate) fn new_event(rig: &Rig, name: &str) -> Value {
    json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name},
        "eventTime": "2024-05-01T10:00:00.000000Z", "reportingController": "pgwarden.io/agent",
        "reportingInstance": "p", "action": "Promote", "reason": "Promoted", "type": "Normal",
        "note": "p is the primary",
        "regarding": {"kind": "Pod", "name": "p", "namespace": rig.namespace}})
}
