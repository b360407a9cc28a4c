//! `ctl show-config`, `edit-config` and `restart`.

use crate::harness::{Harness, start};
use crate::program::{end, program, run};
use crate::recorded::view;
use pgwarden::api::{Ask, ConfigChange, Limits, Reply};
use serde_json::{Value, json};

const STORED: &str = r#"{"ttl":30,"postgresql":{"parameters":{"work_mem":"4MB","jit":"off"}}}"#;

async fn serve() -> (Harness, String) {
    let mut view = view("running", "leader");
    view.config = Some(STORED.into());
    let server = start(view, Limits::default(), None).await;
    let api = format!("--api={}", server.addr);
    (server, api)
}

#[tokio::test]
async fn the_stored_document_is_shown_for_people_and_for_programs() {
    let (server, api) = serve().await;
    let shown = run(&["ctl", &api, "show-config"]).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(
        shown.out.contains("postgresql:\n  parameters:\n"),
        "{shown:?}"
    );
    assert!(shown.out.contains("ttl: 30\n"), "{shown:?}");
    let shown = run(&["ctl", &api, "show-config", "-f", "json"]).await;
    let document: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(document, serde_json::from_str::<Value>(STORED).unwrap());
    server.stop().await;
}

#[tokio::test]
async fn a_change_is_shown_sent_and_its_refusal_told() {
    let (mut server, api) = serve().await;
    let args = [
        "ctl",
        &api,
        "edit-config",
        "--set",
        "ttl=20",
        "--pg",
        "work_mem=8MB",
        "-p",
        "jit=null",
        "--force",
    ];
    let (ended, ask) = tokio::join!(run(&args), server.obey(Reply::json(200, "{}")));
    let wanted =
        json!({ "ttl": 20, "postgresql": { "parameters": { "work_mem": "8MB", "jit": null } } });
    assert_eq!(
        ask,
        Ask::Config(ConfigChange::Merge(wanted.as_object().cloned().unwrap()))
    );
    assert_eq!(
        ended.out,
        "- postgresql.parameters.jit: off\n  postgresql.parameters.work_mem: 4MB -> 8MB\n  ttl: 30 -> 20\n\
         Configuration changed\n"
    );
    let args = ["ctl", &api, "edit-config", "-q", "-s", "ttl=2", "--force"];
    let refusal = Reply::new(400, "ttl: found 2");
    let (ended, _) = tokio::join!(run(&args), server.obey(refusal));
    assert_eq!((ended.code, ended.out.as_str()), (104, ""), "{ended:?}");
    assert!(ended.err.contains("ttl: found 2 (status 400)"), "{ended:?}");

    let ended = run(&["ctl", &api, "edit-config", "-s", "ttl=30", "--force"]).await;
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "Not changed\n"),
        "{ended:?}"
    );
    let ended = run(&["ctl", &api, "edit-config", "-s", "ttl=20"]).await;
    assert_eq!(ended.code, 2, "nobody confirms: {ended:?}");
    let ended = run(&["ctl", &api, "edit-config", "-s", "ttl", "--force"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("KEY=VALUE"), "{ended:?}");
    let ended = run(&["ctl", &api, "edit-config", "--apply", "/no/such", "--force"]).await;
    assert_eq!(ended.code, 66, "{ended:?}");
    server.stop().await;
}

#[tokio::test]
async fn the_editor_gets_yaml_and_what_it_leaves_replaces_the_document() {
    let (mut server, api) = serve().await;
    let mut command = program(&["ctl", &api, "edit-config", "--force"]);
    command.env("EDITOR", "sed -i s/30/25/");
    let (ended, ask) = tokio::join!(end(command), server.obey(Reply::json(200, "{}")));
    let mut wanted: Value = serde_json::from_str(STORED).unwrap();
    wanted["ttl"] = json!(25);
    assert_eq!(
        ask,
        Ask::Config(ConfigChange::Replace(wanted.as_object().cloned().unwrap()))
    );
    assert!(ended.out.contains("ttl: 30 -> 25"), "{ended:?}");
    for (editor, code) in [("false", 1), ("sed -i s/ttl:/[/", 65)] {
        let mut command = program(&["ctl", &api, "edit-config", "--force"]);
        command.env("EDITOR", editor);
        let ended = end(command).await;
        assert_eq!(ended.code, code, "{editor}: {ended:?}");
        // What a person wrote is not thrown away.
        let kept = ended.err.trim_end().rsplit_once("your text is in ");
        assert_eq!(kept.is_some(), code == 65, "{ended:?}");
        if let Some((_, path)) = kept {
            assert!(std::fs::read_to_string(path).unwrap().contains("[ 30"));
            std::fs::remove_file(path).unwrap();
        }
    }
    let mut command = program(&["ctl", &api, "edit-config", "--force"]);
    command.env_remove("EDITOR");
    let ended = end(command).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("EDITOR is not set"), "{ended:?}");
    server.stop().await;
}

#[tokio::test]
async fn members_are_restarted_each_at_its_own_address() {
    let mut view = view("running", "leader");
    let mut server = start(view.clone(), Limits::default(), None).await;
    for member in view.members.values_mut() {
        member.api_url = format!("http://{}/patroni", server.addr);
    }
    view.pending_restart = true;
    server.view.send_replace(std::sync::Arc::new(view));
    let api = format!("--api={}", server.addr);
    let args = [
        "ctl",
        &api,
        "restart",
        "pg-2",
        "pg-0",
        "--force",
        "--timeout",
        "9",
    ];
    let obeyed = async {
        let first = server.obey(Reply::new(200, "restarted successfully")).await;
        let second = server
            .obey(Reply::new(503, "a restart is in progress already"))
            .await;
        (first, second)
    };
    let (ended, asked) = tokio::join!(run(&args), obeyed);
    let wanted = Ask::Restart { timeout_ms: 9_000 };
    assert_eq!(asked, (wanted.clone(), wanted));
    assert_eq!(
        ended.out,
        "Success: restart on member pg-0\n\
         Failed: restart for member pg-2, status code=503, (a restart is in progress already)\n",
        "the leader comes last"
    );
    assert_eq!(ended.code, 104, "{ended:?}");
    // What keeps one from starting keeps the next one too: the leader is left alone.
    let args = ["ctl", &api, "restart", "--pending", "--force"];
    let told = "restart failed: the server does not start: FATAL";
    let (ended, _) = tokio::join!(run(&args), server.obey(Reply::new(503, told)));
    let first = format!("Failed: restart for member pg-0, status code=503, ({told})");
    let left = "Not restarted: pg-2, since another one did not come back";
    assert!(ended.out.starts_with(&first), "{ended:?}");
    assert!(ended.out.trim_end().ends_with(left), "{ended:?}");
    assert_eq!(
        ended.code, 104,
        "also where it was asked for on a condition: {ended:?}"
    );
    assert!(server.commands.try_recv().is_err());
    let ended = run(&["ctl", &api, "restart", "pg-9", "--force"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(
        ended.err.contains("the members are pg-0, pg-1, pg-2"),
        "{ended:?}"
    );
    server.stop().await;
}
