//! Settings that PostgreSQL refuses: found before they do harm, and no obstacle to recovery.

use crate::harness::{LONG, as_postgres};
use crate::members::Node;
use nix::sys::signal::Signal;
use pgwarden::postgres::{parameters, rewind};
use std::collections::BTreeMap;
use std::fs;

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn what_the_server_would_refuse_is_found_with_its_words() {
    as_postgres(async |_, installation| {
        let good = [
            ("work_mem", "8MB"),
            ("a.custom", "'x y'"),
            (
                "shared_preload_libraries",
                "plpgsql, \"$libdir/plpgsql\", plpgsql.so",
            ),
        ];
        let refused = parameters::refused(&installation, &values(&good)).await;
        assert_eq!(refused.unwrap(), values(&[]));
        let mut pairs = good.to_vec();
        pairs.extend([
            ("maintenance_work_mem", "banana"),
            ("max_connections", "99999999"),
            ("not_there", "1"),
            ("session_preload_libraries", "plpgsql,absent"),
        ]);
        let refused = parameters::refused(&installation, &values(&pairs)).await;
        let refused = refused.unwrap();
        let names: Vec<_> = refused.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "maintenance_work_mem",
                "max_connections",
                "not_there",
                "session_preload_libraries"
            ]
        );
        let why = &refused["maintenance_work_mem"];
        let begins = "invalid value for parameter \"maintenance_work_mem\": \"banana\"";
        assert!(why.starts_with(begins), "{why}");
        let why = &refused["session_preload_libraries"];
        assert!(
            why.starts_with("there is no library \"absent\" in /"),
            "{why}"
        );
        assert!(refused["not_there"].starts_with("unrecognized"));
    });
}

#[test]
fn no_setting_of_a_users_is_in_the_way_of_crash_recovery() {
    as_postgres(async |root, installation| {
        let mut node = Node::primary(&root, "pg-a", &installation).await;
        node.run("CREATE TABLE public.kept AS SELECT 1 AS i").await;
        node.stop(Signal::SIGKILL);
        let file = node.pg.data_dir.join("postgresql.conf");
        let written = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{written}work_mem = banana\n")).unwrap();
        node.pg.parameters = values(&[("shared_preload_libraries", "not_there")]);
        let control = rewind::recover(&node.pg, &installation, LONG).await;
        assert!(control.unwrap().clean_shutdown());
        assert!(!node.pg.data_dir.join("pgwarden.single.conf").exists());
        fs::write(&file, written).unwrap();
        node.start().await;
        assert_eq!(node.ask("SELECT i::text FROM public.kept").await, "1");
    });
}
