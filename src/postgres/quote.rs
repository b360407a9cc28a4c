//! One place for every dialect of quoting: configuration files, connection strings, SQL,
//! password files, names of synchronous standbys, slots.
//!
//! A name or password with a quote in it must neither break a file nor become part of a command.

use super::{Credentials, Source};
use crate::ha::quorum::SyncSetting;

/// A value of `postgresql.conf`. The file knows backslash escapes, and no raw line breaks.
pub fn conf_value(value: &str) -> String {
    let mut quoted = String::from("'");
    for character in value.chars() {
        match character {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

/// The entries of a list of names, as `unix_socket_directories`; a comma in quotation marks parts
/// nothing, and two of these are one.
pub fn list(text: &str) -> Vec<String> {
    let mut entries = vec![String::new()];
    let (mut quoted, mut closed) = (false, false);
    for character in text.chars() {
        match character {
            ',' if !quoted => entries.push(String::new()),
            '"' => {
                if let Some(entry) = entries.last_mut().filter(|_| !quoted && closed) {
                    entry.push('"');
                }
                quoted = !quoted;
            }
            other => {
                if let Some(entry) = entries.last_mut() {
                    entry.push(other);
                }
            }
        }
        closed = character == '"' && !quoted;
    }
    let entries = entries.into_iter().map(|entry| entry.trim().to_owned());
    entries.filter(|entry| !entry.is_empty()).collect()
}

/// A value of a libpq connection string.
pub fn conninfo_value(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// For copies, which run for hours: a node that is gone without a word ends them within half a
/// minute, and not after the kernel's two hours.
pub const NOTICE_SILENCE: [(&str, &str); 5] = [
    ("connect_timeout", "10"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "30000"),
];

/// A connection string to another member, without the password: that stands in the password file.
pub fn conninfo(source: &Source, user: &Credentials, extra: &[(&str, &str)]) -> String {
    let port = source.port.to_string();
    let mut pairs = vec![
        ("host", source.host.as_str()),
        ("port", port.as_str()),
        ("user", user.username.as_str()),
    ];
    pairs.extend(
        user.conninfo
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str())),
    );
    if !user.conninfo.contains_key("sslmode") {
        pairs.push(("sslmode", "prefer"));
    }
    pairs.extend_from_slice(extra);
    let text: Vec<_> = pairs
        .iter()
        .map(|(key, value)| format!("{key}={}", conninfo_value(value)))
        .collect();
    text.join(" ")
}

/// An identifier of SQL; also a user or database name of `pg_hba.conf`.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal of SQL that means the same with `standard_conforming_strings` on or off.
pub fn literal(value: &str) -> String {
    let doubled = value.replace('\'', "''");
    if doubled.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// A field of a password file.
pub fn pgpass_field(value: &str) -> String {
    value.replace('\\', "\\\\").replace(':', "\\:")
}

/// The value of `synchronous_standby_names` for this setting, as Patroni writes it.
pub fn sync_names(setting: &SyncSetting) -> String {
    let quoted: Vec<_> = setting.names.iter().map(|name| identifier(name)).collect();
    match quoted.as_slice() {
        [] => String::new(),
        names if setting.any => format!("ANY {} ({})", setting.need, names.join(",")),
        [one] => one.clone(),
        names => format!("{} ({})", setting.need, names.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_values() {
        assert_eq!(conf_value("it's"), "'it''s'");
        assert_eq!(conf_value("a\\b\nc"), "'a\\\\b\\nc'");
        assert_eq!(conf_value(""), "''");
    }

    #[test]
    fn lists_are_parted_at_commas_outside_quotation_marks() {
        assert_eq!(list("/run/pg, /tmp"), ["/run/pg", "/tmp"]);
        assert_eq!(list("\"/a, b/c\",@x"), ["/a, b/c", "@x"]);
        assert_eq!(list("\"a\"\"b\""), ["a\"b"]);
        assert_eq!(list(" , ").len(), 0);
    }

    #[test]
    fn connection_strings() {
        let source = Source {
            host: "10.0.0.1".into(),
            port: 5433,
        };
        let mut user = Credentials {
            username: "o'neil \\".into(),
            ..Credentials::default()
        };
        let text = conninfo(&source, &user, &[("application_name", "a b")]);
        assert_eq!(
            text,
            "host='10.0.0.1' port='5433' user='o\\'neil \\\\' sslmode='prefer' \
             application_name='a b'"
        );
        user.conninfo.insert("sslmode".into(), "verify-full".into());
        assert!(conninfo(&source, &user, &[]).ends_with(" sslmode='verify-full'"));
    }

    #[test]
    fn sql() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("\\'"), " E'\\\\'''");
    }

    #[test]
    fn password_files() {
        assert_eq!(pgpass_field("a:b\\c"), "a\\:b\\\\c");
    }

    #[test]
    fn synchronous_standbys() {
        let all = |names: &[&str]| SyncSetting::all(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(sync_names(&SyncSetting::default()), "");
        assert_eq!(sync_names(&all(&["pg-1"])), "\"pg-1\"");
        assert_eq!(sync_names(&all(&["a\"", "b"])), "2 (\"a\"\"\",\"b\")");
        let any = SyncSetting::any(all(&["b", "a"]).names, 1);
        assert_eq!(sync_names(&any), "ANY 1 (\"a\",\"b\")");
    }
}
