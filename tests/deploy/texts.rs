//! Where Kubernetes wants a text, whatever a value looks like to YAML: `123` and `true` are texts
//! too.

use crate::chart::{Objects, helm};
use serde_json::Value;

/// A release and a namespace that YAML reads as numbers, with these values as texts.
fn rendered(helm: &std::path::Path, set: &str) -> Objects {
    let all = format!("fullnameOverride=orders,{set}");
    let args = ["--namespace", "12345", "--set-string", &all];
    Objects::of(helm, "123", &args)
}

#[test]
fn names_labels_and_namespaces_are_texts() {
    let Some(helm) = helm() else { return };
    let set = "commonLabels.number=1,podLabels.number=2,podAnnotations.number=3,\
               service.leader.labels.other=4,service.leader.annotations.number=5,\
               persistence.labels.number=6,serviceAccount.annotations.number=7";
    let objects = rendered(helm, set);
    for object in objects.all() {
        assert_eq!(object["metadata"]["namespace"], "12345", "{object}");
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/instance"], "123", "{object}");
        assert_eq!(labels["number"].as_str().map(str::len), Some(1), "{object}");
        metadata("", object);
    }
}

/// Every metadata, selector and set of labels below this has texts alone.
fn metadata(path: &str, value: &Value) {
    let texts = ["labels", "annotations", "matchLabels", "nodeSelector"];
    match value {
        Value::Object(map) => {
            for (key, below) in map {
                let path = format!("{path}.{key}");
                let entries = below.as_object().filter(|_| texts.contains(&key.as_str()));
                for (name, entry) in entries.into_iter().flatten() {
                    assert!(entry.is_string(), "{path}.{name}: {entry}");
                }
                let named = ["name", "namespace"].contains(&key.as_str());
                assert!(!named || below.is_string(), "{path}: {below}");
                metadata(&path, below);
            }
        }
        Value::Array(list) => list.iter().for_each(|one| metadata(path, one)),
        _ => {}
    }
}

#[test]
fn values_that_look_like_numbers_are_texts() {
    let Some(helm) = helm() else { return };
    for word in ["123", "true", "null", "0x1f", "1e3"] {
        let set = format!(
            "auth.existingSecret={word},serviceAccount.name={word},priorityClassName={word},\
             persistence.storageClass={word},image.tag={word},nodeSelector.a={word},\
             imagePullSecrets[0].name={word},extraEnv[0].name=A,extraEnv[0].value={word},\
             auth.superuser.username=_1,postgresql.pgHba={{{word}}},persistence.size=10,\
             shm.size=20,tmp.size=30"
        );
        let objects = rendered(helm, &set);
        let pod = &objects.pod("orders")["spec"];
        assert_eq!(pod["serviceAccountName"], word);
        assert_eq!(pod["priorityClassName"], word);
        assert_eq!(pod["nodeSelector"]["a"], word);
        assert_eq!(pod["imagePullSecrets"][0]["name"], word);
        assert!(objects.find("ServiceAccount", word).is_some());
        let container = objects.container("orders");
        assert_eq!(container["image"], format!("pgwarden:{word}"));
        let env = container["env"].as_array().unwrap();
        assert_eq!(env.last().unwrap()["value"], word);
        let secrets = env
            .iter()
            .map(|one| &one["valueFrom"]["secretKeyRef"]["name"]);
        let secrets: Vec<&Value> = secrets.filter(|name| !name.is_null()).collect();
        assert_eq!(secrets, [word; 4]);
        let claim = &objects.get("StatefulSet", "orders")["spec"]["volumeClaimTemplates"][0];
        assert_eq!(claim["spec"]["storageClassName"], word);
        assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "10");
        let limits = pod["volumes"].as_array().unwrap().iter();
        let limits: Vec<&Value> = limits
            .map(|volume| &volume["emptyDir"]["sizeLimit"])
            .filter(|limit| !limit.is_null())
            .collect();
        assert_eq!(limits, ["16Mi", "30", "20"]);
    }
    // A registry without a dot and a tag would be a number of base sixty to YAML 1.1.
    let objects = rendered(helm, "image.repository=123,image.tag=15");
    assert_eq!(objects.container("orders")["image"], "123:15");
}

/// `-` is no class: the claims wait for volumes that are made by hand. Nothing is the default
/// class.
#[test]
fn a_storage_class_may_be_none() {
    let Some(helm) = helm() else { return };
    for (class, rendered) in [
        ("-", Value::from("")),
        ("", Value::Null),
        ("fast", "fast".into()),
    ] {
        let set = format!("persistence.storageClass={class}");
        let objects = Objects::of(helm, "main", &["--set", &set]);
        let claim = &objects.get("StatefulSet", "main")["spec"]["volumeClaimTemplates"][0];
        assert_eq!(claim["spec"]["storageClassName"], rendered);
        let spec = claim["spec"].as_object().unwrap();
        assert_eq!(spec.contains_key("storageClassName"), !class.is_empty());
    }
}
