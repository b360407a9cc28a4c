//! Files of a dead server that would keep the next one from starting.
//!
//! PostgreSQL believes its lock files (`postmaster.pid` in the data directory, one beside each Unix
//! socket) while any process of that number exists: a zombie that init has not reaped yet, or, in a
//! restarted container where numbers are small and come again, a helper of the agent. The socket
//! directory survives a container's restart as the volume does. With the lock of G8 held and the
//! sweep of G6 done we know better: a process that does not work in the directory is no server of
//! it.

use super::{Postgres, quote};
use crate::sys::durable;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The process of `postmaster.pid`, if it is one that works in this directory.
pub fn running_server(data_dir: &Path) -> Option<i32> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let (pid, _) = owner(&text)?;
    works_in(pid, data_dir).then_some(pid)
}

/// Removes `postmaster.pid` and those of `socket_locks` that name this directory, unless their
/// server runs. To be called only after a verified stop.
///
/// # Errors
///
/// A file that is stale and cannot be removed.
pub fn remove(data_dir: &Path, socket_locks: &[PathBuf]) -> io::Result<()> {
    if running_server(data_dir).is_some() {
        return Ok(());
    }
    for lock in socket_locks {
        let text = fs::read_to_string(lock).unwrap_or_default();
        // What belongs to another directory's server, or cannot be read, is PostgreSQL's to judge.
        if owner(&text).is_some_and(|(pid, dir)| is_same(dir, data_dir) && !works_in(pid, data_dir))
        {
            tracing::warn!(lock = %lock.display(), "removing the socket lock of a dead server");
            fs::remove_file(lock)?;
        }
    }
    durable::remove_durably(&data_dir.join("postmaster.pid"))
}

/// The lock files of every socket that this server listens on. (An abstract one has none.)
pub fn socket_locks(pg: &Postgres) -> Vec<PathBuf> {
    let given = pg.parameters.get("unix_socket_directories");
    let more = given.into_iter().flat_map(|list| quote::list(list));
    let more = more.map(PathBuf::from);
    let mut dirs: Vec<_> = more.filter(|dir| dir.is_absolute()).collect();
    dirs.push(pg.socket_dir.clone());
    dirs.sort();
    dirs.dedup();
    let name = format!(".s.PGSQL.{}.lock", pg.port);
    dirs.iter().map(|dir| dir.join(&name)).collect()
}

/// The process and the data directory that a lock file names: its first two lines.
fn owner(text: &str) -> Option<(i32, &Path)> {
    let mut lines = text.lines().map(str::trim);
    // A postmaster writes its number; a single-user server the same, negated.
    let pid: i32 = lines.next()?.parse().ok()?;
    Some((pid.checked_abs()?, Path::new(lines.next()?)))
}

fn is_same(named: &Path, data_dir: &Path) -> bool {
    named == data_dir
        || matches!((named.canonicalize(), data_dir.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn works_in(pid: i32, data_dir: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd"))
        .is_ok_and(|works_in| fs::canonicalize(data_dir).is_ok_and(|dir| dir == works_in))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::config::tests::sample;
    use std::process::Command;

    #[test]
    fn only_what_names_this_directory_and_no_server_of_it_goes() {
        let dir = std::env::temp_dir().join(format!("pgwarden-stale-{}", std::process::id()));
        let data_dir = dir.join("data");
        fs::create_dir_all(&data_dir).unwrap();
        let (pid_file, ours) = (data_dir.join("postmaster.pid"), dir.join(".ours.lock"));
        let (others, garbage) = (dir.join(".others.lock"), dir.join(".garbage.lock"));
        let locks = [ours.clone(), others.clone(), garbage.clone(), dir.join("x")];
        let helper_in = |place: &Path| {
            let mut sleep = Command::new("sleep");
            sleep.arg("60").current_dir(place).spawn().unwrap()
        };
        let (mut helper, mut server) = (helper_in(&dir), helper_in(&data_dir));
        let write = |file: &Path, pid: u32, of: &Path| {
            fs::write(file, format!("{pid}\n{}\n0\n5432\n", of.display())).unwrap();
        };
        fs::write(&garbage, "what?").unwrap();

        write(&pid_file, server.id(), &data_dir);
        write(&ours, server.id(), &data_dir);
        write(&others, helper.id(), &dir);
        assert_eq!(running_server(&data_dir), Some(server.id() as i32));
        remove(&data_dir, &locks).unwrap();
        assert!(pid_file.exists() && ours.exists(), "its server runs");

        // The number came again: it is somebody else's, and alive.
        write(&pid_file, helper.id(), &data_dir);
        write(&ours, helper.id(), &data_dir);
        remove(&data_dir, &locks).unwrap();
        assert!(!pid_file.exists() && !ours.exists());
        assert!(others.exists() && garbage.exists());
        for mut child in [
            helper.kill().map(|()| helper),
            server.kill().map(|()| server),
        ] {
            child.as_mut().unwrap().wait().unwrap();
        }
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn every_directory_of_sockets_counts_once() {
        let mut pg = sample();
        let dirs = "/a , \"/run/pg\",@abstract".to_owned();
        pg.parameters.insert("unix_socket_directories".into(), dirs);
        let expected = ["/a/.s.PGSQL.5432.lock", "/run/pg/.s.PGSQL.5432.lock"];
        assert_eq!(socket_locks(&pg), expected.map(PathBuf::from));
    }
}
