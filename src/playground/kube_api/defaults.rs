//! What the server adds to an object: identity on creation, defaults, and the two views of an
//! event.

use serde_json::{Map, Value, json};

use super::addresses::cluster_ip;
use super::resources::Resource;

/// Field names of the stored (core) event and of events.k8s.io.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(object: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.insert(to.to_owned(), value);
    }
}

/// From the form a client of this resource reads and writes to the stored one.
pub(super) fn to_stored(resource: &Resource, mut object: Value) -> Value {
    if resource.group == "events.k8s.io"
        && let Some(fields) = object.as_object_mut()
    {
        for (core, new) in EVENT_FIELDS {
            rename(fields, new, core);
        }
        fields.insert("apiVersion".into(), "v1".into());
    }
    object
}

/// The opposite of [`to_stored`].
pub(super) fn to_served(resource: &Resource, object: &Value) -> Value {
    let mut object = object.clone();
    if resource.group == "events.k8s.io"
        && let Some(fields) = object.as_object_mut()
    {
        for (core, new) in EVENT_FIELDS {
            rename(fields, core, new);
        }
        fields.insert("apiVersion".into(), resource.api_version().into());
    }
    object
}

/// Version 4, from the system's randomness.
pub(super) fn new_uid() -> String {
    let mut bytes = random::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}

/// The five letters a generateName ends in; vowels and look-alikes are left out, as upstream does.
pub(super) fn name_suffix() -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    random::<5>()
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(*byte) % 27]))
        .collect()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("a running Linux has randomness");
    bytes
}

/// Now, to the second, as object metadata has it.
pub(super) fn timestamp() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

fn set_missing(object: &mut Value, field: &str, default: impl Into<Value>) {
    if object[field].is_null() {
        object[field] = default.into();
    }
}

fn each<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    object
        .get_mut(list)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// Fills in what upstream fills in, as far as a reader here could notice.
pub(super) fn apply(resource: &Resource, object: &mut Value) {
    match resource.plural {
        "endpoints" => {
            for subset in each(object, "subsets") {
                each(subset, "ports").for_each(|port| set_missing(port, "protocol", "TCP"));
            }
        }
        "endpointslices" => {
            for port in each(object, "ports") {
                set_missing(port, "name", "");
                set_missing(port, "protocol", "TCP");
            }
        }
        "secrets" => secret(object),
        "pods" => pod(object),
        "services" => service(object),
        _ => {}
    }
}

fn secret(object: &mut Value) {
    set_missing(object, "type", "Opaque");
    let Some(plain) = object
        .as_object_mut()
        .and_then(|it| it.remove("stringData"))
    else {
        return;
    };
    for (key, value) in plain.as_object().into_iter().flatten() {
        use base64::Engine as _;
        let text = value.as_str().unwrap_or_default();
        object["data"][key] = base64::engine::general_purpose::STANDARD
            .encode(text)
            .into();
    }
}

fn pod(object: &mut Value) {
    set_missing(object, "spec", json!({}));
    let spec = &mut object["spec"];
    set_missing(spec, "restartPolicy", "Always");
    set_missing(spec, "dnsPolicy", "ClusterFirst");
    set_missing(spec, "schedulerName", "default-scheduler");
    set_missing(spec, "terminationGracePeriodSeconds", 30);
    set_missing(spec, "securityContext", json!({}));
    set_missing(spec, "enableServiceLinks", true);
    for container in each(spec, "containers") {
        set_missing(container, "terminationMessagePath", "/dev/termination-log");
        set_missing(container, "terminationMessagePolicy", "File");
        let latest = container["image"]
            .as_str()
            .is_some_and(|it| it.ends_with(":latest"));
        let tagless = container["image"]
            .as_str()
            .is_some_and(|it| !it.contains(':'));
        let policy = if latest || tagless {
            "Always"
        } else {
            "IfNotPresent"
        };
        set_missing(container, "imagePullPolicy", policy);
        set_missing(container, "resources", json!({}));
        each(container, "ports").for_each(|port| set_missing(port, "protocol", "TCP"));
    }
    set_missing(object, "status", json!({}));
    set_missing(&mut object["status"], "phase", "Pending");
    set_missing(&mut object["status"], "qosClass", "BestEffort");
}

fn service(object: &mut Value) {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let address = cluster_ip(&text("namespace"), &text("name"));
    set_missing(object, "spec", json!({}));
    let spec = &mut object["spec"];
    set_missing(spec, "type", "ClusterIP");
    set_missing(spec, "sessionAffinity", "None");
    for port in each(spec, "ports") {
        set_missing(port, "protocol", "TCP");
        let number = port["port"].clone();
        set_missing(port, "targetPort", number);
    }
    if spec["type"] != "ExternalName" {
        set_missing(spec, "clusterIP", address);
        let ips = json!([spec["clusterIP"]]);
        set_missing(spec, "clusterIPs", ips);
        set_missing(spec, "ipFamilies", json!(["IPv4"]));
        set_missing(spec, "ipFamilyPolicy", "SingleStack");
        set_missing(spec, "internalTrafficPolicy", "Cluster");
    }
    set_missing(object, "status", json!({"loadBalancer": {}}));
}
