//! Failsafe mode on the wire: the map, the question, and an answer that says who gives it.

use crate::harness::{send, start};
use crate::recorded::view;
use pgwarden::api::client::Client;
use pgwarden::api::failsafe::Request;
use pgwarden::api::{Ask, Credentials, Limits, Reply, View};
use pgwarden::ha::lock::Mapped;
use pgwarden::ha::model::Identity;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

fn member() -> View {
    let mut view = view("running", "replica");
    view.failsafe_mode = true;
    view
}

fn leader() -> Identity {
    Identity {
        name: "pg-2".into(),
        pod_uid: "uid-2".into(),
        incarnation: "life-2".into(),
    }
}

fn request(scope: &str) -> Request {
    Request {
        scope: scope.into(),
        holder: leader(),
        epoch: 7,
        ttl_ms: 20_000,
        conn_url: "postgres://10.0.0.2:5432/postgres".into(),
        api_url: "http://10.0.0.2:8008/patroni".into(),
    }
}

#[tokio::test]
async fn switched_off_it_is_said_in_patronis_words() {
    let server = start(view("running", "leader"), Limits::default(), None).await;
    let text = "failsafe_mode is disabled";
    let answer = server.ask("GET", "/failsafe").await;
    assert_eq!((answer.status, answer.body.as_str()), (502, text));
    let answer = server.post("/failsafe", r#"{"name": "pg-2"}"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (502, text));
    server.stop().await;
}

#[tokio::test]
async fn the_map_is_shown_and_that_it_lives_by_promises() {
    let mut shown = member();
    let url = "http://pg-0:8008/patroni".to_owned();
    shown.failsafe = Some([("pg-0".to_owned(), url)].into());
    shown.failsafe_is_active = true;
    let server = start(shown, Limits::default(), None).await;
    let answer = server.ask("GET", "/failsafe").await;
    let wanted = r#"{"pg-0":"http://pg-0:8008/patroni"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (200, wanted));
    let status = server.ask("GET", "/patroni").await;
    let status: serde_json::Value = serde_json::from_str(&status.body).unwrap();
    assert_eq!(status["failsafe_mode_is_active"], true);
    let metrics = server.ask("GET", "/metrics").await.body;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("patroni_failsafe_mode_is_active"));
    assert!(line.is_some_and(|line| line.ends_with(" 1")), "{line:?}");
    server.stop().await;
}

/// What the member at `scope/name/uid` is taken for when it says yes.
async fn asks(
    scope: &str,
    name: &str,
    uid: &str,
    reply: Reply,
) -> (Result<(), String>, Option<Ask>) {
    let mut server = start(member(), Limits::default(), None).await;
    let mapped = Mapped {
        pod_uid: uid.into(),
        api_url: format!("http://{}/patroni", server.addr),
    };
    let (client, request) = (Client::default(), request(scope));
    let asking = client.ask_promise(name, &mapped, &request, None, LONG);
    let (said, ask) = tokio::join!(asking, server.obey(reply));
    server.stop().await;
    (said, Some(ask))
}

#[tokio::test]
async fn a_promise_counts_only_from_the_member_that_was_asked() {
    let me = member();
    let (scope, name, uid) = (me.scope, me.identity.name, me.identity.pod_uid);
    let accepted = || Reply::new(200, "Accepted");
    let (said, ask) = asks(&scope, &name, &uid, accepted()).await;
    assert_eq!(said, Ok(()));
    let wanted = Ask::Promise {
        holder: leader(),
        epoch: 7,
        ttl_ms: 20_000,
    };
    assert_eq!(ask, Some(wanted));
    for (scope, name, uid) in [
        (scope.as_str(), "pg-9", uid.as_str()),
        (scope.as_str(), name.as_str(), "uid of before"),
    ] {
        let (said, _) = asks(scope, name, uid, accepted()).await;
        let why = said.expect_err("a stranger's");
        assert!(why.contains("answers in its place"), "{why}");
    }
    // A member of another cluster, at an address that was one of ours, is not held up either.
    let mut server = start(member(), Limits::default(), None).await;
    let mapped = Mapped {
        pod_uid: uid.clone(),
        api_url: format!("http://{}", server.addr),
    };
    let client = Client::default();
    let said = client
        .ask_promise(&name, &mapped, &request("another"), None, LONG)
        .await;
    assert!(said.is_err_and(|why| why.contains("found the cluster")));
    assert!(server.commands.try_recv().is_err());
    server.stop().await;
    let (said, _) = asks(&scope, &name, &uid, Reply::new(500, "I lead")).await;
    assert!(said.is_err_and(|why| why.contains("I lead")));
    let (said, _) = asks(&scope, &name, &uid, Reply::new(200, "Accepted?")).await;
    assert!(said.is_err());
}

#[tokio::test]
async fn patronis_answer_does_not_say_who_gives_it() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let addr = listener.local_addr().unwrap();
    let patroni = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4_096];
        assert!(stream.read(&mut asked).await.unwrap() > 0);
        let answer = "HTTP/1.0 200 OK\r\nlsn: 5\r\nContent-Length: 8\r\n\r\nAccepted";
        stream.write_all(answer.as_bytes()).await.unwrap();
    };
    let mapped = Mapped {
        pod_uid: "uid-1".into(),
        api_url: format!("http://{addr}/patroni"),
    };
    let (client, request) = (Client::default(), request("main"));
    let asking = client.ask_promise("pg-1", &mapped, &request, None, LONG);
    let (said, ()) = tokio::join!(asking, patroni);
    assert!(said.is_err_and(|why| why.contains("does not say who it is")));
}

#[tokio::test]
async fn what_is_no_question_is_refused_and_strangers_may_not_ask() {
    let server = start(member(), Limits::default(), None).await;
    for body in [
        "",
        "[]",
        "{}",
        r#"{"name": 1}"#,
        r#"{"name": "a", "pgwarden": {"epoch": -1}}"#,
    ] {
        let answer = server.post("/failsafe", body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(answer.body.contains("name"), "{}", answer.body);
    }
    server.stop().await;
    let secret = Credentials {
        username: "admin".into(),
        password: "secret".into(),
    };
    let mut server = start(member(), Limits::default(), Some(secret.clone())).await;
    let answer = server.post("/failsafe", r#"{"name": "pg-2"}"#).await;
    assert_eq!(answer.status, 401);
    assert!(server.commands.try_recv().is_err());
    let mapped = Mapped {
        pod_uid: member().identity.pod_uid,
        api_url: format!("http://{}", server.addr),
    };
    let (me, client) = (member(), Client::default());
    let (name, request) = (me.identity.name, request(&me.scope));
    let asking = client.ask_promise(&name, &mapped, &request, Some(&secret), LONG);
    let (said, _) = tokio::join!(asking, server.obey(Reply::new(200, "Accepted")));
    assert_eq!(said, Ok(()));
    server.stop().await;
}

/// People who wait for their verbs fill every permit; a leader is answered all the same.
#[tokio::test]
async fn a_question_needs_no_permit() {
    let limits = Limits {
        max_deciding: 1,
        ..Limits::default()
    };
    let mut server = start(member(), limits, None).await;
    let addr = server.addr;
    let reload =
        "POST /reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let waiting = tokio::spawn(async move { send(addr, reload).await });
    let held = server.next().await;
    let body = r#"{"name": "pg-2"}"#;
    let question = format!(
        "POST /failsafe HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (answer, _) = tokio::join!(
        send(addr, &question),
        server.obey(Reply::new(200, "Accepted"))
    );
    assert_eq!((answer.status, answer.body.as_str()), (200, "Accepted"));
    assert!(answer.head.contains("\r\nlsn: "), "{}", answer.head);
    held.reply
        .send(Reply::new(202, "reload scheduled"))
        .unwrap();
    assert_eq!(waiting.await.unwrap().status, 202);
    server.stop().await;
}
