//! Diverged members that follow again.

use crate::harness::{LONG, as_postgres, eventually};
use crate::members::{Node, clone_of, promote, slot_for, streams};
use nix::sys::signal::Signal;
use pgwarden::ha::model::DataDir;
use pgwarden::postgres::basebackup::{self, CloneProgress};
use pgwarden::postgres::bootstrap::{self, BootstrapError};
use pgwarden::postgres::config::{self, Follow};
use pgwarden::postgres::probe::Facts;
use pgwarden::postgres::stage::{self, ReplaceProof, StageError};
use pgwarden::postgres::version::Installation;
use pgwarden::postgres::{control, data_dir, history, lines, rewind};
use std::fs;
use tokio::sync::watch;

#[test]
fn a_diverged_primary_is_rewound_whether_it_stopped_or_crashed() {
    as_postgres(async |root, installation| {
        for end in [Signal::SIGINT, Signal::SIGKILL] {
            let root = root.join(end.as_str());
            fs::create_dir(&root).unwrap();
            let mut old = Node::primary(&root, "pg-a", &installation).await;
            let mut new = clone_of(&old, &root, "pg-b").await;
            new.start().await;
            streams(&old, "pg-b").await;
            promote(&new).await;
            new.run("CREATE TABLE public.kept AS SELECT 1 AS i").await;
            old.run("CREATE TABLE public.lost AS SELECT generate_series(1, 1000)")
                .await;
            old.stop(end);
            let fork = history::read_local(&new.pg.data_dir, 2).unwrap()[0].switch_lsn;
            let crashed = end == Signal::SIGKILL;
            // After a crash the true end is known only when recovery has found it.
            assert_eq!(old.control().checkpoint <= fork, crashed);
            let recovered = rewind::recover(&old.pg, &installation, LONG).await.unwrap();
            assert!(recovered.checkpoint > fork, "{recovered:?}");
            control::checkpoint(&new.session().await, LONG)
                .await
                .unwrap();
            refuse_before_harm(&old, &new, &installation).await;
            rewind::rewind(&old.pg, &installation, &new.source(), LONG)
                .await
                .unwrap();
            slot_for(&new, "pg-a").await;
            old.start().await;
            streams(&new, "pg-a").await;
            eventually("the new leader's row is there", async || {
                old.ask("SELECT count(*)::text FROM pg_class WHERE relname = 'kept'")
                    .await
                    == "1"
            })
            .await;
            let lost = "SELECT count(*)::text FROM pg_class WHERE relname = 'lost'";
            assert_eq!(old.ask(lost).await, "0");
        }
    });
}

/// A leader that cannot be reached fails the rewind before a byte of the directory is changed.
async fn refuse_before_harm(old: &Node, new: &Node, installation: &Installation) {
    let mut nowhere = new.source();
    nowhere.port = 1;
    let before = old.control();
    let refused = rewind::rewind(&old.pg, installation, &nowhere, LONG).await;
    assert!(
        matches!(refused, Err(rewind::RewindError::NotStarted(_))),
        "{refused:?}"
    );
    assert_eq!(old.control(), before);
    assert!(!stage::broken_rewind(&old.pg.data_dir));
}

/// A replica that has WAL the new leader never got: its control file may not show it, the running
/// server does. It crashes on top of that, and is rewound all the same.
#[test]
fn a_replica_ahead_of_the_new_leader_is_seen_and_rewound() {
    as_postgres(async |root, installation| {
        let mut leader = Node::primary(&root, "pg-a", &installation).await;
        let mut ahead = clone_of(&leader, &root, "pg-b").await;
        let mut behind = clone_of(&leader, &root, "pg-c").await;
        ahead.start().await;
        behind.start().await;
        streams(&leader, "pg-b").await;
        streams(&leader, "pg-c").await;
        behind.stop(Signal::SIGINT);
        leader
            .run("CREATE TABLE public.lost AS SELECT generate_series(1, 1000)")
            .await;
        let end = control::current_lsn(&leader.session().await, LONG)
            .await
            .unwrap();
        eventually("the first replica replays it", async || {
            ahead.facts().await.replay_lsn >= Some(end)
        })
        .await;
        leader.stop(Signal::SIGKILL);
        ahead.stop(Signal::SIGKILL);
        behind.start().await;
        promote(&behind).await;
        let fork = history::read_local(&behind.pg.data_dir, 2).unwrap()[0].switch_lsn;
        let follow = Follow::Leader(behind.source());
        config::write(&ahead.pg, &ahead.pg.data_dir, &follow).unwrap();
        ahead.start().await;
        eventually("the divergence is seen", async || {
            let facts = ahead.facts().await;
            facts.timeline == 1
                && facts.replay_lsn > Some(fork)
                && written_on(&ahead, &facts) == Some(1)
        })
        .await;
        ahead.stop(Signal::SIGKILL);
        control::checkpoint(&behind.session().await, LONG)
            .await
            .unwrap();
        rewind::rewind(&ahead.pg, &installation, &behind.source(), LONG)
            .await
            .unwrap();
        slot_for(&behind, "pg-b").await;
        ahead.start().await;
        streams(&behind, "pg-b").await;
        let lost = "SELECT count(*)::text FROM pg_class WHERE relname = 'lost'";
        assert_eq!(ahead.ask(lost).await, "0");
    });
}

fn written_on(node: &Node, facts: &Facts) -> Option<u32> {
    let lsn = facts.durable_lsn().unwrap();
    lines::written_on(&node.pg.data_dir, lsn, facts.wal_segment_bytes).unwrap()
}

/// Found by an attack: after a failover, a healthy replica that was killed said it stood on the old
/// timeline until it streamed again, and was taken for diverged.
#[test]
fn a_replica_without_a_stream_knows_the_timeline_of_its_wal() {
    as_postgres(async |root, installation| {
        let mut old = Node::primary(&root, "pg-a", &installation).await;
        let mut new = clone_of(&old, &root, "pg-b").await;
        let mut replica = clone_of(&old, &root, "pg-c").await;
        new.start().await;
        replica.start().await;
        streams(&old, "pg-b").await;
        streams(&old, "pg-c").await;
        old.stop(Signal::SIGKILL);
        promote(&new).await;
        slot_for(&new, "pg-c").await;
        let follow = Follow::Leader(new.source());
        config::write(&replica.pg, &replica.pg.data_dir, &follow).unwrap();
        control::reload(&replica.session().await, LONG)
            .await
            .unwrap();
        streams(&new, "pg-c").await;
        new.run("CREATE TABLE public.kept AS SELECT 1 AS i").await;
        let end = control::current_lsn(&new.session().await, LONG)
            .await
            .unwrap();
        eventually("the replica replays it", async || {
            replica.facts().await.replay_lsn >= Some(end)
        })
        .await;
        replica.stop(Signal::SIGKILL);
        new.stop(Signal::SIGKILL);
        replica.start().await;
        eventually("it has replayed all again", async || {
            replica.facts().await.replay_lsn >= Some(end)
        })
        .await;
        let facts = replica.facts().await;
        assert!(facts.receiver.is_none(), "{facts:?}");
        assert_eq!(written_on(&replica, &facts), Some(2));
    });
}

/// Two replicas of one primary are promoted from one position: one timeline, one history, two
/// contents.
#[test]
fn the_wal_tells_two_promotions_from_one_position_apart() {
    as_postgres(async |root, installation| {
        let mut old = Node::primary(&root, "pg-a", &installation).await;
        let mut one = clone_of(&old, &root, "pg-b").await;
        let mut two = clone_of(&old, &root, "pg-c").await;
        one.start().await;
        two.start().await;
        streams(&old, "pg-b").await;
        streams(&old, "pg-c").await;
        let same = lines::same_wal(&two.pg, &old.session().await, LONG).await;
        assert_eq!(same.unwrap(), Some(true));
        old.stop(Signal::SIGINT);
        let mut replica = clone_of(&one, &root, "pg-d").await;
        promote(&one).await;
        promote(&two).await;
        let fork = |node: &Node| history::read_local(&node.pg.data_dir, 2).unwrap()[0].switch_lsn;
        assert_eq!(fork(&one), fork(&two));
        one.run("CREATE TABLE public.one AS SELECT 1 AS i").await;
        two.run("CREATE TABLE public.two AS SELECT generate_series(1, 1000)")
            .await;
        replica.start().await;
        streams(&one, "pg-d").await;
        let same = lines::same_wal(&replica.pg, &one.session().await, LONG).await;
        assert_eq!(same.unwrap(), Some(true));
        let same = lines::same_wal(&replica.pg, &two.session().await, LONG).await;
        assert_eq!(same.unwrap(), Some(false));
    });
}

/// The agent dies in the middle of a rewind: what is left cannot be started, and a clone heals it.
#[test]
fn a_rewind_that_is_killed_leaves_nothing_to_start() {
    as_postgres(async |root, installation| {
        let mut old = Node::primary(&root, "pg-a", &installation).await;
        let mut new = clone_of(&old, &root, "pg-b").await;
        new.start().await;
        streams(&old, "pg-b").await;
        promote(&new).await;
        old.run("CREATE TABLE public.lost AS SELECT generate_series(1, 100000)")
            .await;
        old.stop(Signal::SIGINT);
        control::checkpoint(&new.session().await, LONG)
            .await
            .unwrap();
        let note = old.pg.socket_dir.join("data.pgwarden-new/note");
        let source = new.source();
        let begun = eventually("the rewind works", async || {
            fs::read_to_string(&note).is_ok_and(|note| note == "pgwarden Rewind Building\n")
        });
        tokio::select! {
            ended = rewind::rewind(&old.pg, &installation, &source, LONG) => panic!("{ended:?}"),
            () = begun => {}
        }
        let dir = &old.pg.data_dir;
        assert!(!dir.exists() && stage::broken_rewind(dir));
        assert_eq!(
            data_dir::classify(dir, installation.major),
            DataDir::Unfinished
        );
        let refused = bootstrap::initdb(&old.pg, &installation, LONG).await;
        assert!(matches!(
            refused,
            Err(BootstrapError::Stage(StageError::BrokenRewind(_)))
        ));
        let progress = watch::Sender::new(CloneProgress::default());
        // Not without the word that a primary runs: this may be the last copy there is.
        let clone = async |proof: Option<ReplaceProof>| {
            basebackup::clone(&old.pg, &installation, &source, proof, &progress, LONG).await
        };
        assert!(matches!(
            clone(None).await,
            Err(BootstrapError::Stage(StageError::BrokenRewind(_)))
        ));
        let proof = ReplaceProof::granted("the test's primary runs");
        clone(Some(proof)).await.unwrap();
        assert!(!stage::broken_rewind(dir));
        assert!(matches!(
            data_dir::classify(dir, installation.major),
            DataDir::Present(_)
        ));
    });
}
