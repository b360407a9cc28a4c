//! Maintenance mode on a real server: it outlives the API and its agent, and whoever stops it is
//! left in peace (G1).

use super::dynamic::{ask, query, until};
use super::tls::agent_of;
use super::tls::postmaster;
use super::*;
use pgwarden::playground::kube_api::{Fault, Rule};

/// One and a half times D.
const OUTAGE: Duration = Duration::from_secs(9);
const LIMITED: &str = r#"{"timeout": 60}"#;

/// Until the record of the lock is as wanted.
async fn until_lock(api: &Handle, what: &str, so: impl Fn(&Value) -> bool) {
    let end = Instant::now() + DEADLINE;
    loop {
        let lock = api.object("leases", "default", "solo").unwrap_or_default();
        if so(&lock) {
            return;
        }
        assert!(Instant::now() < end, "{what}: {lock}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn is_marked(lock: &Value) -> bool {
    let note = lock["metadata"]["annotations"]["pgwarden.io/identity"].as_str();
    note.is_some_and(|note| note.contains(r#""paused":true"#))
}

async fn set_pause(rest: u16, pause: &str) {
    let change = format!(r#"{{"pause": {pause}}}"#);
    let (status, said) = ask(rest, "PATCH", "/config", &change).await;
    assert_eq!(status, 200, "{said}");
}

pub(super) fn send(signal: &str, process: &str) {
    let sent = Command::new("kill").args([signal, process]).status();
    assert!(sent.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_primary_outlives_the_api_and_its_agent_and_what_is_stopped_stays_so() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("pause");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    let (member, log) = logging_member(&home, &config);
    wait_for("at first", rest, "/primary", 200).await;
    wait_for("it is stored", rest, "/config", 200).await;
    let first = until(rest, "it runs", |s| s["postmaster_start_time"].is_string()).await;
    let started = first["postmaster_start_time"].clone();

    set_pause(rest, "true").await;
    until(rest, "it says so", |s| s["pause"] == true).await;
    until_lock(&api, "the mark is in the record", is_marked).await;

    api.inject(Rule::new(Fault::Cut { reset: true }));
    assert_eq!(query(&home, sql, "CREATE TABLE t (n int)"), "CREATE TABLE");
    let begun = Instant::now();
    let mut killed = false;
    while begun.elapsed() < OUTAGE {
        assert_eq!(query(&home, sql, "INSERT INTO t VALUES (1)"), "INSERT 0 1");
        if !killed && begun.elapsed() > OUTAGE / 3 {
            send("-KILL", &agent_of(member.0.id()).to_string());
            killed = true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    api.clear_faults();
    let end = Instant::now() + DEADLINE;
    while status(rest, "/primary").await != Some(200) {
        let said = fs::read_to_string(&log).unwrap_or_default();
        assert!(Instant::now() < end, "its successor does not lead: {said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let now = until(rest, "it is probed", |s| {
        s["postmaster_start_time"].is_string() && s["pause"] == true
    })
    .await;
    assert_eq!(
        now["postmaster_start_time"], started,
        "it was never stopped"
    );

    set_pause(rest, "null").await;
    until_lock(&api, "the mark is gone", |lock| {
        !is_marked(lock) && lock["spec"]["holderIdentity"] == "solo-0"
    })
    .await;
    let now = until(rest, "it is over", |s| s["pause"].is_null()).await;
    assert_eq!(now["postmaster_start_time"], started, "{now}");

    set_pause(rest, "true").await;
    until_lock(&api, "the mark is in the record again", is_marked).await;
    send("-INT", &postmaster(&home));
    until(rest, "it is stopped", |s| s["state"] == "stopped").await;
    until_lock(&api, "the lock is given up", |lock| {
        lock["spec"]["holderIdentity"].is_null()
    })
    .await;
    let (status, said) = ask(rest, "POST", "/restart", LIMITED).await;
    assert_eq!(status, 200, "{said}");
    wait_for("a person started it", rest, "/primary", 200).await;
    until_lock(&api, "and it is marked", is_marked).await;
    drop(member);
    api.stop().await;
}
