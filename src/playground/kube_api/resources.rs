//! The kinds this server knows: where they live in the URL and how each one's registry differs.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1 as events;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One kind of object. The flags are those of its upstream registry strategy.
#[derive(Debug)]
pub(super) struct Resource {
    /// API group; empty for the core group.
    pub(super) group: &'static str,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    /// A PUT to an unknown name creates.
    pub(super) create_on_update: bool,
    /// A PUT without a resourceVersion overwrites.
    pub(super) unconditional_update: bool,
    /// DELETE answers with the object, not with a `Status`.
    pub(super) returns_deleted: bool,
    /// Has a `status` subresource; the main one then ignores `status`.
    pub(super) has_status: bool,
    /// Field selectors beyond metadata.name and metadata.namespace.
    pub(super) field_selectors: &'static [&'static str],
    /// Decodes and encodes through the typed object, which drops unknown fields as upstream does.
    typed: fn(Value) -> Result<Value, serde_json::Error>,
}

fn typed<K: DeserializeOwned + Serialize>(value: Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_value::<K>(value)?)
}

const PLAIN: Resource = Resource {
    group: "",
    plural: "",
    kind: "",
    create_on_update: false,
    unconditional_update: true,
    returns_deleted: false,
    has_status: false,
    field_selectors: &[],
    typed: Ok,
};

const INVOLVED: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "reason",
    "type",
];

/// All of them. Both `events` are views of the same stored objects.
pub(super) static RESOURCES: [Resource; 9] = [
    Resource {
        group: "coordination.k8s.io",
        plural: "leases",
        kind: "Lease",
        create_on_update: true,
        unconditional_update: false,
        typed: typed::<Lease>,
        ..PLAIN
    },
    Resource {
        plural: "endpoints",
        kind: "Endpoints",
        create_on_update: true,
        typed: typed::<core::Endpoints>,
        ..PLAIN
    },
    Resource {
        plural: "configmaps",
        kind: "ConfigMap",
        typed: typed::<core::ConfigMap>,
        ..PLAIN
    },
    Resource {
        plural: "secrets",
        kind: "Secret",
        field_selectors: &["type"],
        typed: typed::<core::Secret>,
        ..PLAIN
    },
    Resource {
        plural: "pods",
        kind: "Pod",
        returns_deleted: true,
        has_status: true,
        field_selectors: &["spec.nodeName", "status.phase", "status.podIP"],
        typed: typed::<core::Pod>,
        ..PLAIN
    },
    Resource {
        plural: "services",
        kind: "Service",
        create_on_update: true,
        returns_deleted: true,
        has_status: true,
        field_selectors: &["spec.clusterIP", "spec.type"],
        typed: typed::<core::Service>,
        ..PLAIN
    },
    Resource {
        plural: "events",
        kind: "Event",
        create_on_update: true,
        field_selectors: INVOLVED,
        typed: typed::<core::Event>,
        ..PLAIN
    },
    Resource {
        group: "events.k8s.io",
        plural: "events",
        kind: "Event",
        create_on_update: true,
        typed: typed::<events::Event>,
        ..PLAIN
    },
    Resource {
        group: "discovery.k8s.io",
        plural: "endpointslices",
        kind: "EndpointSlice",
        typed: typed::<EndpointSlice>,
        ..PLAIN
    },
];

impl Resource {
    pub(super) fn find(group: &str, plural: &str) -> Option<&'static Self> {
        RESOURCES
            .iter()
            .find(|it| it.group == group && it.plural == plural)
    }

    /// The first of that plural, for callers who do not care about groups.
    pub(super) fn by_plural(plural: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|it| it.plural == plural)
    }

    /// `leases.coordination.k8s.io`, or `pods`.
    pub(super) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// `coordination.k8s.io/v1`, or `v1`. Every kind here is served at v1 only.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            "v1".to_owned()
        } else {
            format!("{}/v1", self.group)
        }
    }

    /// The object as the typed API would store it: unknown fields gone, times in their one form.
    pub(super) fn normalise(&self, mut object: Value) -> Result<Value, serde_json::Error> {
        check_micro_times(&object)?;
        object = (self.typed)(object)?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|_, value| !is_empty(value));
        }
        if let Some(fields) = object.as_object_mut() {
            for field in ["data", "binaryData", "stringData", "subsets"] {
                if fields.get(field).is_some_and(is_empty) {
                    fields.remove(field);
                }
            }
        }
        Ok(object)
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Upstream parses a MicroTime with a fixed layout: exactly six digits of fraction. The typed
/// client objects are more generous, and a writer that relied on it would fail on a real cluster
/// only.
fn check_micro_times(object: &Value) -> Result<(), serde_json::Error> {
    let fields = [
        "/spec/acquireTime",
        "/spec/renewTime",
        "/eventTime",
        "/series/lastObservedTime",
    ];
    for field in fields {
        if let Some(Value::String(time)) = object.pointer(field)
            && !is_micro_time(time)
        {
            let message = format!(
                "parsing time {time:?} of {field} as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse"
            );
            return Err(serde::de::Error::custom(message));
        }
    }
    Ok(())
}

fn is_micro_time(time: &str) -> bool {
    let bytes = time.as_bytes();
    bytes.len() >= 27
        && matches!(bytes[19], b'.' | b',')
        && bytes[20..26].iter().all(u8::is_ascii_digit)
        && matches!(bytes[26], b'Z' | b'+' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_time_wants_six_digits() {
        assert!(is_micro_time("2024-05-01T10:00:00.000001Z"));
        assert!(is_micro_time("2024-05-01T10:00:00.000001+02:00"));
        assert!(!is_micro_time("2024-05-01T10:00:00Z"));
        assert!(!is_micro_time("2024-05-01T10:00:00.123Z"));
        assert!(!is_micro_time("2024-05-01T10:00:00.123456789Z"));
    }
}
