//! Commands of the user's that print without end, or never end: what they are for is done, the log
//! stays small, and they end with their member.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::bootstrap::DATADIR;
use super::dynamic::{ask, query};
use super::guards::ends_with;
use super::hooks::{script, stubborn, until_file};
use super::methods::second;
use super::reloading::change;
use super::*;

/// Prints 150,000 lines before it does its work.
fn flooding(home: &Home, name: &str, body: &str) -> String {
    script(
        home,
        name,
        &format!("yes {name} floods | head -c 2000000\n{body}"),
    )
}

/// What each has printed is in the log, and little of it.
fn is_small(log: &Path, names: &[&str]) {
    let text = fs::read_to_string(log).unwrap();
    for name in names {
        let lines = text.matches(&format!("{name} floods")).count();
        assert!((1..2_000).contains(&lines), "{name}: {lines} lines");
    }
    assert!(text.contains("lines are left out here"), "it is said");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_floods_does_its_work_all_the_same() {
    if !has_postgres() {
        return;
    }
    let (home, there) = (Home::new("floods-a"), Home::new("floods-b"));
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    let told = home.0.join("member/told");
    let tells = |name: &str| flooding(&home, name, &format!("echo {name} >> {}", told.display()));
    let body = format!("{DATADIR}\n{BIN_DIR}/initdb -D $dir -U postgres -A trust -N");
    let makes = flooding(&home, "makes", &body);
    change(&config, |c| {
        c["bootstrap"]["method"] = json!("mine");
        c["bootstrap"]["mine"] = json!({ "command": makes });
        c["bootstrap"]["post_bootstrap"] = json!(tells("completes"));
        c["postgresql"]["callbacks"] = json!({ "on_start": tells("starts") });
        c["postgresql"]["before_stop"] = json!(tells("stops"));
        c["postgresql"]["pre_promote"] = json!(tells("agrees"));
    });
    home.hand_over();
    let (member, log) = logging_member(&home, &config);
    wait_for("it is made", rest, "/primary", 200).await;
    until_file(&told, "the callback", |text| text.contains("starts")).await;
    let (code, said) = ask(rest, "POST", "/restart", "").await;
    assert_eq!((code, said.as_str()), (200, "restarted successfully"));
    let text = fs::read_to_string(&told).unwrap();
    assert!(
        text.contains("completes") && text.contains("stops"),
        "{text}"
    );
    is_small(&log, &["makes", "completes", "starts", "stops"]);
    drop(member);
    fs::write(home.0.join("member/data/standby.signal"), "").unwrap();
    home.hand_over();
    let (member, log) = logging_member(&home, &config);
    wait_for("it agrees", rest, "/primary", 200).await;
    until_file(&told, "it was asked", |text| text.contains("agrees")).await;
    is_small(&log, &["agrees"]);
    query(&home, sql, "CREATE TABLE t AS SELECT 'there' AS w");

    let config = second(&there, &api).await;
    let (rest_b, sql_b) = ports(&config);
    let from = "for word in \"$@\"; do case $word in --connstring=*) from=${word#--connstring=};; esac; done";
    let body = format!(
        "{DATADIR}\n{from}\n{BIN_DIR}/pg_basebackup -d \"$from\" -D $dir -X stream -c fast -w"
    );
    let copies = flooding(&there, "copies", &body);
    change(&config, |c| {
        c["postgresql"]["create_replica_methods"] = json!(["mine"]);
        c["postgresql"]["mine"] = json!({ "command": copies });
    });
    there.hand_over();
    let (replica, log) = logging_member(&there, &config);
    wait_for("the copy", rest_b, "/replica", 200).await;
    assert_eq!(query(&there, sql_b, "SELECT w FROM t"), "there");
    is_small(&log, &["copies"]);
    drop((replica, member));
    api.stop().await;
}

/// A member whose command hangs is asked to end, and so does all that the command started.
async fn hangs_and_ends(home: &Home, config: &Path, pids: &Path) {
    let (rest, _) = ports(config);
    let (mut member, _) = logging_member(home, config);
    let both = until_file(pids, "it hangs", |text| text.lines().count() == 2).await;
    assert_eq!(status(rest, "/primary").await, Some(503));
    assert_eq!(status(rest, "/liveness").await, Some(200));
    ends_with(&mut member, &both).await;
    fs::remove_file(pids).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_or_a_copy_whose_command_hangs_is_begun_again_after_a_stop() {
    if !has_postgres() {
        return;
    }
    let (home, there) = (Home::new("hangs-a"), Home::new("hangs-b"));
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    let pids = home.0.join("member/pids");
    let hangs = script(&home, "hangs", &stubborn(&pids));
    change(&config, |c| {
        c["bootstrap"]["method"] = json!("mine");
        c["bootstrap"]["mine"] = json!({ "command": hangs });
    });
    home.hand_over();
    hangs_and_ends(&home, &config, &pids).await;
    let body = format!("{DATADIR}\n{BIN_DIR}/initdb -D $dir -U postgres -A trust -N");
    let makes = script(&home, "makes", &body);
    change(&config, |c| {
        c["bootstrap"]["mine"] = json!({ "command": makes });
        c["bootstrap"]["post_bootstrap"] = json!(hangs);
    });
    hangs_and_ends(&home, &config, &pids).await;
    change(&config, |c| {
        c["bootstrap"]["post_bootstrap"] = json!("/bin/true");
    });
    let (member, _) = logging_member(&home, &config);
    wait_for("it is made at last", rest, "/primary", 200).await;
    query(&home, sql, "CREATE TABLE t AS SELECT 'there' AS w");

    let config = second(&there, &api).await;
    let (rest_b, sql_b) = ports(&config);
    let pids = there.0.join("member/pids");
    let hangs = script(&there, "hangs", &stubborn(&pids));
    change(&config, |c| {
        c["postgresql"]["create_replica_methods"] = json!(["mine", "basebackup"]);
        c["postgresql"]["mine"] = json!({ "command": hangs });
    });
    there.hand_over();
    hangs_and_ends(&there, &config, &pids).await;
    change(&config, |c| {
        c["postgresql"]["create_replica_methods"] = json!(["basebackup"]);
    });
    let (replica, _) = logging_member(&there, &config);
    wait_for("the copy", rest_b, "/replica", 200).await;
    assert_eq!(query(&there, sql_b, "SELECT w FROM t"), "there");
    drop((replica, member));
    api.stop().await;
}
