//! Callbacks of a running member: told in Patroni's words, ended by the next one with all that
//! they started, and in nobody's way when they hang, flood, or are not there.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::dynamic::{ask, own_status, query};
use super::kubectl::wait_for_line;
use super::reloading::change;
use super::*;
use std::os::unix::fs::PermissionsExt;

/// An executable script of the test's.
pub(super) fn script(home: &Home, name: &str, body: &str) -> String {
    let path = home.0.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

pub(super) async fn until_file(path: &Path, what: &str, so: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + DEADLINE;
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if so(&text) {
            return text;
        }
        assert!(Instant::now() < end, "{what}: {text:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The process is there and no zombie.
pub(super) fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

pub(super) async fn until_dead(pids: &str) {
    let end = Instant::now() + DEADLINE;
    while pids.split_whitespace().any(lives) {
        assert!(Instant::now() < end, "one of {pids} lives");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Hangs, hears no SIGTERM, and so does what it started in a session of its own, whose parent has
/// ended since.
pub(super) fn stubborn(pids: &Path) -> String {
    let at = pids.display();
    format!(
        "trap '' TERM\necho $$ >> {at}\n( setsid sh -c 'trap \"\" TERM; echo $$ >> {at}; \
         while :; do sleep 1; done' & )\nwhile :; do sleep 1; done"
    )
}

async fn patch(rest: u16, body: &str) {
    wait_for("once it is stored", rest, "/config", 200).await;
    let (status, said) = ask(rest, "PATCH", "/config", body).await;
    assert_eq!(status, 200, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_are_told_in_patronis_words_and_see_no_secret() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("callbacks");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (told, seen) = (home.0.join("member/told"), home.0.join("member/env"));
    let body = format!(
        "env > {}\necho \"$@\" >> {}",
        seen.display(),
        told.display()
    );
    let hook = script(&home, "hook", &body);
    change(&config, |c| {
        for action in ["start", "stop", "restart", "reload", "role_change"] {
            c["postgresql"]["callbacks"][format!("on_{action}")] = json!(format!("{hook} 'a b' "));
        }
    });
    home.hand_over();
    let log = fs::File::create(home.0.join("log")).unwrap();
    let mut command = agent(&home, &config);
    command
        .env("PATRONI_SUPERUSER_PASSWORD", "s")
        .env("PGPASSWORD", "s")
        .env("KEPT", "yes");
    let member = Member(
        command
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn()
            .unwrap(),
    );
    let (rest, _) = ports(&config);
    wait_for("at first", rest, "/primary", 200).await;
    // None while the cluster is made; then one.
    let first = until_file(&told, "on_start", |text| text.contains("on_start")).await;
    assert_eq!(first, "a b on_start primary solo\n");
    let env = fs::read_to_string(&seen).unwrap();
    assert!(env.lines().any(|line| line == "KEPT=yes"), "{env}");
    for private in ["PATRONI_", "PGWARDEN_", "PGPASSWORD"] {
        assert!(!env.lines().any(|line| line.starts_with(private)), "{env}");
    }
    patch(
        rest,
        r#"{"postgresql": {"parameters": {"work_mem": "9MB"}}}"#,
    )
    .await;
    until_file(&told, "on_reload", |text| {
        text.ends_with("a b on_reload primary solo\n")
    })
    .await;
    let (status, said) = ask(rest, "POST", "/restart", "").await;
    assert_eq!(status, 200, "{said}");
    until_file(&told, "on_restart", |text| {
        text.contains("a b on_restart primary solo\n")
    })
    .await;
    drop(member);
    let all = fs::read_to_string(&told).unwrap();
    let actions: Vec<&str> = all
        .lines()
        .map(|line| line.split(' ').nth(2).unwrap())
        .filter(|action| *action != "on_reload")
        .collect();
    assert_eq!(actions, ["on_start", "on_restart", "on_stop"], "{all}");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_hangs_is_ended_by_the_next_one_with_all_that_it_started() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("hanging");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (pids, told) = (home.0.join("member/pids"), home.0.join("member/told"));
    let hangs = script(&home, "hangs", &stubborn(&pids));
    // It may not begin before the other has ended.
    let body = format!(
        "for pid in $(cat {pids}); do kill -0 $pid && echo \"$pid lives\" >> {told}; done\n\
         echo ended >> {told}",
        pids = pids.display(),
        told = told.display()
    );
    let tells = script(&home, "tells", &body);
    change(&config, |c| {
        c["postgresql"]["callbacks"] = json!({ "on_start": hangs, "on_restart": tells });
    });
    home.hand_over();
    let (rest, sql) = ports(&config);
    let (member, log) = logging_member(&home, &config);
    wait_for("at first", rest, "/primary", 200).await;
    let both = until_file(&pids, "it hangs", |text| text.lines().count() == 2).await;
    // Nothing waits for it.
    assert_eq!(query(&home, sql, "SELECT 1"), "1");
    let (status, said) = ask(rest, "POST", "/restart", "").await;
    assert_eq!(status, 200, "{said}");
    let said = until_file(&told, "on_restart", |text| text.contains("ended")).await;
    assert_eq!(said, "ended\n");
    until_dead(&both).await;
    wait_for_line(&log, "callbacks.on_start was ended: a newer one is due").await;
    drop(member);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_and_its_verified_stop_pass_a_hanging_callback_by() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("fenced-hook");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let pids = home.0.join("member/pids");
    let hangs = script(&home, "hangs", &stubborn(&pids));
    change(&config, |c| {
        c["postgresql"]["callbacks"] = json!({ "on_start": hangs });
    });
    home.hand_over();
    let (rest, _) = ports(&config);
    let (member, log) = logging_member(&home, &config);
    wait_for("at first", rest, "/primary", 200).await;
    let both = until_file(&pids, "it hangs", |text| text.lines().count() == 2).await;
    // Without the API the lock cannot be renewed.
    api.stop().await;
    wait_for_line(&log, "nothing of it is left").await;
    assert!(
        both.split_whitespace().all(lives),
        "{both} is no backend, and goes on"
    );
    // A new agent knows nothing of it, so it goes with the old one.
    let agents = format!("/proc/{0}/task/{0}/children", member_pid(&member));
    let children = fs::read_to_string(agents).unwrap();
    let agent = children.split_whitespace().next().unwrap();
    Command::new("kill").args(["-9", agent]).status().unwrap();
    until_dead(&both).await;
    drop(member);
}

/// The guardian: `setpriv` became it.
pub(super) fn member_pid(member: &Member) -> u32 {
    member.0.id()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_floods_fills_no_log_and_one_that_is_not_there_is_said_once() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("flooding");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let plain = home.0.join("plain").display().to_string();
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let done = home.0.join("member/done");
    let flood = format!(
        "yes flooding | head -c 20000000\nhead -c 3000000 /dev/zero | tr '\\0' x\necho $? > {}",
        done.display()
    );
    let floods = script(&home, "floods", &flood);
    change(&config, |c| {
        c["postgresql"]["callbacks"] = json!({
            "on_start": "/nowhere/hook", "on_restart": plain, "on_reload": floods,
        });
    });
    home.hand_over();
    let (rest, sql) = ports(&config);
    let (member, log) = logging_member(&home, &config);
    wait_for("at first", rest, "/primary", 200).await;
    wait_for_line(
        &log,
        "postgresql.callbacks.on_start: it cannot be run: /nowhere/hook is not there",
    )
    .await;
    let end = Instant::now() + DEADLINE;
    loop {
        let (_, listed) = ask(rest, "GET", "/cluster", "").await;
        if listed.contains("/nowhere/hook is not there") {
            break;
        }
        assert!(Instant::now() < end, "people are not told: {listed}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(own_status(rest).await["state"], "running", "it goes on");
    let (status, said) = ask(rest, "POST", "/restart", "").await;
    assert_eq!(status, 200, "{said}");
    wait_for_line(&log, "plain is not executable by this user").await;
    patch(
        rest,
        r#"{"postgresql": {"parameters": {"work_mem": "9MB"}}}"#,
    )
    .await;
    assert_eq!(
        until_file(&done, "it has flooded", |text| !text.is_empty()).await,
        "0\n"
    );
    wait_for_line(&log, "lines are left out here").await;
    let text = fs::read_to_string(&log).unwrap();
    let flooded = text.matches("flooding").count();
    assert!(
        flooded > 0 && text.len() < 400_000,
        "{flooded} lines, {} bytes",
        text.len()
    );
    assert_eq!(text.matches("/nowhere/hook is not there").count(), 1);
    assert_eq!(own_status(rest).await["state"], "running");
    assert_eq!(query(&home, sql, "SELECT 1"), "1");
    drop(member);
    api.stop().await;
}
