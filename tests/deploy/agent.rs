//! The configuration that the chart makes, as the program itself reads it in a pod.

use crate::chart::{Objects, chart, helm, scratch};
use pgwarden::settings::{self, Effective, LogFormat, Settings, SyncMode};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A directory as the kubelet mounts a ConfigMap: the files are links through one that can be
/// swapped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(config: &Value) -> Self {
        let dir = scratch("deploy");
        let data = dir.join("..2026_01_01_00_00_00.1");
        fs::create_dir_all(&data).unwrap();
        symlink(data.file_name().unwrap(), dir.join("..data")).unwrap();
        for (name, text) in config["data"].as_object().unwrap() {
            fs::write(data.join(name), text.as_str().unwrap()).unwrap();
            symlink(Path::new("..data").join(name), dir.join(name)).unwrap();
        }
        Self(dir)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the pod's environment holds: the downward API, the Secret, and the values themselves.
fn environment(container: &Value) -> impl Fn(&str) -> Option<String> + '_ {
    |name| {
        let env = container["env"].as_array().unwrap();
        let one = env.iter().find(|one| one["name"] == name)?;
        if let Some(value) = one["value"].as_str() {
            return Some(value.to_owned());
        }
        let from = &one["valueFrom"];
        if let Some(key) = from["secretKeyRef"]["key"].as_str() {
            return Some(format!("secret-of-{key}"));
        }
        let value = match from["fieldRef"]["fieldPath"].as_str().unwrap() {
            "metadata.name" => "main-1",
            "metadata.namespace" => "databases",
            "metadata.uid" => "5b8a7c7e-0000-4000-8000-000000000001",
            "status.podIP" => "10.1.2.3",
            "spec.nodeName" => "node-a",
            other => panic!("{other} is not what the agent knows"),
        };
        Some(value.to_owned())
    }
}

/// The settings of a pod of this rendering; nothing may be wrong with them.
#[track_caller]
fn settings(objects: &Objects) -> Settings {
    let mounted = Mounted::new(objects.get("ConfigMap", "main-agent"));
    let loaded = settings::load(&mounted.0, &environment(objects.container("main")));
    let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let settings = loaded.settings.unwrap();
    let (_, problems) = Effective::of(&settings, &settings.bootstrap.dcs);
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    settings
}

#[test]
fn the_default_configuration_is_good_and_fits_the_pod() {
    let Some(helm) = helm() else { return };
    let objects = Objects::of(helm, "main", &[]);
    let s = settings(&objects);
    assert_eq!((s.scope.as_str(), s.name.as_str()), ("main", "main-1"));
    assert_eq!(s.kubernetes.namespace, "databases");
    assert_eq!(s.bootstrap.dcs.ttl_ms, 15_000);
    assert_eq!(s.bootstrap.dcs.synchronous_mode, SyncMode::On);
    assert!(s.bootstrap.initdb.contains(&"--data-checksums".to_owned()));

    // Passwords come from the Secret, and nothing secret is in the ConfigMap.
    let users = &s.postgresql.authentication;
    for (user, key) in [
        (&users.superuser, "superuser"),
        (&users.replication, "replication"),
    ] {
        let password = user.password.as_ref().unwrap().expose();
        assert_eq!(password, format!("secret-of-{key}-password"));
    }
    let rest = s.restapi.authentication.as_ref().unwrap();
    assert_eq!(rest.username, "pgwarden");
    assert_eq!(rest.password.expose(), "secret-of-restapi-password");
    assert!(
        !objects
            .get("ConfigMap", "main-agent")
            .to_string()
            .contains("password:")
    );

    // What the pods carry is what the agent selects.
    let labels = &objects.pod("main")["metadata"]["labels"];
    for pair in s.kubernetes.label_selector(&s.scope).split(',') {
        let (key, value) = pair.split_once('=').unwrap();
        assert_eq!(labels[key], value);
    }
    // The route is found by the name of the Service's port.
    let port = &objects.get("Service", "main")["spec"]["ports"];
    assert_eq!(port.as_array().unwrap().len(), s.kubernetes.ports.len());
    assert_eq!(port[0]["name"], s.kubernetes.ports[0].name.as_str());
    assert_eq!(s.kubernetes.ports[0].port, s.postgresql.port);
    let replica = &objects.get("Service", "main-repl")["spec"]["selector"];
    assert_eq!(
        replica[&s.kubernetes.role_label],
        s.kubernetes.follower_label_value.as_str()
    );
}

#[test]
fn the_paths_are_on_the_pod_s_volumes() {
    let Some(helm) = helm() else { return };
    let objects = Objects::of(helm, "main", &[]);
    let s = settings(&objects);
    let mounts = objects.container("main")["volumeMounts"]
        .as_array()
        .unwrap();
    let volume = |path: &Path| {
        let mount = mounts
            .iter()
            .find(|one| path.starts_with(one["mountPath"].as_str().unwrap()));
        mount.unwrap_or_else(|| panic!("{} is read-only", path.display()))
    };
    let data = volume(&s.postgresql.data_dir);
    assert_eq!(data["name"], "data");
    // A clone is made beside the data directory: that has to be the volume as well.
    assert_eq!(
        data["mountPath"],
        s.postgresql.data_dir.parent().unwrap().to_str().unwrap()
    );
    assert_eq!(volume(&s.postgresql.pgpass)["name"], "run");
    let sockets = &s.postgresql.parameters["unix_socket_directories"];
    assert_eq!(volume(Path::new(sockets))["name"], "run");
    let claims = objects.get("StatefulSet", "main")["spec"]["volumeClaimTemplates"].clone();
    assert_eq!(claims[0]["metadata"]["name"], "data");
    let config = objects.container("main")["args"][1].as_str().unwrap();
    assert_eq!(volume(Path::new(config))["name"], "config");
}

#[test]
fn values_arrive() {
    let Some(helm) = helm() else { return };
    let profile = chart().join("profiles/fast-failover.yaml");
    let fast = settings(&Objects::of(
        helm,
        "main",
        &["--values", profile.to_str().unwrap()],
    ));
    assert_eq!(fast.bootstrap.dcs.ttl_ms, 6_000);

    let set = "failover.synchronousMode=off,failover.maximumLagOnFailover=16777216,\
               failover.primaryStartTimeout=60,failover.reclone=false,\
               postgresql.major=17,auth.replication.username=rep,auth.superuser.username=boss,\
               log.type=json,log.level=DEBUG,tags.nosync=true,\
               agentConfig.postgresql.pg_ctl_timeout=90,auth.restapi.enabled=false,\
               network.listen=[::]";
    let objects = Objects::of(helm, "main", &["--set", set]);
    let s = settings(&objects);
    let dcs = &s.bootstrap.dcs;
    assert_eq!(dcs.synchronous_mode, SyncMode::Off);
    assert_eq!(dcs.maximum_lag_on_failover_bytes, 16 << 20);
    assert_eq!(dcs.primary_start_timeout_ms, 60_000);
    assert!(!dcs.remove_data_directory_on_rewind_failure);
    assert_eq!(
        s.postgresql.bin_dir.as_deref(),
        Some(Path::new("/usr/lib/postgresql/17/bin"))
    );
    assert_eq!(s.postgresql.authentication.replication.username, "rep");
    assert_eq!(s.postgresql.authentication.superuser.username, "boss");
    let hba = s.postgresql.pg_hba.as_ref().unwrap();
    assert!(
        hba.contains(&"host replication \"rep\" all scram-sha-256".to_owned()),
        "{hba:?}"
    );
    assert_eq!(s.log.format, LogFormat::Json);
    assert_eq!(s.tags["nosync"], "true");
    assert_eq!(s.postgresql.pg_ctl_timeout_ms, 90_000);
    assert!(s.restapi.authentication.is_none());
    assert_eq!(s.restapi.listen.to_string(), "[::]:8008");
    assert_eq!(objects.container("main")["image"], "pgwarden:17");
}

/// The chart takes what the program takes, to the second.
#[test]
fn the_longest_start_is_the_program_s() {
    let Some(helm) = helm() else { return };
    let set = "failover.primaryStartTimeout=31622400";
    let objects = Objects::of(helm, "main", &["--set", set]);
    let longest = settings(&objects).bootstrap.dcs.primary_start_timeout_ms;
    assert_eq!(longest, 31_622_400_000);
    let text = objects.get("ConfigMap", "main-agent").to_string();
    let longer = text.replace("31622400", "31622401");
    let mounted = Mounted::new(&serde_json::from_str(&longer).unwrap());
    let loaded = settings::load(&mounted.0, &environment(objects.container("main")));
    let problems = loaded.problems.iter().map(ToString::to_string);
    assert!(
        problems
            .into_iter()
            .any(|problem| problem.contains("primary_start_timeout")),
        "the program takes more than the chart"
    );
}

/// The parameters that must agree go where the program reads them, the others where a restart does.
#[test]
fn parameters_go_where_they_count() {
    let Some(helm) = helm() else { return };
    let controlled = [
        ("max_connections", "200"),
        ("max_wal_senders", "20"),
        ("max_prepared_transactions", "5"),
        ("max_locks_per_transaction", "128"),
        ("max_worker_processes", "16"),
        ("max_replication_slots", "20"),
        ("track_commit_timestamp", "on"),
        ("wal_log_hints", "on"),
        ("wal_level", "logical"),
    ];
    let mut set = "postgresql.parameters.work_mem=8MB,postgresql.parameters.jit=off".to_owned();
    for (name, value) in controlled {
        assert!(settings::effective::is_controlled(name), "{name}");
        // As PostgreSQL takes them.
        let name = name.to_uppercase();
        write!(set, ",postgresql.parameters.{name}={value}").unwrap();
    }
    let s = settings(&Objects::of(helm, "main", &["--set", &set]));
    let (effective, _) = Effective::of(&s, &s.bootstrap.dcs);
    for (name, value) in controlled
        .into_iter()
        .chain([("work_mem", "8MB"), ("jit", "off")])
    {
        assert_eq!(effective.parameters[name], value, "{name}");
    }
    assert_eq!(s.postgresql.parameters["work_mem"], "8MB");
}
