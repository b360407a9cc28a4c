//! A stored parameter that PostgreSQL refuses, from the annotation to the log.

use super::dynamic::ask;
use super::{
    ANYWHERE, DEADLINE, Home, api_with_pod, config_with, has_postgres, logging_member, ports,
    status, wait_for,
};
use crate::kubectl::wait_for_line;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

fn first_line(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// What each of these did to a cluster was found by an attack: a primary given up for a login that
/// was refused, acknowledged rows lost beyond a target, a primary stopped to follow itself.
#[tokio::test(flavor = "multi_thread")]
async fn what_would_take_the_cluster_down_or_lose_commits_is_refused() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("fatal");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    let (member, _) = logging_member(&home, &config);
    wait_for("at first", rest, "/primary", 200).await;
    wait_for("it is stored", rest, "/config", 200).await;
    let own = |host: &str| json!({ "standby_cluster": { "host": host, "port": sql } });
    let target = |name: &str| json!({ "postgresql": { "parameters": { name: "0/5000000" } } });
    let lines = |lines: &[&str]| json!({ "postgresql": { "pg_hba": lines } });
    let slots = |name: &str| {
        let feed = json!({ "type": "logical", "database": "postgres", "plugin": "pgoutput" });
        json!({ "slots": { name: feed } })
    };
    for (change, word) in [
        (own("::ffff:127.0.0.1"), "a member of this very cluster"),
        (own("elsewhere,127.0.0.1"), "a member of this very cluster"),
        (target("recovery_target_lsn"), "lose them"),
        (target("recovery_target"), "lose them"),
        (target("promote_trigger_file"), "sets it itself"),
        (slots("feed-1"), "it is not the name of a slot"),
        (slots("Feed"), "it is not the name of a slot"),
        (slots("solo_0"), "that of the member solo-0"),
        (
            json!({ "slots": { "feed": { "type": "logical", "plugin": "pgoutput" } } }),
            "slots.feed.database: a logical slot without it",
        ),
        (
            json!({ "ignore_slots": { "name": "a" } }),
            "expected a list of maps",
        ),
        (lines(&["local all all trust"]), "no line lets replicas in"),
        (
            lines(&["host all all all reject"]),
            "no line lets replicas in",
        ),
    ] {
        let (status, said) = ask(rest, "PATCH", "/config", &change.to_string()).await;
        assert_eq!(status, 400, "{change}: {said}");
        assert!(said.contains(word), "{change}: {said}");
    }
    // Without a line for the agent: it writes its own before them.
    let change = lines(&["host replication all all scram-sha-256"]);
    let (status, said) = ask(rest, "PATCH", "/config", &change.to_string()).await;
    assert_eq!(status, 200, "{said}");
    let hba = home.0.join("member/data/pg_hba.conf");
    let until = Instant::now() + DEADLINE;
    let written = loop {
        let text = fs::read_to_string(&hba).unwrap();
        if text.contains("host replication all all") {
            break text;
        }
        assert!(Instant::now() < until, "it does not arrive: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let first = written.lines().find(|line| !line.starts_with('#'));
    assert!(
        first.is_some_and(|line| line.starts_with("local all ")),
        "{written}"
    );
    wait_for("it serves", rest, "/primary", 200).await;
    drop(member);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_postgresql_refuses_is_named_and_takes_nobody_down() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("refused");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, _) = ports(&config);
    let (member, at) = logging_member(&home, &config);
    wait_for("at first", rest, "/primary", 200).await;

    let stored = json!({
        "ttl": 6,
        "postgresql": {"parameters": {"work_mem": "banana", "maintenance_work_mem": "77MB"}},
    });
    api.edit("configmaps", "default", "solo-config", |map| {
        map["metadata"]["annotations"]["config"] = json!(stored.to_string());
    });
    let pid_file = home.0.join("member/data/postmaster.pid");
    let (conf, pid) = (
        home.0.join("member/data/postgresql.conf"),
        first_line(&pid_file),
    );
    let until = Instant::now() + DEADLINE;
    while !fs::read_to_string(&conf).unwrap().contains("77MB") {
        assert!(
            Instant::now() < until,
            "the stored parameters do not arrive"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status(rest, "/primary").await, Some(200));
    assert_eq!(first_line(&pid_file), pid, "a reload is enough");
    let said = wait_for_line(&at, "postgresql.parameters.work_mem: found \"banana\"").await;
    let errors = said.lines().filter(|line| line.contains("work_mem: found"));
    assert!(errors.clone().all(|line| line.contains("ERROR")), "{said}");
    assert_eq!(errors.count(), 1, "{said}");
    assert!(!fs::read_to_string(&conf).unwrap().contains("banana"));
    drop(member);
    api.stop().await;
}
