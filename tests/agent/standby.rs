//! A cluster that follows another one: bootstrapped from it, promoted, and the other one demoted to
//! follow in turn, over a rewind.

use super::dynamic::{ask, own_status, query, until};
use super::*;

/// A second cluster on the same API: its only member, with free ports.
async fn other_cluster(home: &Home, api: &Handle, follows: u16) -> PathBuf {
    let pod = json!({
        "metadata": {
            "name": "dr-0",
            "labels": {"application": "pgwarden", "cluster-name": "dr"},
        },
        "spec": {"containers": [{"name": "postgres", "image": "postgres"}]},
    });
    create::<Pod>(api, pod).await;
    api.edit("pods", "default", "dr-0", |pod| {
        pod["metadata"]["uid"] = json!("uid-2");
    });
    let config = config_with(home, api);
    let text = fs::read_to_string(&config).unwrap();
    let mut changed: Value = serde_json::from_str(&text).unwrap();
    changed["scope"] = json!("dr");
    changed["name"] = json!("dr-0");
    changed["kubernetes"]["pod_uid"] = json!("uid-2");
    changed["bootstrap"]["dcs"]["standby_cluster"] = json!({"host": "127.0.0.1", "port": follows});
    fs::write(&config, changed.to_string()).unwrap();
    config
}

async fn until_seen(home: &Home, sql: u16, what: &str, wanted: &str) {
    let end = Instant::now() + DEADLINE;
    loop {
        let found = query(home, sql, "SELECT string_agg(w, ' ' ORDER BY w) FROM t");
        if found == wanted {
            return;
        }
        assert!(Instant::now() < end, "{what}: {found:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn follow(rest: u16, standby: &str) {
    let change = format!(r#"{{"standby_cluster": {standby}}}"#);
    let (status, said) = ask(rest, "PATCH", "/config", &change).await;
    assert_eq!(status, 200, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_follows_another_is_promoted_and_the_other_follows_in_turn() {
    if !has_postgres() {
        return;
    }
    let (here, there) = (Home::new("standby-a"), Home::new("standby-b"));
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&here, &api);
    let (rest_a, sql_a) = ports(&config);
    let (member_a, _) = logging_member(&here, &config);
    wait_for("the first cluster", rest_a, "/primary", 200).await;
    wait_for("it is stored", rest_a, "/config", 200).await;
    assert_eq!(
        query(&here, sql_a, "CREATE TABLE t (w text)"),
        "CREATE TABLE"
    );
    query(&here, sql_a, "INSERT INTO t VALUES ('first')");

    let config = other_cluster(&there, &api, sql_a).await;
    let (rest_b, sql_b) = ports(&config);
    let (member_b, log_b) = logging_member(&there, &config);
    wait_for("the second follows", rest_b, "/standby-leader", 200).await;
    for (path, wanted) in [
        ("/leader", 200),
        ("/readiness", 200),
        ("/read-only", 200),
        ("/primary", 503),
        ("/", 503),
        ("/replica", 503),
    ] {
        assert_eq!(status(rest_b, path).await, Some(wanted), "{path}");
    }
    until_seen(&there, sql_b, "what was there", "first").await;
    query(&here, sql_a, "INSERT INTO t VALUES ('second')");
    until_seen(&there, sql_b, "what comes", "first second").await;
    assert_eq!(query(&there, sql_b, "INSERT INTO t VALUES ('no')"), "");
    let status_b = until(rest_b, "it streams", |s| {
        s["replication_state"] == "streaming" && s["role"] == "standby_leader"
    })
    .await;
    let status_a = own_status(rest_a).await;
    assert_eq!(
        status_b["database_system_identifier"],
        status_a["database_system_identifier"]
    );
    let pod = api.object("pods", "default", "dr-0").unwrap();
    assert_eq!(pod["metadata"]["labels"]["role"], "primary", "{pod}");

    // A cluster that would follow itself, by a hand at the object, goes on as it is and says so.
    api.edit("configmaps", "default", "dr-config", |map| {
        let config = &mut map["metadata"]["annotations"]["config"];
        let mut stored: Value = serde_json::from_str(config.as_str().unwrap()).unwrap();
        stored["standby_cluster"] = json!({ "host": "127.0.0.1", "port": sql_b });
        *config = json!(stored.to_string());
    });
    super::kubectl::wait_for_line(&log_b, "a member of this very cluster").await;
    follow(
        rest_b,
        &format!(r#"{{"host": "127.0.0.1", "port": {sql_a}}}"#),
    )
    .await;

    // Both write, on timelines of their own.
    follow(rest_b, "null").await;
    wait_for("it stands alone", rest_b, "/primary", 200).await;
    query(&there, sql_b, "INSERT INTO t VALUES ('there')");
    query(&here, sql_a, "INSERT INTO t VALUES ('here')");

    follow(
        rest_a,
        &format!(r#"{{"host": "127.0.0.1", "port": {sql_b}}}"#),
    )
    .await;
    wait_for("the first follows", rest_a, "/standby-leader", 200).await;
    until_seen(&here, sql_a, "the other's line", "first second there").await;
    assert_eq!(status(rest_a, "/primary").await, Some(503));
    drop(member_b);
    drop(member_a);
    api.stop().await;
}
