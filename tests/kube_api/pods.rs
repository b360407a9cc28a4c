//! Pods: the status subresource, lists that merge and lists that do not, and the slow way out.

use serde_json::{Value, json};

use crate::bodies::pod;
use crate::rig::{MERGE, Rig, STRATEGIC, essence, version};

fn running(container: &str) -> Value {
    json!({"name": "postgres", "ready": true, "restartCount": 0, "image": "demo:1", "imageID": "",
        "containerID": container,
        "state": {"running": {"startedAt": "2024-05-01T10:00:00Z"}}})
}

#[tokio::test]
async fn status_is_written_by_its_own_subresource() {
    let rig = Rig::start("pod-status").await;
    let mut body = pod("p");
    body["status"] = json!({"phase": "Running"});
    let created = rig.create("pods", &body).await.expect("created");
    assert_eq!(
        created["status"]["phase"], "Pending",
        "a status is not created with the object"
    );

    let status = json!({"status": {"phase": "Running", "podIP": "198.18.0.1",
        "podIPs": [{"ip": "198.18.0.1"}], "containerStatuses": [running("c://1")]}});
    let ignored = rig
        .patch("pods", "p", MERGE, &status)
        .await
        .expect("accepted");
    assert_eq!(
        version(&ignored),
        version(&created),
        "the main resource ignores it"
    );
    let patched = rig
        .patch("pods", "p/status", STRATEGIC, &status)
        .await
        .expect("patched");
    assert_eq!(patched["status"]["phase"], "Running");
    assert_eq!(
        patched["status"]["containerStatuses"][0]["containerID"],
        "c://1"
    );
    assert_eq!(
        patched["status"]["qosClass"], "BestEffort",
        "the rest stays"
    );
    let read = rig.get("pods", "p/status").await.expect("readable");
    assert_eq!(version(&read), version(&patched));

    let label = json!({"metadata": {"labels": {"role": "primary"}}});
    let labelled = rig
        .patch("pods", "p", MERGE, &label)
        .await
        .expect("patched");
    assert_eq!(
        labelled["metadata"]["labels"],
        json!({"app": "demo", "role": "primary"})
    );
    assert_eq!(labelled["status"]["phase"], "Running");
}

#[tokio::test]
async fn container_statuses_are_replaced_conditions_merge() {
    let rig = Rig::start("pod-lists").await;
    rig.create("pods", &pod("p")).await.expect("created");
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
    let first = json!({"status": {"conditions": [condition("Ready", "True")],
        "containerStatuses": [running("c://1")]}});
    rig.patch("pods", "p/status", STRATEGIC, &first)
        .await
        .expect("patched");
    let mut other = running("c://2");
    other["name"] = "sidecar".into();
    let second = json!({"status": {"conditions": [condition("Initialized", "True")],
        "containerStatuses": [other]}});
    let patched = rig
        .patch("pods", "p/status", STRATEGIC, &second)
        .await
        .expect("patched");
    let named = |list: &str, key: &str| -> Vec<String> {
        let items = patched["status"][list].as_array().expect("a list");
        items
            .iter()
            .map(|it| it[key].as_str().expect("a name").to_owned())
            .collect()
    };
    let mut conditions = named("conditions", "type");
    conditions.sort();
    assert_eq!(conditions, ["Initialized", "Ready"]);
    assert_eq!(named("containerStatuses", "name"), ["sidecar"]);
}

#[tokio::test]
async fn a_running_spec_is_fixed() {
    let rig = Rig::start("pod-spec").await;
    rig.create("pods", &pod("p")).await.expect("created");
    let body = json!({"spec": {"hostname": "other"}});
    let refused = rig
        .patch("pods", "p", MERGE, &body)
        .await
        .expect_err("fixed");
    assert_eq!(essence(&refused), (422, "Invalid", vec!["spec"]));
    let body = json!({"spec": {"containers": [{"name": "postgres", "image": "demo:2"}]}});
    let patched = rig
        .patch("pods", "p", STRATEGIC, &body)
        .await
        .expect("the image may change");
    assert_eq!(patched["spec"]["containers"][0]["image"], "demo:2");
}

#[tokio::test]
async fn a_pod_on_a_node_leaves_in_two_steps() {
    let rig = Rig::start("pod-delete").await;
    let mut body = pod("p");
    body["spec"]["nodeName"] = "node1".into();
    rig.create("pods", &body).await.expect("created");
    let marked = rig.delete("pods", "p", &Value::Null).await.expect("marked");
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let still = rig
        .get("pods", "p")
        .await
        .expect("there until the kubelet confirms");
    assert_eq!(still["metadata"]["uid"], marked["metadata"]["uid"]);
    let now = json!({"gracePeriodSeconds": 0});
    rig.delete("pods", "p", &now).await.expect("deleted");
    assert_eq!(rig.get("pods", "p").await.expect_err("gone").code, 404);
}

#[tokio::test]
async fn a_finalizer_holds_an_object_back() {
    let rig = Rig::start("finalizer").await;
    let mut body = pod("p");
    body["metadata"]["finalizers"] = json!(["pgwarden.test/hold"]);
    rig.create("pods", &body).await.expect("created");
    rig.delete("pods", "p", &Value::Null).await.expect("marked");
    let held = rig.get("pods", "p").await.expect("held");
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    let freed = json!({"metadata": {"finalizers": null}});
    rig.patch("pods", "p", MERGE, &freed).await.expect("freed");
    assert_eq!(rig.get("pods", "p").await.expect_err("gone").code, 404);
}
