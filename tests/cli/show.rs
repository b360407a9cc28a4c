//! `ctl list`, `ctl history`: what patronictl printed of the same cluster, to the letter.

use crate::harness::{Harness, start};
use crate::program::{end, program, run};
use crate::recorded::{recorded, view};
use pgwarden::api::Limits;
use serde_json::Value;
use std::sync::Arc;

async fn serve(state: &str) -> Harness {
    start(view(state, "leader"), Limits::default(), None).await
}

#[tokio::test]
async fn tables_are_those_of_patronictl() {
    for state in ["running", "synchronous", "after-switchover"] {
        let server = serve(state).await;
        let api = format!("--api={}", server.addr);
        for verb in ["list", "history"] {
            let ended = run(&["ctl", &api, verb]).await;
            assert_eq!((ended.code, ended.err.as_str()), (0, ""));
            assert_eq!(
                Value::from(ended.out),
                recorded(state, &format!("ctl {verb}")),
                "{state}"
            );
        }
        for (verb, key) in [
            ("list", "ctl list -e -f json"),
            ("history", "ctl history -f json"),
        ] {
            let ended = run(&["ctl", &api, verb, "-f", "json"]).await;
            let printed: Value = serde_json::from_str(&ended.out).unwrap();
            let wanted = recorded(state, key);
            assert_eq!(
                printed,
                serde_json::from_str::<Value>(wanted.as_str().unwrap()).unwrap()
            );
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_member_that_is_being_made_is_shown_as_unknown() {
    let mut making = view("after-switchover", "leader");
    let end_of_wal = "0/50000D8".parse().unwrap();
    making.optime = Some(end_of_wal);
    for (name, member) in &mut making.members {
        let streams = name == "pg-1";
        let position = streams.then_some(end_of_wal);
        (member.lsn, member.receive_lsn, member.replay_lsn) = (position, position, position);
        if name == "pg-2" {
            member.state = "creating replica".to_owned();
            member.replication_state = None;
            member.timeline = None;
        }
    }
    let server = start(making, Limits::default(), None).await;
    let api = format!("--api={}", server.addr);
    let ended = run(&["ctl", &api, "list"]).await;
    assert_eq!(
        Value::from(ended.out),
        recorded("reinitializing", "ctl list")
    );
    let ended = run(&["ctl", "list", &api, "-fjson"]).await;
    let wanted = recorded("reinitializing", "ctl list -e -f json");
    let printed: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        printed,
        serde_json::from_str::<Value>(wanted.as_str().unwrap()).unwrap()
    );
    server.stop().await;
}

#[tokio::test]
async fn a_member_that_the_leader_has_no_stream_of_is_not_shown_as_streaming() {
    let mut alone = view("running", "leader");
    alone
        .replication
        .retain(|row| row.application_name != "pg-1");
    let server = start(alone, Limits::default(), None).await;
    let api = format!("--api={}", server.addr);
    let ended = run(&["ctl", "list", &api, "-fjson"]).await;
    let printed: Value = serde_json::from_str(&ended.out).unwrap();
    let states = printed.as_array().unwrap().iter();
    let states: Vec<_> = states
        .map(|row| {
            (
                row["Member"].as_str().unwrap(),
                row["State"].as_str().unwrap(),
            )
        })
        .collect();
    let wanted = [
        ("pg-0", "streaming"),
        ("pg-1", "unknown"),
        ("pg-2", "running"),
    ];
    assert_eq!(states, wanted, "{}", ended.out);
    server.stop().await;
}

#[tokio::test]
async fn lines_have_tabs_and_tags_their_column() {
    let server = serve("synchronous").await;
    let api = format!("--api={}", server.addr);
    let ended = run(&["ctl", &api, "list", "-f", "tsv"]).await;
    let lines: Vec<Vec<&str>> = ended
        .out
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(
        lines[0][..5],
        ["Cluster", "Member", "Host", "Role", "State"]
    );
    let wanted = [
        "bench",
        "pg-1",
        "198.18.0.12:15432",
        "Sync Standby",
        "streaming",
        "1",
    ];
    assert_eq!(lines[2][..6], wanted);
    assert!(
        lines.iter().all(|line| line.len() == lines[0].len()),
        "{lines:?}"
    );
    let mut tagged = view("running", "leader");
    let pg_0 = tagged.members.get_mut("pg-0").unwrap();
    pg_0.tags.insert("nofailover".to_owned(), "true".to_owned());
    pg_0.tags.insert("zone".to_owned(), "a".to_owned());
    server.view.send_replace(Arc::new(tagged));
    let ended = run(&["ctl", &api, "list"]).await;
    let lines: Vec<&str> = ended.out.lines().collect();
    assert!(lines[1].contains("| Tags "), "{}", ended.out);
    assert!(
        lines[3].ends_with("| nofailover: true |") && lines[4].ends_with("| zone: a          |"),
        "{}",
        ended.out
    );
    assert!(
        lines.iter().all(|line| line.len() == lines[0].len()),
        "{}",
        ended.out
    );
    server.stop().await;
}

#[tokio::test]
async fn who_cannot_run_is_explained_below_the_table_and_in_each_format() {
    let mut waiting = view("running", "leader");
    let well = start(waiting.clone(), Limits::default(), None).await;
    let api = format!("--api={}", well.addr);
    let table = run(&["ctl", &api, "list"]).await.out;
    let words = "CreateContainerConfigError: secret \"mine\" not found; make the Secret";
    let pg_1 = waiting.members.get_mut("pg-1").unwrap();
    pg_1.trouble = words.to_owned();
    well.view.send_replace(Arc::new(waiting));
    let listed = run(&["ctl", &api, "list"]).await;
    assert_eq!((listed.code, listed.err.as_str()), (0, ""));
    assert_eq!(listed.out, format!("{table} pg-1: {words}\n"));
    let ended = run(&["ctl", &api, "list", "-f", "json"]).await;
    let printed: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(printed[1]["Trouble"], words);
    assert_eq!(printed[0].get("Trouble"), None);
    let ended = run(&["ctl", &api, "list", "-f", "tsv"]).await;
    let lines: Vec<Vec<&str>> = ended
        .out
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(lines[0].last(), Some(&"Trouble"));
    assert_eq!(lines[2].last(), Some(&words));
    assert!(
        lines.iter().all(|line| line.len() == lines[0].len()),
        "{lines:?}"
    );
    well.stop().await;
}

#[tokio::test]
async fn the_first_member_that_answers_is_asked() {
    let server = serve("running").await;
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = dead.local_addr().unwrap().to_string();
    drop(dead);
    let mut command = program(&["ctl", "list"]);
    command.env(
        "PGWARDEN_API",
        format!("{nobody},http://{}/patroni", server.addr),
    );
    assert_eq!(end(command).await.code, 0);
    let ended = run(&["ctl", "list", "--api", &nobody]).await;
    assert_eq!((ended.code, ended.out.as_str()), (69, ""));
    assert!(ended.err.starts_with(&format!(
        "error: http://{nobody}/cluster cannot be reached:"
    )));
    assert!(
        ended
            .err
            .ends_with("give the address of a running member with --api\n"),
        "{ended:?}"
    );
    server.stop().await;
}
