//! Every format of `list`, `topology` and `history`: what patronictl 4.1.5 printed of the same
//! cluster (`recorded/patronictl.json`); and the same again and again.

use crate::fake::Fake;
use crate::harness::PATIENCE;
use crate::program::{program, run};
use pgwarden::settings::yaml_to_json;
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};

fn recorded(key: &str) -> String {
    let all: Value = serde_json::from_str(include_str!("../recorded/patronictl.json")).unwrap();
    all[key].as_str().unwrap().to_owned()
}

async fn serve() -> Fake {
    let fake = Fake::with_cluster(|_| {}).await;
    let history = json!([[
        1,
        67_393_936,
        "no recovery target specified",
        "2026-11-22T18:15:20.383108+00:00",
        "pg-0"
    ]]);
    fake.answer("GET /history", 200, history);
    fake
}

#[tokio::test]
async fn tables_and_lines_are_patronictls_to_the_letter() {
    let fake = serve().await;
    for line in [
        "list",
        "list -e",
        "list -f tsv",
        "topology",
        "history",
        "history -f tsv",
    ] {
        let api = fake.api();
        let args: Vec<&str> = ["ctl", &api].into_iter().chain(line.split(' ')).collect();
        let ended = run(&args).await;
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{line}");
        let wanted = recorded(line.trim_end_matches(" -e"));
        assert_eq!(ended.out, wanted, "{line}");
    }
}

#[tokio::test]
async fn documents_say_what_patronictls_say() {
    let fake = serve().await;
    let api = fake.api();
    for verb in ["list", "history"] {
        let wanted: Value = serde_json::from_str(&recorded(&format!("{verb} -f json"))).unwrap();
        let ended = run(&["ctl", &api, verb, "-f", "json"]).await;
        assert_eq!(serde_json::from_str::<Value>(&ended.out).unwrap(), wanted);
        assert_eq!(
            yaml_to_json(&recorded(&format!("{verb} -f yaml"))),
            Ok(wanted.clone())
        );
        for format in ["yaml", "yml"] {
            let ended = run(&["ctl", &api, verb, "-f", format]).await;
            assert_eq!(
                yaml_to_json(&ended.out),
                Ok(wanted.clone()),
                "{}",
                ended.out
            );
        }
    }
}

#[tokio::test]
async fn hosts_have_no_port_where_it_tells_nothing_and_extended_shows_empty_columns() {
    let fake = Fake::start().await;
    let member = |name: &str, host: &str| {
        json!({ "name": name, "host": host, "port": 5432,
        "role": "replica", "state": "running" })
    };
    let body = json!({ "scope": "s", "members": [member("a", "h1"), member("b", "h2")] });
    fake.answer("GET /cluster", 200, body);
    let ended = run(&["ctl", &fake.api(), "list", "-f", "tsv"]).await;
    assert_eq!(
        ended.out.lines().nth(1),
        Some("s\ta\th1\tReplica\trunning\t\t\t\t\t")
    );
    let ended = run(&["ctl", &fake.api(), "list", "-f", "tsv", "--extended"]).await;
    let heads = ended.out.lines().next().unwrap();
    assert!(
        heads.ends_with("Pending restart\tPending restart reason\tScheduled restart\tTags"),
        "{heads}"
    );
    let ended = run(&["ctl", &fake.api(), "list", "-t"]).await;
    let time = ended.out.lines().next().unwrap();
    assert_eq!(time.len(), "2026-11-28 09:08:52".len(), "{time}");
    assert!(
        ended.out.contains("+ Cluster: s (uninitialized) "),
        "{}",
        ended.out
    );
}

#[tokio::test]
async fn without_a_terminal_the_table_comes_again_and_the_next_member_is_asked() {
    let (first, second) = (serve().await, serve().await);
    let addresses = format!("{},{}", first.addr, second.addr);
    let mut command = program(&["ctl", "topology", "-w", "0.1", "--api", &addresses]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let titled = |line: &str| line.starts_with("+ Cluster: bench");
    let talk = async {
        for _ in 0..2 {
            while !titled(&lines.next_line().await.unwrap().unwrap()) {}
        }
        let gone = first.addr;
        drop(first);
        let away = format!(" http://{gone}/cluster ");
        loop {
            let line = lines.next_line().await.unwrap().unwrap();
            assert!(!line.contains('\x1b'), "{line:?}");
            if line.starts_with(&away) {
                break;
            }
        }
        while !titled(&lines.next_line().await.unwrap().unwrap()) {}
    };
    tokio::time::timeout(PATIENCE, talk).await.expect("tables");
    child.kill().await.unwrap();
    let ended = run(&["ctl", "list", "-w", "0", "--api", &addresses]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("seconds from 0.1 to 3600"), "{ended:?}");
}
