//! Commands of the user's in the file: their words, their methods' keys, and what is said of wrong
//! ones.

use super::support::{LEAST, good, has, problems};
use pgwarden::settings::ReplicaMethod;

#[test]
fn commands_are_split_as_a_shell_would() {
    let s = good(&format!(
        "{LEAST}  callbacks: {{on_start: \"/x/notify --to 'the dba' a\\\\ b\"}}\n  \
         pre_promote: /x/may-lead\n  before_stop: drain\n"
    ));
    let hooks = &s.postgresql.hooks;
    assert_eq!(
        hooks.callbacks["on_start"].words(),
        ["/x/notify", "--to", "the dba", "a b"]
    );
    assert_eq!(hooks.pre_promote.as_ref().unwrap().words(), ["/x/may-lead"]);
    assert_eq!(hooks.before_stop.as_ref().unwrap().words(), ["drain"]);
    for (line, path, words) in [
        (
            "callbacks: {on_stop: \"/x 'y\"}",
            "callbacks.on_stop",
            "has no end",
        ),
        ("pre_promote: \" \"", "pre_promote", "it has no words"),
        ("before_stop: [a]", "before_stop", "expected a command"),
    ] {
        let said = problems(&format!("{LEAST}  {line}\n"));
        has(&said, &format!("error: postgresql.{path}:"), words);
    }
    let said = problems(&format!("{LEAST}  callbacks: {{on_begin: x}}\n"));
    has(
        &said,
        "warning: postgresql.callbacks.on_begin:",
        "unknown key",
    );
}

#[test]
fn methods_of_cloning_have_their_keys_and_their_order() {
    let s = good(&format!(
        "{LEAST}  create_replica_methods: [pgbackrest, bare, basebackup]\n  pgbackrest: {{command: \
         \"/x/restore 'a b'\", no_params: false, no_leader: true, keep_data: true, delta: true, \
         threads: 4}}\n  other: {{command: /x/other, no_params: true}}\n"
    ));
    let [
        ReplicaMethod::Own(first),
        ReplicaMethod::Own(bare),
        ReplicaMethod::Basebackup,
    ] = s.postgresql.replica_methods.as_slice()
    else {
        panic!("{:?}", s.postgresql.replica_methods)
    };
    assert_eq!(first.command.words(), ["/x/restore", "a b"]);
    assert!(first.no_leader && first.keep_data && !first.no_params);
    assert_eq!(first.arguments, ["--delta=True", "--threads=4"]);
    assert_eq!(bare.command.words(), ["bare"], "a program of its name");
    // The dynamic configuration may name it for a standby cluster.
    assert!(s.postgresql.methods["other"].no_params);
    assert_eq!(
        good(LEAST).postgresql.replica_methods,
        [ReplicaMethod::Basebackup]
    );
    for (line, path, words) in [
        ("m: 7", "m", "expected a map"),
        ("m: {command: \"'\"}", "m.command", "has no end"),
        (
            "m: {command: x, no_leader: perhaps}",
            "m.no_leader",
            "true or false",
        ),
        ("m: {command: x, list: [a]}", "m.list", "expected a text"),
    ] {
        let text = format!("{LEAST}  create_replica_methods: [m]\n  {line}\n");
        has(
            &problems(&text),
            &format!("error: postgresql.{path}:"),
            words,
        );
    }
}

#[test]
fn a_method_of_bootstrap_is_described_or_refused() {
    let s = good(&format!(
        "{LEAST}bootstrap: {{method: b, b: {{command: /x/b, from: s3, recovery_conf: \
         {{recovery_target_time: now, recovery_target_inclusive: false}}}}, post_init: \"/x/p 1\"}}\n"
    ));
    let custom = s.bootstrap.custom.unwrap();
    assert_eq!(custom.method.arguments, ["--from=s3"]);
    let recovery = custom.recovery_conf.unwrap();
    assert_eq!(recovery["recovery_target_time"], "now");
    assert_eq!(recovery["recovery_target_inclusive"], "off");
    assert_eq!(s.bootstrap.post_bootstrap.unwrap().words(), ["/x/p", "1"]);
    let both = "bootstrap: {method: b, b: {command: x, keep_existing_recovery_conf: true, \
                recovery_conf: {}}}";
    has(
        &problems(&format!("{LEAST}{both}\n")),
        "error: bootstrap.b.recovery_conf:",
        "expected one of both",
    );
    let words = "bootstrap: {method: b, b: {command: x, recovery_conf: [a]}}";
    has(
        &problems(&format!("{LEAST}{words}\n")),
        "error: bootstrap.b.recovery_conf:",
        "expected a map",
    );
}

#[test]
fn recovery_settings_of_a_member_are_those_without_an_end() {
    let text = format!(
        "{LEAST}  recovery_conf: {{restore_command: fetch, recovery_target_timeline: latest, \
         recovery_target_lsn: 0/1, primary_conninfo: x}}\n  custom_conf: /etc/pg.conf\n"
    );
    let s = good(&text);
    assert_eq!(s.postgresql.recovery_conf.len(), 1);
    assert_eq!(s.postgresql.recovery_conf["restore_command"], "fetch");
    assert_eq!(
        s.postgresql.custom_conf.unwrap(),
        std::path::Path::new("/etc/pg.conf")
    );
    let said = problems(&text);
    for (name, why) in [
        ("recovery_target_lsn", "lose them"),
        ("primary_conninfo", "itself"),
    ] {
        let line = said.iter().find(|line| line.contains(name)).unwrap();
        assert!(
            line.starts_with("warning: ") && line.contains(why),
            "{line}"
        );
    }
    assert_eq!(said.len(), 2, "{said:#?}");
}
