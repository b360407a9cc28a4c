//! A guardian that stands still fences nobody: its agent notices (G6).

use super::{ANYWHERE, DEADLINE, Home, api_with_pod, config_with, has_postgres, logging_member};
use crate::kubectl::wait_for_line;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

fn state_of(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_guardian_is_sent_on_its_way_and_it_is_said() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("stopped");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let (member, at) = logging_member(&home, &config_with(&home, &api));
    wait_for_line(&at, "the Service points at me").await;

    let guardian = member.0.id();
    let stop = Command::new("kill")
        .args(["-STOP", &guardian.to_string()])
        .status();
    assert!(stop.unwrap().success());
    wait_for_line(&at, "sending SIGCONT").await;
    let until = Instant::now() + DEADLINE;
    while state_of(guardian) == Some('T') {
        assert!(Instant::now() < until, "it stands still");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(member);
    api.stop().await;
}
