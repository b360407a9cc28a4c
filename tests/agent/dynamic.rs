//! The dynamic configuration of a running member: changed over REST, applied at once, restarted
//! for, kept through the loss of its object.

use super::{
    ANYWHERE, BIN_DIR, DEADLINE, Home, api_with_pod, config_with, has_postgres, logging_member,
    ports, wait_for,
};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Status and body of a request with a JSON body.
pub(super) async fn ask(port: u16, method: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

pub(super) async fn own_status(port: u16) -> Value {
    let (_, body) = ask(port, "GET", "/patroni", "").await;
    serde_json::from_str(&body).unwrap_or_default()
}

/// Wait until the member says so.
pub(super) async fn until(port: u16, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + DEADLINE;
    loop {
        let status = own_status(port).await;
        if so(&status) {
            return status;
        }
        assert!(Instant::now() < end, "{what}: {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) fn show(home: &Home, port: u16, setting: &str) -> String {
    query(home, port, &format!("SHOW {setting}"))
}

/// What psql says to one statement.
pub(super) fn query(home: &Home, port: u16, sql: &str) -> String {
    let mut psql = Command::new(format!("{BIN_DIR}/psql"));
    psql.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres"]);
    psql.args(["-d", "postgres", "-XAtc", sql]);
    let output = psql
        .env("PGPASSWORD", "s")
        .current_dir(&home.0)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn nothing_wrong_is_stored(rest: u16) {
    wait_for("once it is stored", rest, "/config", 200).await;
    let (_, before) = ask(rest, "GET", "/config", "").await;
    for (change, words) in [
        ("[1]", "the body is not a JSON object"),
        ("{", "the body is not JSON"),
        (r#"{"ttl": "x"}"#, "ttl: found"),
        (r#"{"ttl": 2}"#, "ttl:"),
        (r#"{"synchronous_mode": 7}"#, "synchronous_mode: found"),
        (
            r#"{"standby_cluster": {"port": 5432}}"#,
            "standby_cluster.host: a port without a host",
        ),
        (
            r#"{"postgresql": {"parameters": {"work_mem": "banana"}}}"#,
            "postgresql.parameters.work_mem: found \"banana\", which PostgreSQL refuses",
        ),
        (
            r#"{"postgresql": {"parameters": {"max_connections": "abc"}}}"#,
            "postgresql.parameters.max_connections: found \"abc\"; expected a number",
        ),
        (
            r#"{"postgresql": {"parameters": {"Listen_Addresses": "*"}}}"#,
            "postgresql.parameters.listen_addresses: the dynamic value has no effect",
        ),
        (
            r#"{"postgresql": {"parameters": {"ssl": true}}}"#,
            "postgresql.parameters.ssl_cert_file: ssl is on, and there is no file",
        ),
        (
            r#"{"postgresql": {"pg_hba": ["local all all trust", "garbage"]}}"#,
            "postgresql.pg_hba: line 2 is \"garbage\": found",
        ),
        (
            r#"{"postgresql": {"pg_ident": ["garbage"]}}"#,
            "postgresql.pg_ident: line 1 is \"garbage\": expected a map",
        ),
    ] {
        let (status, said) = ask(rest, "PATCH", "/config", change).await;
        assert_eq!(status, 400, "{change}: {said}");
        assert!(said.contains(words), "{change}: {said}");
    }
    assert_eq!(ask(rest, "GET", "/config", "").await, (200, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_judged_applied_restarted_for_and_outlives_its_object() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("dynamic");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    let (member, _) = logging_member(&home, &config);
    wait_for("at first", rest, "/primary", 200).await;
    let started = until(rest, "it runs", |s| s["postmaster_start_time"].is_string()).await;
    let started = started["postmaster_start_time"].clone();

    nothing_wrong_is_stored(rest).await;

    // Applied at once, or once restarted.
    let change = json!({ "postgresql": { "parameters": {
        "work_mem": "7MB", "max_connections": 120, "max_wal_size": "200MB" } } });
    let (status, said) = ask(rest, "PATCH", "/config", &change.to_string()).await;
    assert_eq!(status, 200, "{said}");
    let pending = until(rest, "it waits for a restart", |s| {
        s["pending_restart"] == true
    })
    .await;
    assert_eq!(
        pending["pending_restart_reason"],
        json!({ "max_connections": { "old_value": "100", "new_value": "120" } })
    );
    assert_eq!(show(&home, sql, "work_mem"), "7MB");
    assert_eq!(show(&home, sql, "max_connections"), "100");
    assert_eq!(
        own_status(rest).await["postmaster_start_time"],
        started,
        "a reload is enough"
    );

    let epoch = pending["pgwarden"]["epoch"].clone();
    let (status, said) = ask(rest, "POST", "/restart", r#"{"role": "replica"}"#).await;
    assert_eq!(
        (status, said.as_str()),
        (503, "restart conditions are not satisfied")
    );
    let (status, said) = ask(rest, "POST", "/restart", r#"{"restart_pending": true}"#).await;
    assert_eq!((status, said.as_str()), (200, "restarted successfully"));
    let after = until(rest, "nothing waits", |s| s["pending_restart"].is_null()).await;
    assert_ne!(after["postmaster_start_time"], started);
    assert_eq!(after["pgwarden"]["epoch"], epoch, "under the same lock");
    assert_eq!(show(&home, sql, "max_connections"), "120");

    // Lost by a hand: the leader writes back what was in force, not what the file once said.
    assert!(api.remove("configmaps", "default", "solo-config"));
    let end = Instant::now() + DEADLINE;
    loop {
        let stored = api.object("configmaps", "default", "solo-config");
        let notes = stored.map(|map| map["metadata"]["annotations"].clone());
        let document = notes.as_ref().and_then(|notes| notes["config"].as_str());
        if let Some(document) = document {
            assert!(document.contains("7MB"), "{document}");
            break;
        }
        assert!(Instant::now() < end, "it is not written back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let copy = fs::read_to_string(home.0.join("member/data/patroni.dynamic.json")).unwrap();
    assert!(copy.contains("7MB"), "{copy}");
    drop(member);
    api.stop().await;
}
