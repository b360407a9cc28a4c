//! Bad files: every one is told what was wrong and what would be right, and nothing is leaked.

use crate::support::{Dir, LEAST, good, has, pod, problems, read};
use pgwarden::settings::{self, embedded};
use std::fmt::Write as _;

#[test]
fn unknown_keys_are_warned_of_with_the_nearest_name() {
    let text = format!(
        "{LEAST}  data_dri: /x\n  use_pg_rewnd: true\nbootstrap: {{dcs: {{synchronous_mod: on}}}}\n\
         kubernets: {{}}\nttl: 30\nwhatever: 1\n"
    );
    let said = problems(&text);
    has(
        &said,
        "warning: postgresql.data_dri:",
        "did you mean postgresql.data_dir?",
    );
    has(&said, "warning: postgresql.use_pg_rewnd:", "use_pg_rewind?");
    has(
        &said,
        "warning: bootstrap.dcs.synchronous_mod:",
        "bootstrap.dcs.synchronous_mode?",
    );
    has(&said, "warning: kubernets:", "did you mean kubernetes?");
    has(&said, "warning: ttl:", "did you mean bootstrap.dcs.ttl?");
    has(
        &said,
        "warning: whatever:",
        "unknown key, it has no effect (",
    );
    assert!(
        said.iter().all(|p| p.contains("test.yml, line ")),
        "{said:#?}"
    );
    has(&said, "warning: whatever:", "line 11)");
    good(&text);
}

#[test]
fn a_tag_that_is_nearly_a_known_one_is_warned_of_and_any_other_is_not() {
    let said = problems(&format!(
        "{LEAST}tags: {{nofailovr: true, NoSync: true, nofailover: false, zone: a, weight: 3}}\n"
    ));
    has(
        &said,
        "warning: tags.nofailovr:",
        "did you mean tags.nofailover?",
    );
    has(&said, "warning: tags.NoSync:", "did you mean tags.nosync?");
    for fine in ["tags.nofailover:", "tags.zone:", "tags.weight:"] {
        assert!(!said.iter().any(|line| line.contains(fine)), "{said:?}");
    }
}

#[test]
fn wrong_types_are_named_all_in_one_pass() {
    let said = problems(
        "scope: [main]\nname: {a: b}\nrestapi: 8008\nkubernetes: {lock: lease, labels: [a], \
         ports: 5432, pod_ip: pod}\nbootstrap:\n  initdb: true\n  pg_hba: all\n  dcs: {ttl: soon, \
         maximum_lag_on_failover: much, check_timeline: maybe, synchronous_mode: twice, \
         postgresql: {parameters: [a], use_slots: 7}}\npostgresql:\n  data_dir: 17\n  listen: \
         host:none\n  use_pg_rewind: perhaps\n  parameters: {a: [1], b: {c: d}, 'x y': 1}\n  \
         pg_hba: [1]\n  authentication: {superuser: me}\n  basebackup: 5\n  pg_ctl_timeout: -3\n\
         log: {level: LOUD, type: xml}\ntags: [a]\npgwarden: {kill_ms: fast}\n",
    );
    for (path, part) in [
        ("scope", "found a list; expected the cluster's name"),
        ("name", "found a map"),
        ("restapi", "found a number; expected a map of keys"),
        ("kubernetes.labels", "found a list; expected a map"),
        ("kubernetes.ports", "found a number; expected a list"),
        ("kubernetes.pod_ip", "found \"pod\"; expected an address"),
        (
            "bootstrap.initdb",
            "found a boolean; expected a list of options",
        ),
        ("bootstrap.pg_hba", "expected a list of lines"),
        (
            "bootstrap.dcs.ttl",
            "found the text \"soon\"; expected a number of seconds",
        ),
        (
            "bootstrap.dcs.maximum_lag_on_failover",
            "expected a number of bytes",
        ),
        ("bootstrap.dcs.check_timeline", "expected true or false"),
        (
            "bootstrap.dcs.synchronous_mode",
            "expected on, off or quorum",
        ),
        ("bootstrap.dcs.postgresql.parameters", "found a list"),
        ("bootstrap.dcs.postgresql.use_slots", "found the number 7"),
        ("postgresql.data_dir", "expected the absolute path"),
        ("postgresql.listen", "\"none\" is not a port"),
        ("postgresql.use_pg_rewind", "found the text \"perhaps\""),
        ("postgresql.parameters.a", "found a list"),
        ("postgresql.parameters.b", "found a map"),
        (
            "postgresql.parameters",
            "x y is not the name of a parameter",
        ),
        (
            "postgresql.pg_hba[0]",
            "found a number; expected a line of text",
        ),
        (
            "postgresql.authentication.superuser",
            "expected a map of keys",
        ),
        ("postgresql.basebackup", "expected a list of options"),
        ("postgresql.pg_ctl_timeout", "found the number -3"),
        ("log.level", "found \"LOUD\"; expected one of"),
        ("log.type", "expected plain or json"),
        ("tags", "found a list"),
        (
            "pgwarden.kill_ms",
            "found the text \"fast\"; expected a whole number",
        ),
    ] {
        has(&said, &format!("error: {path}:"), part);
    }
}

#[test]
fn what_must_be_there_is_missed() {
    let said = settings::from_text("t", "log: {level: INFO}\n", &|_| None).problems;
    let said: Vec<String> = said.iter().map(ToString::to_string).collect();
    has(
        &said,
        "error: scope:",
        "it is missing; expected the cluster's name",
    );
    has(&said, "error: name:", "POD_NAME");
    has(
        &said,
        "error: postgresql.data_dir:",
        "it is missing; expected the absolute path",
    );
    has(&said, "error: kubernetes:", "lock: lease");
}

#[test]
fn one_dialect_is_chosen_and_two_are_refused() {
    let with = |kubernetes: &str| {
        problems(&LEAST.replace(
            "kubernetes: {lock: lease}",
            &format!("kubernetes: {kubernetes}"),
        ))
    };
    has(
        &with("{use_endpoints: true, lock: lease}"),
        "error: kubernetes.use_endpoints:",
        "two dialects; expected lock: lease, or Patroni's use_endpoints",
    );
    has(
        &with("{lock: configmap}"),
        "error: kubernetes.lock:",
        "found \"configmap\"",
    );
    has(
        &with("{lock: [lease]}"),
        "error: kubernetes.lock:",
        "found a list",
    );
    has(
        &with("{use_endpoints: maybe}"),
        "error: kubernetes.use_endpoints:",
        "found",
    );
    for good in [
        "{}",
        "{lock: lease}",
        "{lock: lease, use_endpoints: false}",
        "{use_endpoints: true}",
        "{use_endpoints: 'on'}",
        "{use_endpoints: false}",
    ] {
        assert!(with(good).is_empty(), "{good}: {:#?}", with(good));
    }
}

#[test]
fn a_ttl_that_breaks_the_budgets_is_refused() {
    let with = |ttl: &str| problems(&format!("{LEAST}bootstrap: {{dcs: {{ttl: {ttl}}}}}\n"));
    for ttl in ["6", "7", "20", "30", "3600"] {
        assert!(with(ttl).is_empty(), "{ttl}: {:#?}", with(ttl));
    }
    has(
        &with("5"),
        "error: bootstrap.dcs.ttl:",
        "a TTL of 5 s is not possible; expected 6 to 3600",
    );
    has(
        &with("30000"),
        "error: bootstrap.dcs.ttl:",
        "a TTL of 30000 s",
    );
    for outside in ["0", "99999999"] {
        let words = "is not possible; expected 6 to 3600 s";
        has(&with(outside), "error: bootstrap.dcs.ttl:", words);
    }
    has(
        &with("-30"),
        "error: bootstrap.dcs.ttl:",
        "expected a number of seconds from 6 to 3600",
    );
    has(
        &with("6.5"),
        "error: bootstrap.dcs.ttl:",
        "found the number 6.5",
    );
    has(
        &with("6500ms"),
        "error: bootstrap.dcs.ttl:",
        "expected whole seconds",
    );
    has(
        &with("99999999999999999999"),
        "error: bootstrap.dcs.ttl:",
        "found",
    );
    let late = problems(&format!("{LEAST}pgwarden: {{kill_ms: 29000}}\n"));
    has(
        &late,
        "error: bootstrap.dcs.ttl:",
        "kill_ms 29000 + kill_budget_ms 1500 = 30500 ms",
    );
    let slow = problems(&format!("{LEAST}pgwarden: {{call_ms: 9000}}\n"));
    has(
        &slow,
        "error: bootstrap.dcs.ttl:",
        "fast_stop_ms 20000 is less than",
    );
    let fits = format!("{LEAST}pgwarden: {{renew_ms: 10000}}\n");
    assert_eq!(good(&fits).budgets_for(30_000).unwrap().renew_ms(), 10_000);
}

#[test]
fn what_cannot_be_kept_is_refused_and_not_just_ignored() {
    for (addition, path) in [
        ("bootstrap: {method: pgbackrest}", "bootstrap.method"),
        (
            "bootstrap: {method: pgbackrest, pgbackrest: {no_params: true}}",
            "bootstrap.pgbackrest.command",
        ),
        (
            "bootstrap: {dcs: {standby_cluster: {port: 5432}}}",
            "bootstrap.dcs.standby_cluster.host",
        ),
        (
            "bootstrap: {dcs: {synchronous_mode: majority}}",
            "bootstrap.dcs.synchronous_mode",
        ),
        (
            "bootstrap: {dcs: {synchronous_mode_strict: 3}}",
            "bootstrap.dcs.synchronous_mode_strict",
        ),
        (
            "bootstrap: {dcs: {synchronous_node_count: 0}}",
            "bootstrap.dcs.synchronous_node_count",
        ),
        ("bootstrap: {initdb: [{pwfile: /x}]}", "bootstrap.initdb"),
    ] {
        has(
            &problems(&format!("{LEAST}{addition}\n")),
            &format!("error: {path}:"),
            "",
        );
    }
    let harmless = format!(
        "{LEAST}restapi: {{verify_client: none}}\nbootstrap: {{method: initdb, dcs: \
         {{synchronous_mode_strict: false, failsafe_mode: false}}}}\n"
    );
    assert!(problems(&harmless).is_empty(), "{:#?}", problems(&harmless));
}

#[test]
fn names_that_kubernetes_refuses_are_refused_here() {
    for (from, to, path) in [
        ("scope: main", "scope: Main_1", "scope"),
        ("scope: main", "scope: -main", "scope"),
        ("scope: main", "scope: main\nname: UPPER", "name"),
        (
            "{lock: lease}",
            "{lock: lease, namespace: a.b}",
            "kubernetes.namespace",
        ),
        (
            "{lock: lease}",
            "{lock: lease, labels: {a: 'x y'}}",
            "kubernetes.labels",
        ),
        (
            "{lock: lease}",
            "{lock: lease, role_label: 'a b'}",
            "kubernetes.role_label",
        ),
        (
            "{lock: lease}",
            "{lock: lease, leader_label_value: a, follower_label_value: a}",
            "kubernetes.follower_label_value",
        ),
    ] {
        has(
            &problems(&LEAST.replace(from, to)),
            &format!("error: {path}:"),
            "",
        );
    }
    let long = LEAST.replace(
        "scope: main",
        &format!("scope: main\nname: {}", "a".repeat(64)),
    );
    has(&problems(&long), "error: name:", "63 characters");
}

#[test]
fn files_that_are_no_documents_are_told_apart() {
    let dir = Dir::new();
    let of = |name: &str, bytes: &[u8]| -> Vec<String> {
        let loaded = settings::load(&dir.file(name, bytes), &pod);
        assert!(loaded.settings.is_none(), "{name}");
        loaded.problems.iter().map(ToString::to_string).collect()
    };
    has(
        &of("latin1.yml", b"scope: main\nname: caf\xe9\n"),
        "error: ",
        "byte 21 is not UTF-8",
    );
    has(
        &of("latin1.yml", b"scope: main\nname: caf\xe9\n"),
        "error: ",
        "line 2)",
    );
    has(
        &of("binary.yml", &[0_u8, 159, 146, 150]),
        "error: ",
        "is not UTF-8",
    );
    has(&of("empty.yml", b""), "error: ", "the file is empty");
    has(
        &of("comment.yml", b"# nothing\n"),
        "error: ",
        "the file is empty",
    );
    has(
        &of("list.yml", b"- a\n- b\n"),
        "error: ",
        "found a list; expected a map",
    );
    has(
        &of("text.yml", b"hello"),
        "error: ",
        "found text; expected a map",
    );
    has(
        &of("broken.yml", b"scope: [main\nname: x\n"),
        "error: ",
        "it is not YAML",
    );
    for (name, bytes, words) in [
        ("null.yml", &b"scope: a\n? ~\n: 1\n"[..], "a key is null"),
        ("key.yml", b"scope: a\n[b]: 1\n", "a key is a list or a map"),
        ("self.yml", b"scope: a\nb: &x [*x]\n", "names, without end"),
    ] {
        has(&of(name, bytes), "error: ", words);
        has(&of(name, bytes), "error: ", "line 2)");
    }
    has(
        &of("tab.yml", b"scope: main\n\tname: x\n"),
        "error: ",
        "it is not YAML",
    );
    has(
        &of("two.yml", b"scope: a\n---\nscope: b\n"),
        "error: ",
        "more than one document",
    );
    has(&of("nul.yml", b"scope: a\0b\n"), "error: ", "");
    let huge = vec![b'#'; (1 << 20) + 1];
    has(&of("huge.yml", &huge), "error: ", "more than 1048576 bytes");

    let absent = settings::load(&dir.path().join("absent.yml"), &pod).problems;
    has(
        &[absent[0].to_string()],
        "error: ",
        "it cannot be read: No such file",
    );
    let empty = dir.path().join("conf.d");
    std::fs::create_dir(&empty).unwrap();
    let nothing = settings::load(&empty, &pod).problems;
    has(
        &[nothing[0].to_string()],
        "error: ",
        "no file that ends in .yml",
    );
}

#[test]
fn a_key_written_twice_is_an_error_with_both_lines() {
    let text = format!("{LEAST}  listen: 127.0.0.1:1\n  data_dir: /other/dir\nscope: other\n");
    let said = problems(&text);
    has(
        &said,
        "error: postgresql.data_dir:",
        "first in line 4; expected once (test.yml, line 7)",
    );
    has(
        &said,
        "error: scope:",
        "first in line 1; expected once (test.yml, line 8)",
    );
}

#[test]
fn bombs_do_not_go_off() {
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let j = i - 1;
        let ten = format!("*a{j}, ").repeat(10);
        let _ = writeln!(aliases, "a{i}: &a{i} [{}]", ten.trim_end_matches(", "));
    }
    has(&problems(&aliases), "error: ", "aliases expand to too much");
    let deep = format!("a: {}{}", "[".repeat(5_000), "]".repeat(5_000));
    has(&problems(&deep), "error: ", "");
    let mut nested = String::new();
    for level in 0..400 {
        let _ = writeln!(nested, "{}a:", " ".repeat(level));
    }
    has(&problems(&nested), "error: ", "nested at most 32 deep");
    let many: String = (0..60_000).fold(String::from("a: ["), |all, _| all + "1,") + "]";
    has(&problems(&many), "error: ", "at most 50000 values");
    let itself = "a: &a [*a]\n";
    has(&problems(itself), "error: ", "");
}

#[test]
fn merge_keys_and_anchors_of_ordinary_size_work() {
    let text = LEAST.replace(
        "authentication: {",
        "authentication: {rewind: &user {username: r, password: rew-secret}, ",
    );
    let s = good(&format!("{text}restapi: {{authentication: *user}}\n"));
    assert_eq!(s.restapi.authentication.unwrap().username, "r");
}

/// Whatever is wrong with a file, its passwords are in no message, no `Debug` and no output.
#[test]
fn secrets_are_never_shown() {
    let wrong = [
        "authentication: {superuser: {password: [hunter2]}}",
        "authentication: {superuser: {password: {hunter2: 1}}}",
        "authentication: {superuser: hunter2}",
        "authentication: {superuser: {password: 'hunter2'",
        "authentication: {superuser: {password: *hunter2}}",
        "authentication: {superuser: {password: @hunter2}}",
        "authentication: {superuser: {password: \"hunter2\\q\"}}",
        "authentication: {superuser: {password: %hunter2}}",
        "authentication: {superuser: {password: !hunter2 x}}",
        "authentication: {superuser: {password: &hunter2}}",
        "authentication:\n    superuser:\n      password: hunter2: x\n",
        "authentication:\n    superuser:\n      password: 'hunter2\n",
        "authentication:\n    superuser:\n     password: a\n      hunter2\n    b",
        "parameters: {primary_conninfo: 'host=a password=hunter2', x: [hunter2]}",
        "pg_hba: [[hunter2]]",
    ];
    for addition in wrong {
        let text = format!("scope: a\npostgresql:\n  {addition}\n");
        let loaded = read(&text);
        let shown = format!("{:?} {:?}", loaded.problems, loaded.settings);
        let messages: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        assert!(!shown.contains("hunter2"), "{addition}: {messages:#?}");
        assert!(!messages.is_empty(), "{addition} is taken for good");
    }
    let s = good(embedded::DEFAULT);
    assert!(!format!("{s:?}").contains("change-me"));
    assert_eq!(
        s.postgresql
            .authentication
            .superuser
            .password
            .as_ref()
            .unwrap()
            .expose(),
        "change-me"
    );
}
