//! Asks PostgreSQL itself whether it would take settings, before a file holds them: a server does
//! not start with a value that it refuses, and a running one ignores the whole file.
//!
//! `postgres -C` reads settings as a start does, prints one and ends: no server, no data directory.

use super::child::{self, ChildError};
use super::version::Installation;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// It takes a hundredth of this, or the machine is in trouble.
const DEADLINE: Duration = Duration::from_secs(5);

/// The settings that this PostgreSQL refuses, and why, in its own words. Where two exclude each
/// other, the later one in the order of names is refused.
pub async fn refused(
    installation: &Installation,
    settings: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ChildError> {
    let mut refused = BTreeMap::new();
    let mut taken: Vec<_> = settings.iter().collect();
    if complaint(installation, &taken).await?.is_none() {
        return Ok(refused);
    }
    taken.clear();
    for (name, value) in settings {
        taken.push((name, value));
        if let Some(why) = complaint(installation, &taken).await? {
            taken.pop();
            refused.insert(name.clone(), why);
        }
    }
    Ok(refused)
}

async fn complaint(
    installation: &Installation,
    settings: &[(&String, &String)],
) -> Result<Option<String>, ChildError> {
    let root = Path::new("/");
    let mut command = child::program(&installation.bin_dir, "postgres", root);
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
