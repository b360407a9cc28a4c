//! A guardian with a fake agent and a real PostgreSQL, in one of two situations: as an ordinary
//! unprivileged process, and as PID 1 of a PID namespace.
//!
//! The guardian is this very test binary, started again with an environment variable. Inside a
//! namespace it counts processes differently; `host_pid` translates.

use super::agent::Agent;
use super::fake_agent::Order;
use super::postgres::tempdir::TempDir;
use super::postgres::{bin_dir, busy_backends, make_data_dir, psql};
use pgwarden::guardian::protocol::{Notice, Request, StartSpec};
use pgwarden::sys::process::{Signal, own_uid, signal};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    Plain,
    Pid1,
}

/// Waits until `condition` yields something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program, to be run as `postgres` when the tests run as root.
pub fn as_postgres(program: &Path) -> Command {
    if own_uid() != 0 {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
        .arg(program);
    command
}

pub fn give_to_postgres(path: &Path) {
    if own_uid() == 0 {
        let done = Command::new("chown")
            .arg("postgres:")
            .arg(path)
            .status()
            .unwrap();
        assert!(done.success(), "chown {}", path.display());
    }
}

/// Whether this machine lets us make a PID namespace.
fn namespaces_work() -> bool {
    let done = namespace_command()
        .args(["true"])
        .stderr(Stdio::null())
        .status();
    done.is_ok_and(|status| status.success())
}

fn namespace_command() -> Command {
    let mut command = Command::new("unshare");
    if own_uid() != 0 {
        command.args(["--user", "--map-current-user"]);
    }
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    command
}

/// Directories, sockets and the running guardian of one scenario.
pub struct World {
    pub situation: Situation,
    pub bin: PathBuf,
    pub dir: TempDir,
    listener: UnixListener,
    guardian: Option<Child>,
    clients: Vec<Child>,
    fault: Option<&'static str>,
}

impl World {
    /// A world with a fresh data directory and a running guardian; `None` if this machine cannot.
    pub fn begin(situation: Situation, name: &str) -> Option<Self> {
        Self::begin_with(situation, name, None)
    }

    /// The same with a fault switched on.
    pub fn begin_with(
        situation: Situation,
        name: &str,
        fault: Option<&'static str>,
    ) -> Option<Self> {
        let bin = bin_dir()?;
        if situation == Situation::Pid1 && !namespaces_work() {
            eprintln!("SKIPPED: this machine does not let us make a PID namespace: {name}");
            return None;
        }
        let dir = TempDir::new(name);
        make_data_dir(&bin, &dir.path().join("data"), dir.path());
        let socket = dir.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        give_to_postgres(&socket);
        // The guardian runs as another user than cargo: give it a program it can read.
        // By another process: a fork of a test beside this one would keep a copy of ours open, and
        // a program that is open for writing cannot be run.
        let mut cp = Command::new("cp");
        cp.arg(std::env::current_exe().unwrap());
        assert!(
            cp.arg(dir.path().join("program"))
                .status()
                .unwrap()
                .success()
        );
        let mut world = Self {
            situation,
            bin,
            dir,
            listener,
            guardian: None,
            clients: Vec::new(),
            fault,
        };
        world.start_guardian();
        Some(world)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn guardian_command(&self) -> Command {
        let program = self.dir.path().join("program");
        let plain = as_postgres(&program);
        let mut command = match self.situation {
            Situation::Plain => plain,
            Situation::Pid1 => {
                let mut command = namespace_command();
                command.arg(plain.get_program());
                if own_uid() == 0 {
                    // Another user's process no longer dies with unshare: asked for again.
                    command.args(["--pdeathsig", "KILL"]);
                }
                command.args(plain.get_args());
                command
            }
        };
        command
            .args([
                "--exact",
                "guardian_child_entry",
                "--nocapture",
                "--test-threads=1",
            ])
            .env("PGWARDEN_TEST_ROLE", "guardian")
            .env("PGWARDEN_TEST_DATA_DIR", self.data_dir())
            .env("PGWARDEN_TEST_SOCKET", self.dir.path().join("agent.sock"))
            .stdin(Stdio::null());
        command
    }

    pub fn start_guardian(&mut self) {
        let log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.dir.path().join("guardian.log"))
            .unwrap();
        let mut command = self.guardian_command();
        command.envs(self.fault.map(|name| (name, "1")));
        command.stdout(Stdio::null()).stderr(log);
        self.guardian = Some(command.spawn().unwrap());
    }

    /// Waits for the next life of the agent.
    pub fn agent(&self) -> Agent {
        self.listener.set_nonblocking(true).unwrap();
        let stream = wait_for("an agent", || self.listener.accept().ok()).0;
        Agent::greet(stream, |pid| self.host_pid(pid))
    }

    /// The guardian as this test sees it.
    pub fn guardian_pid(&self) -> i32 {
        let started = self.guardian.as_ref().unwrap().id() as i32;
        match self.situation {
            Situation::Plain => started,
            Situation::Pid1 => wait_for("PID 1 of the namespace", || {
                let children = format!("/proc/{started}/task/{started}/children");
                fs::read_to_string(children)
                    .ok()?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            }),
        }
    }

    /// A process of the guardian's namespace as this test sees it.
    pub fn host_pid(&self, pid: i32) -> i32 {
        if self.situation == Situation::Plain {
            return pid;
        }
        let namespace = fs::read_link(format!("/proc/{}/ns/pid", self.guardian_pid())).unwrap();
        wait_for("a process of the namespace", || {
            all_pids().find(|&host| {
                let inside = fs::read_to_string(format!("/proc/{host}/status"))
                    .ok()
                    .and_then(|status| {
                        let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
                        line.split_whitespace().last()?.parse::<i32>().ok()
                    });
                let same =
                    fs::read_link(format!("/proc/{host}/ns/pid")).is_ok_and(|n| n == namespace);
                inside == Some(pid) && same
            })
        })
    }

    pub fn start_request(&self, writable: bool) -> Request {
        Request::Start(StartSpec {
            argv: vec![
                self.bin.join("postgres").display().to_string(),
                "-D".into(),
                self.data_dir().display().to_string(),
            ],
            env: BTreeMap::from([("LC_ALL".into(), "C".into()), ("TZ".into(), "UTC".into())]),
            log_path: Some(self.dir.path().join("postgres.log")),
            writable,
        })
    }

    /// Arms with D, starts a primary and waits until it serves; its number on this side.
    pub fn start_primary(&self, agent: &mut Agent, ttl_ms: u64) -> i32 {
        agent.order(&Order::Ttl { ms: ttl_ms });
        assert!(agent.deadline_in(ttl_ms - 1).get("Ok").is_some());
        self.start(agent, true)
    }

    pub fn start(&self, agent: &mut Agent, writable: bool) -> i32 {
        agent.ask(self.start_request(writable));
        let pid = agent.notice("started", |notice| match notice {
            Notice::Started { pid } => Some(*pid),
            Notice::Refused { reason, .. } => panic!("start refused: {reason}"),
            _ => None,
        });
        wait_for("PostgreSQL to serve", || self.psql("SELECT 1").ok());
        self.host_pid(pid)
    }

    pub fn psql(&self, statement: &str) -> Result<String, String> {
        psql(&self.bin, self.dir.path(), statement)
    }

    /// Keeps `count` backends committing, and waits until they do.
    pub fn keep_busy(&mut self, count: usize) {
        self.clients
            .extend(busy_backends(&self.bin, self.dir.path(), count));
        let active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL%'";
        wait_for("busy backends", || {
            (self.psql(active).ok()? == count.to_string()).then_some(())
        });
        wait_for("commits", || {
            (self.psql("SELECT count(*) > 100 FROM busy").ok()? == "t").then_some(())
        });
    }

    /// Every living process that works in the data directory.
    pub fn at_work(&self) -> Vec<i32> {
        let data_dir = self.data_dir();
        // From inside of a chroot, a process of another mount namespace shows the path outside.
        let data_dir = data_dir.to_str().unwrap();
        all_pids()
            .filter(|pid| {
                fs::read_link(format!("/proc/{pid}/cwd"))
                    .is_ok_and(|cwd| cwd.to_str().unwrap_or_default().contains(data_dir))
            })
            .collect()
    }

    /// As `pg_ctl promote` does it, which would not find the postmaster across a namespace.
    pub fn promote_by_hand(&self, postmaster: i32) {
        fs::write(self.data_dir().join("promote"), "").unwrap();
        assert!(signal(postmaster, Signal::SIGUSR1));
    }

    /// Waits for the guardian's end; its exit code.
    pub fn guardian_end(&mut self) -> Option<i32> {
        let mut guardian = self.guardian.take().unwrap();
        wait_for("the guardian's end", || guardian.try_wait().unwrap()).code()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("guardian.log")).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- guardian.log\n{}", self.log());
            let postgres_log = fs::read_to_string(self.dir.path().join("postgres.log"));
            eprintln!("--- postgres.log\n{}", postgres_log.unwrap_or_default());
        }
        if let Some(mut guardian) = self.guardian.take() {
            let _ = guardian.kill();
            let _ = guardian.wait();
        }
        // What a dead guardian left: by the program it runs, which is this world's own copy.
        let program = self.dir.path().join("program");
        let end = Instant::now() + PATIENCE;
        loop {
            let mut left = self.at_work();
            left.extend(all_pids().filter(|pid| {
                fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program)
            }));
            if left.is_empty() || Instant::now() > end {
                break;
            }
            for pid in left {
                signal(pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for client in &mut self.clients {
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}

pub fn all_pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The process exists and is no zombie.
pub fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .trim_start()
        .chars()
        .next();
    state.is_some_and(|state| state != 'Z')
}
