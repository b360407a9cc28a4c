//! Real servers for the tests: found installations, members on free ports, and nothing left behind.

use nix::unistd::Uid;
use pgwarden::postgres::version::{Installation, MAJOR_MAX, MAJOR_MIN};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// For what must end some time on a slow machine.
pub(crate) const LONG: Duration = Duration::from_mins(2);

/// Runs a test as a user PostgreSQL accepts: started as root, the test binary runs itself again as
/// `postgres`, in a directory of its own that is removed whatever happens.
pub(crate) fn as_postgres<T: AsyncFn(PathBuf, Installation)>(body: T) {
    let test = test_name::<T>();
    if Uid::effective().is_root() {
        run_again(test, "exec \"$@\"", &[]);
    } else {
        for_every_installation(test, body);
    }
}

/// The same with a mounted volume, on the device of its parent: a bind mount in a namespace of its
/// own, for which the test must have been started as root.
pub(crate) fn with_mounted_volume<T: AsyncFn(PathBuf, PathBuf, Installation)>(body: T) {
    let test = test_name::<T>();
    if Uid::effective().is_root() {
        let mount = "mkdir $TMPDIR/v && chown postgres: $TMPDIR/v && \
                     mount --bind $TMPDIR/v $TMPDIR/v && exec \"$@\"";
        run_again(test, mount, &["unshare", "--mount"]);
    } else if std::env::temp_dir().join("v").exists() {
        let volume = std::env::temp_dir().join("v");
        for_every_installation(test, async |root, installation| {
            for entry in fs::read_dir(&volume).unwrap().map(Result::unwrap) {
                let path = entry.path();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    fs::remove_dir_all(path)
                } else {
                    fs::remove_file(path)
                }
                .unwrap();
            }
            Box::pin(body(root, volume.clone(), installation)).await;
        });
    } else {
        eprintln!("SKIPPED: {test}: a volume can only be mounted when the tests run as root");
    }
}

/// The test's own name, from that of the closure it gave.
fn test_name<T>() -> &'static str {
    let path = std::any::type_name::<T>();
    let path = path.split_once("::").unwrap().1;
    path.strip_suffix("::{{closure}}").unwrap_or(path)
}

fn for_every_installation(test: &str, body: impl AsyncFn(PathBuf, Installation)) {
    let root = temporary();
    fs::create_dir_all(&root).unwrap();
    let _removed = Removed(root.clone());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let installations = installations().await;
        if installations.is_empty() {
            eprintln!("SKIPPED: {test}: no PostgreSQL under /usr/lib/postgresql");
        }
        for installation in installations {
            eprintln!("{test} with PostgreSQL {}", installation.text);
            let dir = root.join(installation.major.to_string());
            fs::create_dir(&dir).unwrap();
            Box::pin(body(dir, installation)).await;
        }
    });
}

fn run_again(test: &str, script: &str, within: &[&str]) {
    let root = temporary();
    fs::create_dir_all(&root).unwrap();
    let _removed = Removed(root.clone());
    let user = nix::unistd::User::from_name("postgres").unwrap();
    let Some(user) = user else {
        eprintln!("SKIPPED: {test}: run as root and there is no user postgres");
        return;
    };
    nix::unistd::chown(&root, Some(user.uid), Some(user.gid)).unwrap();
    let mut words = within.to_vec();
    words.extend([
        "sh",
        "-c",
        script,
        "sh",
        "setpriv",
        "--reuid=postgres",
        "--regid=postgres",
    ]);
    words.extend(["--init-groups", "--pdeathsig=KILL"]);
    let status = Command::new(words[0])
        .args(&words[1..])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("TMPDIR", &root)
        .current_dir("/")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed as user postgres");
}

/// A directory with a short name, because sockets in it may have 107 characters; many tests run
/// in one process.
fn temporary() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("pgw{}-{number}", std::process::id()))
}

/// A directory that goes away with the test, failed or not.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Every supported PostgreSQL that is installed.
pub(crate) async fn installations() -> Vec<Installation> {
    let mut found = Vec::new();
    for major in MAJOR_MIN..=MAJOR_MAX {
        let bin_dir = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
        if bin_dir.exists() {
            found.push(Installation::find(&bin_dir, LONG).await.unwrap());
        }
    }
    found
}

/// Waits until `condition` holds; fails loudly after [`LONG`].
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < LONG, "did not come true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Changes a file's or directory's permissions.
pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
