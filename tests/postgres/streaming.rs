//! Clones that stream, synchronous sets, slots, promotion.

use crate::harness::{LONG, as_postgres, eventually};
use crate::members::{Node, clone_of, compare_with_pg_controldata, promote, slot_for, streams};
use nix::sys::signal::Signal;
use pgwarden::ha::model::{DataDir, Lsn};
use pgwarden::ha::quorum::SyncSetting;
use pgwarden::postgres::config::{self, Follow};
use pgwarden::postgres::probe::Probe;
use pgwarden::postgres::{control, data_dir, history, rewind, start};

#[test]
fn a_clone_streams_is_enforced_and_shows_its_timeline_when_promoted() {
    as_postgres(async |root, installation| {
        let mut leader = Node::primary(&root, "pg-a", &installation).await;
        leader
            .run("CREATE TABLE public.t AS SELECT generate_series(1, 10000) AS i")
            .await;
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
        assert_eq!(
            (receiver.status.as_str(), receiver.sender_port),
            ("streaming", leader.pg.port)
        );
        assert_eq!(receiver.sender_host, "127.0.0.1");
        enforce(&leader, &replica).await;
        fail_over_at_once(&mut leader, &replica, installation.major).await;
        replica.stop(Signal::SIGINT);
        compare_with_pg_controldata(&replica).await;
    });
}

/// A synchronous set is enforced only once it is seen, and not while the standby stands still.
async fn enforce(leader: &Node, replica: &Node) {
    let wanted = SyncSetting::all(["pg-b".to_owned()]);
    let session = leader.session().await;
    let now = control::current_lsn(&session, LONG).await.unwrap();
    assert!(
        !control::enforced_sync(&session, &wanted, now, LONG)
            .await
            .unwrap()
    );
    config::set_sync(&leader.pg.data_dir, &wanted).unwrap();
    control::reload(&session, LONG).await.unwrap();
    eventually("the set is enforced", async || {
        let now = control::current_lsn(&session, LONG).await.unwrap();
        control::enforced_sync(&session, &wanted, now, LONG)
            .await
            .unwrap()
    })
    .await;
    assert_eq!(leader.facts().await.synchronous_standby_names, "\"pg-b\"");
    let ahead = Lsn(control::current_lsn(&session, LONG).await.unwrap().0 + (1 << 30));
    assert!(
        !control::enforced_sync(&session, &wanted, ahead, LONG)
            .await
            .unwrap()
    );
    // The agent's own statements wait for no standby, however dead.
    replica.signal(Signal::SIGSTOP);
    leader.run("CREATE TABLE public.not_waiting ()").await;
    replica.signal(Signal::SIGCONT);
    let nobody = SyncSetting::default();
    config::set_sync(&leader.pg.data_dir, &nobody).unwrap();
    control::reload(&session, LONG).await.unwrap();
    eventually("nobody is synchronous", async || {
        control::enforced_sync(&session, &nobody, Lsn(0), LONG)
            .await
            .unwrap()
    })
    .await;
}

async fn fail_over_at_once(leader: &mut Node, replica: &Node, major: u32) {
    leader.stop(Signal::SIGKILL);
    let mut probe = Probe::new();
    let session = replica.session().await;
    let ready = rewind::leader_ready_for_rewind(&session, LONG).await;
    assert_eq!(ready.unwrap(), None, "whoever follows is not rewound to");
    control::promote(&session, LONG).await.unwrap();
    // The very first reading out of recovery must show the new timeline.
    eventually("the promotion is seen", async || {
        let facts = probe.facts(&replica.pg, LONG).await.unwrap();
        assert_eq!(facts.timeline, if facts.in_recovery { 1 } else { 2 });
        !facts.in_recovery
    })
    .await;
    let session = replica.session().await;
    let local = history::read_local(&replica.pg.data_dir, 2).unwrap();
    assert_eq!(local[0].timeline, 1);
    eventually("the leader's control file names its timeline", async || {
        let ready = rewind::leader_ready_for_rewind(&session, LONG).await;
        ready.unwrap() == Some(true)
    })
    .await;
    control::checkpoint(&session, LONG).await.unwrap();
    assert_eq!(replica.control().timeline, 2);
    let DataDir::Present(facts) = data_dir::classify(&replica.pg.data_dir, major) else {
        panic!("a directory with a timeline's history");
    };
    assert_eq!(facts.history, local);
}

#[test]
fn a_standby_starts_with_what_its_primary_had_and_follows_another_leader_by_reload() {
    as_postgres(async |root, installation| {
        let mut leader = Node::new(&root, "pg-a", &installation);
        leader
            .pg
            .parameters
            .insert("max_connections".into(), "150".into());
        leader.bootstrap().await;
        let mut second = clone_of(&leader, &root, "pg-b").await;
        second
            .pg
            .parameters
            .insert("max_connections".into(), "150".into());
        second.start().await;
        let third = clone_of(&leader, &root, "pg-c").await;
        let launch = start::postmaster(&third.pg, Some(&third.control()));
        assert!(
            launch
                .argv
                .iter()
                .any(|argument| argument == "--max_connections=150")
        );
        assert_eq!(launch.notes.len(), 1, "{:?}", launch.notes);
        let mut third = third;
        third
            .pg
            .parameters
            .insert("max_connections".into(), "150".into());
        third.start().await;
        streams(&leader, "pg-c").await;
        leader.stop(Signal::SIGINT);
        promote(&second).await;
        slot_for(&second, "pg-c").await;
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
