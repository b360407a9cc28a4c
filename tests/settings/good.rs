//! Good files: what they mean, which defaults apply, and that the shipped ones are good.

use crate::support::{Dir, LEAST, bare, good, pod, problems, read};
use pgwarden::settings::{
    self, Effective, LockDialect, LogFormat, LogLevel, Settings, SyncMode, embedded,
};
use std::path::Path;

#[test]
fn the_shipped_files_are_good() {
    let files = embedded::EXAMPLES
        .into_iter()
        .chain([("pgwarden", embedded::DEFAULT)]);
    for (name, text) in files {
        let loaded = read(text);
        let shown: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        assert!(
            loaded.settings.is_some(),
            "{name} is not good:\n{}",
            shown.join("\n")
        );
        // Spilo's file carries keys of Patroni that are warned of; the others are ours.
        if name != "spilo" {
            assert!(
                shown.is_empty(),
                "{name} has warnings:\n{}",
                shown.join("\n")
            );
        }
    }
}

#[test]
fn every_example_file_is_embedded() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("agent-config/examples");
    let mut found: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| {
            e.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    found.sort();
    let embedded: Vec<&str> = embedded::EXAMPLES.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, embedded);
}

/// The annotated file says that what it shows is the default: the same settings follow without it.
#[test]
fn the_annotated_file_tells_the_truth_about_defaults() {
    let shown = good(embedded::DEFAULT);
    let least = good(LEAST);
    let mut dcs = shown.bootstrap.dcs.clone();
    dcs.parameters.clear();
    assert_eq!(dcs, least.bootstrap.dcs);
    assert_eq!(shown.log, least.log);
    assert_eq!(shown.restapi.listen, least.restapi.listen);
    assert_eq!(shown.postgresql.port, least.postgresql.port);
    assert_eq!(
        shown.postgresql.pg_ctl_timeout_ms,
        least.postgresql.pg_ctl_timeout_ms
    );
    assert_eq!(shown.postgresql.database, least.postgresql.database);
    assert_eq!(shown.kubernetes.scope_label, least.kubernetes.scope_label);
    assert_eq!(shown.kubernetes.role_label, least.kubernetes.role_label);
    assert_eq!(
        shown.kubernetes.leader_label_value,
        least.kubernetes.leader_label_value
    );
    // The controlled parameters it shows are the ones that apply without it.
    let effective = |settings: &Settings| Effective::of(settings, &settings.bootstrap.dcs).0;
    let mut with = effective(&shown).parameters;
    with.remove("unix_socket_directories");
    with.remove("password_encryption");
    assert_eq!(with, effective(&least).parameters);
}

#[test]
fn the_least_file_takes_the_rest_from_the_pod() {
    let s = good(LEAST);
    assert_eq!((s.scope.as_str(), s.name.as_str()), ("main", "main-0"));
    assert_eq!(s.kubernetes.namespace, "databases");
    assert_eq!(s.kubernetes.lock, LockDialect::Lease);
    assert_eq!(
        s.kubernetes.pod_uid.as_deref(),
        Some("5b8a7c7e-0000-4000-8000-000000000001")
    );
    assert_eq!(s.restapi.listen.to_string(), "0.0.0.0:8008");
    assert_eq!(s.restapi.api_url(), "http://10.1.2.3:8008/patroni");
    assert_eq!(s.postgresql.connect_address.to_string(), "10.1.2.3:5432");
    assert_eq!(s.postgresql.pgpass, Path::new("/home/postgres/pgpass"));
    assert_eq!(s.kubernetes.ports.len(), 1);
    assert_eq!(s.kubernetes.ports[0].port, 5432);
    assert_eq!(s.bootstrap.dcs.ttl_ms, 30_000);
    assert_eq!(
        s.postgresql.authentication.rewind,
        s.postgresql.authentication.superuser
    );
    assert_eq!(s.kubernetes.label_selector(&s.scope), "cluster-name=main");
    assert!(problems(LEAST).is_empty());
}

#[test]
fn outside_a_pod_the_same_file_says_what_is_missing() {
    let loaded = settings::from_text("test.yml", LEAST, &bare);
    let shown: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    assert!(loaded.settings.is_none());
    for path in [
        "error: name:",
        "error: restapi.connect_address:",
        "error: postgresql.connect",
    ] {
        assert!(
            shown.iter().any(|p| p.starts_with(path)),
            "no {path} in {shown:#?}"
        );
    }
    assert!(
        shown
            .iter()
            .any(|p| p.starts_with("warning: kubernetes.pod_uid:")),
        "{shown:#?}"
    );
}

#[test]
fn spilo_s_file_means_what_it_says() {
    let (_, text) = embedded::EXAMPLES
        .into_iter()
        .find(|(name, _)| *name == "spilo")
        .unwrap();
    let s = good(text);
    assert_eq!(s.restapi.listen.to_string(), "[::]:8008");
    assert_eq!(s.postgresql.listen_addresses, "*");
    assert_eq!(s.kubernetes.leader_label_value, "master");
    assert_eq!(s.kubernetes.role_label, "spilo-role");
    assert_eq!(s.bootstrap.dcs.maximum_lag_on_failover_bytes, 33_554_432);
    assert_eq!(s.bootstrap.dcs.parameters["archive_timeout"], "1800s");
    assert_eq!(s.bootstrap.dcs.parameters["tcp_keepalives_idle"], "900");
    assert!(s.bootstrap.initdb.contains(&"--data-checksums".to_owned()));
    assert!(
        s.bootstrap
            .initdb
            .contains(&"--locale=en_US.utf-8".to_owned())
    );
    assert_eq!(s.postgresql.basebackup[0], "--checkpoint=fast");
    assert_eq!(s.postgresql.pg_hba.as_ref().unwrap().len(), 6);
    assert_eq!(
        s.bootstrap.dcs_document["postgresql"]["parameters"]["archive_mode"],
        "on"
    );
    assert_eq!(s.bootstrap.dcs_document["loop_wait"], 10);
    let warned = problems(text);
    for part in ["watchdog", "namespace"] {
        assert!(
            warned.iter().any(|w| w.contains(part)),
            "{part} is not warned of: {warned:#?}"
        );
    }
    assert!(
        !warned.iter().any(|w| w.contains("unknown key")),
        "{warned:#?}"
    );
    assert!(
        !warned
            .iter()
            .any(|w| w.contains("bypass") || w.contains("failsafe")),
        "{warned:#?}"
    );
}

#[test]
fn yaml_s_many_booleans_and_numbers_are_understood() {
    let s = good(&format!(
        "{LEAST}  parameters: {{fsync: off, jit: no, ssl: true, work_mem: 4MB, \
         random_page_cost: 1.1, autovacuum: 'on', deadlock_timeout: 500}}\n\
         tags: {{nofailover: yes, zone: 012, weight: 3}}\n\
         bootstrap: {{dcs: {{synchronous_mode: 'on', ttl: '15', maximum_lag_on_failover: 1MB}}}}\n\
         log: {{level: warning, type: json}}\n"
    ));
    let p = &s.postgresql.parameters;
    assert_eq!(
        (p["fsync"].as_str(), p["jit"].as_str(), p["ssl"].as_str()),
        ("off", "off", "on")
    );
    assert_eq!(
        (
            p["random_page_cost"].as_str(),
            p["deadlock_timeout"].as_str()
        ),
        ("1.1", "500")
    );
    assert_eq!(
        (s.tags["nofailover"].as_str(), s.tags["zone"].as_str()),
        ("true", "012")
    );
    assert_eq!(s.tags["weight"], "3");
    assert_eq!(s.bootstrap.dcs.synchronous_mode, SyncMode::On);
    assert_eq!(s.bootstrap.dcs.ttl_ms, 15_000);
    assert_eq!(s.bootstrap.dcs.maximum_lag_on_failover_bytes, 1 << 20);
    assert_eq!(
        (s.log.level, s.log.format),
        (LogLevel::Warn, LogFormat::Json)
    );
}

#[test]
fn addresses_of_every_family_are_read() {
    for (listen, addresses, port, connect) in [
        ("127.0.0.1:5433", "127.0.0.1", 5433, "10.1.2.3:5433"),
        ("'[::]:6000'", "::", 6000, "10.1.2.3:6000"),
        ("'::1'", "::1", 5432, "10.1.2.3:5432"),
        (
            "'127.0.0.1,::1:5444'",
            "127.0.0.1,::1",
            5444,
            "10.1.2.3:5444",
        ),
        ("db.example.org", "db.example.org", 5432, "10.1.2.3:5432"),
    ] {
        let s = good(&format!("{LEAST}  listen: {listen}\n"));
        assert_eq!(s.postgresql.listen_addresses, addresses, "{listen}");
        assert_eq!(s.postgresql.port, port, "{listen}");
        assert_eq!(
            s.postgresql.connect_address.to_string(),
            connect,
            "{listen}"
        );
    }
}

#[test]
fn a_directory_is_merged_in_the_order_of_names() {
    let dir = Dir::new();
    dir.file(
        "10-base.yml",
        format!("{LEAST}  parameters: {{work_mem: 4MB, jit: on}}\n"),
    );
    dir.file(
        "20-over.yaml",
        "postgresql: {parameters: {work_mem: 8MB}}\ntags: {nosync: true}\n",
    );
    dir.file(
        "30-last.yml",
        "postgresql: {parameters: {jit: null}}\ntags: {nosync: false}\n",
    );
    dir.file("notes.txt", "not: [read");
    let loaded = settings::load(dir.path(), &pod);
    let s = loaded
        .settings
        .unwrap_or_else(|| panic!("{:?}", loaded.problems));
    assert_eq!(s.postgresql.parameters["work_mem"], "8MB");
    assert!(!s.postgresql.parameters.contains_key("jit"));
    assert_eq!(s.tags["nosync"], "false");
}

#[test]
fn controlled_parameters_come_from_the_dynamic_configuration_alone() {
    let s = good(&format!(
        "{LEAST}  parameters: {{max_connections: 500, work_mem: 8MB, port: 1}}\n\
         bootstrap: {{dcs: {{postgresql: {{parameters: {{max_connections: 200, work_mem: 4MB, \
         max_wal_senders: 1, hot_standby: off}}}}}}}}\n"
    ));
    let (effective, said) = Effective::of(&s, &s.bootstrap.dcs);
    let p = &effective.parameters;
    assert_eq!(p["max_connections"], "200");
    assert_eq!(p["work_mem"], "8MB");
    assert_eq!(p["max_wal_senders"], "10");
    assert_eq!(p["hot_standby"], "on");
    assert!(!p.contains_key("port"));
    let said: Vec<String> = said.iter().map(ToString::to_string).collect();
    for name in ["max_connections", "max_wal_senders", "hot_standby", "port"] {
        let path = format!("warning: postgresql.parameters.{name}:");
        assert!(
            said.iter().any(|p| p.starts_with(&path)),
            "{path} in {said:#?}"
        );
    }
}

#[test]
fn a_socket_that_would_shut_the_agent_out_is_not_obeyed() {
    // Found by an attack: the server ran, its agent could not reach it, and the right value did not
    // heal that.
    for (mode, obeyed) in [
        ("\"0000\"", false),
        ("\"0577\"", false),
        ("\"0777\"", true),
        ("\"0600\"", true),
        ("511", true),
        ("\"0x180\"", true),
        ("777", false),
        ("open", false),
    ] {
        let s = good(&format!(
            "{LEAST}bootstrap: {{dcs: {{postgresql: {{parameters: {{unix_socket_permissions: \
             {mode}}}}}}}}}\n"
        ));
        let (effective, said) = Effective::of(&s, &s.bootstrap.dcs);
        let parameters = &effective.parameters;
        let taken = parameters.contains_key("unix_socket_permissions");
        assert_eq!(taken, obeyed, "{mode}: {said:?}");
        let path = "warning: postgresql.parameters.unix_socket_permissions:";
        let told = said.iter().any(|said| said.to_string().starts_with(path));
        assert_eq!(told, !obeyed, "{mode}: {said:?}");
    }
}

#[test]
fn patronis_variables_win_over_the_file_whatever_their_type() {
    let env = |name: &str| {
        let value = match name {
            "PATRONI_SCOPE" => "main",
            "PATRONI_NAME" => "pg-7",
            "PATRONI_KUBERNETES_NAMESPACE" => "db",
            "PATRONI_KUBERNETES_USE_ENDPOINTS" => "true",
            "PATRONI_KUBERNETES_LABELS" => "{application: spilo, team: a}",
            "PATRONI_KUBERNETES_PORTS" => r#"[{"name": "postgresql", "port": 5433}]"#,
            "PATRONI_KUBERNETES_SCOPE_LABEL" => "cluster",
            "PATRONI_KUBERNETES_POD_IP" => "10.1.2.3",
            "PATRONI_RESTAPI_LISTEN" => "0.0.0.0:8018",
            "PATRONI_RESTAPI_CONNECT_ADDRESS" => "10.1.2.3:8018",
            "PATRONI_POSTGRESQL_DATA_DIR" => "/data/pg",
            "PATRONI_POSTGRESQL_LISTEN" => "*:5433",
            "PATRONI_POSTGRESQL_CONNECT_ADDRESS" => "10.1.2.3:5433",
            "PATRONI_SUPERUSER_SSLMODE" => "disable",
            "PATRONI_LOGLEVEL" => "ERROR",
            "PATRONI_LOG_LEVEL" => "DEBUG",
            "PATRONI_LOG_DIR" => "",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let text = "scope: other\nname: other-0\nkubernetes: {labels: {old: x}}\npostgresql:\n  \
                data_dir: /elsewhere\n  authentication:\n    superuser: {username: postgres, password: s}\n    \
                replication: {username: r, password: r}\n";
    let loaded = settings::from_text("pgwarden.yml", text, &env);
    let s = loaded
        .settings
        .unwrap_or_else(|| panic!("{:#?}", loaded.problems));
    assert_eq!((s.scope.as_str(), s.name.as_str()), ("main", "pg-7"));
    assert_eq!(s.kubernetes.lock, LockDialect::Endpoints);
    assert_eq!(s.kubernetes.namespace, "db");
    assert_eq!(
        s.kubernetes.label_selector("main"),
        "application=spilo,cluster=main,old=x,team=a"
    );
    assert_eq!(
        (s.kubernetes.ports.len(), s.kubernetes.ports[0].port),
        (1, 5433)
    );
    assert_eq!(s.kubernetes.pod_ip, "10.1.2.3".parse().ok());
    assert_eq!(s.restapi.listen.port, 8018);
    assert_eq!(s.postgresql.data_dir, std::path::Path::new("/data/pg"));
    assert_eq!(s.postgresql.port, 5433);
    let superuser = &s.postgresql.authentication.superuser;
    assert_eq!(
        superuser.conninfo.get("sslmode").map(String::as_str),
        Some("disable")
    );
    assert_eq!(s.log.level, LogLevel::Debug, "the newer name counts");
}

#[test]
fn a_variable_that_is_no_yaml_is_named() {
    let env = |name: &str| (name == "PATRONI_KUBERNETES_LABELS").then(|| "{a: [".to_owned());
    let loaded = settings::from_text("pgwarden.yml", "scope: main\n", &env);
    let words: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    assert!(
        words
            .iter()
            .any(|words| words.starts_with("error: kubernetes.labels:")
                && words.contains("expected YAML or JSON (environment PATRONI_KUBERNETES_LABELS)")),
        "{words:#?}"
    );
}

#[test]
fn credentials_of_the_environment_win_over_the_file() {
    let env = |name: &str| {
        let value = match name {
            "PATRONI_SUPERUSER_PASSWORD" => "from-the-secret",
            "PATRONI_REPLICATION_USERNAME" => "standby",
            "PATRONI_RESTAPI_USERNAME" => "admin",
            "PATRONI_RESTAPI_PASSWORD" => "rest-secret",
            // A Secret's key that is empty is no password.
            "PATRONI_REPLICATION_PASSWORD" => "",
            other => return pod(other),
        };
        Some(value.to_owned())
    };
    let loaded = settings::from_text("test.yml", LEAST, &env);
    let shown: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    let s = loaded.settings.unwrap_or_else(|| panic!("{shown:?}"));
    let users = &s.postgresql.authentication;
    let password = |user: &settings::PgUser| user.password.clone().unwrap().expose().to_owned();
    assert_eq!(password(&users.superuser), "from-the-secret");
    assert_eq!(users.replication.username, "standby");
    assert_eq!(password(&users.replication), "rep-secret");
    let rest = s.restapi.authentication.unwrap();
    assert_eq!(
        (rest.username.as_str(), rest.password.expose()),
        ("admin", "rest-secret")
    );
}
