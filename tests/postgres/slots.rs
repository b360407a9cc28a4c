//! Replication slots of real servers: changed, freed of what holds vacuum back, invalidated, and
//! copied to a replica that is promoted.

use crate::harness::{LONG, as_postgres, eventually};
use crate::members::{Node, changed, clone_of, promote, streams};
use nix::sys::signal::Signal;
use pgwarden::ha::model::Lsn;
use pgwarden::ha::slots::{SlotChange, SlotFacts, SlotKind};
use pgwarden::postgres::session::Session;
use pgwarden::postgres::{slot_copies, slots};
use std::collections::BTreeSet;

fn create(name: &str, kind: SlotKind) -> SlotChange {
    let name = name.into();
    SlotChange::Create { name, kind }
}

fn discard(name: &str) -> SlotChange {
    SlotChange::Drop { name: name.into() }
}

fn feed() -> SlotKind {
    SlotKind::Logical {
        database: "app".into(),
        plugin: "test_decoding".into(),
    }
}

fn advance_feed(to: Lsn) -> SlotChange {
    SlotChange::Advance {
        name: "feed".into(),
        database: Some("app".into()),
        to,
    }
}

async fn slot(node: &Node, name: &str) -> Option<SlotFacts> {
    let found = node.facts().await.slots;
    found.into_iter().find(|slot| slot.name == name)
}

/// A node whose WAL can be decoded, with a database of its own for that.
async fn with_logical(node: &mut Node) {
    for (name, value) in [("wal_level", "logical"), ("hot_standby_feedback", "on")] {
        node.pg.parameters.insert(name.into(), value.into());
    }
    node.bootstrap().await;
    node.run("CREATE DATABASE app").await;
}

#[test]
fn slots_are_made_moved_freed_and_dropped_and_one_in_use_stays() {
    as_postgres(async |root, installation| {
        let mut leader = Node::new(&root, "pg-a", &installation);
        with_logical(&mut leader).await;
        let mut replica = clone_of(&leader, &root, "pg-b").await;
        let same = leader.pg.parameters.clone();
        replica.pg.parameters.extend(same);
        pgwarden::postgres::config::write(
            &replica.pg,
            &replica.pg.data_dir,
            &pgwarden::postgres::config::Follow::Leader(leader.source()),
        )
        .unwrap();
        replica.start().await;
        streams(&leader, "pg-b").await;
        eventually("its feedback is there", async || {
            slot(&leader, "pg_b")
                .await
                .is_some_and(|s| s.active && s.holds_xmin)
        })
        .await;

        // Twice: whoever looks late orders what is there already.
        let made = [create("site_b", SlotKind::Physical), create("feed", feed())];
        changed(&leader, &made).await;
        changed(&leader, &made).await;
        let shown = slot(&leader, "feed").await.unwrap();
        assert_eq!(
            (&shown.kind, shown.active, shown.lost),
            (&feed(), false, false)
        );
        assert!(!shown.holds_xmin, "it is there to hold the catalog");

        let before = slot(&leader, "site_b").await.unwrap().position.unwrap();
        leader
            .run("CREATE TABLE public.t AS SELECT generate_series(1, 1000) AS i")
            .await;
        let to = leader.facts().await.flush_lsn.unwrap();
        let (name, database) = ("site_b".to_owned(), None);
        changed(
            &leader,
            &[SlotChange::Advance { name, database, to }, advance_feed(to)],
        )
        .await;
        assert!(slot(&leader, "site_b").await.unwrap().position > Some(before));
        assert_eq!(slot(&leader, "feed").await.unwrap().position, Some(to));

        // In use: neither dropped nor freed, and no error.
        changed(&leader, &[discard("pg_b")]).await;
        assert!(slot(&leader, "pg_b").await.unwrap().holds_xmin);
        replica.stop(Signal::SIGINT);
        eventually("its slot is free", async || {
            slot(&leader, "pg_b").await.is_some_and(|s| !s.active)
        })
        .await;
        assert!(slot(&leader, "pg_b").await.unwrap().holds_xmin);
        let anew = [discard("pg_b"), create("pg_b", SlotKind::Physical)];
        changed(&leader, &anew).await;
        assert!(!slot(&leader, "pg_b").await.unwrap().holds_xmin);

        // One that fails holds up nothing.
        let nowhere = SlotKind::Logical {
            database: "nowhere".into(),
            plugin: "test_decoding".into(),
        };
        let changes = [create("no", nowhere), discard("pg_b"), discard("feed")];
        let outcome = slots::change(&leader.pg, &changes, LONG).await;
        assert_eq!(outcome.failed.len(), 1, "{outcome:?}");
        assert!(outcome.failed[0].contains("nowhere"), "{outcome:?}");
        assert_eq!(leader.facts().await.slots.len(), 1);
    });
}

#[test]
fn a_slot_that_was_invalidated_is_shown_as_lost() {
    as_postgres(async |root, installation| {
        let mut leader = Node::new(&root, "pg-a", &installation);
        for (name, value) in [("max_slot_wal_keep_size", "1MB"), ("wal_keep_size", "0")] {
            leader.pg.parameters.insert(name.into(), value.into());
        }
        for (name, value) in [("min_wal_size", "32MB"), ("max_wal_size", "32MB")] {
            leader.pg.parameters.insert(name.into(), value.into());
        }
        leader.bootstrap().await;
        changed(&leader, &[create("old", SlotKind::Physical)]).await;
        eventually("it has lost its WAL", async || {
            for _ in 0..4 {
                leader
                    .run("SELECT pg_switch_wal(); CREATE TABLE public.x (); DROP TABLE public.x")
                    .await;
            }
            leader.run("CHECKPOINT").await;
            slot(&leader, "old").await.unwrap().lost
        })
        .await;
        let anew = [discard("old"), create("old", SlotKind::Physical)];
        changed(&leader, &anew).await;
        assert!(!slot(&leader, "old").await.unwrap().lost);
    });
}

/// What the consumer gets, confirmed or only looked at: the numbers inserted into `t`.
async fn read_feed(node: &Node, confirm: bool) -> Vec<u64> {
    let how = if confirm { "get" } else { "peek" };
    let sql = format!("SELECT data FROM pg_logical_slot_{how}_changes('feed', NULL, NULL)");
    let rows = app(node).await.query(&sql, LONG).await.unwrap();
    let number = |text: String| {
        text.rsplit_once("i[integer]:")
            .map(|(_, n)| n.parse().unwrap())
    };
    rows.iter().filter_map(|row| number(row.get(0))).collect()
}

async fn app(node: &Node) -> Session {
    let pg = pgwarden::postgres::Postgres {
        database: "app".into(),
        ..node.pg.clone()
    };
    Session::local(&pg, LONG).await.unwrap()
}

async fn insert(node: &Node, numbers: std::ops::Range<u64>) {
    let session = app(node).await;
    for number in numbers {
        let sql = format!("INSERT INTO public.t VALUES ({number})");
        session.execute(&sql, LONG).await.unwrap();
    }
}

/// As the rewind user, whose rights are enough.
async fn fetched(leader: &Node, replica: &Node, reached: Lsn) -> slot_copies::Fetched {
    let pg = &replica.pg;
    let user = pg.rewind_user();
    let session = Session::remote(&leader.source(), user, &pg.database, LONG)
        .await
        .unwrap();
    let wanted = BTreeSet::from(["feed".to_owned()]);
    let absent = slot_copies::absent(&pg.data_dir, &wanted);
    slot_copies::fetch(&session, &pg.data_dir, &absent, (reached, None), LONG)
        .await
        .unwrap()
}

async fn caught_up(leader: &Node, replica: &Node) {
    eventually("it has all", async || {
        let end = leader.facts().await.flush_lsn;
        replica.facts().await.replay_lsn >= end
    })
    .await;
}

#[test]
fn a_copied_logical_slot_gives_its_consumer_all_after_a_promotion() {
    as_postgres(async |root, installation| {
        let mut leader = Node::new(&root, "pg-a", &installation);
        with_logical(&mut leader).await;
        app(&leader)
            .await
            .execute("CREATE TABLE public.t (i int)", LONG)
            .await
            .unwrap();
        changed(&leader, &[create("feed", feed())]).await;
        insert(&leader, 0..5).await;
        assert_eq!(read_feed(&leader, true).await, [0, 1, 2, 3, 4]);
        insert(&leader, 5..8).await;

        let mut replica = clone_of(&leader, &root, "pg-b").await;
        replica.pg.parameters.extend(leader.pg.parameters.clone());
        let follow = pgwarden::postgres::config::Follow::Leader(leader.source());
        let dir = replica.pg.data_dir.clone();
        pgwarden::postgres::config::write(&replica.pg, &dir, &follow).unwrap();
        // A consumer that is ahead of what the replica has would miss what is written there later.
        let refused = fetched(&leader, &replica, Lsn(1)).await;
        assert!(
            refused.states.is_empty() && refused.failed[0].contains("ahead"),
            "{refused:?}"
        );
        // The clone's WAL begins later than the slot.
        let refused = fetched(&leader, &replica, Lsn(u64::MAX)).await;
        assert!(
            refused.states.is_empty() && refused.failed[0].contains("not here"),
            "{refused:?}"
        );
        replica.start().await;
        streams(&leader, "pg-b").await;
        assert_eq!(read_feed(&leader, true).await, [5, 6, 7]);
        eventually("the slot goes on", async || {
            leader.run("CHECKPOINT").await;
            read_feed(&leader, true).await;
            let given = fetched(&leader, &replica, Lsn(u64::MAX)).await;
            given.failed.is_empty()
        })
        .await;
        insert(&leader, 8..10).await;
        caught_up(&leader, &replica).await;
        let reached = replica.facts().await.durable_lsn().unwrap();
        let given = fetched(&leader, &replica, reached).await;
        assert!(given.failed.is_empty(), "{given:?}");
        replica.stop(Signal::SIGINT);
        slot_copies::put(&dir, &given.states).unwrap();
        replica.start().await;
        streams(&leader, "pg-b").await;
        let there = slot(&replica, "feed").await.unwrap();
        assert_eq!(there.kind, feed());

        // The leader keeps what it needs, and says so.
        let wanted = BTreeSet::from(["feed".to_owned()]);
        let user = replica.pg.rewind_user();
        let session = Session::remote(&leader.source(), user, "postgres", LONG)
            .await
            .unwrap();
        eventually("the feedback is there", async || {
            let kept = slot_copies::confirmed(&replica.pg, &session, "pg_b", &wanted, LONG).await;
            kept.unwrap().contains_key("feed")
        })
        .await;
        let none = slot_copies::confirmed(&replica.pg, &session, "pg_x", &wanted, LONG).await;
        assert!(
            none.unwrap().is_empty(),
            "nobody of that name has told what it needs"
        );

        // The consumer goes on, and the copy with it.
        assert_eq!(read_feed(&leader, true).await, [8, 9]);
        let confirmed = slot(&leader, "feed").await.unwrap().position.unwrap();
        insert(&leader, 10..12).await;
        caught_up(&leader, &replica).await;
        changed(&replica, &[advance_feed(confirmed)]).await;
        assert_eq!(
            slot(&replica, "feed").await.unwrap().position,
            Some(confirmed)
        );
        leader.stop(Signal::SIGKILL);
        promote(&replica).await;
        insert(&replica, 12..14).await;
        assert_eq!(read_feed(&replica, false).await, [10, 11, 12, 13]);
    });
}
