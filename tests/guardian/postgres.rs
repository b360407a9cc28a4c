//! A real PostgreSQL for the scenarios: one initdb, copied; clients that keep backends busy.

use super::harness::as_postgres;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The directory of PostgreSQL's programs; `None` (and a loud word) where there is none.
pub fn bin_dir() -> Option<PathBuf> {
    let found = ["17", "16", "15", "14"]
        .iter()
        .map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")))
        .find(|dir| dir.join("postgres").exists());
    if found.is_none() {
        eprintln!("SKIPPED: no PostgreSQL under /usr/lib/postgresql");
    }
    found
}

/// Runs a program as the user of the tests and expects it to succeed.
pub fn must_run(program: &Path, arguments: &[&str]) -> String {
    let mut command = as_postgres(program);
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{} {arguments:?}: {said}",
        program.display()
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

static TEMPLATE: OnceLock<tempdir::TempDir> = OnceLock::new();

/// Removes what was initialised once for all scenarios; called at the end of the process.
pub extern "C" fn remove_template() {
    if let Some(template) = TEMPLATE.get() {
        let _ = std::fs::remove_dir_all(template.path());
    }
}

/// Copies a freshly initialised data directory to `data_dir`, its socket in `socket_dir`.
pub fn make_data_dir(bin: &Path, data_dir: &Path, socket_dir: &Path) {
    let template = TEMPLATE.get_or_init(|| {
        let dir = tempdir::TempDir::new("template");
        let data = dir.path().join("data");
        let options = [
            "--auth=trust",
            "--no-sync",
            "--username=postgres",
            "--encoding=UTF8",
        ];
        let place = format!("--pgdata={}", data.display());
        must_run(&bin.join("initdb"), &[&options[..], &[&place]].concat());
        dir
    });
    let source = template.path().join("data");
    must_run(
        Path::new("cp"),
        &["-a", source.to_str().unwrap(), data_dir.to_str().unwrap()],
    );
    let configuration = format!(
        "\nlisten_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\n\
         shared_buffers = 16MB\n",
        socket_dir.display()
    );
    let file = data_dir.join("postgresql.conf");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, before + &configuration).unwrap();
}

/// One statement by psql; `Err` holds what it said.
pub fn psql(bin: &Path, socket_dir: &Path, statement: &str) -> Result<String, String> {
    let output = psql_command(bin, socket_dir, statement).output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Starts clients whose backends commit in a loop inside the server, needing no client for it.
pub fn busy_backends(bin: &Path, socket_dir: &Path, count: usize) -> Vec<Child> {
    let setup = "CREATE TABLE IF NOT EXISTS busy (n bigint); \
                 CREATE OR REPLACE PROCEDURE work() LANGUAGE plpgsql AS \
                 $$ BEGIN LOOP INSERT INTO busy VALUES (1); COMMIT; END LOOP; END $$";
    psql(bin, socket_dir, setup).unwrap();
    (0..count)
        .map(|_| {
            let mut command = psql_command(bin, socket_dir, "CALL work()");
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect()
}

fn psql_command(bin: &Path, socket_dir: &Path, statement: &str) -> Command {
    let mut command = as_postgres(&bin.join("psql"));
    command
        .args([
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-h",
        ])
        .arg(socket_dir)
        .args(["-c", statement])
        .env("PGCONNECT_TIMEOUT", "5")
        .stdin(Stdio::null());
    command
}

/// Directories that go with the test.
pub mod tempdir {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    static NEXT: AtomicU32 = AtomicU32::new(0);

    #[derive(Debug)]
    pub struct TempDir(PathBuf);

    impl TempDir {
        /// A fresh directory owned by the user the tests run PostgreSQL as.
        pub fn new(name: &str) -> Self {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("pgwg-{}-{number}-{name}", std::process::id());
            let path = std::env::temp_dir().canonicalize().unwrap().join(name);
            std::fs::create_dir(&path).unwrap();
            super::super::harness::give_to_postgres(&path);
            Self(path)
        }

        pub fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
