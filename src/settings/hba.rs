//! The lines of `pg_hba.conf` and `pg_ident.conf`, looked at before a file holds them.
//!
//! A running server ignores a whole file with one bad line, and the next start ends with it: the
//! fault would show on the day of a failover. PostgreSQL has no command that looks at such a file,
//! so what it certainly refuses is told here. What is only unwise is not.
//! Source: PostgreSQL's documentation, "The pg_hba.conf File" and "User Name Maps".

use std::net::IpAddr;

const TYPES: [&str; 6] = [
    "local",
    "host",
    "hostssl",
    "hostnossl",
    "hostgssenc",
    "hostnogssenc",
];
/// Since PostgreSQL 16; what they name is not looked at.
const INCLUDES: [&str; 3] = ["include", "include_if_exists", "include_dir"];
const METHODS: [&str; 14] = [
    "trust",
    "reject",
    "scram-sha-256",
    "md5",
    "password",
    "gss",
    "sspi",
    "ident",
    "peer",
    "ldap",
    "radius",
    "cert",
    "pam",
    "bsd",
];
/// Since PostgreSQL 18.
const OAUTH: &str = "oauth";

/// What the server would refuse of `pg_hba`, with the line; none: nothing is known to be wrong.
pub(super) fn hba_fault(lines: &[String]) -> Option<String> {
    first_fault(lines, hba_line)
}

/// Who of ours the server has to let in.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'a> {
    /// Over the Unix socket, else over the network.
    pub local: bool,
    /// To this database, or `replication`.
    pub database: &'a str,
    /// As this user.
    pub user: &'a str,
}

/// Whether the first line about this visitor lets it in, as far as that can be told: what a file
/// includes, a pattern and a group's name are taken for a line that does. An address is not looked
/// at: one of several lines will do.
pub fn lets_in(lines: &[String], visitor: Visitor<'_>) -> bool {
    let mut whole = String::new();
    for line in lines {
        if let Some(begun) = line.strip_suffix('\\') {
            whole.push_str(begun);
            continue;
        }
        whole.push_str(line);
        let fields = fields(&whole).unwrap_or_default();
        whole.clear();
        let Some((kind, rest)) = fields.split_first() else {
            continue;
        };
        if is_one_of(kind, &INCLUDES) {
            return true;
        }
        let [databases, users, ..] = rest else {
            continue;
        };
        let replication = visitor.database == "replication";
        let meant = (kind == "local") == visitor.local
            && names(databases, visitor.database, !replication)
            && names(users, visitor.user, true);
        let refused = fields.iter().any(|field| field == "reject");
        // A refusal of some addresses says nothing of the others.
        if meant && (visitor.local || !refused) {
            return !refused;
        }
    }
    false
}

/// A field with a list names this one, or may. `all`: the word means this one too.
fn names(list: &str, name: &str, all: bool) -> bool {
    list.split(',').any(|word| {
        let pattern = word.starts_with(['/', '+', '@']);
        let by_name = ["sameuser", "samerole", "samegroup"].contains(&word);
        word == name || pattern || (all && by_name) || (all && word == "all")
    })
}

/// The same of `pg_ident`.
pub(super) fn ident_fault(lines: &[String]) -> Option<String> {
    first_fault(lines, |fields| {
        let included = fields
            .first()
            .is_some_and(|first| is_one_of(first, &INCLUDES));
        if fields.len() >= 3 || (included && fields.len() == 2) {
            return Ok(());
        }
        Err("expected a map, a system user and a PostgreSQL user".to_owned())
    })
}

fn first_fault(
    lines: &[String],
    judge: impl Fn(&[String]) -> Result<(), String>,
) -> Option<String> {
    let mut whole = String::new();
    for (index, line) in lines.iter().enumerate() {
        if let Some(begun) = line.strip_suffix('\\') {
            whole.push_str(begun);
            continue;
        }
        whole.push_str(line);
        let judged = match fields(&whole) {
            Ok(fields) if fields.is_empty() => Ok(()),
            Ok(fields) => judge(&fields),
            Err(why) => Err(why.to_owned()),
        };
        if let Err(why) = judged {
            return Some(format!("line {} is {whole:?}: {why}", index + 1));
        }
        whole.clear();
    }
    None
}

/// What stands between blanks; a list goes on behind its comma. A comment is nothing.
fn fields(line: &str) -> Result<Vec<String>, &'static str> {
    let mut fields: Vec<String> = Vec::new();
    let (mut quoted, mut inside, mut listed) = (false, false, false);
    for character in line.chars() {
        match character {
            '#' if !quoted => break,
            '"' => {
                quoted = !quoted;
                if !inside && !listed {
                    fields.push(String::new());
                }
                (inside, listed) = (true, false);
            }
            blank if blank.is_whitespace() && !quoted => inside = false,
            other => {
                if !inside && !listed && other != ',' {
                    fields.push(String::new());
                }
                listed = other == ',' && !quoted;
                inside = !listed;
                if let Some(field) = fields.last_mut() {
                    field.push(other);
                }
            }
        }
    }
    if quoted {
        return Err("a quotation mark is never closed");
    }
    Ok(fields)
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.contains(&word)
}

fn hba_line(fields: &[String]) -> Result<(), String> {
    let (kind, rest) = fields
        .split_first()
        .ok_or_else(|| "it is empty".to_owned())?;
    if is_one_of(kind, &INCLUDES) {
        let one = rest.len() == 1;
        return one
            .then_some(())
            .ok_or_else(|| "expected one file".to_owned());
    }
    if !is_one_of(kind, &TYPES) {
        return Err(format!("found {kind:?}; expected {}", TYPES.join(", ")));
    }
    if rest.len() < 2 {
        return Err("expected databases and users behind the type".to_owned());
    }
    let behind = if kind == "local" {
        &rest[2..]
    } else {
        address(&rest[2..])?
    };
    let (method, options) = behind
        .split_first()
        .ok_or_else(|| "expected a method at its end, as scram-sha-256".to_owned())?;
    if method != OAUTH && !is_one_of(method, &METHODS) {
        let known = METHODS.join(", ");
        return Err(format!("found the method {method:?}; expected {known}"));
    }
    let of_the_socket = method == "peer";
    if of_the_socket && kind != "local" {
        return Err("peer is for local connections only".to_owned());
    }
    if method == "cert" && kind != "hostssl" {
        return Err("cert is for hostssl connections only".to_owned());
    }
    match options.iter().find(|option| !option.contains('=')) {
        Some(option) => Err(format!(
            "found {option:?}; expected an option as name=value"
        )),
        None => Ok(()),
    }
}

/// What stands behind the address and, where it has one, its mask.
fn address(fields: &[String]) -> Result<&[String], String> {
    let expected = "expected an address, as 10.0.0.0/8, samenet, all, or the name of a host";
    let (first, rest) = fields.split_first().ok_or_else(|| expected.to_owned())?;
    if let Some((address, length)) = first.split_once('/') {
        let Ok(ip) = address.parse::<IpAddr>() else {
            return Err(format!("found {first:?}; {expected}"));
        };
        let most = if ip.is_ipv4() { 32 } else { 128 };
        return match length.parse::<u8>() {
            Ok(length) if length <= most => Ok(rest),
            _ => Err(format!("found {first:?}; expected a length of 0 to {most}")),
        };
    }
    let Ok(ip) = first.parse::<IpAddr>() else {
        return Ok(rest);
    };
    let mask = rest.split_first();
    match mask.and_then(|(mask, rest)| Some((mask.parse::<IpAddr>().ok()?, rest))) {
        Some((mask, rest)) if mask.is_ipv4() == ip.is_ipv4() => Ok(rest),
        _ => Err(format!("expected a mask behind {first}, or {first}/LENGTH")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hba(text: &str) -> Option<String> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        hba_fault(&lines)
    }

    #[test]
    fn what_postgresql_takes_is_taken() {
        for line in [
            "local all all trust",
            "local   all \"a user\"   peer map=ops",
            "host all all 127.0.0.1/32 md5",
            "host all all 192.168.0.0 255.255.0.0 reject",
            "host all all ::1/128 scram-sha-256 # loopback",
            "hostssl all +admins all cert clientcert=verify-full",
            "hostnossl all all 0.0.0.0/0 reject",
            "host db1, db2 a,b samenet scram-sha-256",
            "host replication standby .example.com md5",
            "host \"all\" \"host\" node-1.example ldap ldapserver=x ldapprefix=\"cn=\"",
            "hostssl all all all oauth issuer=https://x scope=y",
            "host @dbs @users 10.0.0.0/8 md5",
            "include_if_exists more.conf",
            "# nothing",
            "host all all \\\n  10.0.0.0/8 md5",
        ] {
            assert_eq!(hba(line), None, "{line}");
        }
    }

    #[test]
    fn whoever_is_let_in_is_known() {
        let agent = Visitor {
            local: true,
            database: "postgres",
            user: "boss",
        };
        let standby = Visitor {
            local: false,
            database: "replication",
            user: "rep",
        };
        for (text, local, remote) in [
            ("local all all trust", true, false),
            ("host all all all md5", false, false),
            ("host replication rep all md5", false, true),
            (
                "host replication all 10.0.0.0/8 reject\nhost replication all all md5",
                false,
                true,
            ),
            ("host replication rep all reject", false, false),
            ("local all all reject\nlocal all boss trust", false, false),
            ("local all boss trust\nlocal all all reject", true, false),
            ("local app,postgres other,boss peer", true, false),
            ("local app all trust\nlocal all other trust", false, false),
            (
                "local replication all trust\nlocal all /^b trust",
                true,
                false,
            ),
            ("local sameuser all trust", true, false),
            ("local all +dbas \\\ntrust", true, false),
            ("include other.conf", true, true),
            ("# local all all trust", false, false),
            ("hostssl \"replication\" rep 10.0.0.1/32 cert", false, true),
        ] {
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            assert_eq!(lets_in(&lines, agent), local, "{text}");
            assert_eq!(lets_in(&lines, standby), remote, "{text}");
        }
    }

    #[test]
    fn what_ends_a_start_is_told_with_its_line() {
        for (line, words) in [
            ("garbage", "found \"garbage\"; expected local, host"),
            ("host", "expected databases and users"),
            ("local all all", "expected a method"),
            ("host all all 10.0.0.0/33 md5", "a length of 0 to 32"),
            (
                "host all all 10.0.0.1 md5",
                "expected a mask behind 10.0.0.1",
            ),
            ("host all all host/8 md5", "expected an address"),
            ("host all all all scram", "found the method \"scram\""),
            ("host all all all peer", "peer is for local"),
            ("host all all all cert", "cert is for hostssl"),
            ("host all all all md5 x", "an option as name=value"),
            ("host all \"a all md5", "never closed"),
        ] {
            let told = hba(&format!("local all all trust\n{line}")).expect(line);
            assert!(
                told.starts_with("line 2 is ") && told.contains(words),
                "{told}"
            );
        }
        let ident = |line: &str| ident_fault(&[line.to_owned()]);
        assert_eq!(ident("ops /^(.*)@x$ \\1"), None);
        assert!(ident("garbage").is_some() && ident("a b").is_some());
    }
}
