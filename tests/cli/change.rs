//! `ctl switchover` and `ctl failover`: asking, refusing, waiting until it is seen.

use crate::harness::{Harness, start};
use crate::program::{end, program, run};
use crate::recorded::view;
use pgwarden::api::{Ask, Credentials, Limits, Reply};
use std::sync::Arc;

/// Answer one command as a member would: the leader changes, then the reply leaves.
async fn obey(server: &mut Harness, reply: impl FnOnce(&Ask) -> Option<Reply>) -> Ask {
    let command = server.next().await;
    let reply = reply(&command.ask);
    server
        .view
        .send_replace(Arc::new(view("after-switchover", "leader")));
    if let Some(reply) = reply {
        command.reply.send(reply).unwrap();
    }
    command.ask
}

#[tokio::test]
async fn a_switchover_is_shown_when_it_is_done() {
    let mut server = start(view("running", "leader"), Limits::default(), None).await;
    let api = format!("--api={}", server.addr);
    let args = ["ctl", &api, "switchover", "--candidate", "pg-0", "--force"];
    let (ended, ask) = tokio::join!(
        run(&args),
        obey(&mut server, |ask| Some(Reply::done(ask, "pg-0")))
    );
    let candidate = Some("pg-0".to_owned());
    assert_eq!(
        ask,
        Ask::Switchover {
            leader: "pg-2".to_owned(),
            candidate
        }
    );
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended
            .out
            .starts_with("Successfully switched over to \"pg-0\"\n+ Cluster: bench")
    );
    assert!(
        ended
            .out
            .contains("| pg-0   | 198.18.0.11:15432 | Leader  | running   |  2 |")
    );
    server.stop().await;
}

#[tokio::test]
async fn a_lost_answer_is_looked_for_in_the_cluster() {
    let limits = Limits {
        decision_ms: 100,
        ..Limits::default()
    };
    let mut server = start(view("running", "leader"), limits, None).await;
    let api = format!("--api={}", server.addr);
    let args = ["ctl", &api, "failover", "--candidate=pg-0", "--force"];
    let (ended, ask) = tokio::join!(run(&args), obey(&mut server, |_| None));
    assert_eq!(
        ask,
        Ask::Failover {
            candidate: "pg-0".to_owned(),
            accept_data_loss: false,
        }
    );
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.out.starts_with("Failover status unknown"),
        "{ended:?}"
    );
    // Now nobody changes anything: after the wait nobody knows.
    let ended = run(&[
        "ctl",
        &api,
        "failover",
        "--candidate=pg-1",
        "--force",
        "--wait=1",
    ])
    .await;
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(
        ended
            .err
            .starts_with("error: the cluster does not show a new leader yet")
    );
    server.stop().await;
}

#[tokio::test]
async fn refusals_are_told_and_nothing_is_waited_for() {
    let user = Credentials {
        username: "admin".to_owned(),
        password: "right".to_owned(),
    };
    let mut server = start(view("running", "leader"), Limits::default(), Some(user)).await;
    let api = format!("--api={}", server.addr);
    let switchover = ["ctl", &api, "switchover", "--leader=pg-9", "--force"];
    let ended = run(&switchover).await;
    assert_eq!(ended.code, 104);
    assert!(
        ended
            .err
            .starts_with("error: no auth header received: set PGWARDEN_API_USERNAME")
    );
    let mut known = program(&switchover);
    known
        .env("PGWARDEN_API_USERNAME", "admin")
        .env("PGWARDEN_API_PASSWORD", "right");
    let ended = end(known).await;
    let refused = "error: leader name does not match (status 412)\n";
    assert_eq!(
        (ended.code, ended.err.as_str(), ended.out.as_str()),
        (104, refused, "")
    );
    // Without a terminal and without --force nobody has confirmed.
    let ended = run(&["ctl", &api, "switchover"]).await;
    assert_eq!(ended.code, 2);
    assert_eq!(
        ended.err,
        "error: nobody is at the terminal to confirm; use --force\n"
    );
    let mut leaderless = view("running", "leader");
    leaderless.leader = None;
    server.view.send_replace(Arc::new(leaderless));
    let ended = run(&["ctl", &api, "switchover", "--force"]).await;
    assert_eq!(ended.code, 104);
    assert!(
        ended
            .err
            .contains("use `pgwarden ctl failover --candidate MEMBER`"),
        "{ended:?}"
    );
    assert!(
        server.commands.try_recv().is_err(),
        "nothing may have been asked of the cluster"
    );
    server.stop().await;
}

#[tokio::test]
async fn what_a_failover_gives_up_is_said_and_has_to_be_accepted() {
    let fake = crate::fake::Fake::with_cluster(|body| {
        let members = body["members"].as_array_mut().unwrap();
        // Nobody leads, and pg-1 lacks what the last leader published.
        for member in members {
            member["role"] = "replica".into();
            member["state"] = "running".into();
            member["timeline"] = 1.into();
            member["receive_lsn"] = "0/5000000".into();
            member["receive_lag"] = 256.into();
        }
    })
    .await;
    fake.answer(
        "GET /config",
        200,
        serde_json::json!({ "synchronous_mode": true }),
    );
    fake.answer(
        "POST /failover",
        200,
        "Successfully failed over to \"pg-1\"",
    );
    let api = fake.api();
    let args = [
        "ctl",
        &api,
        "failover",
        "--candidate=pg-1",
        "--force",
        "--wait=0",
    ];
    let ended = run(&args).await;
    assert_eq!(ended.code, 104, "{ended:?}");
    let lost = "0/5000000 to 0/5000100, are given up; pg-1 is not in the synchronous set";
    assert!(ended.err.contains(lost), "{ended:?}");
    assert!(ended.err.contains("--accept-data-loss"), "{ended:?}");
    assert!(fake.changes().is_empty(), "nothing was asked for");
    let mut accepts = args.to_vec();
    accepts.push("--accept-data-loss");
    let ended = run(&accepts).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains(lost), "{ended:?}");
    assert_eq!(fake.changes().len(), 1);
}
