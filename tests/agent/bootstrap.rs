//! A cluster that a command of the user's makes: its contract, a recovery to a point in time, and
//! what becomes of one that is made by half or fails its `post_bootstrap`.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::dynamic::{ask, query, until};
use super::hooks::{script, until_file};
use super::kubectl::wait_for_line;
use super::pause::send;
use super::reloading::change;
use super::tls::postmaster;
use super::*;

/// The value of `--datadir=`, as scripts read it.
pub(super) const DATADIR: &str =
    "for word in \"$@\"; do case $word in --datadir=*) dir=${word#--datadir=};; esac; done";

fn initialize(api: &Handle) -> Value {
    let object = api.object("configmaps", "default", "solo-config");
    object.map_or(Value::Null, |object| {
        object["metadata"]["annotations"]["initialize"].clone()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_makes_the_cluster_and_another_completes_it() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("custom");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    let (told, made) = (home.0.join("member/told"), home.0.join("member/made"));
    let body = format!(
        "{DATADIR}\necho \"$@\" > {}\n{BIN_DIR}/initdb -D $dir -U postgres -A trust -N",
        made.display()
    );
    let makes = script(&home, "makes", &body);
    let body = format!(
        "{BIN_DIR}/psql -XAt -c 'CREATE TABLE made AS SELECT 1 AS one' -c 'SHOW synchronous_commit' \
         \"$1\" > {told} 2>&1\nls -l $PGPASSFILE | cut -c1-10 >> {told}\necho \"$1\" >> {told}\n\
         echo post >> {told}",
        told = told.display()
    );
    let completes = script(&home, "completes", &body);
    let calls = script(
        &home,
        "calls",
        &format!("echo \"$1 $2\" >> {}", told.display()),
    );
    change(&config, |c| {
        c["bootstrap"]["method"] = json!("mine");
        c["bootstrap"]["mine"] = json!({ "command": makes, "from": "nowhere", "fast": true });
        c["bootstrap"]["post_bootstrap"] = json!(completes);
        c["postgresql"]["callbacks"] = json!({ "on_start": calls });
    });
    home.hand_over();
    let (member, _) = logging_member(&home, &config);
    wait_for("it is made", rest, "/primary", 200).await;
    let words = fs::read_to_string(&made).unwrap();
    let words: Vec<&str> = words.split_whitespace().collect();
    assert_eq!(words[0], "--scope=solo");
    assert!(words[1].starts_with("--datadir=/"), "{words:?}");
    assert_eq!(words[2..], ["--fast=True", "--from=nowhere"]);
    // No callback before the bootstrap is complete.
    let said = until_file(&told, "on_start", |text| text.contains("on_start")).await;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["SELECT 1", "local", "-rw-------"], "{said}");
    assert!(
        lines[3].contains("user='postgres'") && !lines[3].contains("password"),
        "{said}"
    );
    assert_eq!(lines[4..], ["post", "on_start primary"], "{said}");
    assert_eq!(query(&home, sql, "SELECT one FROM made"), "1");
    // What was open while nobody knew a password is closed.
    let hba = fs::read_to_string(home.0.join("member/data/pg_hba.conf")).unwrap();
    assert!(!hba.contains("trust"), "{hba}");
    let left: Vec<_> = fs::read_dir(home.0.join("member"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().contains("bootstrap")),
        "{left:?}"
    );
    drop(member);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_not_kept_and_may_be_begun_again() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("half");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    let half = format!("{DATADIR}\nmkdir -p $dir/global\necho 15 > $dir/PG_VERSION");
    let makes = script(&home, "makes", &half);
    change(&config, |c| {
        c["bootstrap"]["method"] = json!("mine");
        c["bootstrap"]["mine"] = json!({ "command": makes });
        c["bootstrap"]["post_init"] = json!("/bin/false");
    });
    home.hand_over();
    let data = home.0.join("member/data");
    let (member, log) = logging_member(&home, &config);
    wait_for_line(&log, "release the lock: the bootstrap failed: mine: the command ended well and left no data directory").await;
    assert_eq!(initialize(&api), Value::Null, "given back");
    assert!(!data.join("PG_VERSION").exists());
    // Shown to people.
    let end = Instant::now() + DEADLINE;
    loop {
        let (_, listed) = ask(rest, "GET", "/cluster", "").await;
        if listed.contains("left no data directory") {
            break;
        }
        assert!(Instant::now() < end, "{listed}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // Whole, but the user's last word is no.
    let whole = format!("{DATADIR}\n{BIN_DIR}/initdb -D $dir -U postgres -A trust -N");
    script(&home, "makes", &whole);
    home.hand_over();
    wait_for_line(
        &log,
        "release the lock: the bootstrap failed: bootstrap.post_bootstrap: it failed",
    )
    .await;
    assert_eq!(initialize(&api), Value::Null, "given back");
    assert_eq!(status(rest, "/primary").await, Some(503));
    assert_eq!(query(&home, sql, "SELECT 1"), "", "nothing runs");

    change(&config, |c| {
        c["bootstrap"]["post_init"] = json!("/bin/true");
    });
    let (code, said) = ask(rest, "POST", "/reload", "").await;
    assert_eq!(code, 202, "{said}");
    wait_for("it is through", rest, "/primary", 200).await;
    let failed = home.0.join("member/data.failed");
    assert!(
        failed.join("PG_VERSION").exists(),
        "kept for people to look at"
    );
    let id = until(rest, "its own", |s| {
        s["database_system_identifier"].is_string()
    })
    .await;
    let end = Instant::now() + DEADLINE;
    while initialize(&api) != id["database_system_identifier"] {
        assert!(Instant::now() < end, "{}", initialize(&api));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(member);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_to_a_point_in_time_ends_as_a_primary() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("pitr-source");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    let archive = home.0.join("member/archive");
    fs::create_dir_all(&archive).unwrap();
    change(&config, |c| {
        let parameters = &mut c["postgresql"]["parameters"];
        parameters["archive_mode"] = json!("on");
        parameters["archive_command"] = json!(format!("cp %p {}/%f", archive.display()));
    });
    home.hand_over();
    let (member, _) = logging_member(&home, &config);
    wait_for("the source", rest, "/primary", 200).await;
    let backup = home.0.join("member/backup");
    let run = |line: &str| {
        let mut shell = Command::new("sh");
        let output = shell
            .args(["-c", line])
            .env("PGPASSWORD", "r")
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    };
    run(&format!(
        "{BIN_DIR}/pg_basebackup -h 127.0.0.1 -p {sql} -U replicator -D {} -X none --no-manifest -c fast",
        backup.display()
    ));
    for statement in [
        "CREATE TABLE t AS SELECT 'before' AS w",
        "SELECT pg_create_restore_point('there')",
        "INSERT INTO t VALUES ('after')",
        "SELECT pg_switch_wal()",
    ] {
        query(&home, sql, statement);
    }
    let wal = query(
        &home,
        sql,
        "SELECT pg_walfile_name(pg_current_wal_lsn() - 1)",
    );
    let end = Instant::now() + DEADLINE;
    while !archive.join(&wal).exists() {
        assert!(Instant::now() < end, "{wal} is not archived");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(member);
    api.stop().await;

    let other = Home::new("pitr");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&other, &api);
    let (rest, sql) = ports(&config);
    let body = format!("{DATADIR}\ncp -r {}/. $dir", backup.display());
    let makes = script(&other, "makes", &body);
    change(&config, |c| {
        c["bootstrap"]["method"] = json!("backup");
        c["bootstrap"]["backup"] = json!({
            "command": makes,
            "recovery_conf": {
                "restore_command": format!("cp {}/%f %p", archive.display()),
                "recovery_target_name": "there",
            },
        });
        // Another one than in the backup.
        c["postgresql"]["authentication"]["superuser"]["password"] = json!("new");
    });
    if is_root() {
        run(&format!("chown -R postgres: {}", home.0.display()));
    }
    other.hand_over();
    let (member, log) = logging_member(&other, &config);
    wait_for("it is promoted", rest, "/primary", 200).await;
    let psql = format!(
        "PGPASSWORD=new {BIN_DIR}/psql -h 127.0.0.1 -p {sql} -U postgres -d postgres -XAtc \
         \"SELECT string_agg(w, ' ') || ' ' || pg_is_in_recovery() FROM t\""
    );
    let output = Command::new("sh").args(["-c", &psql]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "before false",
        "{output:?}"
    );
    assert!(!other.0.join("member/data/pgwarden.recovery.conf").exists());
    let said = fs::read_to_string(&log).unwrap();
    assert!(!said.contains("fenced"), "{said}");
    drop(member);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_changed_since_survives_a_crash() {
    // Found by an attack: the first start after the bootstrap set it back to the file's.
    if !has_postgres() {
        return;
    }
    let home = Home::new("rotated");
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    let (member, log) = logging_member(&home, &config);
    wait_for("it leads", rest, "/primary", 200).await;
    wait_for_line(&log, "the users for replication and rewind are made").await;
    query(&home, sql, "ALTER ROLE replicator PASSWORD 'rotated'");
    let stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'replicator'";
    let rotated = query(&home, sql, stored);
    let begun = "SELECT pg_postmaster_start_time()";
    let before = query(&home, sql, begun);
    send("-KILL", &postmaster(&home));
    let end = Instant::now() + DEADLINE;
    while [String::new(), before.clone()].contains(&query(&home, sql, begun)) {
        assert!(Instant::now() < end, "it is not started again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wait_for("it leads again", rest, "/primary", 200).await;
    assert!(rotated.starts_with("SCRAM"), "{rotated}");
    assert_eq!(query(&home, sql, stored), rotated);
    let said = fs::read_to_string(&log).unwrap();
    let made = said.matches("the users for replication and rewind are made");
    assert_eq!(made.count(), 1, "{said}");
    drop(member);
    api.stop().await;
}
