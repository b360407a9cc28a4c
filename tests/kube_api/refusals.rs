//! What is refused, and how the refusal looks.

use serde_json::{Value, json};

use crate::bodies::{config_map, endpoints, lease, service, slice};
use crate::rig::{MERGE, Rig, essence};

const JSON: &str = "application/json";

#[tokio::test]
async fn names() {
    let rig = Rig::start("names").await;
    for bad in ["Upper", "under_score", "-dash", "dot.", "a..b"] {
        let refused = rig.create("leases", &lease(bad)).await.expect_err(bad);
        assert_eq!(
            essence(&refused),
            (422, "Invalid", vec!["metadata.name"]),
            "{bad}"
        );
        let details = refused.details.expect("details");
        assert_eq!(
            (details.name.as_str(), details.kind.as_str()),
            (bad, "Lease")
        );
        assert_eq!(details.group, "coordination.k8s.io");
        assert_eq!(details.causes[0].reason, "FieldValueInvalid");
    }
    // A digit first: refused by releases before 1.36, and by the embedded API. Not compared.
    let refused = rig.create("services", &service("dot.ted")).await;
    assert_eq!(refused.expect_err("a dot").code, 422);
    let refused = rig
        .create("leases", &json!({"metadata": {}}))
        .await
        .expect_err("no name");
    assert_eq!(essence(&refused), (422, "Invalid", vec!["metadata.name"]));
    rig.create("leases", &lease("demo.leader-0"))
        .await
        .expect("dots and dashes are fine");
}

#[tokio::test]
async fn labels_and_annotations() {
    let rig = Rig::start("labels").await;
    for value in ["has space", "-dash", &"x".repeat(64)] {
        let body = config_map("c", json!({"key": value}));
        let refused = rig.create("configmaps", &body).await.expect_err(value);
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (422, "Invalid"),
            "{value}"
        );
        let causes = refused.details.expect("details").causes;
        assert!(
            causes
                .iter()
                .all(|it| it.field.starts_with("metadata.labels")),
            "{causes:?}"
        );
    }
    let refused = rig
        .create("configmaps", &config_map("c", json!({"a/b/c": "x"})))
        .await;
    assert_eq!(
        essence(&refused.expect_err("a bad key")),
        (422, "Invalid", vec!["metadata.labels"])
    );

    let limit_bytes = 256 * 1024;
    let mut body = config_map("c", json!({}));
    body["metadata"]["annotations"] = json!({"a": "x".repeat(limit_bytes - 1)});
    rig.create("configmaps", &body)
        .await
        .expect("exactly the limit, key included");
    let patch = json!({"metadata": {"annotations": {"b": ""}}});
    let refused = rig
        .patch("configmaps", "c", MERGE, &patch)
        .await
        .expect_err("one byte more");
    assert_eq!(
        essence(&refused),
        (422, "Invalid", vec!["metadata.annotations"])
    );
    assert_eq!(
        refused.details.expect("details").causes[0].reason,
        "FieldValueTooLong"
    );
}

#[tokio::test]
async fn bodies_that_do_not_fit_the_url() {
    let rig = Rig::start("bodies").await;
    rig.create("configmaps", &config_map("c", json!({})))
        .await
        .expect("created");
    let other = config_map("other", json!({}));
    let refused = rig
        .put("configmaps", "c", &other)
        .await
        .expect_err("another name");
    assert_eq!((refused.code, refused.reason.as_str()), (400, "BadRequest"));
    let mut other = config_map("d", json!({}));
    other["metadata"]["namespace"] = "elsewhere".into();
    let refused = rig
        .create("configmaps", &other)
        .await
        .expect_err("another namespace");
    assert_eq!((refused.code, refused.reason.as_str()), (400, "BadRequest"));
    let refused = rig
        .create("configmaps", &lease("l"))
        .await
        .expect_err("another kind");
    assert_eq!((refused.code, refused.reason.as_str()), (400, "BadRequest"));
    let mut typed = lease("l");
    typed["spec"]["leaseDurationSeconds"] = "long".into();
    let refused = rig
        .create("leases", &typed)
        .await
        .expect_err("another type");
    assert_eq!((refused.code, refused.reason.as_str()), (400, "BadRequest"));
    let refused = rig
        .send_bytes("POST", &rig.path("leases"), JSON, b"nonsense".to_vec())
        .await;
    assert_eq!(refused.expect_err("not JSON").code, 400);
    let path = format!("/apis/none.example/v1/namespaces/{}/things", rig.namespace);
    let refused = rig
        .send("GET", &path, JSON, &Value::Null)
        .await
        .expect_err("no such kind");
    assert_eq!(refused.code, 404);
    let refused = rig.send("DELETE", "/api/v1/pods", JSON, &Value::Null).await;
    assert_eq!(refused.expect_err("no such verb").code, 405);
}

#[tokio::test]
async fn a_version_has_no_place_in_a_creation() {
    let rig = Rig::start("versioned").await;
    let mut body = lease("l");
    body["metadata"]["resourceVersion"] = "5".into();
    let refused = rig
        .create("leases", &body)
        .await
        .expect_err("not to be set");
    assert!(
        refused
            .message
            .contains("resourceVersion should not be set"),
        "{}",
        refused.message
    );
    assert_eq!(refused.code, 500, "odd, but so it is");
    assert_eq!(
        rig.get("leases", "l").await.expect_err("not created").code,
        404
    );
}

#[tokio::test]
async fn fields_of_a_lease() {
    let rig = Rig::start("lease").await;
    let refused = |field: &'static str, value: Value| {
        let rig = &rig;
        async move {
            let mut body = lease("l");
            body["spec"][field] = value;
            rig.create("leases", &body).await.expect_err(field)
        }
    };
    for (field, value) in [
        ("leaseDurationSeconds", json!(0)),
        ("leaseDurationSeconds", json!(-1)),
        ("leaseTransitions", json!(-1)),
    ] {
        let status = refused(field, value).await;
        assert_eq!(
            essence(&status),
            (422, "Invalid", vec![format!("spec.{field}").as_str()])
        );
        assert!(
            status
                .message
                .starts_with("Lease.coordination.k8s.io \"l\" is invalid: spec.")
        );
    }
    for time in [
        "2024-05-01T10:00:00Z",
        "2024-05-01T10:00:00.123Z",
        "yesterday",
        "1714557600",
    ] {
        let status = refused("renewTime", time.into()).await;
        assert_eq!(
            (status.code, status.reason.as_str()),
            (400, "BadRequest"),
            "{time}"
        );
    }
    let mut body = lease("l");
    body["spec"]["renewTime"] = "2024-05-01T12:00:00.500000+02:00".into();
    body["spec"]["leaseTransitions"] = 0.into();
    let created = rig
        .create("leases", &body)
        .await
        .expect("an offset is fine");
    assert_eq!(created["spec"]["renewTime"], "2024-05-01T10:00:00.500000Z");
    let patch = json!({"spec": {"leaseDurationSeconds": 0}});
    let status = rig
        .patch("leases", "l", MERGE, &patch)
        .await
        .expect_err("patches too");
    assert_eq!(
        essence(&status),
        (422, "Invalid", vec!["spec.leaseDurationSeconds"])
    );
}

#[tokio::test]
async fn addresses_that_nobody_can_reach() {
    let rig = Rig::start("addresses").await;
    for bad in [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "169.254.0.1",
        "224.0.0.1",
        "postgres",
    ] {
        let refused = rig
            .create("endpoints", &endpoints("e", &[bad]))
            .await
            .expect_err(bad);
        let field = "subsets[0].addresses[0].ip";
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (422, "Invalid"),
            "{bad}"
        );
        assert!(essence(&refused).2.contains(&field), "{refused:?}");
        let refused = rig
            .create("endpointslices", &slice("e", "IPv4", &[bad]))
            .await;
        let refused = refused.expect_err(bad);
        assert_eq!(
            essence(&refused),
            (422, "Invalid", vec!["endpoints[0].addresses[0]"]),
            "{bad}"
        );
    }
    for bad in ["::1", "::", "fe80::1", "198.18.0.1"] {
        let refused = rig
            .create("endpointslices", &slice("e", "IPv6", &[bad]))
            .await;
        assert_eq!(refused.expect_err(bad).code, 422, "{bad}");
    }
    rig.create("endpointslices", &slice("six", "IPv6", &["2001:db8::1"]))
        .await
        .expect("fine");
    let patch = json!({"subsets": [{"addresses": [{"ip": "127.0.0.1"}]}]});
    rig.create("endpoints", &endpoints("e", &["198.18.0.1"]))
        .await
        .expect("fine");
    let refused = rig
        .patch("endpoints", "e", MERGE, &patch)
        .await
        .expect_err("patches too");
    assert_eq!(
        essence(&refused),
        (422, "Invalid", vec!["subsets[0].addresses[0].ip"])
    );
}

#[tokio::test]
async fn shape_of_endpoints_and_slices() {
    let rig = Rig::start("slices").await;
    let refused = rig
        .create("endpoints", &endpoints("e", &[]))
        .await
        .expect_err("no address");
    assert_eq!(essence(&refused), (422, "Invalid", vec!["subsets[0]"]));
    let refused = rig
        .create("endpointslices", &slice("s", "IPv5", &["198.18.0.1"]))
        .await;
    assert_eq!(
        essence(&refused.expect_err("no such family")),
        (422, "Invalid", vec!["addressType"])
    );
    let mut empty = slice("s", "IPv4", &[]);
    empty["endpoints"] = json!([{"addresses": []}]);
    let refused = rig
        .create("endpointslices", &empty)
        .await
        .expect_err("no address");
    assert_eq!(
        essence(&refused),
        (422, "Invalid", vec!["endpoints[0].addresses"])
    );
    let created = rig.create("endpointslices", &slice("s", "IPv4", &[])).await;
    let mut created = created.expect("no endpoints is fine");
    created["addressType"] = "IPv6".into();
    let refused = rig
        .put("endpointslices", "s", &created)
        .await
        .expect_err("immutable");
    assert_eq!(essence(&refused), (422, "Invalid", vec!["addressType"]));
}

#[tokio::test]
async fn keys_of_a_config_map() {
    let rig = Rig::start("data").await;
    let mut body = config_map("c", json!({}));
    body["data"] = json!({"a/b": "x"});
    let refused = rig.create("configmaps", &body).await.expect_err("a slash");
    assert_eq!(essence(&refused), (422, "Invalid", vec!["data[a/b]"]));
}

#[tokio::test]
async fn a_status_is_a_whole_object() {
    let rig = Rig::start("status").await;
    let refused = rig.get("leases", "none").await.expect_err("missing");
    assert!(refused.is_failure());
    assert_eq!(
        refused.message,
        "leases.coordination.k8s.io \"none\" not found"
    );
    let details = refused.details.expect("details");
    assert_eq!(
        (details.name.as_str(), details.group.as_str()),
        ("none", "coordination.k8s.io")
    );
    let refused = rig.get("pods", "none").await.expect_err("missing");
    assert_eq!(refused.message, "pods \"none\" not found");
}

#[tokio::test]
async fn discovery_answers() {
    let rig = Rig::start("discovery").await;
    let version = rig.client.apiserver_version().await.expect("a version");
    assert_eq!(version.major, "1");
    let groups = rig.client.list_api_groups().await.expect("groups");
    assert!(
        groups
            .groups
            .iter()
            .any(|it| it.name == "coordination.k8s.io")
    );
    let core = rig
        .client
        .list_core_api_resources("v1")
        .await
        .expect("resources");
    assert!(core.resources.iter().any(|it| it.name == "pods/status"));
    let leases = rig
        .client
        .list_api_group_resources("coordination.k8s.io/v1")
        .await;
    assert!(
        leases
            .expect("resources")
            .resources
            .iter()
            .any(|it| it.kind == "Lease")
    );
}
