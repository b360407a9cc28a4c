//! `~/.pgpass`, as libpq reads it: the first line that fits has the password.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The password for a connection, if the file has one.
pub(super) fn password(host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    let path = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass"));
    let path = path.or_else(home)?;
    // As libpq: what others may read is not believed to be a secret.
    let about = std::fs::metadata(&path).ok()?;
    if !about.is_file() || about.mode() & 0o077 != 0 {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    find(&text, [host, &port.to_string(), database, user])
}

fn find(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(fields)
        .find(|fields| {
            fields.len() == 5
                && wanted
                    .iter()
                    .zip(fields)
                    .all(|(wanted, field)| field == "*" || field == wanted)
        })
        .and_then(|mut fields| fields.pop())
}

/// Colons part them, but for those behind a backslash; the last one is the rest.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let next = match c {
            '\\' => chars.next(),
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                continue;
            }
            other => Some(other),
        };
        if let (Some(c), Some(field)) = (next, fields.last_mut()) {
            field.push(c);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let text = "# mine\nother:5432:*:me:no\npg\\:0:*:db:me:a\\:b:c\n*:*:*:*:last\nbroken:x\n";
        let wanted = |host| find(text, [host, "5432", "db", "me"]);
        assert_eq!(wanted("pg:0").as_deref(), Some("a:b:c"));
        assert_eq!(wanted("elsewhere").as_deref(), Some("last"));
        assert_eq!(find("h:1:d:u:p", ["h", "2", "d", "u"]), None);
    }
}
