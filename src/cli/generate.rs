//! `patroni --generate-config`: a configuration for a server that runs already.

use super::sql::{self, Found};
use super::{Exit, Failure, block_on};
use crate::settings;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio_postgres::Config;

/// What a person has to fill in.
const FILL_IN: &str = "change-me";
/// Everything that is asked, a statement each.
const SQL: &str = "SELECT name, current_setting(name, true), source FROM pg_settings ORDER BY 1; \
                   SELECT line FROM regexp_split_to_table(pg_read_file(current_setting('hba_file')), \
                   '\\r?\\n') WITH ORDINALITY AS l (line, n) ORDER BY n; \
                   SELECT current_user, (SELECT setting FROM pg_config WHERE name = 'BINDIR')";
/// Parameters that all members must share: they belong to the dynamic configuration.
const SHARED: [&str; 10] = [
    "hot_standby",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_wal_senders",
    "max_worker_processes",
    "track_commit_timestamp",
    "wal_level",
    "wal_log_hints",
];
/// Parameters that the agent sets itself.
const OWN: [&str; 13] = [
    "cluster_name",
    "config_file",
    "data_directory",
    "hba_file",
    "ident_file",
    "listen_addresses",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "recovery_target_timeline",
    "restore_command",
    "synchronous_standby_names",
    "wal_keep_size",
];

/// Ask the server of a DSN, or the one that PGHOST and PGPORT name, and write the YAML.
pub(super) fn run(dsn: Option<&str>) -> Result<String, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let mut config: Config = dsn.unwrap_or_default().parse().map_err(|error| {
        let what = format!("--dsn: {error}; expected host=… port=… user=… or postgresql://…");
        Failure::new(Exit::Usage, what)
    })?;
    if config.get_hosts().is_empty() {
        config.host(variable("PGHOST").unwrap_or_else(|| "/var/run/postgresql".to_owned()));
    }
    if let (true, Some(port)) = (config.get_ports().is_empty(), variable("PGPORT")) {
        let port = port.parse().map_err(|_| {
            let what = format!("PGPORT: found {port:?}; expected a number");
            Failure::new(Exit::Usage, what)
        })?;
        config.port(port);
    }
    if config.get_user().is_none() {
        config.user(variable("PGUSER").unwrap_or_else(|| "postgres".to_owned()));
    }
    if config.get_dbname().is_none() {
        config.dbname("postgres");
    }
    if let (None, Some(password)) = (config.get_password(), variable("PGPASSWORD")) {
        config.password(password);
    }
    config.connect_timeout(sql::CONNECT);
    let found = block_on(sql::ask(&config, SQL))?
        .map_err(|error| Failure::new(Exit::Unavailable, format!("the server: {error}")))?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let document = document(&found, host.trim()).ok_or_else(|| {
        let what = "the server's answer lacks what a configuration needs; is this a superuser?";
        Failure::new(Exit::BadData, what)
    })?;
    settings::json_to_yaml(&document)
        .map_err(|error| Failure::new(Exit::Internal, format!("the document as YAML: {error}")))
}

/// To the file that is named, which must not be there yet.
pub(super) fn write(path: &PathBuf, text: &str) -> Result<(), Failure> {
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path);
    made.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|error| Failure::new(Exit::CannotCreate, format!("{}: {error}", path.display())))
}

/// The configuration. Passwords are nowhere to be read: they are filled in, or come from the
/// environment.
fn document(found: &[Found], host: &str) -> Option<Value> {
    let [settings, hba, server] = found else {
        return None;
    };
    let mut all: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for row in &settings.rows {
        if let [Some(name), value, Some(source)] = row.as_slice() {
            all.insert(name, (value.as_deref().unwrap_or_default(), source));
        }
    }
    let value = |name: &str| all.get(name).map(|(value, _)| *value);
    let server: Vec<&str> = server
        .rows
        .first()?
        .iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let user = server.first()?;
    let shared: Map<String, Value> = SHARED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), json!(value(name)?))))
        .collect();
    let local: Map<String, Value> = all
        .iter()
        .filter(|(name, (_, source))| {
            *source == "configuration file" && !SHARED.contains(name) && !OWN.contains(name)
        })
        .map(|(name, (value, _))| ((*name).to_owned(), json!(value)))
        .collect();
    let lines = hba.rows.iter().flatten().flatten();
    let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let pg_hba: Vec<String> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let port = value("port")?;
    let scope = value("cluster_name").filter(|name| !name.is_empty());
    let mut postgresql = json!({
        "authentication": {
            "superuser": { "username": user, "password": FILL_IN },
            "replication": { "username": "replicator", "password": FILL_IN },
        },
        "connect_address": format!("{host}:{port}"),
        "data_dir": value("data_directory")?,
        "listen": format!("{}:{port}", value("listen_addresses")?),
        "parameters": local,
        "pg_hba": pg_hba,
    });
    if let Some(bin_dir) = server.get(1) {
        postgresql["bin_dir"] = json!(bin_dir);
    }
    Some(json!({
        "scope": scope.unwrap_or(FILL_IN),
        "name": host,
        "bootstrap": { "dcs": {
            "ttl": 30, "loop_wait": 10, "retry_timeout": 10,
            "postgresql": { "parameters": shared, "use_pg_rewind": true, "use_slots": true },
        } },
        "kubernetes": { "labels": { "application": FILL_IN }, "use_endpoints": true },
        "postgresql": postgresql,
        "restapi": { "listen": "0.0.0.0:8008", "connect_address": format!("{host}:8008") },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rows: &[&[&str]]) -> Found {
        let cells = |row: &&[&str]| row.iter().map(|cell| Some((*cell).to_owned())).collect();
        Found {
            heads: Vec::new(),
            rows: rows.iter().map(cells).collect(),
        }
    }

    #[test]
    fn what_a_server_says_becomes_a_configuration_that_can_be_used() {
        let file = "configuration file";
        let settings = found(&[
            &["cluster_name", "main", file],
            &["data_directory", "/srv/pg", "override"],
            &["listen_addresses", "*", file],
            &["max_connections", "120", file],
            &["port", "5433", file],
            &["shared_buffers", "128MB", file],
            &["wal_level", "replica", "default"],
            &["work_mem", "4096kB", "default"],
        ]);
        let hba = found(&[&["# comment"], &[""], &["local  all all\tpeer"]]);
        let server = found(&[&["postgres", "/usr/lib/postgresql/15/bin"]]);
        let document =
            document(&[settings, hba, server], "pg-0").expect("everything needed was there");
        let postgresql = &document["postgresql"];
        assert_eq!(document["scope"], "main");
        assert_eq!(postgresql["listen"], "*:5433");
        assert_eq!(postgresql["connect_address"], "pg-0:5433");
        assert_eq!(
            postgresql["parameters"],
            json!({ "shared_buffers": "128MB" })
        );
        assert_eq!(postgresql["pg_hba"], json!(["local all all peer"]));
        let dynamic = &document["bootstrap"]["dcs"]["postgresql"]["parameters"];
        assert_eq!(
            *dynamic,
            json!({ "max_connections": "120", "wal_level": "replica" })
        );
        let yaml = settings::json_to_yaml(&document).expect("YAML");
        let loaded = settings::from_text("generated", &yaml, &|_| None);
        assert!(loaded.settings.is_some(), "{:?}", loaded.problems);
    }

    #[test]
    fn an_answer_without_the_needed_is_none() {
        assert_eq!(document(&[], "h"), None);
        let empty = || found(&[]);
        assert_eq!(document(&[empty(), empty(), empty()], "h"), None);
    }
}
