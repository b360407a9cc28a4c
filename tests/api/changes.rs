//! POST /switchover and /failover: refusals, and what reaches the decision loop.

use crate::harness::{Harness, start};
use crate::recorded::{NOW_MS, view};
use pgwarden::api::{Ask, Credentials, Limits, Reply};
use std::sync::Arc;

async fn leader(state: &str) -> Harness {
    start(view(state, "leader"), Limits::default(), None).await
}

#[tokio::test]
async fn refusals_have_patronis_codes_and_words() {
    let mut server = leader("running").await;
    for (path, body, status, text) in [
        (
            "/switchover",
            r#"{"leader": "pg-9"}"#,
            412,
            "leader name does not match",
        ),
        (
            "/switchover",
            r#"{"leader": "pg-0", "candidate": "pg-1"}"#,
            412,
            "leader name does not",
        ),
        (
            "/switchover",
            r#"{"candidate": "pg-1"}"#,
            400,
            "Switchover could be performed only from a specific leader",
        ),
        (
            "/switchover",
            r#"{"leader": "pg-2", "candidate": "pg-2"}"#,
            400,
            "Switchover target and source are the same",
        ),
        (
            "/switchover",
            r#"{"leader": "pg-2", "candidate": "pg-9"}"#,
            412,
            "candidate does not exists",
        ),
        (
            "/failover",
            r#"{"candidate": ""}"#,
            400,
            "Failover could be performed only to a specific candidate",
        ),
        (
            "/failover",
            r#"{"candidate": "pg-9"}"#,
            412,
            "candidate does not exists",
        ),
        (
            "/failover",
            r#"{"candidate": "pg-2"}"#,
            412,
            "candidate pg-2 is the leader already",
        ),
        (
            "/failover",
            r#"{"candidate": "pg-0", "scheduled_at": "2030-01-01T00:00Z"}"#,
            400,
            "Failover can't be scheduled",
        ),
        ("/switchover", "leader=pg-2", 400, "the body is not JSON"),
        ("/switchover", "", 400, "the body is not JSON"),
        ("/switchover", "[1]", 400, "the body is not a JSON object"),
        (
            "/switchover",
            r#"{"leader": 2}"#,
            400,
            "\"leader\" must be a text, found 2",
        ),
        (
            "/switchover",
            r#"{"leader": "pg-2", "canditate": "pg-0"}"#,
            400,
            "unknown key \"canditate\"; did you mean \"candidate\"?",
        ),
        (
            "/failover",
            r#"{"candidate": "pg-0", "force": true}"#,
            400,
            "the keys are leader, ",
        ),
    ] {
        let answer = server.post(path, body).await;
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
        assert!(
            answer.body.starts_with(text) || answer.body.contains(text),
            "{answer:?}"
        );
    }
    let untouched = server.commands.try_recv().is_err();
    assert!(untouched, "none of these may reach the loop");
    server.stop().await;
}

#[tokio::test]
async fn methods_that_no_route_has_are_told_from_missing_objects() {
    let mut server = leader("running").await;
    for (method, path, status) in [
        ("POST", "/nosuch", 501),
        ("PATCH", "/primary", 501),
        ("PUT", "/switchover", 501),
        ("DELETE", "/failover", 501),
        ("POST", "/switchover", 411),
    ] {
        assert_eq!(
            server.ask(method, path).await.status,
            status,
            "{method} {path}"
        );
    }
    assert!(
        server.commands.try_recv().is_err(),
        "none of these may reach the loop"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_synchronous_cluster_switches_over_only_to_its_standby() {
    let mut server = leader("synchronous").await;
    let answer = server
        .post("/switchover", r#"{"leader": "pg-2", "candidate": "pg-0"}"#)
        .await;
    assert_eq!(answer.status, 412);
    assert_eq!(
        answer.body,
        "candidate name does not match with sync_standby"
    );
    let mut none = view("synchronous", "leader");
    none.sync_standbys.clear();
    server.view.send_replace(Arc::new(none));
    let answer = server.post("/switchover", r#"{"leader": "pg-2"}"#).await;
    assert_eq!(
        answer.body,
        "switchover is not possible: can not find sync_standby"
    );
    let mut alone = view("running", "leader");
    alone.members.retain(|name, _| name == "pg-2");
    server.view.send_replace(Arc::new(alone.clone()));
    let answer = server.post("/switchover", r#"{"leader": "pg-2"}"#).await;
    assert!(
        answer
            .body
            .ends_with("cluster does not have members except leader"),
        "{answer:?}"
    );
    let mut unwilling = view("running", "leader");
    for member in unwilling.members.values_mut() {
        member
            .tags
            .insert("nofailover".to_owned(), "true".to_owned());
    }
    server.view.send_replace(Arc::new(unwilling));
    for body in [
        r#"{"leader": "pg-2"}"#,
        r#"{"leader": "pg-2", "candidate": "pg-0"}"#,
    ] {
        let answer = server.post("/switchover", body).await;
        assert_eq!(answer.status, 412);
        assert!(
            answer.body.ends_with("no good candidates have been found"),
            "{answer:?}"
        );
    }
    assert!(
        server.commands.try_recv().is_err(),
        "none of these may reach the loop"
    );
    server.stop().await;
}

#[tokio::test]
async fn what_passes_reaches_the_loop_and_its_reply_the_client() {
    let mut server = leader("running").await;
    // As operators send it: the old name of the key, an empty schedule.
    let body = r#"{"leader": "pg-2", "member": "pg-0", "scheduled_at": ""}"#;
    let request = format!(
        "POST /switchover HTTP/1.0\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let addr = server.addr;
    let client = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        stream.write_all((request + body).as_bytes()).await.unwrap();
        crate::harness::read_response(stream).await
    });
    let command = server.next().await;
    let wanted = Ask::Switchover {
        leader: "pg-2".to_owned(),
        candidate: Some("pg-0".to_owned()),
    };
    assert_eq!(command.ask, wanted);
    assert_eq!(command.deadline_ms, NOW_MS + 20_000);
    command.reply.send(Reply::done(&wanted, "pg-0")).unwrap();
    let answer = client.await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, "Successfully switched over to \"pg-0\"");
    assert_eq!(
        Reply::done(&wanted, "pg-1").body,
        "Switched over to \"pg-1\" instead of \"pg-0\""
    );
    server.stop().await;
}

#[tokio::test]
async fn a_loop_that_does_not_answer_is_not_waited_for() {
    let limits = Limits {
        decision_ms: 50,
        max_deciding: 1,
        ..Limits::default()
    };
    let mut server = start(view("running", "leader"), limits, None).await;
    let answer = server.post("/failover", r#"{"candidate": "pg-0"}"#).await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.starts_with("Failover status unknown"),
        "{answer:?}"
    );
    let command = server.next().await;
    assert_eq!(
        command.ask,
        Ask::Failover {
            candidate: "pg-0".to_owned(),
            accept_data_loss: false,
        }
    );
    assert!(
        command.reply.is_closed(),
        "the loop can see that nobody waits"
    );
    // Nobody takes them out of the queue: it fills up, and then requests are refused.
    for _ in 0..4 {
        server.post("/failover", r#"{"candidate": "pg-0"}"#).await;
    }
    let answer = server.post("/failover", r#"{"candidate": "pg-0"}"#).await;
    assert_eq!(
        answer.body,
        "Failover failed: others are being decided; try again"
    );
    server.stop().await;
}

#[tokio::test]
async fn changes_need_the_password_and_questions_do_not() {
    let user = Credentials {
        username: "admin".to_owned(),
        password: "right".to_owned(),
    };
    let wrong = Credentials {
        password: "wrong".to_owned(),
        ..user.clone()
    };
    let server = start(
        view("running", "leader"),
        Limits::default(),
        Some(user.clone()),
    )
    .await;
    let body = r#"{"leader": "pg-9"}"#;
    let answer = server.post("/switchover", body).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (401, "no auth header received")
    );
    assert!(
        answer
            .head
            .contains("www-authenticate: basic realm=\"patroni\""),
        "{}",
        answer.head
    );
    for (header, status, text) in [
        (wrong.header(), 401, "not authenticated"),
        ("Basic %%%".to_owned(), 401, "not authenticated"),
        ("Bearer abc".to_owned(), 401, "not authenticated"),
        (user.header(), 412, "leader name does not match"),
    ] {
        let header = format!("Authorization: {header}\r\n");
        let answer = server.post_with("/switchover", &header, body).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, text),
            "{header}"
        );
    }
    for (method, path, status) in [
        ("GET", "/primary", 200),
        ("HEAD", "/primary", 200),
        ("OPTIONS", "/primary", 200),
        ("GET", "/explain", 200),
        ("DELETE", "/switchover", 401),
        ("POST", "/nosuch", 401),
    ] {
        assert_eq!(
            server.ask(method, path).await.status,
            status,
            "{method} {path}"
        );
    }
    server.stop().await;
}
