//! The PostgreSQL layer against real servers: every supported installation found is tested.
//!
//! The servers are started here directly; in the program the guardian does that.

#[path = "postgres/harness.rs"]
mod harness;

use harness::{LONG, Node, as_postgres, chmod, eventually};
use nix::sys::signal::Signal;
use pgwarden::ha::model::{ControlState, DataDir, Lsn};
use pgwarden::postgres::basebackup::{self, CloneProgress};
use pgwarden::postgres::bootstrap::BootstrapError;
use pgwarden::postgres::config::{self, Follow};
use pgwarden::postgres::control_data::ControlData;
use pgwarden::postgres::history::{Divergence, Position};
use pgwarden::postgres::probe::Probe;
use pgwarden::postgres::session::{Session, SqlError};
use pgwarden::postgres::stage::{self, ReplaceProof, StageError};
use pgwarden::postgres::{bootstrap, child, control, data_dir, history, rewind, scratch, slots};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;
use tokio::sync::watch;

async fn clone_of(leader: &Node, root: &std::path::Path, name: &str) -> Node {
    let replica = Node::new(root, name, &leader.installation);
    let wanted = BTreeSet::from([name.to_owned()]);
    let session = leader.session().await;
    slots::sync_member_slots(&session, &wanted, &wanted, LONG).await.unwrap();
    let progress = watch::Sender::new(CloneProgress::default());
    let (pg, source) = (&replica.pg, leader.source());
    basebackup::clone(pg, &replica.installation, &source, None, &progress, LONG).await.unwrap();
    let seen = *progress.borrow();
    assert!(seen.total_bytes > 0 && seen.done_bytes >= seen.total_bytes, "{seen:?}");
    replica
}

async fn streams(leader: &Node, name: &str) {
    eventually("the replica streams", async || {
        let facts = leader.facts().await;
        facts.walsenders.iter().any(|sender| sender.name == name && sender.state == "streaming")
    })
    .await;
}

/// Promotes and returns once it is writable.
async fn promote(node: &Node) {
    control::promote(&node.session().await, LONG).await.unwrap();
    eventually("the promotion ends", async || !node.facts().await.in_recovery).await;
}

#[test]
fn the_control_file_says_what_pg_controldata_says() {
    as_postgres("the_control_file_says_what_pg_controldata_says", async |root, installation| {
        let mut node = Node::new(&root, "a", &installation);
        bootstrap::initdb(&node.pg, &installation, LONG).await.unwrap();
        compare_with_pg_controldata(&node).await;
        node.start().await;
        node.run("CREATE TABLE public.t AS SELECT generate_series(1, 1000) AS i; CHECKPOINT").await;
        compare_with_pg_controldata(&node).await;
        assert_eq!(node.control().state, ControlState::InProduction);
        node.stop(Signal::SIGKILL);
        assert_eq!(node.control().state, ControlState::InProduction);
    });
}

async fn compare_with_pg_controldata(node: &Node) {
    let mut command = child::program(&node.pg.bin_dir, "pg_controldata");
    command.arg(&node.pg.data_dir).env("LC_ALL", "C");
    let printed = child::run(command, LONG).await.unwrap();
    let shown: BTreeMap<&str, &str> = printed
        .lines()
        .filter_map(|line| line.split_once(':').map(|(name, value)| (name.trim(), value.trim())))
        .collect();
    let data = node.control();
    let on = |value: bool| if value { "on" } else { "off" }.to_owned();
    let minimums = data.standby_minimums;
    let expected = [
        ("pg_control version number", data.control_version.to_string()),
        ("Catalog version number", data.catalog_version.to_string()),
        ("Database system identifier", data.system_id.to_string()),
        ("Latest checkpoint location", data.checkpoint.to_string()),
        ("Latest checkpoint's REDO location", data.redo.to_string()),
        ("Latest checkpoint's TimeLineID", data.timeline.to_string()),
        ("Latest checkpoint's PrevTimeLineID", data.previous_timeline.to_string()),
        ("Minimum recovery ending location", data.min_recovery_point.to_string()),
        ("Min recovery ending loc's timeline", data.min_recovery_timeline.to_string()),
        ("Backup start location", data.backup_start.to_string()),
        ("Backup end location", data.backup_end.to_string()),
        ("wal_log_hints setting", on(data.wal_log_hints)),
        ("max_connections setting", minimums.max_connections.to_string()),
        ("max_worker_processes setting", minimums.max_worker_processes.to_string()),
        ("max_wal_senders setting", minimums.max_wal_senders.to_string()),
        ("max_prepared_xacts setting", minimums.max_prepared_transactions.to_string()),
        ("max_locks_per_xact setting", minimums.max_locks_per_transaction.to_string()),
        ("track_commit_timestamp setting", on(data.track_commit_timestamp)),
        ("Bytes per WAL segment", data.wal_segment_bytes.to_string()),
        ("Data page checksum version", data.checksum_version.to_string()),
    ];
    for (name, value) in expected {
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

#[test]
fn a_new_cluster_has_its_users_and_every_value_as_given() {
    as_postgres("a_new_cluster_has_its_users_and_every_value_as_given", async |root, installation| {
        let mut node = Node::new(&root, "a", &installation);
        let nasty = [
            ("log_line_prefix", "it''s \\ 'quoted' %m # no comment\n\ttab "),
            ("my.value", "include 'x'"),
            ("my.empty", ""),
            ("shared_buffers", "16MB"),
            ("port", "1"),
        ];
        for (name, value) in nasty {
            node.pg.parameters.insert(name.into(), value.into());
        }
        node.pg.parameters.insert("max_connections".into(), "30".into());
        node.bootstrap().await;
        for (name, value) in nasty.into_iter().filter(|(name, _)| *name != "port") {
            assert_eq!(node.ask(&format!("SELECT current_setting('{name}')")).await, value);
        }
        assert_eq!(node.ask("SELECT current_setting('max_connections')").await, "30");
        assert_eq!(node.ask("SELECT current_setting('cluster_name')").await, "it's a cluster");
        assert_eq!(node.ask("SELECT current_setting('server_encoding')").await, "UTF8");
        let verifiers = "SELECT count(*)::text FROM pg_authid \
                         WHERE rolpassword LIKE 'SCRAM-SHA-256$%'";
        assert_eq!(node.ask(verifiers).await, "3");
        // Again: existing users keep working.
        bootstrap::create_users(&node.session().await, &node.pg, LONG).await.unwrap();
        let pg = &node.pg;
        for user in [&pg.superuser, &pg.replication, pg.rewind.as_ref().unwrap()] {
            Session::remote(&node.source(), user, "postgres", LONG).await.unwrap();
            let mut wrong = user.clone();
            wrong.password = Some("wrong".into());
            let refused = Session::remote(&node.source(), &wrong, "postgres", LONG).await;
            assert!(matches!(refused.err(), Some(SqlError::AuthFailed(_))));
        }
        let files = ["pgpass", "data/postgresql.conf", "data/pg_hba.conf"];
        for file in files.map(|name| node.pg.socket_dir.join(name)) {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let log = fs::read_to_string(node.pg.socket_dir.join("log")).unwrap();
        assert!(!log.contains("SCRAM") && !log.contains("rew:ind"));
        let again = bootstrap::initdb(&node.pg, &installation, LONG).await;
        assert!(matches!(again, Err(BootstrapError::Stage(StageError::WouldReplace(_)))));
    });
}

#[test]
fn a_clone_streams_is_enforced_and_shows_its_timeline_when_promoted() {
    let name = "a_clone_streams_is_enforced_and_shows_its_timeline_when_promoted";
    as_postgres(name, async |root, installation| {
        let mut leader = Node::primary(&root, "pg-a", &installation).await;
        leader.run("CREATE TABLE public.t AS SELECT generate_series(1, 10000) AS i").await;
        let mut replica = clone_of(&leader, &root, "pg-b").await;
        assert!(matches!(
            data_dir::classify(&replica.pg.data_dir, installation.major),
            DataDir::Present(facts) if facts.standby_signal
        ));
        replica.start().await;
        streams(&leader, "pg-b").await;
        let facts = replica.facts().await;
        assert!(facts.in_recovery && facts.timeline == 1 && !facts.replay_paused);
        assert_eq!(facts.system_id, leader.facts().await.system_id);
        let receiver = facts.receiver.unwrap();
        assert_eq!((receiver.status.as_str(), receiver.sender_port), ("streaming", leader.pg.port));
        assert_eq!(receiver.sender_host, "127.0.0.1");
        assert_slots(&leader).await;
        enforce(&leader, &replica).await;
        fail_over_at_once(&mut leader, &replica).await;
        replica.stop(Signal::SIGINT);
        compare_with_pg_controldata(&replica).await;
    });
}

async fn assert_slots(leader: &Node) {
    let session = leader.session().await;
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let (wanted, owned) = (set(&["pg-b", "C.x"]), set(&["pg-b", "C.x", "gone"]));
    leader.run("SELECT pg_create_physical_replication_slot('strangers')").await;
    leader.run("SELECT pg_create_physical_replication_slot('gone')").await;
    let changes = slots::sync_member_slots(&session, &wanted, &owned, LONG).await.unwrap();
    assert_eq!((changes.created, changes.dropped), (vec!["c_x".into()], vec!["gone".into()]));
    let none = BTreeSet::new();
    let changes = slots::sync_member_slots(&session, &none, &owned, LONG).await.unwrap();
    assert_eq!((changes.dropped, changes.in_use), (vec!["c_x".into()], vec!["pg_b".into()]));
    let left = "SELECT string_agg(slot_name, ',' ORDER BY slot_name) FROM pg_replication_slots";
    assert_eq!(leader.ask(left).await, "pg_b,strangers");
}

/// A synchronous set is enforced only once it is seen, and not while the standby stands still.
async fn enforce(leader: &Node, replica: &Node) {
    let names = vec!["pg-b".to_owned()];
    let session = leader.session().await;
    let now = control::current_lsn(&session, LONG).await.unwrap();
    assert!(!control::enforced_sync(&session, &names, now, LONG).await.unwrap());
    config::set_sync_names(&leader.pg.data_dir, &names).unwrap();
    control::reload(&session, LONG).await.unwrap();
    eventually("the set is enforced", async || {
        let now = control::current_lsn(&session, LONG).await.unwrap();
        control::enforced_sync(&session, &names, now, LONG).await.unwrap()
    })
    .await;
    assert_eq!(leader.facts().await.synchronous_standby_names, "\"pg-b\"");
    let ahead = Lsn(control::current_lsn(&session, LONG).await.unwrap().0 + (1 << 30));
    assert!(!control::enforced_sync(&session, &names, ahead, LONG).await.unwrap());
    // The agent's own statements wait for no standby, however dead.
    replica.signal(Signal::SIGSTOP);
    leader.run("CREATE TABLE public.not_waiting ()").await;
    replica.signal(Signal::SIGCONT);
    config::set_sync_names(&leader.pg.data_dir, &[]).unwrap();
    control::reload(&session, LONG).await.unwrap();
    eventually("nobody is synchronous", async || {
        control::enforced_sync(&session, &[], Lsn(0), LONG).await.unwrap()
    })
    .await;
}

async fn fail_over_at_once(leader: &mut Node, replica: &Node) {
    leader.stop(Signal::SIGKILL);
    let mut probe = Probe::new();
    control::promote(&replica.session().await, LONG).await.unwrap();
    // The very first reading out of recovery must show the new timeline.
    eventually("the promotion is seen", async || {
        let facts = probe.facts(&replica.pg, LONG).await.unwrap();
        assert_eq!(facts.timeline, if facts.in_recovery { 1 } else { 2 });
        !facts.in_recovery
    })
    .await;
    let session = replica.session().await;
    let local = history::read_local(&replica.pg.data_dir, 2).unwrap();
    assert_eq!(history::fetch(&session, 2, LONG).await.unwrap(), local);
    assert_eq!(local[0].timeline, 1);
    eventually("the leader's control file names its timeline", async || {
        rewind::leader_ready_for_rewind(&session, LONG).await.unwrap()
    })
    .await;
    control::checkpoint(&session, LONG).await.unwrap();
    assert_eq!(replica.control().timeline, 2);
}

#[test]
fn a_diverged_primary_is_rewound_whether_it_stopped_or_crashed() {
    let name = "a_diverged_primary_is_rewound_whether_it_stopped_or_crashed";
    as_postgres(name, async |root, installation| {
        for end in [Signal::SIGINT, Signal::SIGKILL] {
            let root = root.join(end.as_str());
            fs::create_dir(&root).unwrap();
            let mut old = Node::primary(&root, "pg-a", &installation).await;
            let mut new = clone_of(&old, &root, "pg-b").await;
            new.start().await;
            streams(&old, "pg-b").await;
            promote(&new).await;
            new.run("CREATE TABLE public.kept AS SELECT 1 AS i").await;
            old.run("CREATE TABLE public.lost AS SELECT generate_series(1, 1000)").await;
            old.stop(end);
            let facts = old.control().facts(false);
            let entries = history::fetch(&new.session().await, 2, LONG).await.unwrap();
            let (timeline, position) = (facts.timeline, Position::of(&facts));
            let found = history::diverged(timeline, position, 2, &entries);
            let crashed = end == Signal::SIGKILL;
            assert_eq!(found == Divergence::RecoverFirst, crashed, "{found:?}");
            let facts =
                rewind::recover(&old.pg, &installation, LONG).await.unwrap().facts(false);
            let found = history::diverged(timeline, Position::of(&facts), 2, &entries);
            assert!(matches!(found, Divergence::Diverged { fork: Some(_) }), "{found:?}");
            control::checkpoint(&new.session().await, LONG).await.unwrap();
            refuse_before_harm(&old, &new, &installation).await;
            rewind::rewind(&old.pg, &installation, &new.source(), LONG).await.unwrap();
            let wanted = BTreeSet::from(["pg-a".to_owned()]);
            slots::sync_member_slots(&new.session().await, &wanted, &wanted, LONG).await.unwrap();
            old.start().await;
            streams(&new, "pg-a").await;
            eventually("the new leader's row is there", async || {
                old.ask("SELECT count(*)::text FROM pg_class WHERE relname = 'kept'").await == "1"
            })
            .await;
            let lost = "SELECT count(*)::text FROM pg_class WHERE relname = 'lost'";
            assert_eq!(old.ask(lost).await, "0");
        }
    });
}

/// A leader that cannot be reached fails the rewind before a byte of the directory is changed.
async fn refuse_before_harm(
    old: &Node,
    new: &Node,
    installation: &pgwarden::postgres::version::Installation,
) {
    let mut nowhere = new.source();
    nowhere.port = 1;
    let before = old.control();
    let refused = rewind::rewind(&old.pg, installation, &nowhere, LONG).await;
    assert!(matches!(refused, Err(rewind::RewindError::NotStarted(_))), "{refused:?}");
    assert_eq!(old.control(), before);
    assert!(!stage::broken_rewind(&old.pg.data_dir));
}

#[test]
fn a_half_clone_never_takes_the_name_of_a_data_directory() {
    let name = "a_half_clone_never_takes_the_name_of_a_data_directory";
    as_postgres(name, async |root, installation| {
        let leader = Node::primary(&root, "pg-a", &installation).await;
        let replica = Node::new(&root, "pg-b", &installation);
        let mut slow = replica.pg.clone();
        let rate = ("max-rate".into(), Some("32k".into()));
        slow.basebackup = vec![pgwarden::postgres::ProgramOption { name: rate.0, value: rate.1 }];
        let progress = watch::Sender::new(CloneProgress::default());
        let source = leader.source();
        let clone = |pg, proof, deadline| {
            basebackup::clone(pg, &installation, &source, proof, &progress, deadline)
        };
        // Dropped in the middle, as when the agent is killed: the stage stays behind.
        let mut seen = progress.subscribe();
        tokio::select! {
            ended = clone(&slow, None, LONG) => panic!("{ended:?}"),
            some = seen.wait_for(|progress| progress.done_bytes > 0) => drop(some.unwrap()),
        }
        let dir = &replica.pg.data_dir;
        assert!(!dir.exists());
        assert_eq!(data_dir::classify(dir, installation.major), DataDir::Unfinished);
        // Given up at its deadline: nothing stays.
        let ended = clone(&slow, None, Duration::from_secs(1)).await;
        assert!(matches!(ended, Err(BootstrapError::Initdb(_))), "{ended:?}");
        assert_eq!(data_dir::classify(dir, installation.major), DataDir::Empty);
        clone(&replica.pg, None, LONG).await.unwrap();
        let present = data_dir::classify(dir, installation.major);
        assert!(matches!(present, DataDir::Present(_)), "{present:?}");
        // A present one is replaced only with a proof, and stays whole if the clone fails.
        let refused = clone(&replica.pg, None, LONG).await;
        assert!(matches!(refused, Err(BootstrapError::Stage(StageError::WouldReplace(_)))));
        let proof = || Some(ReplaceProof::granted("the test says so"));
        clone(&slow, proof(), Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(data_dir::classify(dir, installation.major), present);
        fs::write(dir.join("of-the-old-one"), "").unwrap();
        clone(&replica.pg, proof(), LONG).await.unwrap();
        assert!(!dir.join("of-the-old-one").exists());
        let names: Vec<_> = fs::read_dir(&replica.pg.socket_dir).unwrap().collect();
        assert_eq!(names.len(), 2, "only the data directory and the password file: {names:?}");
    });
}

#[test]
fn what_a_directory_holds_is_told_without_touching_it() {
    let name = "what_a_directory_holds_is_told_without_touching_it";
    as_postgres(name, async |root, installation| {
        let node = Node::new(&root, "a", &installation);
        let dir = &node.pg.data_dir;
        let major = installation.major;
        assert_eq!(data_dir::classify(dir, major), DataDir::Empty);
        let unmounted = data_dir::classify(&root.join("no/data"), major);
        assert!(matches!(&unmounted, DataDir::Unusable(why) if why.contains("mounted")));
        fs::create_dir(dir).unwrap();
        assert_eq!(data_dir::classify(dir, major), DataDir::Empty);
        fs::create_dir(dir.join("lost+found")).unwrap();
        assert_eq!(data_dir::classify(dir, major), DataDir::Empty);
        fs::remove_dir(dir.join("lost+found")).unwrap();
        bootstrap::initdb(&node.pg, &installation, LONG).await.unwrap();
        let present = data_dir::classify(dir, major);
        let expected = ControlData::read(dir).unwrap().facts(false);
        assert_eq!(present, DataDir::Present(expected));
        let unusable = |what: &str| {
            let found = data_dir::classify(dir, major);
            assert!(matches!(&found, DataDir::Unusable(why) if why.contains(what)), "{found:?}");
        };
        for mode in [0o755, 0o770, 0o500] {
            chmod(dir, mode);
            unusable("expected 0700 or 0750");
        }
        chmod(dir, 0o750);
        assert_eq!(data_dir::classify(dir, major), present);
        chmod(dir, 0o700);
        let newer = data_dir::classify(dir, major - 1);
        assert!(matches!(&newer, DataDir::Unusable(why) if why.contains("newer")));
        let older = data_dir::classify(dir, major + 1);
        assert!(matches!(&older, DataDir::Unusable(why) if why.contains("older")));
        let control = dir.join("global/pg_control");
        let whole = fs::read(&control).unwrap();
        let mut torn = whole.clone();
        torn[40] ^= 1;
        fs::write(&control, torn).unwrap();
        unusable("damaged");
        fs::write(&control, whole).unwrap();
        fs::rename(dir.join("PG_VERSION"), dir.join("PG_VERSION.away")).unwrap();
        unusable("no PG_VERSION");
    });
}

#[test]
fn the_probe_tells_apart_why_there_is_no_answer() {
    let name = "the_probe_tells_apart_why_there_is_no_answer";
    as_postgres(name, async |root, installation| {
        let mut node = Node::new(&root, "a", &installation);
        let mut probe = Probe::new();
        let nobody = probe.facts(&node.pg, LONG).await.unwrap_err();
        assert!(matches!(nobody, SqlError::NotListening(_)) && !nobody.answered());
        node.pg.parameters.insert("max_connections".into(), "25".into());
        node.bootstrap().await;
        let facts = probe.facts(&node.pg, LONG).await.unwrap();
        assert!(!facts.in_recovery && facts.timeline == 1 && facts.walsenders.is_empty());
        assert!(facts.flush_lsn.is_some() && facts.replay_lsn.is_none());
        assert_eq!(facts.server_version / 10_000, installation.major);
        assert_eq!(facts.system_id, node.control().system_id.to_string());
        let mut taken = Vec::new();
        let full = loop {
            assert!(taken.len() < 40);
            match Session::local(&node.pg, LONG).await {
                Ok(session) => taken.push(session),
                Err(error) => break error,
            }
        };
        assert!(matches!(full, SqlError::TooManyClients(_)) && full.answered());
        // The probe's own session goes on.
        probe.facts(&node.pg, LONG).await.unwrap();
        drop(taken);
        node.signal(Signal::SIGSTOP);
        probe.disconnect();
        let hung = probe.facts(&node.pg, Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(hung, SqlError::Timeout(300));
        node.signal(Signal::SIGCONT);
        probe.facts(&node.pg, LONG).await.unwrap();
        node.stop(Signal::SIGQUIT);
        let gone = probe.facts(&node.pg, LONG).await.unwrap_err();
        assert!(matches!(gone, SqlError::Lost(_) | SqlError::NotListening(_)), "{gone:?}");
        node.start().await;
        let again = probe.facts(&node.pg, LONG).await.unwrap();
        assert_ne!(again.postmaster_start_ms, facts.postmaster_start_ms);
        let mut volumes = scratch::Scratch::for_volumes(&node.pg.data_dir);
        assert_eq!(volumes.len(), 1);
        assert_eq!(volumes[0].check(LONG).await, scratch::Written::Done);
    });
}

#[test]
fn a_standby_starts_with_what_its_primary_had_and_follows_another_leader_by_reload() {
    let name = "a_standby_starts_with_what_its_primary_had_and_follows_another_leader_by_reload";
    as_postgres(name, async |root, installation| {
        let mut leader = Node::new(&root, "pg-a", &installation);
        leader.pg.parameters.insert("max_connections".into(), "150".into());
        leader.bootstrap().await;
        let mut second = clone_of(&leader, &root, "pg-b").await;
        second.pg.parameters.insert("max_connections".into(), "150".into());
        second.start().await;
        let third = clone_of(&leader, &root, "pg-c").await;
        let launch = pgwarden::postgres::start::postmaster(&third.pg, Some(&third.control()));
        assert!(launch.argv.iter().any(|argument| argument == "--max_connections=150"));
        assert_eq!(launch.notes.len(), 1, "{:?}", launch.notes);
        let mut third = third;
        third.pg.parameters.insert("max_connections".into(), "150".into());
        third.start().await;
        streams(&leader, "pg-c").await;
        leader.stop(Signal::SIGINT);
        promote(&second).await;
        let wanted = BTreeSet::from(["pg-c".to_owned()]);
        slots::sync_member_slots(&second.session().await, &wanted, &wanted, LONG).await.unwrap();
        let follow = Follow::Leader(second.source());
        config::write(&third.pg, &third.pg.data_dir, &follow).unwrap();
        third.signal(Signal::SIGHUP);
        streams(&second, "pg-c").await;
        eventually("the replica is on the new timeline", async || {
            third.facts().await.timeline == 2
        })
        .await;
    });
}
