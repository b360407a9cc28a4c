//! Called as `patroni` or `patronictl`, as entrypoints, operators and people do.

use crate::fake::Fake;
use crate::program::{Ended, end, program};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The program under another name, in an environment without a configuration.
fn called(name: &str, args: &[&str]) -> Command {
    let mut command = program(args);
    command.arg0(name);
    for name in [
        "PATRONICTL_CONFIG_FILE",
        "PATRONI_CONFIGURATION",
        "PATRONI_SCOPE",
        "DCS_URL",
    ] {
        command.env_remove(name);
    }
    command
        .env("HOME", "/nonexistent")
        .env_remove("XDG_CONFIG_HOME");
    command
}

async fn patronictl(fake: &Fake, args: &[&str]) -> Ended {
    let mut command = called("/usr/bin/patronictl", args);
    command.env("PGWARDEN_API", fake.addr.to_string());
    end(command).await
}

/// A directory of its own, gone at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let own = format!("pgwarden-cli-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(own);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn the_cluster_comes_first_and_must_be_the_one() {
    let fake = Fake::with_cluster(|_| {}).await;
    for name in ["pg-1", "pg-2"] {
        fake.answer(
            &format!("POST /{name}/restart"),
            200,
            "restarted successfully",
        );
        fake.answer(&format!("DELETE /{name}/restart"), 200, "gone");
    }
    let ended = patronictl(&fake, &["restart", "bench", "pg-1", "--force"]).await;
    assert_eq!(ended.out, "Success: restart on member pg-1\n", "{ended:?}");
    let ended = patronictl(&fake, &["flush", "bench", "pg-2", "restart", "--force"]).await;
    assert_eq!(
        ended.out, "Success: flush scheduled restart for member pg-2\n",
        "{ended:?}"
    );
    for args in [
        &["list", "bench"][..],
        &["list"],
        &["topology", "bench", "bench"],
        &["dsn", "bench"],
    ] {
        let ended = patronictl(&fake, args).await;
        assert_eq!(
            (ended.code, ended.err.as_str()),
            (0, ""),
            "{args:?}: {ended:?}"
        );
    }
    for args in [
        &["list", "other"][..],
        &["restart", "pg-1", "--force"],
        &["switchover", "other", "--force"],
        &["version", "other"],
    ] {
        let ended = patronictl(&fake, args).await;
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(
            ended
                .err
                .starts_with("Error: the cluster here is bench, not "),
            "{ended:?}"
        );
    }
    let changes = fake.changes();
    assert_eq!(
        changes.len(),
        2,
        "nothing else may have been asked: {changes:?}"
    );
}

#[tokio::test]
async fn operators_find_their_words() {
    let fake = Fake::with_cluster(|_| {}).await;
    fake.answer(
        "POST /switchover",
        200,
        "Successfully switched over to \"pg-1\"",
    );
    fake.answer(
        "POST /failover",
        200,
        "Successfully failed over to \"pg-1\"",
    );
    fake.answer(
        "POST /pg-0/restart",
        503,
        "restart conditions are not satisfied",
    );
    let mut moved = crate::fake::cluster();
    moved["members"][0]["role"] = json!("replica");
    moved["members"][1]["role"] = json!("leader");
    moved["members"][1]["state"] = json!("running");
    let before = crate::fake::cluster();
    for args in [
        &[
            "switchover",
            "--scheduled=now",
            "--force",
            "--primary=pg-0",
            "--candidate=",
        ][..],
        &["failover", "--force", "--candidate=pg-1"],
    ] {
        fake.forget("GET /cluster");
        fake.answer("GET /cluster", 200, before.clone());
        fake.answer("GET /cluster", 200, moved.clone());
        let ended = patronictl(&fake, args).await;
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
        let words = if args[0] == "failover" {
            "failed over"
        } else {
            "switched over"
        };
        assert!(ended.out.contains(words), "{ended:?}");
    }
    let sent = fake.changes();
    assert_eq!(
        sent[0], r#"POST /switchover {"leader":"pg-0"}"#,
        "an empty candidate is none"
    );
    assert_eq!(sent[1], r#"POST /failover {"candidate":"pg-1"}"#);

    let fake = Fake::with_cluster(|_| {}).await;
    fake.answer(
        "POST /pg-0/restart",
        503,
        "restart conditions are not satisfied",
    );
    let args = ["restart", "--pending", "--force", "--role=primary", "bench"];
    let ended = patronictl(&fake, &args).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = patronictl(&fake, &["list", "--format", "json"]).await;
    let rows: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        (&rows[0]["Role"], &rows[0]["TL"]),
        (&json!("Leader"), &json!(2))
    );
    assert_eq!(ended.err, "");

    fake.answer("GET /config", 200, json!({ "ttl": 30 }));
    fake.answer("PUT /config", 200, "{}");
    let mut command = called("patronictl", &["edit-config", "--replace=-", "--force"]);
    command.env("PGWARDEN_API", fake.addr.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(br#"{"ttl": 25}"#).await.unwrap();
    drop(stdin);
    let ended = tokio::time::timeout(crate::harness::PATIENCE, child.wait_with_output());
    assert!(ended.await.expect("it ends").unwrap().status.success());
    let sent = fake.changes();
    assert_eq!(
        sent.last().map(String::as_str),
        Some(r#"PUT /config {"ttl":25}"#)
    );
}

#[tokio::test]
async fn an_answer_may_be_piped_in() {
    let fake = Fake::with_cluster(|_| {}).await;
    fake.answer("POST /pg-1/reload", 202, "reload scheduled");
    for (typed, code) in [("y\n", 0), ("n\n", 1), ("", 1)] {
        let mut command = called("patronictl", &["reload", "bench", "pg-1"]);
        command.env("PGWARDEN_API", fake.addr.to_string());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Whoever reads nothing is told nothing.
        let _ = stdin.write_all(typed.as_bytes()).await;
        drop(stdin);
        let ended = tokio::time::timeout(crate::harness::PATIENCE, child.wait_with_output());
        let ended = ended.await.expect("it ends").unwrap();
        assert_eq!(ended.status.code(), Some(code), "{typed:?}: {ended:?}");
        let out = String::from_utf8(ended.stdout).unwrap();
        assert!(out.contains("Reload members pg-1? [y/N]: "), "{out}");
    }
    assert_eq!(fake.changes().len(), 1, "only yes is yes");
}

#[tokio::test]
async fn members_are_found_through_kubernetes() {
    let fake = Fake::with_cluster(|_| {}).await;
    let pod = |name: &str, status: serde_json::Value| json!({ "metadata": { "name": name, "annotations": { "status": status.to_string() } } });
    let api_url = format!("http://{}/patroni", fake.addr);
    let pods = json!({ "items": [
        pod("pg-9", json!({ "state": "starting" })),
        pod("pg-0", json!({ "api_url": api_url, "state": "running" })),
    ] });
    fake.answer("GET /api/v1/namespaces/db/pods", 200, pods);
    let dir = Dir::new("kubernetes");
    let kubeconfig = dir.file(
        "kubeconfig",
        &format!(
            "{{apiVersion: v1, kind: Config, current-context: x, \
             clusters: [{{name: x, cluster: {{server: 'http://{}'}}}}], \
             contexts: [{{name: x, context: {{cluster: x, user: x}}}}], \
             users: [{{name: x, user: {{token: t}}}}]}}",
            fake.addr
        ),
    );
    let parts = Dir::new("parts");
    // Later files win, in the order of their names.
    parts.file(
        "1.yml",
        "scope: wrong\nkubernetes: {namespace: wrong, labels: {app: pg}}\n",
    );
    let rest = format!(
        "scope: bench\nkubernetes: {{namespace: db, kubeconfig: {}}}\n",
        text(&kubeconfig)
    );
    parts.file("2.yaml", &rest);
    let args = ["-c", text(&parts.0), "list"];
    let ended = end(called("patronictl", &args)).await;
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    assert!(ended.out.starts_with("+ Cluster: bench ("), "{ended:?}");
    let mut command = called("patronictl", &["dsn", "bench"]);
    command.env("PATRONICTL_CONFIG_FILE", &parts.0);
    assert_eq!(end(command).await.out, "host=127.0.0.1 port=5432\n");
    let ended = end(called(
        "pgwarden",
        &["ctl", "query", "--config", text(&parts.0), "-c", " "],
    ))
    .await;
    assert_eq!(ended.code, 2, "the configuration was read: {ended:?}");
    assert_eq!(ended.err, "error: the SQL is empty\n");

    fake.forget("GET /api/v1/namespaces/db/pods");
    fake.answer(
        "GET /api/v1/namespaces/db/pods",
        403,
        json!({ "message": "no" }),
    );
    let ended = end(called("patronictl", &args)).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended
            .err
            .contains("look for the members of bench in Kubernetes"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn wrong_configurations_are_named() {
    let dir = Dir::new("wrong");
    let ended = end(called("patronictl", &["-c", "/no/such.yml", "list"])).await;
    assert_eq!(ended.code, 1);
    let words = "Error: Provided config file /no/such.yml not existing or no read rights. \
                 Check the -c/--config-file parameter\n";
    assert_eq!(ended.err, words);
    for (content, why) in [
        ("a: [", "not YAML"),
        ("scope: bench\n", "expected scope and kubernetes"),
        (
            "scope: bench\nkubernetes: {namespace: A_B}\n",
            "expected a namespace",
        ),
    ] {
        let path = dir.file("p.yml", content);
        let ended = end(called("patronictl", &["-c", text(&path), "list"])).await;
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(
            ended.err.starts_with("Error: ") && ended.err.contains(why),
            "{ended:?}"
        );
    }
    let ended = end(called("patronictl", &["list"])).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("no member to ask"), "{ended:?}");
    for args in [
        &["frobnicate"][..],
        &["list", "-f", "xml"],
        &["list", "--group", "0"],
    ] {
        let ended = end(called("patronictl", args)).await;
        assert!(
            ended.code != 0 && ended.err.starts_with("Error: "),
            "{ended:?}"
        );
    }
    let ended = end(called("patronictl", &["-d", "etcd://x", "version"])).await;
    let version = format!("patronictl version {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((ended.code, ended.out), (0, version));
    assert!(
        ended.err.starts_with("Warning: -d is ignored"),
        "{}",
        ended.err
    );
}

#[tokio::test]
async fn a_daemon_reads_files_directories_or_the_environment() {
    let sample = end(called("patroni", &["--generate-sample-config"])).await;
    assert_eq!(sample.code, 0);
    let dir = Dir::new("daemon");
    let path = dir.file("a.yml", &sample.out);
    let pod = |mut command: Command| {
        command
            .env("POD_NAME", "pg-0")
            .env("POD_IP", "10.0.0.7")
            .env("POD_UID", "u");
        command
            .env("PATRONI_SUPERUSER_PASSWORD", "s")
            .env("PATRONI_REPLICATION_PASSWORD", "r");
        command
    };
    for config in [text(&path), text(&dir.0)] {
        let command = called("patroni", &["--validate-config", "-p", config]);
        let ended = end(pod(command)).await;
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
        assert!(ended.out.contains("scope"), "{ended:?}");
    }
    let mut command = called("patroni", &["--validate-config"]);
    // Beside it no other variable of Patroni counts.
    command
        .env("PATRONI_CONFIGURATION", "scope: [")
        .env("PATRONI_SCOPE", "main");
    let ended = end(command).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.out.contains("environment PATRONI_CONFIGURATION"),
        "{ended:?}"
    );
    for args in [&[][..], &["--validate-config"]] {
        let ended = end(called("patroni", args)).await;
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.err.starts_with("Error: Config is empty"), "{ended:?}");
    }
    let ended = end(called("pgwarden", &["agent"])).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("set PATRONI_CONFIGURATION"), "{ended:?}");
    let ended = end(called("patroni", &["--version"])).await;
    let version = format!("patroni {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((ended.code, ended.out), (0, version));
    let ended = end(called("patroni", &["--generate-config"])).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let ended = end(called("patroni", &["/no/such.yml"])).await;
    assert_eq!(ended.code, 1, "{ended:?}");
}

#[tokio::test]
async fn shells_get_their_completions() {
    for (shell, sign) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef pgwarden"),
        ("fish", "complete -c pgwarden"),
    ] {
        let ended = end(called("pgwarden", &["completions", shell])).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.out.contains(sign), "{shell}");
        assert!(
            ended.out.contains("switchover") && ended.out.contains("reinit"),
            "{shell}"
        );
    }
    assert_eq!(
        end(called("pgwarden", &["completions", "csh"])).await.code,
        2
    );
}
