//! Asks PostgreSQL itself whether it would take settings, before a file holds them: a server does
//! not start with a value that it refuses, and a running one ignores the whole file.
//!
//! `postgres -C` reads settings as a start does, prints one and ends: no server, no data directory.
//! It loads no libraries, so these are looked for in the directory that `pg_config` names.

use super::child::{self, ChildError};
use super::version::Installation;
use super::{quote, start};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// It takes a hundredth of this, or the machine is in trouble.
const DEADLINE: Duration = Duration::from_secs(5);

/// Settings whose libraries the server, or each of its sessions, does not start without.
const PRELOADED: [&str; 2] = ["shared_preload_libraries", "session_preload_libraries"];

/// Settings that name a file of TLS, and what they are by default.
const TLS_FILES: [(&str, &str); 5] = [
    ("ssl_cert_file", "server.crt"),
    ("ssl_key_file", "server.key"),
    ("ssl_ca_file", ""),
    ("ssl_crl_file", ""),
    ("ssl_dh_params_file", ""),
];

/// The settings that this PostgreSQL refuses, and why, in its own words. Where two exclude each
/// other, the later one in the order of names is refused.
pub async fn refused(
    installation: &Installation,
    settings: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ChildError> {
    let mut refused = missing_libraries(installation, settings).await;
    let left = settings
        .iter()
        .filter(|(name, _)| !refused.contains_key(*name));
    let left: Vec<_> = left.collect();
    if complaint(installation, &left).await?.is_none() {
        return Ok(refused);
    }
    let mut taken = Vec::new();
    for (name, value) in left {
        taken.push((name, value));
        if let Some(why) = complaint(installation, &taken).await? {
            taken.pop();
            refused.insert(name.clone(), why);
        }
    }
    Ok(refused)
}

/// The settings that name a library which is not there. Nothing is known, and nothing refused,
/// where libraries are sought elsewhere or no `pg_config` is installed.
async fn missing_libraries(
    installation: &Installation,
    settings: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let named = PRELOADED.map(|name| settings.get_key_value(name));
    let named: Vec<_> = named.into_iter().flatten().collect();
    if named.is_empty() || settings.contains_key("dynamic_library_path") {
        return BTreeMap::new();
    }
    let mut command = child::program(&installation.program("pg_config"), Path::new("/"));
    command.arg("--pkglibdir");
    let Ok(printed) = child::run(command, DEADLINE).await else {
        return BTreeMap::new();
    };
    let dir = Path::new(printed.trim());
    let missing = |(name, value): (&String, &String)| {
        let library = quote::list(value)
            .into_iter()
            .find(|library| !is_there(dir, library))?;
        let why = format!("there is no library {library:?} in {}", dir.display());
        Some((name.clone(), why))
    };
    named.into_iter().filter_map(missing).collect()
}

/// The files of TLS that are named and not there: a server with `ssl` does not start without them.
/// They are those of this member; the others' may differ.
pub fn missing_files(
    data_dir: &Path,
    settings: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let ssl = settings.get("ssl").and_then(|value| start::boolean(value));
    if ssl != Some(true) {
        return BTreeMap::new();
    }
    let missing = |(name, default): &(&str, &str)| {
        let file = settings.get(*name).map_or(*default, String::as_str);
        let path = data_dir.join(file);
        if file.is_empty() || path.is_file() {
            return None;
        }
        let why = format!("ssl is on, and there is no file {} here", path.display());
        Some(((*name).to_owned(), why))
    };
    TLS_FILES.iter().filter_map(missing).collect()
}

/// As the server looks: `$libdir` and plain names in `dir`, with and without the ending.
fn is_there(dir: &Path, library: &str) -> bool {
    let inside = library.strip_prefix("$libdir/").unwrap_or(library);
    let path = dir.join(inside);
    path.exists() || Path::new(&format!("{}.so", path.display())).exists()
}

async fn complaint(
    installation: &Installation,
    settings: &[(&String, &String)],
) -> Result<Option<String>, ChildError> {
    let root = Path::new("/");
    let mut command = child::program(&installation.program("postgres"), root);
    command.env("LC_ALL", "C").args(["-C", "server_version"]);
    command.args(["-D", "/", "-c", "config_file=/dev/null"]);
    for (name, value) in settings {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    match child::run(command, DEADLINE).await {
        Ok(_) => Ok(None),
        Err(ChildError::Failed { output, .. }) => Ok(Some(words(&output))),
        Err(error) => Err(error),
    }
}

/// What it complained of, without the time and the process.
fn words(output: &str) -> String {
    let told = output.lines().filter_map(|line| {
        let marks = ["FATAL:  ", "DETAIL:  ", "HINT:  "];
        marks.iter().find_map(|mark| line.split_once(mark))
    });
    let told: Vec<&str> = told.map(|(_, words)| words.trim()).collect();
    if told.is_empty() {
        output.trim().replace('\n', " ")
    } else {
        told.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_error_and_its_hint() {
        let said = "2026-11-27 22:54:35.708 GMT [9] FATAL:  invalid value for parameter \"a\": \"b\"\n\
                    2026-11-27 22:54:35.708 GMT [9] HINT:  Valid units are \"kB\" and \"MB\".\n";
        let told = "invalid value for parameter \"a\": \"b\"; Valid units are \"kB\" and \"MB\".";
        assert_eq!(words(said), told);
        assert_eq!(words("postgres: not found\n"), "postgres: not found");
    }
}
