//! The verbs that change something, towards members that answer as Patroni's API does.

use crate::fake::Fake;
use crate::program::run;
use serde_json::{Value, json};

async fn ctl(fake: &Fake, words: &[&str]) -> crate::program::Ended {
    let api = fake.api();
    let args: Vec<&str> = ["ctl", &api].iter().chain(words).copied().collect();
    run(&args).await
}

#[tokio::test]
async fn members_read_their_files_again() {
    let fake = Fake::with_cluster(|_| {}).await;
    for name in ["pg-0", "pg-1"] {
        fake.answer(&format!("POST /{name}/reload"), 202, "reload scheduled");
    }
    let ended = ctl(&fake, &["reload", "pg-1", "pg-0", "--force"]).await;
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    assert_eq!(
        ended.out,
        "Reload request received for member pg-1\nReload request received for member pg-0\n"
    );
    assert_eq!(
        fake.changes(),
        ["POST /pg-1/reload {}", "POST /pg-0/reload {}"]
    );
    fake.answer("POST /pg-2/reload", 401, "no auth header received");
    let ended = ctl(&fake, &["reload", "pg-2", "--force"]).await;
    assert_eq!(ended.code, 104);
    assert_eq!(
        ended.out,
        "Failed: reload for member pg-2, status code=401, (no auth header received)\n"
    );
    let ended = ctl(&fake, &["reload", "pg-1"]).await;
    assert_eq!(ended.code, 2, "nobody confirms: {ended:?}");
    let ended = ctl(&fake, &["reload", "--role", "standby-leader", "--force"]).await;
    assert_eq!(ended.code, 104, "{ended:?}");
    assert!(
        ended.err.contains("there is no standby leader"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_restart_has_its_time_and_conditions() {
    let fake = Fake::with_cluster(|_| {}).await;
    fake.answer("POST /pg-1/restart", 202, "Restart scheduled");
    let at = "2099-01-01T01:00+01:00";
    let ended = ctl(
        &fake,
        &[
            "restart",
            "--any",
            "--scheduled",
            at,
            "--pg-version",
            "15.9",
            "--timeout",
            "2min",
            "--force",
        ],
    )
    .await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.out, "Success: restart scheduled on member pg-1\n");
    let body = r#"{"postgres_version":"15.9","restart_pending":false,"schedule":"2099-01-01T00:00:00+00:00","timeout":120}"#;
    assert_eq!(fake.changes(), [format!("POST /pg-1/restart {body}")]);

    // Where nothing waits for a restart, none is missing.
    fake.answer(
        "POST /pg-2/restart",
        503,
        "restart conditions are not satisfied",
    );
    let ended = ctl(&fake, &["restart", "pg-2", "--pending", "--force"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended
            .out
            .starts_with("Failed: restart for member pg-2, status code=503")
    );
    let ended = ctl(&fake, &["restart", "pg-2", "--force"]).await;
    assert_eq!(ended.code, 104, "{ended:?}");
    for (time, why) in [
        ("2099-01-01T00:00", "it has no zone"),
        ("2001-01-01T00:00Z", "it is in the past"),
        ("soon", "it is not a time"),
    ] {
        let ended = ctl(&fake, &["restart", "--force", "--scheduled", time]).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains(why), "{ended:?}");
        assert!(
            ended.err.contains("as 2026-12-01T03:00+01:00, or now"),
            "{ended:?}"
        );
    }
    let ended = ctl(&fake, &["restart", "--force", "--timeout", "fast"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
}

#[tokio::test]
async fn a_switchover_is_planned_and_dropped() {
    let fake = Fake::with_cluster(|_| {}).await;
    fake.answer("POST /switchover", 202, "Switchover scheduled");
    let args = [
        "switchover",
        "--candidate=",
        "--scheduled",
        "2099-01-01T00:00Z",
        "--force",
    ];
    let ended = ctl(&fake, &args).await;
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "Switchover scheduled\n")
    );
    let sent = r#"POST /switchover {"leader":"pg-0","scheduled_at":"2099-01-01T00:00:00+00:00"}"#;
    assert_eq!(fake.changes(), [sent]);
    let ended = ctl(&fake, &["switchover", "--candidate", "pg-9", "--force"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(
        ended
            .err
            .contains("there is no member pg-9; the members are pg-0, pg-1")
    );

    fake.answer("DELETE /switchover", 200, "scheduled switchover deleted");
    let ended = ctl(&fake, &["flush", "switchover", "--force"]).await;
    assert_eq!(ended.out, "Success: scheduled switchover deleted\n");
    fake.forget("DELETE /switchover");
    fake.answer("DELETE /switchover", 409, "somebody was faster");
    let ended = ctl(&fake, &["flush", "switchover", "--force"]).await;
    assert_eq!(ended.code, 104, "{ended:?}");
    assert!(
        ended.err.contains("somebody was faster (status 409)"),
        "{ended:?}"
    );

    let bare = Fake::with_cluster(|body| body["scheduled_switchover"] = Value::Null).await;
    let ended = ctl(&bare, &["flush", "switchover", "--force"]).await;
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "No pending scheduled switchover\n")
    );
    for (words, why) in [
        (
            &["flush", "everything"][..],
            "expected restart and members, or switchover",
        ),
        (
            &["flush", "switchover", "pg-1"],
            "expected no members beside it",
        ),
    ] {
        let ended = ctl(&bare, words).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains(why), "{ended:?}");
    }
}

#[tokio::test]
async fn only_who_has_a_planned_restart_is_told_to_drop_it() {
    let fake = Fake::with_cluster(|_| {}).await;
    fake.answer("DELETE /pg-2/restart", 200, "scheduled restart deleted");
    let ended = ctl(&fake, &["flush", "restart", "pg-1", "pg-2", "--force"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let told = "No scheduled restart for member pg-1\n\
                Success: flush scheduled restart for member pg-2\n";
    assert_eq!(ended.out, told);
    assert_eq!(fake.changes(), ["DELETE /pg-2/restart {}"]);
}

#[tokio::test]
async fn a_copy_is_waited_for_and_shown() {
    let fake = Fake::with_cluster(|_| {}).await;
    let at = |time: &str| json!({ "state": "running", "postmaster_start_time": time });
    fake.forget("GET /pg-1/patroni");
    fake.answer("GET /pg-1/patroni", 200, at("before"))
        .answer(
            "GET /pg-1/patroni",
            200,
            json!({ "state": "creating replica" }),
        )
        .answer("GET /pg-1/patroni", 200, at("after"));
    fake.answer("POST /pg-1/reinitialize", 200, "reinitialize started");
    let ended = ctl(
        &fake,
        &["reinit", "pg-1", "--from-leader", "--wait", "--force"],
    )
    .await;
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines[0], "Success: reinitialize for member pg-1");
    assert!(
        lines[1].starts_with("pg-1: creating replica ("),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with("Reinitialize is completed on: pg-1"),
        "{lines:?}"
    );
    let sent = r#"POST /pg-1/reinitialize {"force":true,"from_leader":true}"#;
    assert_eq!(fake.changes(), [sent]);

    let why = "I am the leader, can not reinitialize";
    fake.answer("POST /pg-0/reinitialize", 503, why);
    let ended = ctl(&fake, &["reinit", "pg-0", "--force", "--wait"]).await;
    assert_eq!(ended.code, 104, "{ended:?}");
    assert!(ended.out.contains(why), "{ended:?}");
    let ended = ctl(&fake, &["reinit", "--force"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(
        ended.err.contains("the members are pg-0, pg-1, pg-2, pg-3"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn maintenance_mode_is_a_key_that_the_server_judges() {
    let fake = Fake::with_cluster(|_| {}).await;
    fake.answer("PATCH /config", 200, "{}");
    let ended = ctl(&fake, &["pause"]).await;
    let told = "Success: cluster management is paused\n";
    assert_eq!((ended.code, ended.out.as_str()), (0, told), "{ended:?}");
    assert_eq!(fake.changes(), [r#"PATCH /config {"pause":true}"#]);
    let ended = ctl(&fake, &["resume"]).await;
    assert_eq!(
        (ended.code, ended.err.as_str()),
        (104, "error: Cluster is not paused\n")
    );

    let paused = Fake::with_cluster(|body| body["pause"] = json!(true)).await;
    paused.answer("PATCH /config", 200, "{}");
    let ended = ctl(&paused, &["resume", "--wait"]).await;
    let told = "'resume' request sent, waiting until it is recognized by all nodes\n\
                Success: cluster management is resumed\n";
    assert_eq!((ended.code, ended.out.as_str()), (0, told), "{ended:?}");
    assert_eq!(paused.changes(), [r#"PATCH /config {"pause":null}"#]);

    let refusing = Fake::with_cluster(|_| {}).await;
    refusing.answer("PATCH /config", 400, "pause: not supported");
    let ended = ctl(&refusing, &["pause"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (104, ""));
    assert_eq!(ended.err, "error: pause: not supported (status 400)\n");
}

#[tokio::test]
async fn addresses_and_versions_are_told() {
    let fake = Fake::with_cluster(|body| body["members"][3]["api_url"] = json!("")).await;
    for (words, out) in [
        (&["dsn"][..], "host=127.0.0.1 port=5432\n"),
        (&["dsn", "-r", "replica"], "host=127.0.0.1 port=5433\n"),
        (&["dsn", "-m", "pg-2"], "host=127.0.0.1 port=5434\n"),
        (&["dsn", "--any"], "host=127.0.0.1 port=5433\n"),
    ] {
        let ended = ctl(&fake, words).await;
        assert_eq!((ended.code, ended.out.as_str()), (0, out), "{words:?}");
    }
    let ended = ctl(&fake, &["dsn", "-m", "pg-9"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    let ended = ctl(&fake, &["version"]).await;
    let lines: Vec<&str> = ended.out.lines().collect();
    let own = format!("pgwarden version {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        lines[..3],
        [&own, "", "pg-0: Patroni 4.1.5 PostgreSQL 15.18"]
    );
    assert_eq!(
        lines[5],
        "pg-3: failed to get version: it has published no address of its REST API"
    );
    let ended = run(&["ctl", "version"]).await;
    assert_eq!((ended.code, ended.out), (0, format!("{own}\n")));
}

#[tokio::test]
async fn sql_needs_words_and_a_server() {
    let fake = Fake::with_cluster(|body| body["members"][0]["port"] = json!(1)).await;
    let ended = ctl(&fake, &["query", "-c", "select 1"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.err.starts_with("error: pg-0: error connecting"),
        "{ended:?}"
    );
    for (words, code) in [
        (&["query"][..], 2),
        (&["query", "-c", " "], 2),
        (&["query", "-f", "/no/such.sql"], 66),
        (&["query", "-c", "select 1", "-m", "pg-9"], 2),
    ] {
        let ended = ctl(&fake, words).await;
        assert_eq!(ended.code, code, "{ended:?}");
    }
}

#[tokio::test]
async fn verbs_that_are_not_there_say_what_to_do() {
    let ended = run(&["ctl", "remove", "--force"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let words = "kubectl -n NAMESPACE delete";
    assert!(ended.err.contains(words), "{ended:?}");
}

#[tokio::test]
async fn a_cluster_is_demoted_and_promoted_by_a_key_of_the_configuration() {
    let fake = Fake::with_cluster(|_| {}).await;
    fake.answer("GET /config", 200, json!({ "ttl": 30 }));
    let ended = ctl(&fake, &["promote-cluster", "--force"]).await;
    assert_eq!(ended.code, 104, "{ended:?}");
    assert!(ended.err.contains("it has no standby_cluster"), "{ended:?}");
    let ended = ctl(&fake, &["demote-cluster", "--force", "--port", "5432"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    let words = "at least one of --host and --restore-command";
    assert!(ended.err.contains(words), "{ended:?}");
    assert_eq!(fake.changes(), Vec::<String>::new());

    fake.answer("PATCH /config", 400, "standby_cluster.host: no");
    let words = ["demote-cluster", "--force", "--host", "b", "--port", "5433"];
    let ended = ctl(&fake, &words).await;
    assert_eq!(ended.code, 104, "{ended:?}");
    let change = r#"PATCH /config {"standby_cluster":{"host":"b","port":5433}}"#;
    assert_eq!(fake.changes(), [change]);

    let standby = Fake::with_cluster(|body| {
        body["members"][0]["role"] = json!("standby_leader");
    })
    .await;
    let stored = json!({ "ttl": 30, "standby_cluster": { "host": "b" } });
    standby.answer("GET /config", 200, stored);
    let ended = ctl(&standby, &words).await;
    assert_eq!(
        (ended.code, ended.err.as_str()),
        (104, "error: Cluster is already a standby\n")
    );
}
