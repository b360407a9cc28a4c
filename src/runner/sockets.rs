//! Where a server that is to be started can have its Unix sockets.
//!
//! PostgreSQL does not start with one directory that is missing or not writable, whatever the others
//! are: what cannot be used is left out, and said.

use super::server::blocking;
use crate::agent::wiring;
use crate::postgres::{Postgres, quote};
use std::fs;
use std::path::Path;

const KEY: &str = "unix_socket_directories";
/// What the kernel has room for in a socket's address, without the ending zero.
const PATH_BYTES_MAX: usize = 107;

/// The same with places for its sockets that can be used.
pub(super) async fn placed(mut pg: Postgres) -> Result<Postgres, String> {
    pg.reached_at = None;
    let Some(given) = pg.parameters.get(KEY).map(|list| quote::list(list)) else {
        return Ok(pg);
    };
    let port = pg.port;
    let judged = blocking(move || {
        let judge = |dir: String| {
            let fault = fault(&dir, port);
            (dir, fault)
        };
        Ok(given.into_iter().map(judge).collect::<Vec<_>>())
    });
    let mut usable = Vec::new();
    let mut left_out = false;
    for (dir, fault) in judged.await? {
        match fault {
            None => usable.push(dir),
            Some(why) => {
                left_out = true;
                tracing::warn!("postgresql.parameters.{KEY}: {dir} {why}; it is left out");
            }
        }
    }
    if left_out {
        pg.socket_dir = wiring::socket_dir(&usable);
        let names = usable.iter().map(|dir| quote::identifier(dir));
        let names = names.collect::<Vec<_>>().join(", ");
        pg.parameters.insert(KEY.to_owned(), names);
    }
    Ok(pg)
}

/// Why the server could not have a socket there.
fn fault(dir: &str, port: u16) -> Option<String> {
    let file = format!("{dir}/.s.PGSQL.{port}");
    if file.len() > PATH_BYTES_MAX {
        return Some(format!("is too long: a socket has {PATH_BYTES_MAX} bytes"));
    }
    // An abstract one is no file.
    if dir.starts_with('@') {
        return None;
    }
    if !Path::new(dir).is_dir() {
        return Some("is no directory here".to_owned());
    }
    let probe = Path::new(dir).join(format!(".pgwarden-{}", std::process::id()));
    match fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)) {
        Ok(()) => None,
        Err(error) => Some(format!("takes no files: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_judged_by_what_a_server_needs_of_it() {
        let dir = std::env::temp_dir().join(format!("pgw-sockets-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let at = dir.display().to_string();
        assert_eq!(fault(&at, 5432), None);
        assert_eq!(fault("@pg", 5432), None);
        assert!(fault(&format!("{at}/none"), 5432).is_some_and(|why| why.contains("no directory")));
        assert!(fault(&format!("/{}", "x".repeat(100)), 5432).is_some_and(|w| w.contains("long")));
        assert!(fault("/proc", 5432).is_some_and(|why| why.contains("takes no files")));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        fs::remove_dir(&dir).unwrap();
    }
}
