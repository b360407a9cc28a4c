//! Values that are taken away with null, or are no object where one has to be: Helm removes the
//! chart's default then, and a template would fail with a message about itself, or render half an
//! object.

use crate::chart::{chart, helm};
use crate::refusals::refused;
use serde_json::Value;
use std::fs;

/// May be null: nothing is set, or Kubernetes or the chart chooses. Probes have a sentence of their
/// own.
const OPTIONAL: [&str; 5] = [
    "resources",
    "podSecurityContext",
    "containerSecurityContext",
    "affinity",
    "probes",
];

/// Paths of the objects of the values that are no free map, with their parents.
fn objects(path: &str, values: &Value, schema: &Value, found: &mut Vec<(String, String)>) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    for (key, schema) in properties {
        if path.is_empty() && OPTIONAL.contains(&key.as_str()) {
            continue;
        }
        if values[key].is_object() && schema["properties"].is_object() {
            found.push((path.to_owned(), key.clone()));
            let below = match path {
                "" => key.clone(),
                path => format!("{path}.{key}"),
            };
            objects(&below, &values[key], schema, found);
        }
    }
}

#[test]
fn no_object_of_the_values_can_be_taken_away() {
    let Some(helm) = helm() else { return };
    let read = |name: &str| fs::read_to_string(chart().join(name)).unwrap();
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut found = Vec::new();
    objects("", &values, &schema, &mut found);
    assert!(found.len() > 15, "{found:?}");
    for (parent, key) in found {
        let dot = if parent.is_empty() { "" } else { "." };
        let slash = if parent.is_empty() { "" } else { "/" };
        let at = format!("'{slash}{}'", parent.replace('.', "/"));
        let missing = format!("missing property '{key}'");
        refused(
            helm,
            &[(&format!("{parent}{dot}{key}=null"), [&at, &missing])],
        );
        let at = format!("'/{}{slash}{key}'", parent.replace('.', "/"));
        refused(
            helm,
            &[(&format!("{parent}{dot}{key}=abc"), [&at, "want object"])],
        );
    }
}

/// Those without which an object would be wrong and Kubernetes would have another idea.
#[test]
fn no_scalar_that_counts_can_be_taken_away() {
    let Some(helm) = helm() else { return };
    for (at, key) in [
        ("", "replicas"),
        ("", "tags"),
        ("", "terminationGracePeriodSeconds"),
        ("/failover", "ttl"),
        ("/failover", "reclone"),
        ("/postgresql", "parameters"),
        ("/postgresql", "pgHba"),
        ("/persistence", "size"),
        ("/persistence", "accessModes"),
        ("/shm", "size"),
        ("/auth/superuser", "username"),
        ("/service/leader", "port"),
        ("/probes/startup", "failureThreshold"),
        ("/rbac", "maxMembers"),
    ] {
        let path = format!("{at}/{key}")[1..].replace('/', ".");
        let missing = format!("missing property '{key}'");
        let at = format!("'{at}'");
        refused(helm, &[(&format!("{path}=null"), [&at, &missing])]);
    }
}

#[test]
fn the_agent_s_sections_are_objects() {
    let Some(helm) = helm() else { return };
    let bootstrap = [
        "bootstrap",
        "bootstrap.dcs",
        "bootstrap.dcs.postgresql",
        "bootstrap.dcs.postgresql.parameters",
    ];
    for section in bootstrap.into_iter().chain(["postgresql"]) {
        let at = format!("'/agentConfig/{}'", section.replace('.', "/"));
        for (word, got) in [
            ("abc", "got string"),
            ("null", "got null"),
            ("{}", "got array"),
        ] {
            let set = format!("agentConfig.{section}={word}");
            refused(helm, &[(&set, [&at, got])]);
        }
    }
}
