//! /config and /restart: refusals, and what reaches the decision loop.

use crate::harness::{Harness, send, start};
use crate::recorded::view;
use pgwarden::api::{Ask, ConfigChange, Credentials, Limits, Reply, View};
use serde_json::json;

async fn serve(change: impl FnOnce(&mut View)) -> Harness {
    let mut view = view("running", "leader");
    change(&mut view);
    start(view, Limits::default(), None).await
}

fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn the_stored_document_is_shown_and_none_is_502() {
    let server = serve(|_| {}).await;
    assert_eq!(server.ask("GET", "/config").await.status, 502);
    server.stop().await;
    let server = serve(|view| view.config = Some(r#"{"ttl":30}"#.into())).await;
    let answer = server.ask("GET", "/config").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"ttl":30}"#)
    );
    assert!(answer.head.contains("application/json"), "{}", answer.head);
    server.stop().await;
}

#[tokio::test]
async fn a_change_reaches_the_loop_as_it_was_meant() {
    let mut server = serve(|_| {}).await;
    let fields = json!({ "ttl": 20, "pause": null })
        .as_object()
        .cloned()
        .unwrap();
    let addr = server.addr;
    for (method, wanted) in [
        ("PATCH", ConfigChange::Merge(fields.clone())),
        ("PUT", ConfigChange::Replace(fields.clone())),
    ] {
        let text = request(method, "/config", r#"{"ttl": 20, "pause": null}"#);
        let (answer, asked) = tokio::join!(
            send(addr, &text),
            server.obey(Reply::json(200, r#"{"ttl":20}"#))
        );
        assert_eq!(asked, Ask::Config(wanted));
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, r#"{"ttl":20}"#)
        );
        assert!(answer.head.contains("application/json"), "{}", answer.head);
    }
    for body in ["", "[]", "null", "7", "{\"ttl\": }", "\u{fffd}"] {
        for method in ["PATCH", "PUT"] {
            let answer = server.raw(&request(method, "/config", body)).await;
            assert_eq!(answer.status, 400, "{method} {body}: {}", answer.body);
            assert!(
                answer.body.contains("expected a JSON object"),
                "{}",
                answer.body
            );
        }
    }
    let bare = "PATCH /config HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(server.raw(bare).await.status, 411);
    assert!(
        server.commands.try_recv().is_err(),
        "nothing of this was sent on"
    );
    server.stop().await;
}

#[tokio::test]
async fn restarts_are_refused_with_patronis_codes_and_words() {
    let mut server = serve(|view| view.server_version = Some(150_018)).await;
    for (body, status, words) in [
        ("[]", 400, "not a JSON object"),
        ("{", 400, "not JSON"),
        (r#"{"rol": "primary"}"#, 400, "did you mean \"role\"?"),
        (
            r#"{"role": "x"}"#,
            400,
            "PostgreSQL role should be either primary, standby_leader, or replica",
        ),
        (
            r#"{"postgres_version": "x"}"#,
            400,
            "Invalid PostgreSQL version: x",
        ),
        (
            r#"{"postgres_version": "10.2.3"}"#,
            400,
            "Invalid PostgreSQL version: 10.2.3",
        ),
        (
            r#"{"postgres_version": "9.5.2"}"#,
            503,
            "restart conditions are not satisfied",
        ),
        (
            r#"{"timeout": -1}"#,
            400,
            "Timeout should be a positive number of seconds",
        ),
        (
            r#"{"timeout": "soon"}"#,
            400,
            "Timeout should be a positive number of seconds",
        ),
        (r#"{"restart_pending": "yes"}"#, 400, "true or false"),
        (
            r#"{"postgres_version": "999999"}"#,
            400,
            "Invalid PostgreSQL version: 999999",
        ),
        (
            r#"{"role": "replica"}"#,
            503,
            "restart conditions are not satisfied",
        ),
        (
            r#"{"restart_pending": true}"#,
            503,
            "restart conditions are not satisfied",
        ),
        (
            r#"{"postgres_version": "15.18"}"#,
            503,
            "restart conditions are not satisfied",
        ),
    ] {
        let answer = server.post("/restart", body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.body.contains(words), "{body}: {}", answer.body);
    }
    assert!(
        server.commands.try_recv().is_err(),
        "nothing of this was sent on"
    );

    let addr = server.addr;
    for (body, timeout_ms) in [
        ("", 600_000),
        ("{}", 600_000),
        (
            r#"{"role": "master", "timeout": "7s", "postgres_version": "15.19"}"#,
            7_000,
        ),
    ] {
        let text = request("POST", "/restart", body);
        let (answer, asked) = tokio::join!(
            send(addr, &text),
            server.obey(Reply::new(200, "restarted successfully"))
        );
        assert_eq!(asked, Ask::Restart { timeout_ms });
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "restarted successfully")
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn changes_ask_for_the_password_and_reading_does_not() {
    let mut view = view("running", "leader");
    view.config = Some("{}".into());
    let credentials = Some(Credentials {
        username: "admin".to_owned(),
        password: "secret".to_owned(),
    });
    let server = start(view, Limits::default(), credentials).await;
    assert_eq!(server.ask("GET", "/config").await.status, 200);
    for (method, path) in [
        ("PATCH", "/config"),
        ("PUT", "/config"),
        ("POST", "/restart"),
    ] {
        let answer = server.raw(&request(method, path, "{}")).await;
        assert_eq!(answer.status, 401, "{method} {path}");
    }
    server.stop().await;
}
