//! Real servers for the tests: found installations, members on free ports, and nothing left behind.

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use pgwarden::postgres::control_data::ControlData;
use pgwarden::postgres::probe::{Facts, Probe};
use pgwarden::postgres::session::Session;
use pgwarden::postgres::start::{self, PostmasterStatus};
use pgwarden::postgres::version::{Installation, MAJOR_MAX, MAJOR_MIN};
use pgwarden::postgres::{Credentials, Postgres, ProgramOption, Source, bootstrap};
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// For what must end some time on a slow machine.
pub const LONG: Duration = Duration::from_secs(120);

/// Runs a test as a user PostgreSQL accepts: started as root, the test binary runs itself again as
/// `postgres`, in a directory of its own that is removed whatever happens.
pub fn as_postgres(test: &str, body: impl AsyncFn(PathBuf, Installation)) {
    if !Uid::effective().is_root() {
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
        return;
    }
    let root = temporary();
    fs::create_dir_all(&root).unwrap();
    let _removed = Removed(root.clone());
    let user = nix::unistd::User::from_name("postgres").unwrap();
    let Some(user) = user else {
        eprintln!("SKIPPED: {test}: run as root and there is no user postgres");
        return;
    };
    nix::unistd::chown(&root, Some(user.uid), Some(user.gid)).unwrap();
    let status = Command::new("setpriv")
        .args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=KILL"])
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
pub async fn installations() -> Vec<Installation> {
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
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < LONG, "did not come true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One member: its settings, and its server while it runs.
pub struct Node {
    pub pg: Postgres,
    pub installation: Installation,
    server: Option<Child>,
}

impl Node {
    pub fn new(root: &Path, name: &str, installation: &Installation) -> Self {
        let home = root.join(name);
        fs::create_dir_all(&home).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let user = |username: &str, password: &str| Credentials {
            username: username.into(),
            password: Some(password.into()),
            ..Credentials::default()
        };
        let option = |name: &str, value: Option<&str>| ProgramOption {
            name: name.into(),
            value: value.map(Into::into),
        };
        let pg = Postgres {
            bin_dir: installation.bin_dir.clone(),
            data_dir: home.join("data"),
            listen: vec!["127.0.0.1".into()],
            port,
            socket_dir: home.clone(),
            name: name.into(),
            scope: "it's a cluster".into(),
            // Nasty on purpose: every file and protocol has to carry them.
            superuser: user("postgres", "sup'er:\\ \"pw"),
            replication: user("re'pl-\"icator", "p:a\\s s'\u{fb01}"),
            rewind: Some(user("rewind.user", "rew:ind\\")),
            parameters: BTreeMap::new(),
            pg_hba: vec![],
            pg_ident: vec![],
            recovery: BTreeMap::new(),
            initdb: vec![option("encoding", Some("UTF8")), option("locale", Some("C.UTF-8"))],
            basebackup: vec![],
            database: "postgres".into(),
            pgpass: home.join("pgpass"),
            use_slots: true,
        };
        Self { pg, installation: installation.clone(), server: None }
    }

    /// A running primary with all its users.
    pub async fn primary(root: &Path, name: &str, installation: &Installation) -> Self {
        let mut node = Self::new(root, name, installation);
        node.bootstrap().await;
        node
    }

    pub async fn bootstrap(&mut self) {
        bootstrap::initdb(&self.pg, &self.installation, LONG).await.unwrap();
        self.start().await;
        bootstrap::create_users(&self.session().await, &self.pg, LONG).await.unwrap();
    }

    pub fn source(&self) -> Source {
        Source { host: "127.0.0.1".into(), port: self.pg.port }
    }

    pub fn control(&self) -> ControlData {
        ControlData::read(&self.pg.data_dir).unwrap()
    }

    /// Starts the server as the guardian would and waits until it serves.
    pub async fn start(&mut self) {
        let data_dir = self.pg.data_dir.clone();
        let standby = data_dir.join("standby.signal").exists().then(|| self.control());
        let launch = start::postmaster(&self.pg, standby.as_ref());
        assert!(launch.notes.is_empty(), "{:?}", launch.notes);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.pg.socket_dir.join("log"))
            .unwrap();
        let child = Command::new(&launch.program)
            .args(&launch.argv[1..])
            .env_clear()
            .envs(launch.env)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        self.server = Some(child);
        eventually("the server serves", async || {
            let log = || fs::read_to_string(self.pg.socket_dir.join("log")).unwrap();
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {}", log());
            let file = start::postmaster_file(&data_dir);
            let serves = |status| match standby {
                Some(_) => matches!(status, PostmasterStatus::Standby | PostmasterStatus::Ready),
                None => status == PostmasterStatus::Ready,
            };
            file.is_some_and(|file| file.pid == pid && serves(file.status))
                && Session::local(&self.pg, LONG).await.is_ok()
        })
        .await;
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.server.as_ref().unwrap().id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Stops the server and waits for its end: SIGINT cleanly, SIGKILL as a crash.
    pub fn stop(&mut self, signal: Signal) {
        self.signal(signal);
        self.server.take().unwrap().wait().unwrap();
    }

    pub async fn session(&self) -> Session {
        Session::local(&self.pg, LONG).await.unwrap()
    }

    pub async fn run(&self, sql: &str) {
        self.session().await.execute(sql, LONG).await.unwrap();
    }

    pub async fn ask(&self, sql: &str) -> String {
        self.session().await.value::<String>(sql, LONG).await.unwrap()
    }

    pub async fn facts(&self) -> Facts {
        Probe::new().facts(&self.pg, LONG).await.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // It may have ended by itself: only its end matters.
            let pid = Pid::from_raw(i32::try_from(server.id()).unwrap());
            drop(kill(pid, Signal::SIGCONT));
            drop(kill(pid, Signal::SIGQUIT));
            drop(server.wait());
        }
    }
}

/// Changes a file's or directory's permissions.
pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
