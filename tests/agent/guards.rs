//! Hooks that are waited for: `pre_promote` decides, `before_stop` is heard, and neither holds up
//! what must not wait.

use super::dynamic::{ask, query};
use super::hooks::{lives, script, stubborn, until_dead, until_file};
use super::kubectl::wait_for_line;
use super::reloading::change;
use super::*;

/// A member that has been a primary, is stopped, and will start as a replica.
async fn stopped_replica(home: &Home, config: &Path) {
    let (rest, _) = ports(config);
    let (member, _) = logging_member(home, config);
    wait_for("at first", rest, "/primary", 200).await;
    wait_for("it is stored", rest, "/config", 200).await;
    drop(member);
    fs::write(home.0.join("member/data/standby.signal"), "").unwrap();
    home.hand_over();
}

/// Asked to end, it ends in order, and so do these processes.
pub(super) async fn ends_with(member: &mut Member, pids: &str) {
    let pid = member.0.id().to_string();
    Command::new("kill").arg(&pid).status().unwrap();
    let ended = tokio::task::block_in_place(|| member.0.wait().unwrap());
    assert_eq!(ended.code(), Some(0));
    until_dead(pids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_promoted_against_pre_promote() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("pre-promote");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    stopped_replica(&home, &config).await;
    let asked = home.0.join("member/asked");
    let no = script(
        &home,
        "no",
        &format!("echo asked >> {}\nexit 3", asked.display()),
    );
    change(&config, |c| c["postgresql"]["pre_promote"] = json!(no));
    let (member, log) = logging_member(&home, &config);
    until_file(&asked, "it is asked", |text| !text.is_empty()).await;
    let said = wait_for_line(&log, "release the lock: pre_promote does not agree").await;
    assert!(
        said.contains("pre_promote failed: it failed (exit status: 3)"),
        "{said}"
    );
    // The lock is free for a TTL, and then it is asked again: as nobody else is there.
    until_file(&asked, "it is asked again", |text| {
        text.lines().count() == 2
    })
    .await;
    assert_eq!(query(&home, sql, "SELECT pg_is_in_recovery()"), "t");
    assert_eq!(status(rest, "/primary").await, Some(503));
    // One that is not there does not agree either.
    change(&config, |c| {
        c["postgresql"]["pre_promote"] = json!("/nowhere/hook");
    });
    let (code, _) = ask(rest, "POST", "/reload", "").await;
    assert_eq!(code, 202);
    wait_for_line(
        &log,
        "pre_promote does not agree: it cannot be run: /nowhere/hook",
    )
    .await;
    let yes = script(&home, "yes", "exit 0");
    change(&config, |c| c["postgresql"]["pre_promote"] = json!(yes));
    ask(rest, "POST", "/reload", "").await;
    wait_for("it agrees", rest, "/primary", 200).await;
    drop(member);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_goes_no_further_while_its_hook_hangs_and_the_member_can_still_be_stopped() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("pre-promote-hangs");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, _) = ports(&config);
    stopped_replica(&home, &config).await;
    let pids = home.0.join("member/pids");
    let hangs = script(&home, "hangs", &stubborn(&pids));
    change(&config, |c| c["postgresql"]["pre_promote"] = json!(hangs));
    let (mut member, _) = logging_member(&home, &config);
    let both = until_file(&pids, "it hangs", |text| text.lines().count() == 2).await;
    let renewed = |api: &Handle| {
        let lease = api.object("leases", "default", "solo").unwrap();
        lease["spec"]["renewTime"].clone()
    };
    let (first, end) = (renewed(&api), Instant::now() + DEADLINE);
    while renewed(&api) == first {
        assert!(Instant::now() < end, "the lock is renewed meanwhile");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(status(rest, "/primary").await, Some(503));
    ends_with(&mut member, &both).await;
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_order_runs_before_stop_and_does_not_wait_for_one_that_hangs() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("before-stop");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    let (pids, told) = (home.0.join("member/pids"), home.0.join("member/told"));
    let psql = format!("{BIN_DIR}/psql -h 127.0.0.1 -p {sql} -U postgres -XAtc 'SELECT 1'");
    let body = format!("PGPASSWORD=s {psql} >> {} 2>&1\nexit 1", told.display());
    let fails = script(&home, "fails", &body);
    change(&config, |c| c["postgresql"]["before_stop"] = json!(fails));
    home.hand_over();
    let (mut member, log) = logging_member(&home, &config);
    wait_for("at first", rest, "/primary", 200).await;
    let (code, said) = ask(rest, "POST", "/restart", "").await;
    assert_eq!((code, said.as_str()), (200, "restarted successfully"));
    // The server still answered it; that it failed is said, and the stop went on.
    assert_eq!(fs::read_to_string(&told).unwrap(), "1\n");
    wait_for_line(&log, "postgresql.before_stop: it failed (exit status: 1)").await;

    let hangs = script(&home, "hangs", &stubborn(&pids));
    change(&config, |c| c["postgresql"]["before_stop"] = json!(hangs));
    let (code, _) = ask(rest, "POST", "/reload", "").await;
    assert_eq!(code, 202);
    wait_for("it goes on", rest, "/primary", 200).await;
    let pid = member.0.id().to_string();
    Command::new("kill").arg(&pid).status().unwrap();
    let both = until_file(&pids, "it hangs", |text| text.lines().count() == 2).await;
    assert!(both.split_whitespace().all(lives));
    let ended = tokio::task::block_in_place(|| member.0.wait().unwrap());
    assert_eq!(ended.code(), Some(0), "stopped in order all the same");
    until_dead(&both).await;
    api.stop().await;
}
