//! `postgresql`: the server of this member.

use super::{Env, hooks, options, rest};
use crate::settings::address::{HostPort, parse_hosts};
use crate::settings::dynamic;
use crate::settings::known::USER_KEYS;
use crate::settings::section::Section;
use crate::settings::types::{Authentication, PgUser, Postgresql};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

const PORT: u16 = 5432;
/// Programs that may have another name.
const PROGRAMS: [&str; 8] = [
    "postgres",
    "initdb",
    "pg_ctl",
    "pg_controldata",
    "pg_basebackup",
    "pg_isready",
    "pg_rewind",
    "pg_waldump",
];

pub(super) fn read(
    section: &Section<'_>,
    pod_ip: Option<IpAddr>,
    env: Env<'_>,
) -> Option<Postgresql> {
    let data_dir = data_dir(section);
    let listen = listen(section);
    let connect = listen.as_ref().map(|(hosts, port)| {
        // Several hosts: any of them that is not a wildcard can be connected to.
        let wildcard = |host: &&String| {
            HostPort {
                host: (*host).clone(),
                port: 0,
            }
            .is_wildcard()
        };
        let host = hosts.iter().find(|host| !wildcard(host)).or(hosts.first());
        HostPort {
            host: host.cloned().unwrap_or_default(),
            port: *port,
        }
    });
    let connect_address = rest::connect_address(section, connect.as_ref(), pod_ip);
    let proxy_address = rest::proxy_address(section, connect.as_ref());
    let mut authentication = authentication(&section.section("authentication"));
    if let Some(service) = section.text("krbsrvname", "the name of a Kerberos service") {
        for user in [&mut authentication.replication, &mut authentication.rewind] {
            let key = "krbsrvname".to_owned();
            user.conninfo.insert(key, service.clone());
        }
    }
    let (replica_methods, methods) = hooks::methods(section);
    let recovery_conf = hooks::recovery_conf(section);
    let hooks = hooks::read(section);
    let path = |key: &str| section.text(key, "a path").map(PathBuf::from);
    if section.boolean("use_slots").is_some() {
        let message = "it has no effect here: it must be the same on every member; set it in \
                       bootstrap.dcs.postgresql";
        section.warn("use_slots", message);
    }
    // Everything is read before anything that is missing ends the reading.
    let pgpass = path("pgpass").or_else(|| default_pgpass(data_dir.as_deref()?, env));
    let bin_dir = path("bin_dir");
    let custom_conf = custom_conf(section);
    let bin_name = bin_name(section);
    let database = section
        .text("database", "a database")
        .unwrap_or_else(|| "postgres".to_owned());
    let parameters = dynamic::parameters(section, &BTreeMap::new());
    let pg_hba = section.access_lines("pg_hba");
    let pg_ident = section.access_lines("pg_ident");
    let basebackup = options::read(section, "basebackup", options::BASEBACKUP);
    let use_pg_rewind = section.boolean("use_pg_rewind");
    let on_failure = section.boolean("remove_data_directory_on_rewind_failure");
    let on_divergence = section.boolean("remove_data_directory_on_diverged_timelines");
    let pg_ctl_timeout_ms = section.duration_ms("pg_ctl_timeout", 1).unwrap_or(60_000);
    let use_unix_socket = section.boolean("use_unix_socket").unwrap_or(true);
    let (hosts, port) = listen?;
    Some(Postgresql {
        listen_addresses: hosts.join(","),
        port,
        connect_address: connect_address?,
        proxy_address,
        data_dir: data_dir?,
        bin_dir,
        bin_name,
        pgpass: pgpass?,
        database,
        authentication,
        parameters,
        pg_hba,
        pg_ident,
        basebackup,
        hooks,
        replica_methods,
        methods,
        recovery_conf,
        custom_conf,
        use_pg_rewind,
        remove_data_directory_on_rewind_failure: on_failure,
        remove_data_directory_on_diverged_timelines: on_divergence,
        pg_ctl_timeout_ms,
        use_unix_socket,
    })
}

/// The data directory; a relative one depends on where the program was started, so it is refused.
fn data_dir(section: &Section<'_>) -> Option<PathBuf> {
    let expected = "the absolute path of the data directory, as /var/lib/postgresql/data";
    if !section.has("data_dir") {
        section.error("data_dir", format!("it is missing; expected {expected}"));
        return None;
    }
    let text = section.text("data_dir", expected)?;
    let dir = PathBuf::from(text.trim_end_matches('/'));
    let has_name = dir.file_name().is_some() && dir.parent().is_some();
    if !dir.is_absolute() || !has_name || text.contains("/../") {
        section.error("data_dir", format!("found {text:?}; expected {expected}"));
        return None;
    }
    Some(dir)
}

/// A file of settings in place of the one that initdb made; PostgreSQL looks for a relative one
/// from the data directory.
fn custom_conf(section: &Section<'_>) -> Option<PathBuf> {
    let expected = "the path of a file, as /etc/postgresql/custom.conf";
    let text = section.text("custom_conf", expected)?;
    if !text.contains(['\n', '\r']) {
        return Some(PathBuf::from(text));
    }
    section.error(
        "custom_conf",
        format!("it has more than one line; expected {expected}"),
    );
    None
}

/// The data directory's parent is not always writable; the home directory is Patroni's choice.
fn default_pgpass(data_dir: &Path, env: Env<'_>) -> Option<PathBuf> {
    match env("HOME").filter(|home| home.starts_with('/') && home.len() > 1) {
        Some(home) => Some(Path::new(&home).join("pgpass")),
        None => Some(data_dir.parent()?.join(".pgpass.pgwarden")),
    }
}

fn listen(section: &Section<'_>) -> Option<(Vec<String>, u16)> {
    let text = match section.text("listen", "host:port, as 0.0.0.0:5432") {
        Some(text) => text,
        None if section.has("listen") => return None,
        None => format!("0.0.0.0:{PORT}"),
    };
    match parse_hosts(&text, Some(PORT)) {
        Ok(found) => Some(found),
        Err(e) => {
            section.error("listen", e);
            None
        }
    }
}

fn bin_name(section: &Section<'_>) -> BTreeMap<String, String> {
    let names = section.text_map("bin_name", false);
    for (program, file) in &names {
        if !PROGRAMS.contains(&program.as_str()) {
            let message = format!(
                "{program} is not a program that is run; expected one of {}",
                PROGRAMS.join(", ")
            );
            section.warn("bin_name", message);
        }
        if file.is_empty() || file.contains('/') {
            section.error(
                "bin_name",
                format!("{program}: expected a file name without a path"),
            );
        }
    }
    names
}

fn authentication(section: &Section<'_>) -> Authentication {
    let superuser = user(&section.section("superuser"), "postgres");
    let replication = user(&section.section("replication"), "replicator");
    let rewind = section.section("rewind");
    let rewind = if rewind.present() {
        user(&rewind, "rewind_user")
    } else {
        superuser.clone()
    };
    if replication.username == superuser.username && replication.password != superuser.password {
        let message = format!(
            "superuser and replication are both {:?} with different passwords; expected two names \
             or one password",
            superuser.username
        );
        section.error("replication", message);
    }
    if replication.password.is_none() && !replication.conninfo.contains_key("sslcert") {
        let message = "the replication user has no password: replicas on other nodes get in only \
                       if pg_hba trusts them";
        section.warn("replication", message);
    }
    Authentication {
        superuser,
        replication,
        rewind,
    }
}

fn user(section: &Section<'_>, default: &str) -> PgUser {
    let username = section.text("username", "a role's name");
    let mut conninfo = BTreeMap::new();
    for key in USER_KEYS.iter().skip(2) {
        if *key == "sslpassword" {
            continue;
        }
        if let Some(value) = section.text(key, "text") {
            conninfo.insert((*key).to_owned(), value);
        }
    }
    let password = section.secret("password");
    if password.as_ref().is_some_and(|it| it.expose().is_empty()) {
        let message = "it is empty; expected a password, or no such key where pg_hba lets the \
                       user in without";
        section.error("password", message);
    }
    PgUser {
        username: username.unwrap_or_else(|| default.to_owned()),
        password: password.filter(|password| !password.expose().is_empty()),
        ssl_password: section.secret("sslpassword"),
        conninfo,
    }
}
