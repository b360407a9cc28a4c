//! The document in the DCS: nothing in it is fatal, nothing wrong in it takes effect.

use crate::support::{LEAST, good, has};
use pgwarden::settings::{Dynamic, StandbyCluster, SyncMode};

fn parse(json: &str, in_force: &Dynamic) -> (Dynamic, Vec<String>) {
    let (dynamic, problems) = Dynamic::parse(json, in_force, &good(LEAST));
    (dynamic, problems.iter().map(ToString::to_string).collect())
}

/// Not the defaults, so that keeping is told from defaulting.
fn in_force() -> Dynamic {
    let (dynamic, problems) = parse(
        r#"{"ttl": 15, "synchronous_mode": "on", "maximum_lag_on_failover": 7,
            "check_timeline": true, "postgresql": {"use_pg_rewind": true,
            "parameters": {"work_mem": "8MB"}, "pg_hba": ["local all all trust"]}}"#,
        &Dynamic::default(),
    );
    assert!(problems.is_empty(), "{problems:#?}");
    dynamic
}

#[test]
fn a_good_document_is_read_and_absent_keys_are_defaults() {
    let now = in_force();
    assert_eq!((now.ttl_ms, now.synchronous_mode), (15_000, SyncMode::On));
    assert_eq!(now.parameters["work_mem"], "8MB");
    let (next, problems) = parse(r#"{"ttl": 20}"#, &now);
    assert!(problems.is_empty());
    assert_eq!(
        next,
        Dynamic {
            ttl_ms: 20_000,
            stored: true,
            ..Dynamic::default()
        }
    );
}

#[test]
fn a_wrong_value_keeps_the_one_in_force() {
    let now = in_force();
    let (next, said) = parse(
        r#"{"ttl": 1, "synchronous_mode": [], "maximum_lag_on_failover": "x",
            "check_timeline": 5, "loop_wait": 20, "postgresql": {"use_pg_rewind": "maybe",
            "parameters": {"work_mem": {}, "jit": false}, "pg_hba": 5}}"#,
        &now,
    );
    let mut expected = now.clone();
    expected.loop_wait_ms = 20_000;
    expected
        .parameters
        .insert("jit".to_owned(), "off".to_owned());
    assert_eq!(next, expected);
    for path in [
        "ttl",
        "synchronous_mode",
        "maximum_lag_on_failover",
        "check_timeline",
        "postgresql.use_pg_rewind",
        "postgresql.parameters.work_mem",
        "postgresql.pg_hba",
    ] {
        has(&said, &format!("error: {path}:"), "");
    }
    has(&said, "error: ttl:", "a TTL of 1 s is not possible");
}

#[test]
fn what_is_no_document_changes_nothing() {
    let now = in_force();
    for json in [
        "",
        "{",
        "[]",
        "null",
        "7",
        "\"x\"",
        "{\"ttl\": }",
        &"[".repeat(10_000),
    ] {
        let (next, said) = parse(json, &now);
        assert_eq!(next, now, "{json:.20}");
        has(&said, "error: ", "the one in force stays");
    }
}

#[test]
fn keys_are_judged_as_in_the_file() {
    let (_, said) = parse(
        r#"{"tll": 20, "pause": true, "failsafe_mode": true, "standby_cluster": {"hosts": "a"},
            "slots": null, "postgresql": {"data_dir": "/x", "listen": "a:1"}}"#,
        &Dynamic::default(),
    );
    has(&said, "warning: tll:", "did you mean ttl?");
    assert!(!said.iter().any(|p| p.contains("pause")), "{said:#?}");
    assert!(!said.iter().any(|p| p.contains("failsafe")), "{said:#?}");
    has(
        &said,
        "warning: standby_cluster.hosts:",
        "did you mean standby_cluster.host?",
    );
    has(
        &said,
        "warning: postgresql.data_dir:",
        "only in the file of a member",
    );
    assert!(!said.iter().any(|p| p.contains("slots")), "{said:#?}");
}

#[test]
fn a_standby_cluster_is_one_once_it_names_what_it_follows() {
    let follows = |json: &str| {
        let (next, said) = parse(json, &Dynamic::default());
        (next.standby_cluster, said)
    };
    let (standby, said) = follows(
        r#"{"standby_cluster": {"host": "a", "port": "5433", "primary_slot_name": "s",
            "recovery_min_apply_delay": 500, "create_replica_methods": ["basebackup"]}}"#,
    );
    let standby = standby.expect("it names a host");
    assert_eq!((standby.host.as_deref(), standby.port), (Some("a"), 5433));
    assert_eq!(standby.primary_slot_name.as_deref(), Some("s"));
    assert_eq!(standby.recovery["recovery_min_apply_delay"], "500");
    assert_eq!(standby.create_replica_methods, ["basebackup"]);
    assert!(said.is_empty(), "{said:#?}");
    let (standby, _) = follows(r#"{"standby_cluster": {"restore_command": "cp %f %p"}}"#);
    assert_eq!(standby.expect("an archive is enough").host, None);
    for none in [
        r#"{"standby_cluster": null}"#,
        r#"{"standby_cluster": {}}"#,
        r#"{"standby_cluster": {"primary_slot_name": "s"}}"#,
    ] {
        assert_eq!(follows(none).0, None, "{none}");
    }
}

#[test]
fn a_standby_cluster_that_cannot_be_read_does_not_become_writable() {
    for (json, place, words) in [
        (
            r#"{"standby_cluster": 7}"#,
            "standby_cluster:",
            "a map of keys",
        ),
        (
            r#"{"standby_cluster": {"host": "a", "port": 70000}}"#,
            "standby_cluster.port:",
            "65535",
        ),
        (
            r#"{"standby_cluster": {"host": ["a"]}}"#,
            "standby_cluster.host:",
            "expected a text",
        ),
        (
            r#"{"standby_cluster": {"host": 5}}"#,
            "standby_cluster.host:",
            "expected a text",
        ),
        (
            r#"{"standby_cluster": {"host": "a", "primary_slot_name": "Site-B"}}"#,
            "standby_cluster.primary_slot_name:",
            "small letters",
        ),
        (
            r#"{"standby_cluster": {"host": "a", "recovery_min_apply_delay": "banana"}}"#,
            "standby_cluster.recovery_min_apply_delay:",
            "expected a time",
        ),
        (
            r#"{"standby_cluster": {"restore_command": 7}}"#,
            "standby_cluster.restore_command:",
            "expected a text",
        ),
        (
            r#"{"standby_cluster": {"port": 5432}}"#,
            "standby_cluster.host:",
            "a port without a host",
        ),
    ] {
        let (next, said) = parse(json, &Dynamic::default());
        has(&said, &format!("error: {place}"), words);
        let standby = next.standby_cluster.expect("nothing is made writable");
        assert_eq!(standby.host, None, "and nobody is followed: {json}");
        let in_force = Dynamic {
            standby_cluster: Some(StandbyCluster {
                host: Some("b".into()),
                port: 5432,
                ..StandbyCluster::default()
            }),
            ..Dynamic::default()
        };
        let (next, _) = parse(json, &in_force);
        assert_eq!(next.standby_cluster, in_force.standby_cluster, "{json}");
        // A running primary is not taken down by what cannot be read.
        let (primary, _) = parse("{}", &Dynamic::default());
        assert_eq!(parse(json, &primary).0.standby_cluster, None, "{json}");
    }
}

#[test]
fn synchronous_mode_in_all_its_forms() {
    let quorum = r#"{"synchronous_mode": "quorum", "synchronous_node_count": 2}"#;
    let (next, said) = parse(quorum, &Dynamic::default());
    assert_eq!(said, Vec::<String>::new());
    assert_eq!(next.synchronous_mode, SyncMode::Quorum);
    assert_eq!(next.synchronous_node_count, 2);
    assert!(!next.waits_for_nobody());
    let strict = r#"{"synchronous_mode": true, "synchronous_mode_strict": true}"#;
    let (next, _) = parse(strict, &Dynamic::default());
    assert_eq!(next.synchronous_mode, SyncMode::On);
    assert!(next.waits_for_nobody());
    // What is wrong keeps what is in force: commits go on waiting for as many.
    let wrong = r#"{"synchronous_mode": "any", "synchronous_mode_strict": 2,
                    "synchronous_node_count": 0}"#;
    let (kept, said) = parse(wrong, &next);
    assert_eq!(said.len(), 3, "{said:?}");
    assert_eq!(kept.synchronous_mode, SyncMode::On);
    assert!(kept.waits_for_nobody());
    has(
        &said,
        "error: synchronous_mode:",
        "expected on, off or quorum",
    );
    has(
        &said,
        "error: synchronous_node_count:",
        "found the number 0",
    );
}

#[test]
fn overrides_of_the_member_count_for_a_ttl_from_the_dcs_too() {
    let local = good(&format!("{LEAST}pgwarden: {{kill_ms: 28000}}\n"));
    let (next, problems) = Dynamic::parse(r#"{"ttl": 15}"#, &local.bootstrap.dcs, &local);
    assert_eq!(next.ttl_ms, 30_000);
    assert!(
        problems[0].to_string().contains("kill_ms 28000"),
        "{problems:?}"
    );
}
