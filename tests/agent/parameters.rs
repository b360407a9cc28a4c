//! A stored parameter that PostgreSQL refuses, from the annotation to the log.

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
