use super::*;

pub(crate) fn sample() -> Postgres {
    let user = |name: &str| Credentials {
        username: name.into(),
        password: Some("p:w\\".into()),
        ..Credentials::default()
    };
    Postgres {
        program: "/bin/postgres".into(),
        data_dir: "/data/pg".into(),
        listen: vec!["*".into()],
        port: 5432,
        socket_dir: "/run/pg".into(),
        reached_at: None,
        name: "pg-0".into(),
        scope: "demo".into(),
        superuser: user("postgres"),
        replication: user("repl"),
        rewind: None,
        parameters: BTreeMap::new(),
        pg_hba: vec![],
        own_hba_line: false,
        pg_ident: vec![],
        recovery: BTreeMap::new(),
        custom_conf: None,
        initdb: vec![],
        basebackup: vec![],
        database: "postgres".into(),
        pgpass: "/run/pgpass".into(),
        use_slots: true,
    }
}

#[test]
fn a_follower_names_itself_and_its_slot_and_never_its_password() {
    let source = Source {
        host: "10.1.2.3".into(),
        port: 5432,
    };
    let text = server_settings(&sample(), &Follow::Leader(source)).unwrap();
    assert!(text.contains("primary_slot_name = 'pg_0'"));
    assert!(text.contains("application_name=''pg-0''"));
    assert!(text.contains("host=''10.1.2.3''"));
    assert!(!text.contains("p:w"));
    let alone = server_settings(&sample(), &Follow::Nobody).unwrap();
    assert!(!alone.contains("primary_"));
}

#[test]
fn a_standby_leader_follows_as_it_is_told_over_there() {
    let source = Source {
        host: "other".into(),
        port: 5433,
    };
    let mut remote = Remote {
        source: Some(source),
        slot: None,
        settings: BTreeMap::from([("restore_command".into(), "cp '%f' %p".into())]),
    };
    let text = server_settings(&sample(), &Follow::Remote(remote.clone())).unwrap();
    assert!(text.contains("host=''other''") && text.contains("port=''5433''"));
    let name = format!("application_name=''{}/pg-0''", sample().scope);
    assert!(text.contains(&name), "no member over there has it: {text}");
    assert!(text.contains("restore_command = 'cp ''%f'' %p'"), "{text}");
    assert!(
        !text.contains("primary_slot_name"),
        "its slot is not ours to name"
    );
    remote.slot = Some("site_b".into());
    remote.source = None;
    let text = server_settings(&sample(), &Follow::Remote(remote)).unwrap();
    assert!(text.contains("primary_slot_name = 'site_b'"));
    assert!(!text.contains("primary_conninfo"));
}

#[test]
fn controlled_settings_stay_off_the_file_and_the_sync_file_comes_last() {
    let mut pg = sample();
    for (name, value) in [
        ("max_connections", "500"),
        ("work_mem", "8MB"),
        ("port", "1"),
    ] {
        pg.parameters.insert(name.into(), value.into());
    }
    pg.parameters
        .insert("synchronous_standby_names".into(), "*".into());
    let text = server_settings(&pg, &Follow::Nobody).unwrap();
    assert!(text.contains("work_mem = '8MB'") && text.contains("wal_keep_size = '128MB'"));
    assert!(!text.contains("max_connections") && !text.contains("port ="));
    assert!(!text.contains("synchronous_standby_names"));
    assert_eq!(
        text.lines().last(),
        Some("include_if_exists 'pgwarden.sync.conf'")
    );
}

#[test]
fn names_and_lines_that_would_break_a_file_are_refused() {
    let mut pg = sample();
    pg.parameters.insert("a = 1\nb".into(), "x".into());
    assert!(matches!(
        server_settings(&pg, &Follow::Nobody),
        Err(ConfigError::BadName(_))
    ));
    let broken = ["local all all trust\nhost all all all trust".to_owned()];
    assert!(lines("postgresql.pg_hba", &broken).is_err());
    assert!(
        set_sync(
            Path::new("/nowhere"),
            &crate::ha::quorum::SyncSetting::all(["*".to_owned()])
        )
        .is_err()
    );
}

#[test]
fn the_users_hba_is_taken_as_it_is() {
    let mut pg = sample();
    assert_eq!(hba_lines(&pg)[0], "local all \"postgres\" scram-sha-256");
    pg.pg_hba = vec!["local all all trust".into()];
    assert_eq!(hba_lines(&pg), ["local all all trust"]);
    // One that lets everybody in but the agent.
    pg.own_hba_line = true;
    let own = "local all \"postgres\" md5";
    assert_eq!(hba_lines(&pg), [own, "local all all trust"]);
}
