//! What a running server is told and what it answers.

use crate::harness::{LONG, as_postgres, eventually};
use crate::members::Node;
use nix::sys::signal::Signal;
use pgwarden::postgres::bootstrap::{self, BootstrapError};
use pgwarden::postgres::config::{self, Follow};
use pgwarden::postgres::probe::Probe;
use pgwarden::postgres::scratch;
use pgwarden::postgres::session::{Session, SqlError};
use pgwarden::postgres::stage::StageError;
use std::fs;
use std::time::Duration;

#[test]
fn a_new_cluster_has_its_users_and_every_value_as_given() {
    as_postgres(async |root, installation| {
        let mut node = Node::new(&root, "a", &installation);
        let nasty = [
            (
                "log_line_prefix",
                "it''s \\ 'quoted' %m # no comment\n\ttab ",
            ),
            ("my.value", "include 'x'"),
            ("my.empty", ""),
            ("log_statement", "all"),
            ("shared_buffers", "16MB"),
            ("port", "1"),
        ];
        for (name, value) in nasty {
            node.pg.parameters.insert(name.into(), value.into());
        }
        node.pg
            .parameters
            .insert("max_connections".into(), "30".into());
        node.bootstrap().await;
        for (name, value) in nasty.into_iter().filter(|(name, _)| *name != "port") {
            let sql = format!("SELECT current_setting('{name}')");
            // The agent's own session keeps out of the log whatever the server logs.
            let shown = if name == "log_statement" {
                "none"
            } else {
                value
            };
            assert_eq!(node.ask(&sql).await, shown, "{name}");
        }
        assert_eq!(
            node.ask("SELECT current_setting('max_connections')").await,
            "30"
        );
        assert_eq!(
            node.ask("SELECT current_setting('cluster_name')").await,
            "it's a cluster"
        );
        assert_eq!(
            node.ask("SELECT current_setting('server_encoding')").await,
            "UTF8"
        );
        let verifiers = "SELECT count(*)::text FROM pg_authid \
                         WHERE rolpassword LIKE 'SCRAM-SHA-256$%'";
        assert_eq!(node.ask(verifiers).await, "3");
        // Again: existing users keep working.
        bootstrap::create_users(&node.session().await, &node.pg, LONG)
            .await
            .unwrap();
        only_their_passwords_let_users_in(&node).await;
        let files = ["pgpass", "data/postgresql.conf", "data/pg_hba.conf"];
        for file in files.map(|name| node.pg.socket_dir.join(name)) {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                fs::metadata(&file).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        let log = fs::read_to_string(node.pg.socket_dir.join("log")).unwrap();
        assert!(!log.contains("SCRAM") && !log.contains("rew:ind"));
        let again = bootstrap::initdb(&node.pg, &installation, LONG).await;
        assert!(matches!(
            again,
            Err(BootstrapError::Stage(StageError::WouldReplace(_)))
        ));
    });
}

#[test]
fn the_probe_tells_apart_why_there_is_no_answer() {
    as_postgres(async |root, installation| {
        let mut node = Node::new(&root, "a", &installation);
        let mut probe = Probe::new();
        let nobody = probe.facts(&node.pg, LONG).await.unwrap_err();
        assert!(matches!(nobody, SqlError::NotListening(_)) && !nobody.answered());
        node.pg
            .parameters
            .insert("max_connections".into(), "25".into());
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
        let hung = probe
            .facts(&node.pg, Duration::from_millis(300))
            .await
            .unwrap_err();
        assert_eq!(hung, SqlError::Timeout(300));
        node.signal(Signal::SIGCONT);
        probe.facts(&node.pg, LONG).await.unwrap();
        node.stop(Signal::SIGQUIT);
        let gone = probe.facts(&node.pg, LONG).await.unwrap_err();
        assert!(
            matches!(gone, SqlError::Lost(_) | SqlError::NotListening(_)),
            "{gone:?}"
        );
        node.start().await;
        let again = probe.facts(&node.pg, LONG).await.unwrap();
        assert_ne!(again.postmaster_start_ms, facts.postmaster_start_ms);
        let mut volumes = scratch::Scratch::for_volumes(&node.pg.data_dir);
        assert_eq!(volumes.len(), 1);
        assert_eq!(volumes[0].check(LONG).await, scratch::Written::Done);
    });
}

async fn only_their_passwords_let_users_in(node: &Node) {
    let pg = &node.pg;
    for user in [&pg.superuser, &pg.replication, pg.rewind.as_ref().unwrap()] {
        Session::remote(&node.source(), user, "postgres", LONG)
            .await
            .unwrap();
        let mut wrong = user.clone();
        wrong.password = Some("wrong".into());
        let refused = Session::remote(&node.source(), &wrong, "postgres", LONG).await;
        assert!(matches!(refused.err(), Some(SqlError::AuthFailed(_))));
    }
}

#[test]
fn a_reload_has_nothing_to_complain_of() {
    as_postgres(async |root, installation| {
        let mut node = Node::new(&root, "a", &installation);
        let parameters = &mut node.pg.parameters;
        parameters.insert("max_connections".into(), "30".into());
        node.bootstrap().await;
        let parameters = &mut node.pg.parameters;
        parameters.insert("work_mem".into(), "5MB".into());
        config::write(&node.pg, &node.pg.data_dir, &Follow::Nobody).unwrap();
        node.run("SELECT pg_reload_conf()").await;
        eventually("the change is in force", async || {
            node.ask("SELECT current_setting('work_mem')").await == "5MB"
        })
        .await;
        let log = fs::read_to_string(node.pg.socket_dir.join("log")).unwrap();
        let complaint = |line: &&str| line.contains("cannot be changed") || line.contains("errors");
        assert_eq!(log.lines().find(complaint), None, "{log}");
        let base = fs::read_to_string(node.pg.data_dir.join("postgresql.base.conf")).unwrap();
        assert!(base.contains("\n# on the command line: max_connections = 100"));
    });
}
