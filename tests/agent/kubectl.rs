//! What somebody sees who looks from outside: the log, and the Events of the Pod.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::*;
use k8s_openapi::api::core::v1::Event;

/// Until the log has this line.
pub(super) async fn wait_for_line(log: &Path, wanted: &str) -> String {
    let until = Instant::now() + DEADLINE;
    loop {
        let said = fs::read_to_string(log).unwrap_or_default();
        if said.lines().any(|line| line.contains(wanted)) {
            return said;
        }
        assert!(Instant::now() < until, "no {wanted:?} in {said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn untouchable_data_is_an_error_and_garbage_in_an_annotation_is_warned_of_once() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("untouched");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config_map = json!({
        "metadata": {
            "name": "solo-config",
            "labels": {"application": "pgwarden", "cluster-name": "solo"},
            "annotations": {"config": "first garbage"},
        },
    });
    create::<ConfigMap>(&api, config_map).await;
    let data = home.0.join("member/data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "99\n").unwrap();
    fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let config = config_with(&home, &api);
    let (member, at) = logging_member(&home, &config);
    let said = wait_for_line(&at, "belongs to PostgreSQL 99").await;
    let error = |line: &str| line.contains(" ERROR ") && line.contains("PostgreSQL 99");
    assert!(said.lines().any(error), "{said}");

    let warnings = |said: &str| {
        let garbage = |line: &&str| line.contains("WARN") && line.contains("solo-config/config");
        said.lines().filter(garbage).count()
    };
    let said = wait_for_line(&at, "solo-config/config").await;
    assert_eq!(warnings(&said), 1, "{said}");
    for round in 0..3 {
        api.edit("pods", "default", "solo-0", |pod| {
            pod["metadata"]["labels"]["round"] = json!(round.to_string());
        });
        api.edit("configmaps", "default", "solo-config", |map| {
            map["metadata"]["annotations"]["unrelated"] = json!(round.to_string());
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let told = wait_for_event(&api, "DataUntouched").await;
    assert_eq!(told["type"], "Warning");
    assert_eq!(told["involvedObject"]["name"], "solo-0");
    drop(member);
    let said = fs::read_to_string(&at).unwrap();
    assert_eq!(warnings(&said), 1, "{said}");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_with_kubectl_sees_the_bootstrap_and_the_election() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("events");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let member = Member(agent(&home, &config_with(&home, &api)).spawn().unwrap());
    for reason in ["Elected", "Bootstrapped"] {
        let told = wait_for_event(&api, reason).await;
        assert_eq!(told["type"], "Normal");
        assert_eq!(told["involvedObject"]["uid"], "uid-1");
    }
    drop(member);
    api.stop().await;
}

/// The first Event with this reason.
async fn wait_for_event(api: &Handle, reason: &str) -> Value {
    let events: kube::Api<Event> = kube::Api::namespaced(api.client("admin").unwrap(), "default");
    let until = Instant::now() + DEADLINE;
    loop {
        let all = events
            .list(&kube::api::ListParams::default())
            .await
            .unwrap();
        let found = all
            .iter()
            .find(|event| event.reason.as_deref() == Some(reason));
        if let Some(event) = found {
            return serde_json::to_value(event).unwrap();
        }
        assert!(Instant::now() < until, "no Event {reason} among {all:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
