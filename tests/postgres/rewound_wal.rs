//! A rewind that goes well, and leaves data for whose recovery the WAL is gone.

use crate::harness::{LONG, as_postgres, eventually};
use crate::members::{Node, clone_of, promote, slot_for, streams};
use nix::sys::signal::Signal;
use pgwarden::postgres::basebackup::{self, CloneProgress};
use pgwarden::postgres::config::{self, Follow};
use pgwarden::postgres::rewind::{self, Broken, RewindError};
use pgwarden::postgres::stage::{self, ReplaceProof};
use pgwarden::postgres::{ProgramOption, control};
use std::fs;
use std::path::Path;
use tokio::sync::watch;

/// `pg_rewind` needs the record of the last common checkpoint, recovery all WAL since that one
/// began.
#[test]
fn a_rewind_without_the_wal_since_the_last_common_checkpoint_is_replaced_by_a_clone() {
    as_postgres(async |root, installation| {
        let mut old = Node::new(&root, "pg-a", &installation);
        // Small segments, and no checkpoint but those of this test.
        old.pg.initdb.push(ProgramOption {
            name: "wal-segsize".into(),
            value: Some("1".into()),
        });
        set(&mut old, "checkpoint_timeout", "1h");
        set(&mut old, "checkpoint_completion_target", "0.9");
        // The old one has the record for pg_rewind; the new one keeps nothing for anybody.
        set(&mut old, "wal_keep_size", "1GB");
        old.bootstrap().await;
        let mut new = clone_of(&old, &root, "pg-b").await;
        set(&mut new, "wal_keep_size", "0");
        let follow = Follow::Leader(old.source());
        config::write(&new.pg, &new.pg.data_dir, &follow).unwrap();
        new.start().await;
        streams(&old, "pg-b").await;

        checkpoint_over_segments(&mut old).await;
        let common = old.control();
        let first = segment(common.redo.0);
        assert!(segment(common.checkpoint.0) >= first + 3, "{common:?}");
        let end = control::current_lsn(&old.session().await, LONG)
            .await
            .unwrap();
        eventually("the replica replays the checkpoint", async || {
            new.facts().await.replay_lsn >= Some(end)
        })
        .await;
        promote(&new).await;
        old.run("CREATE TABLE public.lost AS SELECT 1 AS i").await;
        old.stop(Signal::SIGKILL);
        let gone = format!("{first:016X}");
        eventually("the new leader's old WAL is gone", async || {
            new.run("CREATE TABLE IF NOT EXISTS public.kept (i int)")
                .await;
            new.run("SELECT pg_switch_wal()").await;
            let session = new.session().await;
            control::checkpoint(&session, LONG).await.unwrap();
            !has_segment(&new.pg.data_dir, &gone)
        })
        .await;

        let broken = rewind::rewind(&old.pg, &installation, &new.source(), LONG).await;
        let Err(error @ RewindError::Broken(Broken::WalGone(_))) = broken else {
            panic!("{broken:?}");
        };
        assert!(error.to_string().contains(&gone), "{error}");
        assert!(stage::broken_rewind(&old.pg.data_dir));
        clone_over(&mut old, &new).await;
    });
}

fn set(node: &mut Node, name: &str, value: &str) {
    node.pg.parameters.insert(name.into(), value.into());
}

/// A segment has 1 MB here, so that the file's name has the number in its last digits.
fn segment(lsn: u64) -> u64 {
    lsn >> 20
}

fn has_segment(data_dir: &Path, segment: &str) -> bool {
    let names = fs::read_dir(data_dir.join("pg_wal")).unwrap();
    names
        .map(|entry| entry.unwrap().file_name())
        .any(|name| name.len() == 24 && name.to_str().unwrap().ends_with(segment))
}

/// A checkpoint that began segments before it is written: spread over most of an hour until the
/// segments are there, and told to hurry from then on.
async fn checkpoint_over_segments(node: &mut Node) {
    node.run("CREATE TABLE public.wide AS SELECT repeat('x', 1000) FROM generate_series(1, 4000)")
        .await;
    let begun = node.control().checkpoint;
    let session = node.session().await;
    let spread = if node.installation.major >= 15 {
        "SELECT pg_backup_start('x', false)"
    } else {
        "SELECT pg_start_backup('x', false, false)"
    };
    let write = async {
        eventually("the checkpoint takes its time", async || {
            let sql = "SELECT count(*)::text FROM pg_stat_activity \
                       WHERE wait_event = 'CheckpointWriteDelay'";
            node.ask(sql).await == "1"
        })
        .await;
        for number in 0..4 {
            node.run(&format!("CREATE TABLE public.more{number} (i int)"))
                .await;
            node.run("SELECT pg_switch_wal()").await;
        }
        assert_eq!(node.control().checkpoint, begun, "it ended too early");
        let mut hurried = node.pg.clone();
        hurried
            .parameters
            .insert("checkpoint_completion_target".into(), "0".into());
        config::write(&hurried, &hurried.data_dir, &Follow::Nobody).unwrap();
        control::reload(&node.session().await, LONG).await.unwrap();
    };
    let (started, ()) = tokio::join!(session.execute(spread, LONG), write);
    started.unwrap();
    assert!(node.control().checkpoint > begun);
}

/// What follows a broken rewind heals the member.
async fn clone_over(old: &mut Node, new: &Node) {
    slot_for(new, "pg-a").await;
    let progress = watch::Sender::new(CloneProgress::default());
    let proof = ReplaceProof::granted("the test's primary runs");
    let (pg, source) = (&old.pg, new.source());
    basebackup::clone(pg, &old.installation, &source, Some(proof), &progress, LONG)
        .await
        .unwrap();
    old.start().await;
    streams(new, "pg-a").await;
}
