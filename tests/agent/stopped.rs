//! A guardian that stands still fences nobody: its agent notices (G6).

use super::{ANYWHERE, BIN_DIR, DEADLINE, Home, Member, agent, api_with_pod, config_with};
use crate::kubectl::wait_for_line;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn state_of(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_guardian_is_sent_on_its_way_and_it_is_said() {
    if !Path::new(BIN_DIR).join("postgres").is_file() {
        return eprintln!("SKIPPED: no PostgreSQL in {BIN_DIR}");
    }
    let home = Home::new("stopped");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let at = home.0.join("log");
    let log = fs::File::create(&at).unwrap();
    let member = agent(&home, &config_with(&home, &api)).stderr(log).spawn();
    let member = Member(member.unwrap());
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
