//! The three patch formats on the kinds the program writes.

use serde_json::{Value, json};

use crate::bodies::{config_map, endpoints, lease, slice};
use crate::rig::{JSON_PATCH, MERGE, Rig, STRATEGIC, essence, revision, version};

#[tokio::test]
async fn null_removes_an_annotation() {
    let rig = Rig::start("null-removes").await;
    for (name, format) in [("m", MERGE), ("s", STRATEGIC)] {
        rig.create("configmaps", &config_map(name, json!({})))
            .await
            .expect("created");
        let patch = json!({"metadata": {"annotations": {"a": null, "c": "3", "missing": null}}});
        let patched = rig
            .patch("configmaps", name, format, &patch)
            .await
            .expect("patched");
        let annotations = &patched["metadata"]["annotations"];
        assert_eq!(*annotations, json!({"b": "2", "c": "3"}), "{format}");
        let patch = json!({"metadata": {"annotations": null}});
        let patched = rig
            .patch("configmaps", name, format, &patch)
            .await
            .expect("patched");
        assert!(patched["metadata"]["annotations"].is_null(), "{format}");
    }
}

#[tokio::test]
async fn a_version_in_the_patch_is_a_compare_and_swap() {
    let rig = Rig::start("patch-cas").await;
    let first = rig
        .create("endpoints", &endpoints("e", &["198.18.0.1"]))
        .await
        .expect("created");
    for format in [MERGE, STRATEGIC] {
        let patch = |version: &str, leader: &str| json!({"metadata": {"resourceVersion": version, "annotations": {"leader": leader}}});
        let current = version(&rig.get("endpoints", "e").await.expect("it exists"));
        let body = patch(&current, &format!("b-{format}"));
        let patched = rig
            .patch("endpoints", "e", format, &body)
            .await
            .expect("current");
        assert!(revision(&patched) > revision(&first));
        let body = patch(&current, "c");
        let refused = rig
            .patch("endpoints", "e", format, &body)
            .await
            .expect_err("old");
        assert_eq!(essence(&refused), (409, "Conflict", vec![]), "{format}");
        let kept = rig.get("endpoints", "e").await.expect("it exists");
        assert_eq!(version(&kept), version(&patched));
    }
    // Even one that would change nothing.
    let body = json!({"metadata": {"resourceVersion": version(&first)}});
    let refused = rig
        .patch("endpoints", "e", MERGE, &body)
        .await
        .expect_err("old");
    assert_eq!(essence(&refused), (409, "Conflict", vec![]));
    let body = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": version(&first)},
        {"op": "add", "path": "/metadata/annotations/leader", "value": "d"},
    ]);
    let refused = rig
        .patch("endpoints", "e", JSON_PATCH, &body)
        .await
        .expect_err("old");
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
}

#[tokio::test]
async fn a_patch_without_a_version_always_lands() {
    let rig = Rig::start("patch-blind").await;
    rig.create("leases", &lease("l")).await.expect("created");
    for holder in ["b", "c", ""] {
        let patch = json!({"spec": {"holderIdentity": holder}});
        let patched = rig
            .patch("leases", "l", MERGE, &patch)
            .await
            .expect("patched");
        assert_eq!(patched["spec"]["holderIdentity"], holder);
        assert_eq!(
            patched["spec"]["leaseDurationSeconds"], 15,
            "the rest stays"
        );
    }
    let patch = json!({"spec": {"holderIdentity": null, "renewTime": null}});
    let patched = rig
        .patch("leases", "l", MERGE, &patch)
        .await
        .expect("patched");
    assert!(patched["spec"]["holderIdentity"].is_null() && patched["spec"]["renewTime"].is_null());
}

#[tokio::test]
async fn a_patch_needs_its_object() {
    let rig = Rig::start("patch-missing").await;
    for (format, body) in [
        (MERGE, json!({})),
        (STRATEGIC, json!({})),
        (JSON_PATCH, json!([])),
    ] {
        let refused = rig
            .patch("leases", "none", format, &body)
            .await
            .expect_err("missing");
        assert_eq!(essence(&refused), (404, "NotFound", vec![]), "{format}");
    }
}

#[tokio::test]
async fn addresses_are_replaced_whole() {
    let rig = Rig::start("atomic").await;
    for (name, format) in [("m", MERGE), ("s", STRATEGIC)] {
        let before = endpoints(name, &["198.18.0.1", "198.18.0.2"]);
        rig.create("endpoints", &before).await.expect("created");
        let body = json!({"subsets": [{"addresses": [{"ip": "198.18.0.3"}]}]});
        let patched = rig
            .patch("endpoints", name, format, &body)
            .await
            .expect("patched");
        assert_eq!(
            patched["subsets"], body["subsets"],
            "{format}: no ports are left either"
        );
        let body = json!({"subsets": []});
        let patched = rig
            .patch("endpoints", name, format, &body)
            .await
            .expect("patched");
        assert!(patched["subsets"].is_null(), "{format}");

        let before = slice(name, "IPv4", &["198.18.0.1", "198.18.0.2"]);
        let created = rig
            .create("endpointslices", &before)
            .await
            .expect("created");
        assert_eq!(created["ports"][0]["protocol"], "TCP");
        let body = json!({"endpoints": [{"addresses": ["198.18.0.3"]}]});
        let patched = rig
            .patch("endpointslices", name, format, &body)
            .await
            .expect("patched");
        let endpoints = patched["endpoints"].as_array().expect("endpoints");
        assert_eq!(endpoints.len(), 1, "{format}");
        assert_eq!(endpoints[0]["addresses"], json!(["198.18.0.3"]));
        assert_eq!(patched["ports"], created["ports"]);
    }
}

#[tokio::test]
async fn replace_directive_of_strategic_merge() {
    let rig = Rig::start("directive").await;
    rig.create("configmaps", &config_map("c", json!({})))
        .await
        .expect("created");
    let patch = json!({"metadata": {"annotations": {"$patch": "replace", "z": "26"}}});
    let patched = rig
        .patch("configmaps", "c", STRATEGIC, &patch)
        .await
        .expect("patched");
    assert_eq!(patched["metadata"]["annotations"], json!({"z": "26"}));
}

#[tokio::test]
async fn json_patch_edits_one_place() {
    let rig = Rig::start("json-patch").await;
    rig.create("configmaps", &config_map("c", json!({})))
        .await
        .expect("created");
    let patch = json!([
        {"op": "test", "path": "/metadata/annotations/a", "value": "1"},
        {"op": "remove", "path": "/metadata/annotations/a"},
        {"op": "add", "path": "/metadata/annotations/x~1y", "value": "3"},
        {"op": "replace", "path": "/data/key", "value": "new"},
        {"op": "replace", "path": "/data/was-missing", "value": "added all the same"},
    ]);
    let patched = rig
        .patch("configmaps", "c", JSON_PATCH, &patch)
        .await
        .expect("patched");
    assert_eq!(
        patched["metadata"]["annotations"],
        json!({"b": "2", "x/y": "3"})
    );
    assert_eq!(
        patched["data"],
        json!({"key": "new", "was-missing": "added all the same"})
    );
    for unfitting in [
        json!([{"op": "test", "path": "/data/key", "value": "other"}]),
        json!([{"op": "remove", "path": "/data/none"}]),
        json!([{"op": "replace", "path": "/none/deep", "value": "x"}]),
        json!([{"op": "add", "path": "/none/deep", "value": "x"}]),
    ] {
        let refused = rig.patch("configmaps", "c", JSON_PATCH, &unfitting).await;
        let refused = refused.expect_err("it does not fit");
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (422, "Invalid"),
            "{unfitting}"
        );
    }
}

#[tokio::test]
async fn patches_that_make_no_sense() {
    let rig = Rig::start("patch-nonsense").await;
    rig.create("leases", &lease("l")).await.expect("created");
    let path = format!("{}/l", rig.path("leases"));
    for format in [MERGE, STRATEGIC, JSON_PATCH] {
        let refused = rig.send_bytes("PATCH", &path, format, b"{".to_vec()).await;
        assert_eq!(refused.expect_err("not JSON").code, 400, "{format}");
    }
    let refused = rig.patch("leases", "l", "text/plain", &json!({})).await;
    let refused = refused.expect_err("an unknown format");
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (415, "UnsupportedMediaType")
    );
    for format in [MERGE, STRATEGIC] {
        let body = json!({"spec": {"leaseDurationSeconds": "long"}});
        let refused = rig
            .patch("leases", "l", format, &body)
            .await
            .expect_err("a wrong type");
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (422, "Invalid"),
            "{format}"
        );
        let body = json!({"metadata": {"name": "other"}});
        let refused = rig
            .patch("leases", "l", format, &body)
            .await
            .expect_err("another name");
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (400, "BadRequest"),
            "{format}"
        );
        let body = json!({"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}});
        let refused = rig
            .patch("leases", "l", format, &body)
            .await
            .expect_err("another uid");
        assert_eq!(
            essence(&refused),
            (422, "Invalid", vec!["metadata.uid"]),
            "{format}"
        );
        let body = json!({"metadata": {"annotations": {"number": 5}}});
        let refused = rig
            .patch("leases", "l", format, &body)
            .await
            .expect_err("not a text");
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (422, "Invalid"),
            "{format}"
        );
        // Taking the version away makes an update without one, which a Lease does not allow.
        for version in [Value::Null, "".into()] {
            let body =
                json!({"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": "z"}});
            let refused = rig
                .patch("leases", "l", format, &body)
                .await
                .expect_err("no version");
            assert_eq!(
                essence(&refused),
                (422, "Invalid", vec!["metadata.resourceVersion"])
            );
        }
        let body = json!({"metadata": {"resourceVersion": "soon"}});
        let refused = rig
            .patch("leases", "l", format, &body)
            .await
            .expect_err("not a version");
        assert_eq!(refused.code, 500, "{format}");
    }
    assert_eq!(
        rig.get("leases", "l").await.expect("kept")["spec"],
        lease_spec()
    );
}

fn lease_spec() -> Value {
    lease("l")["spec"].clone()
}
