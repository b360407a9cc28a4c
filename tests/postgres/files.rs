//! What a data directory holds, and how one comes to be without a half-made one in between.

use crate::harness::{LONG, as_postgres, chmod, with_mounted_volume};
use crate::members::{Node, compare_with_pg_controldata, slot_for, streams};
use nix::sys::signal::Signal;
use pgwarden::ha::model::{ControlState, DataDir};
use pgwarden::postgres::basebackup::{self, CloneProgress};
use pgwarden::postgres::bootstrap::{self, BootstrapError};
use pgwarden::postgres::control_data::ControlData;
use pgwarden::postgres::stage::{ReplaceProof, StageError};
use pgwarden::postgres::{ProgramOption, data_dir};
use std::fs;
use std::time::Duration;
use tokio::sync::watch;

#[test]
fn the_control_file_says_what_pg_controldata_says() {
    as_postgres(async |root, installation| {
        let mut node = Node::new(&root, "a", &installation);
        bootstrap::initdb(&node.pg, &installation, LONG)
            .await
            .unwrap();
        compare_with_pg_controldata(&node).await;
        node.start().await;
        node.run("CREATE TABLE public.t AS SELECT generate_series(1, 1000) AS i; CHECKPOINT")
            .await;
        compare_with_pg_controldata(&node).await;
        assert_eq!(node.control().state, ControlState::InProduction);
        node.stop(Signal::SIGKILL);
        assert_eq!(node.control().state, ControlState::InProduction);
    });
}

#[test]
fn what_a_directory_holds_is_told_without_touching_it() {
    as_postgres(async |root, installation| {
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
        bootstrap::initdb(&node.pg, &installation, LONG)
            .await
            .unwrap();
        let present = data_dir::classify(dir, major);
        let expected = ControlData::read(dir).unwrap().facts(false, Vec::new());
        assert_eq!(present, DataDir::Present(expected));
        let unusable = |what: &str| {
            let found = data_dir::classify(dir, major);
            assert!(
                matches!(&found, DataDir::Unusable(why) if why.contains(what)),
                "{found:?}"
            );
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
        unusable("damaged; nothing here is started or deleted; where another member leads, move");
        fs::write(&control, whole).unwrap();
        fs::rename(dir.join("PG_VERSION"), dir.join("PG_VERSION.away")).unwrap();
        unusable("no PG_VERSION");
    });
}

#[test]
fn a_half_clone_never_takes_the_name_of_a_data_directory() {
    as_postgres(async |root, installation| {
        let leader = Node::primary(&root, "pg-a", &installation).await;
        let replica = Node::new(&root, "pg-b", &installation);
        let mut slow = replica.pg.clone();
        let rate = ("max-rate".into(), Some("32k".into()));
        slow.basebackup = vec![ProgramOption {
            name: rate.0,
            value: rate.1,
        }];
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
        assert_eq!(
            data_dir::classify(dir, installation.major),
            DataDir::Unfinished
        );
        // Given up at its deadline: nothing stays.
        let ended = clone(&slow, None, Duration::from_secs(1)).await;
        assert!(matches!(ended, Err(BootstrapError::Initdb(_))), "{ended:?}");
        assert_eq!(data_dir::classify(dir, installation.major), DataDir::Empty);
        clone(&replica.pg, None, LONG).await.unwrap();
        let present = data_dir::classify(dir, installation.major);
        assert!(matches!(present, DataDir::Present(_)), "{present:?}");
        // A present one is replaced only with a proof, and stays whole if the clone fails.
        let refused = clone(&replica.pg, None, LONG).await;
        assert!(matches!(
            refused,
            Err(BootstrapError::Stage(StageError::WouldReplace(_)))
        ));
        let proof = || Some(ReplaceProof::granted("the test says so"));
        clone(&slow, proof(), Duration::from_secs(1))
            .await
            .unwrap_err();
        assert_eq!(data_dir::classify(dir, installation.major), present);
        fs::write(dir.join("of-the-old-one"), "").unwrap();
        clone(&replica.pg, proof(), LONG).await.unwrap();
        assert!(!dir.join("of-the-old-one").exists());
        let names: Vec<_> = fs::read_dir(&replica.pg.socket_dir).unwrap().collect();
        assert_eq!(
            names.len(),
            2,
            "only the data directory and the password file: {names:?}"
        );
    });
}

/// A mounted volume cannot be renamed: everything happens inside it, and its lock file stays.
#[test]
fn a_mounted_volume_is_filled_and_replaced_in_place() {
    with_mounted_volume(async |root, volume, installation| {
        let leader = Node::primary(&root, "pg-a", &installation).await;
        let mut node = Node::new(&root, "pg-b", &installation);
        node.pg.data_dir.clone_from(&volume);
        let lock = volume.join(".pgwarden.lock");
        fs::write(&lock, "").unwrap();
        assert_eq!(
            data_dir::classify(&volume, installation.major),
            DataDir::Empty
        );
        bootstrap::initdb(&node.pg, &installation, LONG)
            .await
            .unwrap();
        node.start().await;
        node.stop(Signal::SIGINT);
        let progress = watch::Sender::new(CloneProgress::default());
        let proof = ReplaceProof::granted("the test says so");
        let source = leader.source();
        slot_for(&leader, "pg-b").await;
        basebackup::clone(
            &node.pg,
            &installation,
            &source,
            Some(proof),
            &progress,
            LONG,
        )
        .await
        .unwrap();
        assert!(lock.exists() && !volume.join(".pgwarden-new").exists());
        node.start().await;
        streams(&leader, "pg-b").await;
        assert_eq!(node.control().system_id, leader.control().system_id);
    });
}
