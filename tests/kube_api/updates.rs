//! PUT: a compare-and-swap, and the ways in which it is none.

use serde_json::{Value, json};

use crate::bodies::{config_map, endpoints, lease};
use crate::rig::{Rig, essence, revision, version};

#[tokio::test]
async fn put_is_a_compare_and_swap() {
    let rig = Rig::start("put-cas").await;
    let first = rig.create("leases", &lease("l")).await.expect("created");
    let mut mine = first.clone();
    mine["spec"]["holderIdentity"] = "b".into();
    let second = rig
        .put("leases", "l", &mine)
        .await
        .expect("the version is current");
    assert_eq!(second["spec"]["holderIdentity"], "b");
    assert!(revision(&second) > revision(&first));
    assert_eq!(second["metadata"]["uid"], first["metadata"]["uid"]);

    let mut late = first;
    late["spec"]["holderIdentity"] = "c".into();
    let refused = rig
        .put("leases", "l", &late)
        .await
        .expect_err("the version is old");
    assert_eq!(essence(&refused), (409, "Conflict", vec![]));
    assert!(
        refused.message.contains("the object has been modified"),
        "{}",
        refused.message
    );
    let details = refused.details.expect("details");
    assert_eq!(
        (details.name.as_str(), details.kind.as_str()),
        ("l", "leases")
    );
    let kept = rig.get("leases", "l").await.expect("it exists");
    assert_eq!(kept["spec"]["holderIdentity"], "b");

    let mut other = kept;
    other["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000".into();
    let refused = rig
        .put("leases", "l", &other)
        .await
        .expect_err("another object");
    assert_eq!(essence(&refused), (409, "Conflict", vec![]));
    assert!(
        refused.message.contains("UID in precondition"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn put_without_a_version() {
    let rig = Rig::start("put-blind").await;
    // A Lease refuses it, a ConfigMap is overwritten.
    rig.create("leases", &lease("l")).await.expect("created");
    let refused = rig
        .put("leases", "l", &lease("l"))
        .await
        .expect_err("a version is required");
    assert_eq!(
        essence(&refused),
        (422, "Invalid", vec!["metadata.resourceVersion"])
    );
    rig.create("configmaps", &config_map("c", json!({})))
        .await
        .expect("created");
    let mut blind = config_map("c", json!({}));
    blind["data"] = json!({"other": "value"});
    let updated = rig
        .put("configmaps", "c", &blind)
        .await
        .expect("unconditional");
    assert_eq!(updated["data"], json!({"other": "value"}));
    assert!(updated["metadata"]["uid"].is_string());
}

#[tokio::test]
async fn put_to_an_unknown_name() {
    let rig = Rig::start("put-new").await;
    let created = rig
        .put("leases", "l", &lease("l"))
        .await
        .expect("a Lease is created");
    assert_eq!(created["metadata"]["name"], "l");
    rig.put("endpoints", "e", &endpoints("e", &["198.18.0.1"]))
        .await
        .expect("Endpoints too");
    let config = config_map("c", json!({}));
    let refused = rig
        .put("configmaps", "c", &config)
        .await
        .expect_err("a ConfigMap is not");
    assert_eq!(essence(&refused), (404, "NotFound", vec![]));
}

/// The trap in PUT as a compare-and-swap: only the uid protects from reviving what was deleted.
#[tokio::test]
async fn put_to_a_deleted_object() {
    let rig = Rig::start("put-deleted").await;
    let first = rig.create("leases", &lease("l")).await.expect("created");
    rig.delete("leases", "l", &Value::Null)
        .await
        .expect("deleted");
    let refused = rig
        .put("leases", "l", &first)
        .await
        .expect_err("the uid is gone");
    assert_eq!(essence(&refused), (409, "Conflict", vec![]));
    let mut anonymous = first.clone();
    anonymous["metadata"] = json!({"name": "l", "resourceVersion": version(&first)});
    let revived = rig
        .put("leases", "l", &anonymous)
        .await
        .expect("created, whatever the version");
    assert_ne!(revived["metadata"]["uid"], first["metadata"]["uid"]);

    let config = rig
        .create("configmaps", &config_map("c", json!({})))
        .await
        .expect("created");
    rig.delete("configmaps", "c", &Value::Null)
        .await
        .expect("deleted");
    // Those that are not created by PUT are safe from it.
    let mut anonymous = config_map("c", json!({}));
    anonymous["metadata"]["resourceVersion"] = version(&config).into();
    for body in [config, anonymous] {
        let refused = rig
            .put("configmaps", "c", &body)
            .await
            .expect_err("not created");
        assert_eq!(essence(&refused), (404, "NotFound", vec![]));
    }
}

#[tokio::test]
async fn a_deleted_and_recreated_object_is_another() {
    let rig = Rig::start("recreate").await;
    let first = rig.create("leases", &lease("l")).await.expect("created");
    rig.delete("leases", "l", &Value::Null)
        .await
        .expect("deleted");
    let second = rig
        .create("leases", &lease("l"))
        .await
        .expect("created again");
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
    let refused = rig
        .put("leases", "l", &first)
        .await
        .expect_err("an object of the past");
    assert_eq!(essence(&refused), (409, "Conflict", vec![]));
}
