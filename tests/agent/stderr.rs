//! Where the log goes must not matter: a standard error that fails, and one that nobody reads.

use super::{Home, Member, agent, free_port, has_postgres, kubeconfig, status, wait_for};
use serde_json::json;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Longer than a silence of the decision loop that `/liveness` forgives.
const WATCHED: Duration = Duration::from_secs(18);

/// A member that talks a lot, and its REST port. Its API server is not there.
fn start(name: &str, stderr: Stdio) -> (Home, Member, u16) {
    let home = Home::new(name);
    let (api, rest, sql) = (free_port(), free_port(), free_port());
    let server = format!("127.0.0.1:{api}");
    fs::write(home.0.join("kubeconfig"), kubeconfig(&server)).unwrap();
    let config = home.config(|c| {
        c["log"] = json!({"level": "TRACE"});
        for key in ["listen", "connect_address"] {
            c["restapi"][key] = json!(format!("127.0.0.1:{rest}"));
            c["postgresql"][key] = json!(format!("127.0.0.1:{sql}"));
        }
    });
    let member = agent(&home, &config).stderr(stderr).spawn();
    (home, Member(member.unwrap()), rest)
}

/// The agents that the guardian has now: its children.
fn agents(member: &Member) -> String {
    let pid = member.0.id();
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_may_fail_or_stand_still_and_the_agent_lives() {
    if !has_postgres() {
        return;
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let broken = start("stderr-full", full.unwrap().into());
    // The pipe's other end is held and never read.
    let unread = start("stderr-unread", Stdio::piped());
    for (what, (_, _, rest)) in [("a broken stderr", &broken), ("an unread one", &unread)] {
        wait_for(what, *rest, "/liveness", 200).await;
    }
    let before = [agents(&broken.1), agents(&unread.1)];
    let until = Instant::now() + WATCHED;
    while Instant::now() < until {
        for (what, (_, _, rest)) in [("a broken stderr", &broken), ("an unread one", &unread)] {
            assert_eq!(status(*rest, "/liveness").await, Some(200), "{what}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(before, [agents(&broken.1), agents(&unread.1)], "restarted");
}
