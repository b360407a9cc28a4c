//! Members of a cluster, and what the tests often want of them.

use crate::harness::{LONG, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgwarden::ha::model::ControlState;
use pgwarden::ha::slots::{SlotChange, SlotKind, slot_name};
use pgwarden::postgres::basebackup::{self, CloneProgress};
use pgwarden::postgres::control_data::ControlData;
use pgwarden::postgres::probe::{Facts, Probe};
use pgwarden::postgres::session::Session;
use pgwarden::postgres::start::{self, PostmasterStatus};
use pgwarden::postgres::version::Installation;
use pgwarden::postgres::{
    Credentials, Postgres, ProgramOption, Source, bootstrap, child, control, slots,
};
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// One member: its settings, and its server while it runs.
pub(crate) struct Node {
    pub(crate) pg: Postgres,
    pub(crate) installation: Installation,
    server: Option<Child>,
}

impl Node {
    pub(crate) fn new(root: &Path, name: &str, installation: &Installation) -> Self {
        let home = root.join(name);
        fs::create_dir_all(&home).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
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
            program: installation.program("postgres"),
            data_dir: home.join("data"),
            listen: vec!["127.0.0.1".into()],
            port,
            socket_dir: home.clone(),
            reached_at: None,
            name: name.into(),
            scope: "it's a cluster".into(),
            // Nasty on purpose: every file and protocol has to carry them.
            superuser: user("postgres", "sup'er:\\ \"pw"),
            replication: user("re'pl-\"icator", "p:a\\s s'\u{fb01}"),
            rewind: Some(user("rewind.user", "rew:ind\\")),
            parameters: BTreeMap::new(),
            pg_hba: vec![],
            own_hba_line: false,
            pg_ident: vec![],
            recovery: BTreeMap::new(),
            custom_conf: None,
            initdb: vec![
                option("encoding", Some("UTF8")),
                option("locale", Some("C.UTF-8")),
            ],
            basebackup: vec![],
            database: "postgres".into(),
            pgpass: home.join("pgpass"),
            use_slots: true,
        };
        Self {
            pg,
            installation: installation.clone(),
            server: None,
        }
    }

    /// A running primary with all its users.
    pub(crate) async fn primary(root: &Path, name: &str, installation: &Installation) -> Self {
        let mut node = Self::new(root, name, installation);
        node.bootstrap().await;
        node
    }

    pub(crate) async fn bootstrap(&mut self) {
        bootstrap::initdb(&self.pg, &self.installation, LONG)
            .await
            .unwrap();
        self.start().await;
        bootstrap::create_users(&self.session().await, &self.pg, LONG)
            .await
            .unwrap();
    }

    pub(crate) fn source(&self) -> Source {
        Source {
            host: "127.0.0.1".into(),
            port: self.pg.port,
        }
    }

    pub(crate) fn control(&self) -> ControlData {
        ControlData::read(&self.pg.data_dir).unwrap()
    }

    /// Starts the server as the guardian would and waits until it serves.
    pub(crate) async fn start(&mut self) {
        let data_dir = self.pg.data_dir.clone();
        let standby = data_dir
            .join("standby.signal")
            .exists()
            .then(|| self.control());
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

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.server.as_ref().unwrap().id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Stops the server and waits for its end: SIGINT cleanly, SIGKILL as a crash. A killed
    /// postmaster's children still end after it, and hold the shared memory until then.
    pub(crate) fn stop(&mut self, signal: Signal) {
        let children = self.children();
        self.signal(signal);
        self.server.take().unwrap().wait().unwrap();
        let begun = Instant::now();
        for child in children {
            while fs::exists(format!("/proc/{child}")).unwrap() {
                assert!(
                    begun.elapsed() < LONG,
                    "process {child} outlives its postmaster"
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn children(&self) -> Vec<u32> {
        let pid = self.server.as_ref().unwrap().id();
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        text.split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect()
    }

    pub(crate) async fn session(&self) -> Session {
        Session::local(&self.pg, LONG).await.unwrap()
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.session().await.execute(sql, LONG).await.unwrap();
    }

    pub(crate) async fn ask(&self, sql: &str) -> String {
        self.session()
            .await
            .value::<String>(sql, LONG)
            .await
            .unwrap()
    }

    pub(crate) async fn facts(&self) -> Facts {
        Probe::new().facts(&self.pg, LONG).await.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // It may have ended by itself: only its end matters.
            let pid = Pid::from_raw(i32::try_from(server.id()).unwrap());
            let _ = kill(pid, Signal::SIGCONT);
            let _ = kill(pid, Signal::SIGQUIT);
            drop(server.wait());
        }
    }
}

pub(crate) async fn clone_of(leader: &Node, root: &std::path::Path, name: &str) -> Node {
    let replica = Node::new(root, name, &leader.installation);
    slot_for(leader, name).await;
    let progress = watch::Sender::new(CloneProgress::default());
    let (pg, source) = (&replica.pg, leader.source());
    basebackup::clone(pg, &replica.installation, &source, None, &progress, LONG)
        .await
        .unwrap();
    let seen = *progress.borrow();
    assert!(
        seen.total_bytes > 0 && seen.done_bytes >= seen.total_bytes,
        "{seen:?}"
    );
    replica
}

/// The leader keeps WAL for this member.
pub(crate) async fn slot_for(leader: &Node, member: &str) {
    let (name, kind) = (slot_name(member), SlotKind::Physical);
    changed(leader, &[SlotChange::Create { name, kind }]).await;
}

/// Every one of these changes goes well.
pub(crate) async fn changed(node: &Node, changes: &[SlotChange]) {
    let outcome = slots::change(&node.pg, changes, LONG).await;
    assert!(
        outcome.failed.is_empty() && outcome.broken.is_empty(),
        "{outcome:?}"
    );
}

pub(crate) async fn streams(leader: &Node, name: &str) {
    eventually("the replica streams", async || {
        let facts = leader.facts().await;
        facts
            .walsenders
            .iter()
            .any(|sender| sender.name == name && sender.state == "streaming")
    })
    .await;
}

/// Promotes and returns once it is writable.
pub(crate) async fn promote(node: &Node) {
    control::promote(&node.session().await, LONG).await.unwrap();
    eventually("the promotion ends", async || {
        !node.facts().await.in_recovery
    })
    .await;
}

pub(crate) async fn compare_with_pg_controldata(node: &Node) {
    let mut command = child::program(
        &node.installation.program("pg_controldata"),
        &node.pg.data_dir,
    );
    command.arg(&node.pg.data_dir).env("LC_ALL", "C");
    let printed = child::run(command, LONG).await.unwrap();
    let shown: BTreeMap<&str, &str> = printed
        .lines()
        .filter_map(|line| {
            line.split_once(':')
                .map(|(name, value)| (name.trim(), value.trim()))
        })
        .collect();
    let data = node.control();
    for (name, value) in as_pg_controldata_shows(&data) {
        assert_eq!(shown.get(name), Some(&value.as_str()), "{name}");
    }
    let state = match data.state {
        ControlState::ShutDown => "shut down",
        ControlState::ShutDownInRecovery => "shut down in recovery",
        ControlState::InArchiveRecovery => "in archive recovery",
        ControlState::InProduction => "in production",
        other => panic!("unexpected {other:?}"),
    };
    assert_eq!(shown.get("Database cluster state"), Some(&state));
}

fn as_pg_controldata_shows(data: &ControlData) -> Vec<(&'static str, String)> {
    let on = |value: bool| if value { "on" } else { "off" }.to_owned();
    let minimums = data.standby_minimums;
    vec![
        (
            "pg_control version number",
            data.control_version.to_string(),
        ),
        ("Catalog version number", data.catalog_version.to_string()),
        ("Database system identifier", data.system_id.to_string()),
        ("Latest checkpoint location", data.checkpoint.to_string()),
        ("Latest checkpoint's REDO location", data.redo.to_string()),
        ("Latest checkpoint's TimeLineID", data.timeline.to_string()),
        (
            "Latest checkpoint's PrevTimeLineID",
            data.previous_timeline.to_string(),
        ),
        (
            "Minimum recovery ending location",
            data.min_recovery_point.to_string(),
        ),
        (
            "Min recovery ending loc's timeline",
            data.min_recovery_timeline.to_string(),
        ),
        ("Backup start location", data.backup_start.to_string()),
        ("Backup end location", data.backup_end.to_string()),
        ("wal_log_hints setting", on(data.wal_log_hints)),
        (
            "max_connections setting",
            minimums.max_connections.to_string(),
        ),
        (
            "max_worker_processes setting",
            minimums.max_worker_processes.to_string(),
        ),
        (
            "max_wal_senders setting",
            minimums.max_wal_senders.to_string(),
        ),
        (
            "max_prepared_xacts setting",
            minimums.max_prepared_transactions.to_string(),
        ),
        (
            "max_locks_per_xact setting",
            minimums.max_locks_per_transaction.to_string(),
        ),
        (
            "track_commit_timestamp setting",
            on(data.track_commit_timestamp),
        ),
        ("Bytes per WAL segment", data.wal_segment_bytes.to_string()),
        (
            "Data page checksum version",
            data.checksum_version.to_string(),
        ),
    ]
}
