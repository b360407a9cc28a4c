//! What the objects say: names, selectors, security, probes, and that the manifests are the
//! chart's.

use crate::chart::{Objects, chart, helm, root, scratch, selects};
use pgwarden::dcs::DcsNames;
use pgwarden::dcs::codec::route::Family;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

/// Every value that is no default, in one rendering or another.
const VARIANTS: [&[&str]; 8] = [
    &[],
    &["--set", "replicas=1,failover.synchronousMode=off"],
    &[
        "--set",
        "auth.existingSecret=mine,auth.restapi.enabled=false",
    ],
    &[
        "--set",
        "serviceAccount.create=false,serviceAccount.name=mine,rbac.create=false",
    ],
    &[
        "--set",
        "podDisruptionBudget.enabled=false,topologySpread.zones=Ignore,topologySpread.nodes=Ignore",
    ],
    &[
        "--set",
        "podSecurityContext=null,containerSecurityContext=null,commonLabels.team=db,podLabels.a=b",
    ],
    &[
        "--set",
        "network.listen=[::],network.ipFamilyPolicy=PreferDualStack,service.leader.type=LoadBalancer",
    ],
    &[
        "--set",
        "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ],
];

#[test]
fn every_variant_renders() {
    let Some(helm) = helm() else { return };
    for args in VARIANTS {
        let objects = Objects::of(helm, "main", args);
        for object in objects.all() {
            assert_eq!(
                object["metadata"]["namespace"], "databases",
                "{args:?}: {object}"
            );
            let labels = &object["metadata"]["labels"];
            assert_eq!(labels["app.kubernetes.io/instance"], "main", "{args:?}");
            // What carries it is what the members made: it can be deleted by it.
            assert_eq!(labels["cluster-name"], Value::Null, "{args:?}: {object}");
        }
        let names: BTreeSet<_> = objects.names().into_iter().collect();
        assert_eq!(names.len(), objects.all().len(), "a name twice: {args:?}");
    }
}

#[test]
fn the_leader_service_selects_nobody_and_the_others_their_pods() {
    let Some(helm) = helm() else { return };
    let objects = Objects::of(helm, "main", &[]);
    let leader = &objects.get("Service", "main")["spec"];
    assert_eq!(leader["selector"], Value::Null);

    let mut labels = objects.pod("main")["metadata"]["labels"].clone();
    assert_eq!(labels["role"], Value::Null, "a fresh pod has no role");
    let headless = &objects.get("Service", "main-pods")["spec"];
    assert!(selects(&headless["selector"], &labels));
    assert_eq!(headless["publishNotReadyAddresses"], true);
    assert_eq!(headless["clusterIP"], "None");

    let replica = &objects.get("Service", "main-repl")["spec"]["selector"];
    assert!(!selects(replica, &labels));
    labels["role"] = json!("primary");
    assert!(!selects(replica, &labels));
    labels["role"] = json!("replica");
    assert!(selects(replica, &labels));

    let set = &objects.get("StatefulSet", "main")["spec"];
    assert_eq!(set["serviceName"], "main-pods");
    assert!(selects(&set["selector"]["matchLabels"], &labels));
    let budget = &objects.get("PodDisruptionBudget", "main")["spec"];
    assert!(selects(&budget["selector"]["matchLabels"], &labels));
    assert_eq!(budget["maxUnavailable"], 1);
}

/// In one namespace, with names of which one begins like the other.
#[test]
fn two_releases_share_no_name_and_no_selector() {
    let Some(helm) = helm() else { return };
    let releases = ["main", "main-2", "main-agent", "main-config"];
    let rendered = releases.map(|release| Objects::of(helm, release, &[]));
    let mut seen = BTreeSet::new();
    for (release, objects) in releases.iter().zip(&rendered) {
        let mut names = objects.names();
        let made = DcsNames::new(release, "databases", "pod", "uid");
        names.push(("Lease".to_owned(), made.scope.clone()));
        for map in [made.config_name(), made.sync_name(), made.failover_name()] {
            names.push(("ConfigMap".to_owned(), map));
        }
        for family in Family::ALL {
            names.push(("EndpointSlice".to_owned(), family.object_name(release)));
        }
        for name in names {
            assert!(seen.insert(name.clone()), "{name:?} is there twice");
        }
    }
    for (release, objects) in releases.iter().zip(&rendered) {
        let mut labels = objects.pod(release)["metadata"]["labels"].clone();
        labels["role"] = json!("replica");
        for (other, theirs) in releases.iter().zip(&rendered) {
            for object in theirs.all() {
                let selector = &object["spec"]["selector"];
                let selector = match &selector["matchLabels"] {
                    Value::Null => selector,
                    labels => labels,
                };
                if !selector.is_null() {
                    let same = selects(selector, &labels);
                    assert_eq!(same, release == other, "{other} selects pods of {release}");
                }
            }
        }
    }
}

#[test]
fn pods_are_restricted() {
    let Some(helm) = helm() else { return };
    // The second is what values.yaml recommends for OpenShift.
    let openshift = "podSecurityContext.runAsUser=null,podSecurityContext.runAsGroup=null,\
                     podSecurityContext.fsGroup=null";
    for args in [&[][..], &["--set", openshift]] {
        let objects = Objects::of(helm, "main", args);
        let pod = &objects.pod("main")["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        assert_eq!(
            pod["securityContext"]["runAsUser"].is_null(),
            !args.is_empty()
        );
        let container = &objects.container("main")["securityContext"];
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["readOnlyRootFilesystem"], true);
        assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
        for volume in pod["volumes"].as_array().unwrap() {
            let allowed = ["configMap", "emptyDir"];
            assert!(
                allowed.iter().any(|kind| !volume[kind].is_null()),
                "{volume}"
            );
        }
    }
}

#[test]
fn a_slow_start_is_not_killed_and_a_stop_has_time() {
    let Some(helm) = helm() else { return };
    let objects = Objects::of(helm, "main", &[]);
    let container = objects.container("main");
    let path = |probe: &str| &container[probe]["httpGet"]["path"];
    assert_eq!(path("startupProbe"), "/liveness");
    assert_eq!(path("livenessProbe"), "/liveness");
    assert_eq!(path("readinessProbe"), "/readiness");
    let ports = container["ports"].as_array().unwrap();
    let rest = ports.iter().find(|port| port["name"] == "restapi").unwrap();
    assert_eq!(rest["containerPort"], 8008);
    let set = &objects.get("StatefulSet", "main")["spec"];
    assert_eq!(set["podManagementPolicy"], "Parallel");
    assert_eq!(
        set["template"]["spec"]["terminationGracePeriodSeconds"],
        120
    );
    assert_eq!(
        set["persistentVolumeClaimRetentionPolicy"]["whenDeleted"],
        "Retain"
    );
}

/// A restart applies the local configuration; what is stored at the first start alone must not
/// cost one.
#[test]
fn only_what_a_restart_applies_restarts_the_pods() {
    let Some(helm) = helm() else { return };
    let pod = |args: &[&str]| Objects::of(helm, "main", args).pod("main").clone();
    let base = pod(&[]);
    assert_eq!(
        base,
        pod(&[
            "--set",
            "failover.ttl=30,postgresql.parameters.max_connections=300"
        ])
    );
    assert_eq!(
        base,
        pod(&["--set", "service.leader.type=NodePort,replicas=5"])
    );
    assert_ne!(base, pod(&["--set", "postgresql.parameters.work_mem=8MB"]));
    assert_ne!(base, pod(&["--set", "log.type=json"]));
    assert_ne!(
        base,
        pod(&["--set", "agentConfig.postgresql.pg_ctl_timeout=90"])
    );
}

/// The Secret is made only if none is given, and every reference finds its key.
#[test]
fn the_pods_find_their_passwords() {
    let Some(helm) = helm() else { return };
    for (args, name) in [
        (&[][..], "main-passwords"),
        (&["--set", "auth.restapi.enabled=false"], "main-passwords"),
        (&["--set", "auth.existingSecret=mine"], "mine"),
    ] {
        let objects = Objects::of(helm, "main", args);
        let made = objects.find("Secret", name);
        assert_eq!(made.is_none(), name == "mine");
        let env = objects.container("main")["env"].as_array().unwrap();
        let keys: BTreeSet<&str> = env
            .iter()
            .map(|one| &one["valueFrom"]["secretKeyRef"])
            .filter(|reference| !reference.is_null())
            .inspect(|reference| assert_eq!(reference["name"], name))
            .map(|reference| reference["key"].as_str().unwrap())
            .collect();
        if let Some(made) = made {
            let have: BTreeSet<&str> = made["data"]
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            assert_eq!(keys, have);
        }
    }
}

#[test]
fn the_manifests_are_those_of_the_chart() {
    let Some(helm) = helm() else { return };
    let fresh = scratch("manifests");
    let output = Command::new(root().join("scripts/manifests.sh"))
        .arg(&fresh)
        .env("HELM", helm)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let rendered = fs::read_to_string(fresh.join("pgwarden.yaml"));
    let _ = fs::remove_dir_all(&fresh);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let stored = fs::read_to_string(root().join("deploy/manifests/pgwarden.yaml")).unwrap();
    assert!(
        rendered.unwrap() == stored,
        "deploy/manifests are old; run make manifests"
    );
    assert!(
        Objects::parse(&stored)
            .find("Secret", "main-passwords")
            .is_none()
    );
}

/// Every value has a place in the schema, and every property of the schema a value.
#[test]
fn values_and_schema_know_the_same() {
    let read = |name: &str| fs::read_to_string(chart().join(name)).unwrap();
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut unlike = Vec::new();
    compare("", &values, &schema, &mut unlike);
    // Named by the schema alone: what Helm adds, fields that have Kubernetes' default, and sections
    // of the agent that have to be objects.
    unlike.retain(|path| {
        path != ".global"
            && path != ".resources.claims"
            && !path.starts_with(".agentConfig.")
            && !path.ends_with("DelaySeconds")
            && !path.ends_with("successThreshold")
    });
    assert!(unlike.is_empty(), "{unlike:#?}");
}

fn compare(path: &str, values: &Value, schema: &Value, unlike: &mut Vec<String>) {
    assert!(schema["description"].is_string(), "{path} is not described");
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let empty = serde_json::Map::new();
    let values = values.as_object().unwrap_or(&empty);
    for (key, schema) in properties {
        match values.get(key) {
            Some(value) => compare(&format!("{path}.{key}"), value, schema, unlike),
            None => unlike.push(format!("{path}.{key}")),
        }
    }
    unlike.extend(
        values
            .keys()
            .filter(|key| !properties.contains_key(*key))
            .map(|key| format!("{path}.{key}")),
    );
}
