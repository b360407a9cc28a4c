//! What is planned, rebuilt and read again: refusals, and what reaches the decision loop.

use crate::harness::{Harness, send, start};
use crate::recorded::view;
use pgwarden::api::{Ask, Limits, Reply, View};
use pgwarden::ha::shared::Scheduled;
use serde_json::{Value, json};

const LATER: &str = "2099-01-01T00:00:00+01:00";
const LATER_MS: u64 = 4_070_905_200_000;

async fn serve(change: impl FnOnce(&mut View)) -> Harness {
    let mut view = view("running", "leader");
    change(&mut view);
    start(view, Limits::default(), None).await
}

/// Send, let the loop answer, and show what it was asked.
async fn asked(server: &mut Harness, method: &str, path: &str, body: &Value) -> Ask {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let addr = server.addr;
    let (answer, ask) = tokio::join!(send(addr, &text), server.obey(Reply::new(202, "taken")));
    assert_eq!((answer.status, answer.body.as_str()), (202, "taken"));
    ask
}

#[tokio::test]
async fn a_planned_switchover_reaches_the_loop_with_its_time() {
    let mut server = serve(|_| {}).await;
    let body = json!({ "leader": "pg-2", "candidate": "pg-0", "scheduled_at": LATER });
    // A failover that names the leader is a switchover.
    for path in ["/switchover", "/failover"] {
        let Ask::PlanSwitchover {
            leader,
            candidate,
            at,
        } = asked(&mut server, "POST", path, &body).await
        else {
            panic!("it is a plan");
        };
        assert_eq!(
            (leader.as_str(), candidate.as_deref()),
            ("pg-2", Some("pg-0"))
        );
        assert_eq!((at.text.as_str(), at.wall_ms), (LATER, LATER_MS));
    }
    let ask = asked(&mut server, "DELETE", "/switchover", &Value::Null).await;
    assert_eq!(ask, Ask::DropSwitchover);
    server.stop().await;
}

#[tokio::test]
async fn a_planned_restart_carries_its_conditions_and_how_it_is_shown() {
    let mut server = serve(|_| {}).await;
    let body = json!({
        "schedule": LATER, "role": "primary", "postgres_version": "99.1", "timeout": "10min",
        "restart_pending": null,
    });
    let Ask::PlanRestart(plan) = asked(&mut server, "POST", "/restart", &body).await else {
        panic!("it is a plan");
    };
    assert_eq!((plan.at.wall_ms, plan.timeout_ms), (LATER_MS, 600_000));
    let mut shown = view("running", "leader");
    assert!(plan.conditions.hold(&shown));
    shown.role = "replica".into();
    assert!(
        !plan.conditions.hold(&shown),
        "the role is asked again then"
    );
    assert_eq!(plan.shown["schedule"], LATER);
    assert_eq!(plan.shown["role"], "primary");
    assert_eq!(plan.shown.get("restart_pending"), None);
    let started = view("running", "leader").postmaster_start_time;
    assert_eq!(
        plan.shown["postmaster_start_time"].as_str(),
        started.as_deref()
    );
    assert_eq!(plan.postmaster_start_time, started);
    let ask = asked(&mut server, "DELETE", "/restart", &Value::Null).await;
    assert_eq!(ask, Ask::DropRestart);
    server.stop().await;
}

#[tokio::test]
async fn times_that_are_none_are_refused_with_patronis_codes() {
    let mut server = serve(|_| {}).await;
    for (at, status, word) in [
        (
            "2099-01-01T00:00:00",
            400,
            "Timezone information is mandatory",
        ),
        ("2020-01-01T00:00:00Z", 422, "in the past"),
        ("soon", 422, "Unable to parse scheduled timestamp"),
    ] {
        for (path, body) in [
            (
                "/switchover",
                json!({ "leader": "pg-2", "scheduled_at": at }),
            ),
            ("/restart", json!({ "schedule": at })),
        ] {
            let answer = server.post(path, &body.to_string()).await;
            assert_eq!(answer.status, status, "{path} {at}: {answer:?}");
            assert!(answer.body.contains(word), "{path} {at}: {answer:?}");
        }
    }
    let same = json!({ "leader": "pg-2", "candidate": "pg-2", "scheduled_at": LATER });
    assert_eq!(
        server.post("/switchover", &same.to_string()).await.status,
        400
    );
    let number = server.post("/restart", r#"{"schedule": 7}"#).await;
    assert_eq!(number.status, 400, "{number:?}");
    assert!(
        server.commands.try_recv().is_err(),
        "nothing reaches the loop"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_new_copy_and_a_reload_reach_the_loop() {
    let mut server = serve(|_| {}).await;
    for (body, force) in [
        (Value::Null, false),
        (json!({}), false),
        (json!({ "force": true, "from_leader": true }), true),
    ] {
        let ask = asked(&mut server, "POST", "/reinitialize", &body).await;
        assert_eq!(ask, Ask::Reinitialize { force });
    }
    for body in [
        r#"{"force": 1}"#,
        r#"{"from_leader": "x"}"#,
        r#"{"forced": true}"#,
        "[]",
    ] {
        let answer = server.post("/reinitialize", body).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
    }
    let ask = asked(&mut server, "POST", "/reload", &Value::Null).await;
    assert_eq!(ask, Ask::Reload);
    assert!(server.commands.try_recv().is_err());
    server.stop().await;
}

#[tokio::test]
async fn plans_are_shown_where_patroni_shows_them() {
    let plan = json!({ "schedule": LATER, "postmaster_start_time": "then" });
    let server = serve(|view| {
        view.scheduled_restart = Some(plan.clone());
        view.cloning = Some((5, 10));
        view.scheduled_switchover = Some(Scheduled {
            from: Some("pg-2".into()),
            to: None,
            at: LATER.into(),
            at_wall_ms: LATER_MS,
        });
        let member = view.members.get_mut("pg-0").expect("it is there");
        member.scheduled_restart = Some(plan.clone());
    })
    .await;
    let status: Value = serde_json::from_str(&server.ask("GET", "/patroni").await.body).unwrap();
    assert_eq!(status["scheduled_restart"], plan);
    assert_eq!(status["pgwarden"]["cloning"], json!([5, 10]));
    let cluster: Value = serde_json::from_str(&server.ask("GET", "/cluster").await.body).unwrap();
    assert_eq!(
        cluster["scheduled_switchover"],
        json!({ "at": LATER, "from": "pg-2" })
    );
    let members = cluster["members"].as_array().unwrap();
    let planned: Vec<_> = members
        .iter()
        .filter(|member| member["scheduled_restart"] == plan)
        .map(|member| member["name"].as_str())
        .collect();
    assert_eq!(planned, [Some("pg-0")]);
    server.stop().await;
}
