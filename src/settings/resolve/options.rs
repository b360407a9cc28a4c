//! Options of initdb and pg_basebackup, which Patroni's files write in three ways.

use crate::settings::raw::{Node, Value};
use crate::settings::section::{Section, plain_text};

/// Options the agent decides itself: they are refused, not overwritten.
pub(super) const INITDB: &[&str] = &[
    "pgdata",
    "nosync",
    "no-sync",
    "pwfile",
    "pwprompt",
    "sync-only",
    "version",
    "username",
];
/// The same for pg_basebackup.
pub(super) const BASEBACKUP: &[&str] = &[
    "pgdata",
    "format",
    "wal-method",
    "xlog-method",
    "gzip",
    "version",
    "dbname",
    "host",
    "port",
    "username",
    "password",
    "no-password",
    "target",
];

/// `[data-checksums, {encoding: UTF8}]` and `{data-checksums: true, encoding: UTF8}` are both
/// `--data-checksums --encoding=UTF8`.
pub(super) fn read(section: &Section<'_>, key: &str, forbidden: &[&str]) -> Vec<String> {
    let Some(node) = section.get(key) else {
        return Vec::new();
    };
    let mut options = Vec::new();
    match &node.value {
        Value::List(items) => {
            for item in items {
                match &item.value {
                    Value::Text(name) => push(section, key, forbidden, name, None, &mut options),
                    Value::Map(entries) => pairs(section, key, forbidden, entries, &mut options),
                    other => wrong(section, key, other),
                }
            }
        }
        Value::Map(entries) => pairs(section, key, forbidden, entries, &mut options),
        other => wrong(section, key, other),
    }
    options
}

fn wrong(section: &Section<'_>, key: &str, found: &Value) {
    let message = format!(
        "found {}; expected a list of options, as [data-checksums, {{encoding: UTF8}}]",
        found.kind()
    );
    section.error(key, message);
}

fn pairs(
    section: &Section<'_>,
    key: &str,
    forbidden: &[&str],
    entries: &[(String, Node)],
    options: &mut Vec<String>,
) {
    for (name, node) in entries {
        match &node.value {
            Value::Bool(true) => push(section, key, forbidden, name, None, options),
            Value::Bool(false) | Value::Null => {}
            value => match plain_text(value, true) {
                Some(text) => push(section, key, forbidden, name, Some(&text), options),
                None => wrong(section, key, value),
            },
        }
    }
}

fn push(
    section: &Section<'_>,
    key: &str,
    forbidden: &[&str],
    name: &str,
    value: Option<&str>,
    options: &mut Vec<String>,
) {
    // `--checkpoint=fast` written out as one text is understood as well.
    let (name, value) = match name.split_once('=') {
        Some((name, inline)) if value.is_none() => (name, Some(inline)),
        _ => (name, value),
    };
    let name = name.trim_start_matches('-');
    let is_word = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !is_word {
        section.error(
            key,
            format!("{name:?} is not an option; expected a long option's name"),
        );
    } else if forbidden.contains(&name) {
        section.error(
            key,
            format!("--{name} is not allowed: pgwarden sets it itself; remove it"),
        );
    } else {
        options.push(match value {
            Some(value) => format!("--{name}={value}"),
            None => format!("--{name}"),
        });
    }
}
