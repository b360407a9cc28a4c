//! Create, read and delete, kind by kind.

use serde_json::{Value, json};

use crate::bodies::{config_map, endpoints, event, lease, new_event, pod, service, slice};
use crate::rig::{JSON_PATCH, MERGE, Rig, STRATEGIC, essence, names, revision, version};

#[tokio::test]
async fn every_kind_lives_and_dies() {
    let rig = Rig::start("every-kind").await;
    let kinds = [
        ("leases", "coordination.k8s.io", lease("x")),
        ("endpoints", "", endpoints("x", &["198.18.0.1"])),
        ("configmaps", "", config_map("x", json!({}))),
        (
            "secrets",
            "",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"},
                "stringData": {"password": "s"}}),
        ),
        ("pods", "", pod("x")),
        ("services", "", service("x")),
        ("events", "", event(&rig, "x")),
        ("newevents", "events.k8s.io", new_event(&rig, "y")),
        (
            "endpointslices",
            "discovery.k8s.io",
            slice("x", "IPv4", &["198.18.0.1"]),
        ),
    ];
    for (plural, group, body) in kinds {
        let name = body["metadata"]["name"].as_str().expect("a name");
        let created = rig
            .create(plural, &body)
            .await
            .unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(created["kind"], body["kind"]);
        assert_eq!(created["apiVersion"], body["apiVersion"]);
        assert_eq!(created["metadata"]["namespace"], rig.namespace);
        assert_eq!(created["metadata"]["uid"].as_str().map(str::len), Some(36));
        assert_eq!(
            created["metadata"]["creationTimestamp"]
                .as_str()
                .map(str::len),
            Some(20)
        );
        let read = rig.get(plural, name).await.expect("it exists");
        // Fields of bookkeeping that the embedded API does not keep are equal there too.
        assert_eq!(read, created, "{plural}");

        let again = rig
            .create(plural, &body)
            .await
            .expect_err("it exists already");
        assert_eq!(essence(&again), (409, "AlreadyExists", vec![]), "{plural}");
        let details = again.details.expect("details");
        let kind = if plural == "newevents" {
            "events"
        } else {
            plural
        };
        assert_eq!((details.name.as_str(), details.kind.as_str()), (name, kind));
        assert_eq!(details.group, group);

        let list = rig.list(plural, "").await.expect("a list");
        assert!(names(&list).contains(&name), "{plural}");
        assert!(
            list["items"][0]["kind"].is_null(),
            "items do not repeat their kind"
        );
        assert!(revision(&list) >= revision(&created));

        let gone = rig
            .delete(plural, name, &Value::Null)
            .await
            .expect("it can be deleted");
        if ["pods", "services"].contains(&plural) {
            assert_eq!(
                gone["metadata"]["uid"], created["metadata"]["uid"],
                "{plural}"
            );
        } else {
            assert_eq!(gone["status"], "Success", "{plural}: {gone}");
            assert_eq!(
                gone["details"]["uid"], created["metadata"]["uid"],
                "{plural}"
            );
        }
        let missing = rig.get(plural, name).await.expect_err("it is gone");
        assert_eq!(essence(&missing), (404, "NotFound", vec![]), "{plural}");
        assert_eq!(missing.details.expect("details").kind, kind);
        let missing = rig
            .delete(plural, name, &Value::Null)
            .await
            .expect_err("it is gone");
        assert_eq!(essence(&missing), (404, "NotFound", vec![]), "{plural}");
    }
}

#[tokio::test]
async fn generated_names_are_new() {
    let rig = Rig::start("generate").await;
    let mut body = config_map("x", json!({}));
    body["metadata"] = json!({"generateName": "made-"});
    let mut made = Vec::new();
    for _ in 0..3 {
        let created = rig.create("configmaps", &body).await.expect("created");
        let name = created["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned();
        assert!(name.starts_with("made-") && name.len() == 10, "{name}");
        made.push(name);
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 3);
}

#[tokio::test]
async fn one_version_rises_for_all_kinds() {
    let rig = Rig::start("rising").await;
    let a = rig.create("leases", &lease("a")).await.expect("created");
    let b = rig
        .create("configmaps", &config_map("b", json!({})))
        .await
        .expect("created");
    let c = rig.create("leases", &lease("c")).await.expect("created");
    assert!(revision(&a) < revision(&b) && revision(&b) < revision(&c));
    let list = rig.list("leases", "").await.expect("a list");
    assert!(revision(&list) >= revision(&c));
}

#[tokio::test]
async fn writing_what_is_there_changes_nothing() {
    let rig = Rig::start("no-op").await;
    let lease = rig.create("leases", &lease("l")).await.expect("created");
    let same = rig.put("leases", "l", &lease).await.expect("accepted");
    assert_eq!(version(&same), version(&lease));
    for (kind, body) in [
        (MERGE, json!({"spec": {"holderIdentity": "a"}})),
        (STRATEGIC, json!({"spec": {"leaseDurationSeconds": 15}})),
        (
            JSON_PATCH,
            json!([{"op": "replace", "path": "/spec/holderIdentity", "value": "a"}]),
        ),
    ] {
        let same = rig
            .patch("leases", "l", kind, &body)
            .await
            .expect("accepted");
        assert_eq!(version(&same), version(&lease), "{kind}");
    }
}

#[tokio::test]
async fn unknown_fields_are_dropped() {
    let rig = Rig::start("unknown").await;
    let mut body = lease("l");
    body["spec"]["colour"] = "red".into();
    let created = rig.create("leases", &body).await.expect("created");
    assert!(created["spec"]["colour"].is_null());
    let patch = json!({"spec": {"colour": "red"}, "colour": "red"});
    let patched = rig
        .patch("leases", "l", MERGE, &patch)
        .await
        .expect("accepted");
    assert_eq!(version(&patched), version(&created));
}

#[tokio::test]
async fn delete_with_preconditions() {
    let rig = Rig::start("delete-cas").await;
    let created = rig.create("leases", &lease("l")).await.expect("created");
    let other = json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
    let refused = rig
        .delete("leases", "l", &other)
        .await
        .expect_err("another uid");
    assert_eq!(essence(&refused), (409, "Conflict", vec![]));
    let other = json!({"preconditions": {"resourceVersion": "1"}});
    let refused = rig
        .delete("leases", "l", &other)
        .await
        .expect_err("another version");
    assert_eq!(essence(&refused), (409, "Conflict", vec![]));
    let right = json!({"preconditions": {"uid": created["metadata"]["uid"],
        "resourceVersion": version(&created)}});
    rig.delete("leases", "l", &right).await.expect("both hold");
    rig.get("leases", "l").await.expect_err("gone");
}

#[tokio::test]
async fn selectors_and_deletecollection() {
    let rig = Rig::start("selectors").await;
    for (name, labels) in [
        ("a", json!({"cluster": "x", "role": "primary"})),
        ("b", json!({"cluster": "x", "role": "replica"})),
        ("c", json!({"cluster": "y"})),
    ] {
        rig.create("configmaps", &config_map(name, labels))
            .await
            .expect("created");
    }
    // A real cluster puts its certificate into every namespace sooner or later.
    for (query, expected) in [
        ("labelSelector=cluster%3Dx", vec!["a", "b"]),
        ("labelSelector=cluster%3Dx,role!%3Dprimary", vec!["b"]),
        ("labelSelector=cluster,!role", vec!["c"]),
        ("labelSelector=role%20in%20(primary,none)", vec!["a"]),
        (
            "labelSelector=cluster,role%20notin%20(primary)",
            vec!["b", "c"],
        ),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        (
            "fieldSelector=metadata.name%3Db&labelSelector=cluster%3Dy",
            vec![],
        ),
    ] {
        let list = rig.list("configmaps", query).await.expect("a list");
        assert_eq!(names(&list), expected, "{query}");
        assert_eq!(list["kind"], "ConfigMapList");
    }
    for wrong in ["labelSelector=a%20in%20b", "fieldSelector=data.key%3Dvalue"] {
        let refused = rig
            .list("configmaps", wrong)
            .await
            .expect_err("it makes no sense");
        assert_eq!(refused.code, 400, "{wrong}");
    }
    let path = format!("{}?labelSelector=cluster%3Dx", rig.path("configmaps"));
    rig.send("DELETE", &path, "application/json", &Value::Null)
        .await
        .expect("deleted");
    let left = rig
        .list("configmaps", "labelSelector=cluster")
        .await
        .expect("a list");
    assert_eq!(names(&left), ["c"]);
}

#[tokio::test]
async fn both_apis_of_events_show_the_same_objects() {
    let rig = Rig::start("events").await;
    rig.create("newevents", &new_event(&rig, "n"))
        .await
        .expect("created");
    let core = rig.get("events", "n").await.expect("seen by the core API");
    assert_eq!(core["message"], "p is the primary");
    assert_eq!(core["involvedObject"]["name"], "p");
    assert_eq!(core["reportingComponent"], "pgwarden.io/agent");
    let mut incomplete = new_event(&rig, "m");
    incomplete["action"] = Value::Null;
    let refused = rig
        .create("newevents", &incomplete)
        .await
        .expect_err("action is required");
    assert_eq!(essence(&refused), (422, "Invalid", vec!["action"]));
}

#[tokio::test]
async fn a_service_gets_an_address() {
    let rig = Rig::start("services").await;
    let created = rig
        .create("services", &service("s"))
        .await
        .expect("created");
    assert_eq!(created["spec"]["type"], "ClusterIP");
    assert!(created["spec"]["clusterIP"].is_string());
    assert_eq!(created["spec"]["ports"][0]["protocol"], "TCP");
    assert_eq!(created["spec"]["ports"][0]["targetPort"], 5432);
    assert!(created["spec"]["selector"].is_null());
    let mut headless = service("h");
    headless["spec"] = json!({"clusterIP": "None"});
    let created = rig.create("services", &headless).await.expect("created");
    assert_eq!(created["spec"]["clusterIP"], "None");
}
