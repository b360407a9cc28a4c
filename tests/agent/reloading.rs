//! The local file of a running member, read again: by SIGHUP and by POST /reload.

use super::dynamic::{ask, own_status, show, until};
use super::*;
use crate::kubectl::wait_for_line;

pub(super) fn change(config: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_str(&fs::read_to_string(config).unwrap()).unwrap();
    change(&mut value);
    fs::write(config, value.to_string()).unwrap();
}

async fn shows(home: &Home, sql: u16, setting: &str, wanted: &str) {
    let end = Instant::now() + DEADLINE;
    while show(home, sql, setting) != wanted {
        assert!(Instant::now() < end, "{setting} is not {wanted}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_in_force_at_once_and_a_broken_one_changes_nothing() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("reload");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    let (member, log) = logging_member(&home, &config);
    wait_for("at first", rest, "/primary", 200).await;
    let first = until(rest, "it runs", |s| s["postmaster_start_time"].is_string()).await;

    // SIGHUP reaches the agent through its guardian.
    change(&config, |c| {
        c["postgresql"]["parameters"]["work_mem"] = json!("9MB");
        c["tags"] = json!({ "zone": "a", "nofailover": true });
        c["restapi"]["authentication"] = json!({ "username": "u", "password": "p" });
    });
    let pid = member.0.id().to_string();
    let sent = Command::new("kill").args(["-HUP", &pid]).status().unwrap();
    assert!(sent.success());
    let tagged = until(rest, "its tags are shown", |s| s["tags"]["zone"] == "a").await;
    assert_eq!(tagged["tags"]["nofailover"], true);
    shows(&home, sql, "work_mem", "9MB").await;
    let (status, _) = ask(rest, "POST", "/reload", "").await;
    assert_eq!(status, 401, "and from now on not everybody may ask");

    // A file with an error, and one that is none: everything of before stays.
    let before = fs::read_to_string(&config).unwrap();
    for (broken, wanted) in [
        ("{ not YAML", "the settings were not read again"),
        ("scope: [1]", "the settings were not read again"),
    ] {
        fs::write(&config, broken).unwrap();
        fs::write(&log, "").unwrap();
        Command::new("kill").args(["-HUP", &pid]).status().unwrap();
        wait_for_line(&log, wanted).await;
        assert_eq!(own_status(rest).await["tags"]["zone"], "a", "{broken}");
        assert_eq!(show(&home, sql, "work_mem"), "9MB", "{broken}");
    }
    fs::write(&config, before).unwrap();

    // What others know of a member by now waits for its next start, and that is said.
    change(&config, |c| {
        c["name"] = json!("another");
        c["tags"] = json!({ "zone": "b" });
        c["restapi"]["authentication"] = Value::Null;
    });
    Command::new("kill").args(["-HUP", &pid]).status().unwrap();
    until(rest, "the other tag", |s| s["tags"]["zone"] == "b").await;
    wait_for_line(&log, "name changed: it takes effect with the next start").await;
    let last = own_status(rest).await;
    assert_eq!(last["patroni"]["name"], "solo-0");
    let answer = ask(rest, "POST", "/reload", "").await;
    assert_eq!(answer, (202, "reload scheduled".to_owned()));
    fs::write(&config, "scope: [1]").unwrap();
    let (status, said) = ask(rest, "POST", "/reload", "").await;
    assert_eq!(status, 500, "{said}");
    assert!(said.contains("scope"), "{said}");
    assert_eq!(
        last["postmaster_start_time"], first["postmaster_start_time"],
        "the server was never stopped"
    );
    drop(member);
    api.stop().await;
}
