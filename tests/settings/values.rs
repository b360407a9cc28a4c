//! Values of the right type that nevertheless cannot be meant.

use crate::support::{LEAST, good, has, problems};

#[test]
fn an_address_is_a_name_or_an_address_and_no_number() {
    for bad in [
        "-5",
        "5432",
        "'-a:1'",
        "'a-.b:1'",
        "'a..b:1'",
        "'10.0.0.256:1'",
    ] {
        for (section, key) in [
            ("restapi", "listen"),
            ("restapi", "connect_address"),
            ("postgresql", "listen"),
            ("postgresql", "connect_address"),
        ] {
            let text = match section {
                "postgresql" => format!("{LEAST}  {key}: {bad}\n"),
                _ => format!("{LEAST}{section}: {{{key}: {bad}}}\n"),
            };
            let begins = format!("error: {section}.{key}:");
            has(&problems(&text), &begins, "is not a host name or address");
        }
    }
    for fine in ["a_b:1", "'0.0.0.0:5432'", "'10.0.0.7.nip.io:1'", "'7up:1'"] {
        good(&format!("{LEAST}restapi: {{listen: {fine}}}\n"));
    }
}

#[test]
fn a_zero_byte_is_refused_wherever_text_goes() {
    let with = |key: &str, value: &str| {
        let text = format!("{LEAST}  {key}: {value}\n");
        problems(&text.replace(
            "superuser: {password: super-secret}",
            "superuser: {password: \"a\\0b\", username: \"u\\0v\"}",
        ))
    };
    let said = with("database", "\"d\\0b\"");
    let user = "postgresql.authentication.superuser";
    for key in [&format!("{user}.password"), &format!("{user}.username")] {
        has(&said, &format!("error: {key}:"), "zero byte");
    }
    has(&said, "error: postgresql.database:", "zero byte");
    let said = with("pg_hba", "[\"local\\0\"]");
    has(&said, "error: postgresql.pg_hba[0]:", "zero byte");
    assert!(said.iter().all(|line| !line.contains('\0')), "{said:#?}");
}

#[test]
fn an_empty_password_and_one_of_two_lines_are_refused() {
    for (bad, words) in [("''", "it is empty"), ("\"a\\nb\"", "a line break")] {
        let text = LEAST.replace("super-secret", bad);
        let key = "error: postgresql.authentication.superuser.password:";
        has(&problems(&text), key, words);
    }
}

#[test]
fn a_lag_is_bytes_or_off() {
    let with =
        |lag: &str| format!("{LEAST}bootstrap: {{dcs: {{maximum_lag_on_syncnode: {lag}}}}}\n");
    let key = "error: bootstrap.dcs.maximum_lag_on_syncnode:";
    has(
        &problems(&with("-5")),
        key,
        "found -5; expected bytes, or -1",
    );
    for (lag, bytes) in [("-1", None), ("0", None), ("1MB", Some(1 << 20))] {
        let dynamic = good(&with(lag)).bootstrap.dcs;
        assert_eq!(dynamic.maximum_lag_on_syncnode_bytes, bytes, "{lag}");
    }
}

#[test]
fn tags_that_switch_have_every_spelling_of_a_boolean_and_no_other() {
    let with = |value: &str| format!("{LEAST}tags: {{nofailover: {value}}}\n");
    for (value, is) in [
        ("1", "true"),
        ("'yes'", "true"),
        ("'On'", "true"),
        ("true", "true"),
        ("0", "false"),
        ("'off'", "false"),
        ("'no'", "false"),
    ] {
        assert_eq!(good(&with(value)).tags["nofailover"], is, "{value}");
    }
    for bad in ["5", "-5", "bogus value", "1.5", "''"] {
        let words = "expected true or false";
        has(&problems(&with(bad)), "error: tags.nofailover:", words);
    }
    good(&format!(
        "{LEAST}tags: {{zone: bogus value, failover_priority: 5}}\n"
    ));
}

#[test]
fn the_address_of_a_proxy() {
    let with = |address: &str| {
        let file = LEAST.replace(
            "postgresql:\n",
            &format!("postgresql:\n  proxy_address: '{address}'\n"),
        );
        assert_ne!(file, LEAST);
        file
    };
    let found = good(&with("10.0.0.9:6432")).postgresql.proxy_address;
    assert_eq!(
        found.map(|at| at.to_string()).as_deref(),
        Some("10.0.0.9:6432")
    );
    let said = problems(&with("0.0.0.0:6432"));
    has(
        &said,
        "error: postgresql.proxy_address:",
        "expected the proxy's own",
    );
    let said = problems(&with("10.0.0.9:zero"));
    has(&said, "error: postgresql.proxy_address:", "zero");
}

#[test]
fn log_files_are_patronis() {
    use pgwarden::settings::LogFile;
    let none = good(LEAST).log;
    assert_eq!(none.file, None);
    let usual = good(&format!("{LEAST}log: {{dir: /var/log/pg}}\n")).log;
    let file = |mode, kept, max_bytes| {
        Some(LogFile {
            dir: "/var/log/pg".into(),
            mode,
            kept,
            max_bytes,
        })
    };
    assert_eq!(usual.file, file(0o644, 4, 25_000_000));
    // As people write it: a number of YAML 1.1 and of 1.2, a text, a text of Python.
    for mode in ["0660", "\"0660\"", "'660'", "0o660"] {
        let text = format!(
            "{LEAST}log: {{dir: /var/log/pg, mode: {mode}, file_num: 2, file_size: 1000000, \
             type: json, static_fields: {{app: patroni, n: 1}}}}\n"
        );
        let log = good(&text).log;
        assert_eq!(log.file, file(0o660, 2, 1_000_000), "{mode}");
        let fields: Vec<_> = log.static_fields.into_iter().collect();
        let wanted = [("app", "patroni"), ("n", "1")].map(|(k, v)| (k.into(), v.into()));
        assert_eq!(fields, wanted);
    }
    let said = problems(&format!(
        "{LEAST}log: {{dir: [a], mode: rw, file_num: -1, file_size: 0}}\n"
    ));
    has(&said, "error: log.dir:", "expected a path");
    has(&said, "error: log.mode:", "expected octal digits");
    has(&said, "error: log.file_num:", "expected");
    has(&said, "error: log.file_size:", "expected");
}

#[test]
fn the_kerberos_service_is_for_whoever_copies() {
    let settings = good(&format!("{LEAST}  krbsrvname: pg\n"));
    let user = &settings.postgresql.authentication;
    let named = |user: &pgwarden::settings::PgUser| user.conninfo.get("krbsrvname").cloned();
    assert_eq!(named(&user.replication).as_deref(), Some("pg"));
    assert_eq!(named(&user.rewind).as_deref(), Some("pg"));
    assert_eq!(named(&user.superuser), None);
}

#[test]
fn a_priority_that_is_no_number_is_warned_of_and_still_taken() {
    let tags = |tags: &str| format!("{LEAST}tags: {tags}\n");
    let text = tags("{failover_priority: many, sync_priority: -3}");
    let said = problems(&text);
    let many = "found many; expected a whole number, 0 for never; it counts as 1";
    has(&said, "warning: tags.failover_priority:", many);
    has(&said, "warning: tags.sync_priority:", "it counts as 0");
    good(&text);
    let said = problems(&tags("{failover_priority: '10', sync_priority: 0}"));
    assert!(said.is_empty(), "{said:?}");
}
