//! The Unix socket: a server is reached where it listens, not where the next one is to.

use super::dynamic::{ask, until};
use super::kubectl::wait_for_line;
use super::reloading::change;
use super::tls::agent_of;
use super::*;

/// One that does not come back is not waited for.
const LIMITED: &str = r#"{"timeout": 60}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_reached_where_it_was_started_and_starts_without_a_directory() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("sockets");
    let other = home.0.join("other");
    fs::create_dir(&other).unwrap();
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    let socket = other.join(format!(".s.PGSQL.{sql}"));
    let (member, log) = logging_member(&home, &config);
    wait_for("at first", rest, "/primary", 200).await;
    let first = until(rest, "it runs", |s| s["postmaster_start_time"].is_string()).await;
    let started = first["postmaster_start_time"].clone();
    let listen_in = |dir: &Path| {
        change(&config, |c| {
            c["postgresql"]["parameters"]["unix_socket_directories"] = json!(dir);
        });
    };

    listen_in(&other);
    assert_eq!(ask(rest, "POST", "/reload", "").await.0, 202);
    let waiting = until(rest, "a restart is due", |s| s["pending_restart"] == true).await;
    let why = &waiting["pending_restart_reason"]["unix_socket_directories"];
    assert_eq!(
        why["new_value"],
        json!(other.display().to_string()),
        "{why}"
    );

    // An agent that is new to it looks into what the server wrote of itself.
    let agent = agent_of(member.0.id()).to_string();
    let killed = Command::new("kill").args(["-KILL", &agent]).status();
    assert!(killed.unwrap().success());
    wait_for("its successor", rest, "/primary", 200).await;
    let adopted = until(rest, "it is probed", |s| s["pending_restart"] == true).await;
    assert_eq!(
        adopted["postmaster_start_time"], started,
        "it was never stopped"
    );
    assert!(!socket.exists());

    let (status, said) = ask(rest, "POST", "/restart", LIMITED).await;
    assert_eq!(status, 200, "{said}");
    until(rest, "nothing is due", |s| {
        s["pending_restart"].is_null() && s["postmaster_start_time"].is_string()
    })
    .await;
    assert!(socket.exists());

    listen_in(&home.0.join("nowhere"));
    assert_eq!(ask(rest, "POST", "/reload", "").await.0, 202);
    let (status, said) = ask(rest, "POST", "/restart", LIMITED).await;
    assert_eq!(status, 200, "{said}");
    wait_for_line(&log, "nowhere is no directory here; it is left out").await;
    wait_for("it serves", rest, "/primary", 200).await;
    assert!(!socket.exists());
    drop(member);
    api.stop().await;
}
