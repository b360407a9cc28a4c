//! Copies of the leader by commands of the user's: their contract, and the next one where one
//! fails.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::dynamic::{query, until};
use super::hooks::script;
use super::kubectl::wait_for_line;
use super::reloading::change;
use super::*;

/// A second member of the cluster; its volume is another directory of the same home.
pub(super) async fn second(home: &Home, api: &Handle) -> PathBuf {
    let pod = json!({
        "metadata": {
            "name": "solo-1",
            "labels": {"application": "pgwarden", "cluster-name": "solo"},
        },
        "spec": {"containers": [{"name": "postgres", "image": "postgres"}]},
    });
    create::<Pod>(api, pod).await;
    api.edit("pods", "default", "solo-1", |pod| {
        pod["metadata"]["uid"] = json!("uid-2");
    });
    let config = config_with(home, api);
    change(&config, |c| {
        c["name"] = json!("solo-1");
        c["kubernetes"]["pod_uid"] = json!("uid-2");
    });
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_method_that_goes_well_makes_the_copy() {
    if !has_postgres() {
        return;
    }
    let (home, there) = (Home::new("methods-a"), Home::new("methods-b"));
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    let (member, _) = logging_member(&home, &config);
    wait_for("the leader", rest, "/primary", 200).await;
    query(&home, sql, "CREATE TABLE t AS SELECT 'there' AS w");

    let config = second(&there, &api).await;
    let (rest_b, sql_b) = ports(&config);
    let told = there.0.join("member/told");
    let say = |name: &str| format!("echo \"{name} $@\" >> {}", told.display());
    let fails = script(&there, "fails", &format!("{}\nexit 1", say("fails")));
    let read = "for word in \"$@\"; do case $word in --datadir=*) dir=${word#--datadir=};; \
                --connstring=*) from=${word#--connstring=};; esac; done";
    let half = script(
        &there,
        "half",
        &format!("{}\n{read}\necho 15 > $dir/PG_VERSION", say("half")),
    );
    let body = format!(
        "{}\n{read}\n{BIN_DIR}/pg_basebackup -d \"$from\" -D $dir -X stream -c fast -w",
        say("copies")
    );
    let copies = script(&there, "copies", &body);
    let body = format!("{}\n{read}\n{BIN_DIR}/initdb -D $dir -N", say("stranger"));
    let stranger = script(&there, "stranger", &body);
    let never = script(&there, "never", &say("never"));
    change(&config, |c| {
        let pg = &mut c["postgresql"];
        pg["create_replica_methods"] = json!([
            "fails",
            "missing",
            "half",
            "stranger",
            "copies",
            "never",
            "basebackup"
        ]);
        pg["fails"] = json!({ "command": fails, "keep": 1 });
        pg["missing"] = json!({ "command": "/nowhere/method" });
        pg["half"] = json!({ "command": half });
        pg["stranger"] = json!({ "command": stranger });
        pg["copies"] = json!({ "command": copies });
        pg["never"] = json!({ "command": never });
    });
    there.hand_over();
    let (replica, log) = logging_member(&there, &config);
    wait_for("the copy", rest_b, "/replica", 200).await;
    until(rest_b, "it streams", |s| {
        s["replication_state"] == "streaming"
    })
    .await;
    assert_eq!(query(&there, sql_b, "SELECT w FROM t"), "there");
    let said = fs::read_to_string(&told).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert!(
        lines[0].starts_with("fails --scope=solo --role=replica --connstring=host="),
        "{said}"
    );
    assert!(
        lines[0].contains(" --datadir=/") && lines[0].ends_with(" --keep=1"),
        "{said}"
    );
    assert!(!said.contains("password"), "{said}");
    assert!(
        lines[1].starts_with("half ") && lines[3].starts_with("copies "),
        "{said}"
    );
    // What is another cluster's is no copy.
    assert!(lines[2].starts_with("stranger "), "{said}");
    let log = fs::read_to_string(&log).unwrap();
    assert!(
        log.contains("missing: it cannot be run: /nowhere/method is not there"),
        "{log}"
    );
    drop(replica);
    drop(member);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_arguments_fills_the_data_directory_itself() {
    if !has_postgres() {
        return;
    }
    let (home, there) = (Home::new("filling-a"), Home::new("filling-b"));
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let (rest, sql) = ports(&config);
    let (member, _) = logging_member(&home, &config);
    wait_for("the leader", rest, "/primary", 200).await;

    let config = second(&there, &api).await;
    let (rest_b, sql_b) = ports(&config);
    let data = there.0.join("member/data");
    // Half a directory, which basebackup makes good; and the words that it did not get.
    let body = format!(
        "echo 15 > {0}/PG_VERSION\necho \"words $#\"\nexit 1",
        data.display()
    );
    let breaks = script(&there, "breaks", &body);
    change(&config, |c| {
        c["postgresql"]["create_replica_methods"] = json!(["mine", "basebackup"]);
        c["postgresql"]["mine"] =
            json!({ "command": breaks, "no_params": true, "keep_data": true, "no_leader": true });
    });
    there.hand_over();
    let (replica, log) = logging_member(&there, &config);
    wait_for("the copy", rest_b, "/replica", 200).await;
    wait_for_line(&log, "words 0").await;
    drop(replica);

    // The same, and it works; begun with what is there.
    query(&home, sql, "CREATE TABLE t AS SELECT 'there' AS w");
    let (seen, source) = (there.0.join("member/seen"), home.0.join("member/pgpass"));
    let body = format!(
        "ls {data} > {seen}\nrm -rf {data}/* \n\
         PGPASSFILE={pass} {BIN_DIR}/pg_basebackup -h 127.0.0.1 -p {sql} -U replicator -D {data} -X stream -c fast -w",
        data = data.display(),
        seen = seen.display(),
        pass = source.display(),
    );
    script(&there, "breaks", &body);
    there.hand_over();
    let (replica, log) = logging_member(&there, &config);
    wait_for("it is back", rest_b, "/replica", 200).await;
    let (status, said) = super::dynamic::ask(rest_b, "POST", "/reinitialize", "").await;
    assert_eq!(status, 200, "{said}");
    wait_for_line(&log, "the copy is made by mine").await;
    let end = Instant::now() + DEADLINE;
    while query(&there, sql_b, "SELECT w FROM t") != "there" || !seen.exists() {
        assert!(
            Instant::now() < end,
            "{}",
            fs::read_to_string(&log).unwrap()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(fs::read_to_string(&seen).unwrap().contains("PG_VERSION"));
    drop(replica);
    drop(member);
    api.stop().await;
}
