//! From resolved settings to what each part asks for: plain conversions, no decisions.

use crate::dcs::codec::route::RouteTarget;
use crate::dcs::{ApiAccess, Dcs, DcsNames, DcsOptions, Dialect, RoutePort, Servers};
use crate::guardian::protocol::Hello;
use crate::ha::budgets::{Budgets, Overrides};
use crate::ha::cascade::StreamTags;
use crate::ha::lock::Place;
use crate::ha::model::{Identity, forbids, streams_nothing};
use crate::postgres::version::Installation;
use crate::postgres::{Credentials as Login, Postgres, ProgramOption, quote};
use crate::runner::configuration;
use crate::settings::hba::{self, Visitor};
use crate::settings::{Dynamic, Effective, Kubernetes, Live, LockDialect, PgUser, Settings};
use crate::sys::host;
use anyhow::{Context as _, anyhow};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

/// PostgreSQL's programs, looked at within `deadline`.
pub async fn installation(settings: &Settings, deadline: Duration) -> anyhow::Result<Installation> {
    let names = settings.postgresql.bin_name.clone();
    Installation::find_named(&bin_dir(settings)?, names, deadline)
        .await
        .context("postgresql.bin_dir")
}

fn bin_dir(settings: &Settings) -> anyhow::Result<PathBuf> {
    if let Some(dir) = &settings.postgresql.bin_dir {
        return Ok(dir.clone());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|dir| dir.join(settings.postgresql.program("postgres")).is_file())
        .ok_or_else(|| anyhow!("postgresql.bin_dir: not set, and no \"postgres\" is on PATH"))
}

fn login(user: &PgUser) -> Login {
    Login {
        username: user.username.clone(),
        password: user
            .password
            .as_ref()
            .map(|password| password.expose().to_owned()),
        conninfo: user.conninfo.clone(),
    }
}

fn options(texts: &[String]) -> Vec<ProgramOption> {
    let option = |text: &String| {
        let text = text.trim_start_matches('-');
        let (name, value) = text
            .split_once('=')
            .map_or((text, None), |(n, v)| (n, Some(v)));
        ProgramOption {
            name: name.to_owned(),
            value: value.map(str::to_owned),
        }
    };
    texts.iter().map(option).collect()
}

/// PostgreSQL as configured now: the local file over the dynamic configuration.
pub fn postgres(settings: &Settings, dynamic: &Dynamic, installation: &Installation) -> Postgres {
    let (effective, problems) = Effective::of(settings, dynamic);
    for problem in problems {
        tracing::debug!("{problem}");
    }
    let local = &settings.postgresql;
    let sockets = effective.parameters.get("unix_socket_directories");
    let sockets = sockets.map(|list| quote::list(list)).unwrap_or_default();
    let socket_dir = socket_dir(&sockets);
    let pg_hba = effective.pg_hba;
    let pg_hba = pg_hba.unwrap_or_else(|| settings.bootstrap.pg_hba.clone());
    let mut recovery = dynamic.recovery_conf.clone();
    recovery.extend(local.recovery_conf.clone());
    let agent = Visitor {
        local: true,
        database: &local.database,
        user: &local.authentication.superuser.username,
    };
    Postgres {
        own_hba_line: !hba::lets_in(&pg_hba, agent),
        program: installation.program("postgres"),
        data_dir: local.data_dir.clone(),
        listen: local
            .listen_addresses
            .split(',')
            .map(|part| part.trim().to_owned())
            .collect(),
        port: local.port,
        socket_dir,
        reached_at: None,
        name: settings.name.clone(),
        scope: settings.scope.clone(),
        superuser: login(&local.authentication.superuser),
        replication: login(&local.authentication.replication),
        rewind: Some(login(&local.authentication.rewind)),
        parameters: effective.parameters,
        pg_hba,
        pg_ident: effective.pg_ident.unwrap_or_default(),
        recovery,
        custom_conf: local.custom_conf.clone(),
        initdb: options(&settings.bootstrap.initdb),
        basebackup: options(&local.basebackup),
        database: local.database.clone(),
        pgpass: local.pgpass.clone(),
        use_slots: effective.use_slots,
    }
}

/// Where the agent itself connects: the first directory that is named, abstract sockets aside.
pub fn socket_dir(named: &[String]) -> PathBuf {
    let dirs = named.iter().map(PathBuf::from);
    dirs.into_iter()
        .find(|dir| dir.is_absolute())
        .unwrap_or_else(default_socket_dir)
}

/// Debian's directory where it can be used, else the one PostgreSQL was born with.
fn default_socket_dir() -> PathBuf {
    let debian = Path::new("/var/run/postgresql");
    if debian.is_dir() {
        debian.to_owned()
    } else {
        "/tmp".into()
    }
}

/// Directories beside the data directory where helpers work.
pub fn sweep_dirs(data_dir: &Path) -> Vec<PathBuf> {
    let mut staging = data_dir.as_os_str().to_owned();
    staging.push(".pgwarden-new");
    vec![staging.into()]
}

/// Who this member is.
pub fn identity(settings: &Settings, hello: &Hello, pod_uid: String) -> Identity {
    Identity {
        name: settings.name.clone(),
        pod_uid,
        incarnation: hello.incarnation.clone(),
    }
}

/// Where it runs.
pub fn place(settings: &Settings, hello: &Hello, route: &RouteTarget) -> Place {
    let dir = &settings.postgresql.data_dir;
    let mounted = host::is_mount_point(dir).unwrap_or(false);
    let held = if mounted {
        dir.as_path()
    } else {
        dir.parent().unwrap_or(dir)
    };
    let volume = host::file_id(held)
        .map(|(dev, ino)| format!("{dev}:{ino}"))
        .unwrap_or_default();
    Place {
        node: route.node_name.clone().unwrap_or_default(),
        machine_id: hello.machine_id.clone(),
        boot_id: hello.boot_id.clone(),
        pid_ns: hello.pid_namespace.to_string(),
        // Only a guardian that swept and holds the directory's lock may vouch for its predecessor.
        volume: if hello.swept { volume } else { String::new() },
        data_dir: dir.to_string_lossy().into_owned(),
        container_id: String::new(),
    }
}

/// The tag `nofailover`, or the priority that means the same.
pub fn nofailover(settings: &Settings) -> bool {
    forbids(&settings.tags, "nofailover", "failover_priority")
}

/// The tags about streaming.
pub fn stream_tags(settings: &Settings) -> StreamTags {
    let tags = &settings.tags;
    StreamTags {
        nostream: streams_nothing(tags),
        replicatefrom: tags.get("replicatefrom").cloned(),
    }
}

/// The instants that the file sets by hand.
pub fn overrides(settings: &Settings) -> Overrides {
    let by_hand = &settings.pgwarden.budgets;
    Overrides([
        by_hand.renew_ms,
        by_hand.call_ms,
        by_hand.election_ms,
        by_hand.fast_stop_ms,
        by_hand.immediate_stop_ms,
        by_hand.kill_ms,
        by_hand.kill_budget_ms,
    ])
}

/// The budgets of the TTL in the file.
pub fn budgets(settings: &Settings) -> anyhow::Result<Budgets> {
    let ttl_ms = settings.bootstrap.dcs.ttl_ms;
    Budgets::with_overrides(ttl_ms, &overrides(settings)).context("bootstrap.dcs.ttl")
}

/// A client of the API server; it connects when it is first used. Beside it, its way past the
/// Service, where that is asked for.
pub async fn connect(
    kubernetes: &Kubernetes,
    call_ms: u64,
) -> anyhow::Result<(kube::Client, Option<Servers>)> {
    let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let access = if kubernetes.kubeconfig.is_none() && in_pod {
        ApiAccess::InCluster {
            cacert: kubernetes.cacert.clone(),
        }
    } else {
        ApiAccess::Kubeconfig {
            path: kubernetes.kubeconfig.clone(),
            context: kubernetes.context.clone(),
        }
    };
    let servers = Servers::default();
    let client = crate::dcs::connect_to(&access, call_ms, servers.clone())
        .await
        .context("kubernetes: configure the API client")?;
    Ok((client, kubernetes.bypass_api_service.then_some(servers)))
}

/// The DCS under this pod UID.
pub fn dcs(
    live: &Live,
    dynamic: &Arc<RwLock<Dynamic>>,
    (client, servers): (kube::Client, Option<Servers>),
    call_ms: u64,
    pod_uid: &str,
) -> anyhow::Result<Dcs> {
    let settings = live.get();
    let kubernetes = &settings.kubernetes;
    let names = DcsNames {
        dialect: dialect(kubernetes.lock),
        labels: kubernetes.labels.clone(),
        scope_label: kubernetes.scope_label.clone(),
        role_label: kubernetes.role_label.clone(),
        leader_label_value: kubernetes.leader_label_value.clone(),
        standby_leader_label_value: kubernetes.standby_leader_label_value.clone(),
        follower_label_value: kubernetes.follower_label_value.clone(),
        other_labels: kubernetes
            .bootstrap_labels
            .keys()
            .chain(&kubernetes.tmp_role_label)
            .cloned()
            .collect(),
        ports: kubernetes
            .ports
            .iter()
            .map(|port| RoutePort {
                name: port.name.clone(),
                port: port.port,
            })
            .collect(),
        ..DcsNames::new(
            &settings.scope,
            &kubernetes.namespace,
            &settings.name,
            pod_uid,
        )
    };
    let (in_force, local) = (dynamic.clone(), live.clone());
    let resolve = move |value: &serde_json::Value| {
        let local = local.get();
        let current = configuration::fallback(&*in_force.read().ok()?, &local);
        value
            .is_object()
            .then(|| Dynamic::parse(&value.to_string(), &current, &local).0)
            .map(|dynamic| super::rules::rules(&dynamic, &local))
    };
    let copy = configuration::read_copy(&settings.postgresql.data_dir);
    let initial_config = copy.unwrap_or_else(|| settings.bootstrap.dcs_document.clone());
    let options = DcsOptions {
        call_ms,
        resolve: Arc::new(resolve),
        initial_config,
        servers,
    };
    Dcs::new(client, names, options).context("kubernetes: wrong names")
}

fn dialect(lock: LockDialect) -> Dialect {
    match lock {
        LockDialect::Lease => Dialect::Lease,
        LockDialect::Endpoints => Dialect::Endpoints,
        LockDialect::ConfigMap => Dialect::ConfigMap,
    }
}

/// The same DCS once the pod's UID is known.
pub async fn dcs_again(
    live: &Live,
    dynamic: &Arc<RwLock<Dynamic>>,
    known: &Dcs,
    call_ms: u64,
    pod_uid: &str,
) -> anyhow::Result<Dcs> {
    let settings = live.get();
    if settings.kubernetes.pod_uid.is_some() {
        return Ok(known.clone());
    }
    let client = connect(&settings.kubernetes, call_ms).await?;
    dcs(live, dynamic, client, call_ms, pod_uid)
}

/// The own Pod's UID and address: from the settings, else from the Pod object, however long that
/// takes; the probes answer meanwhile, and each try is a sign of life.
pub async fn own_pod(
    settings: &Settings,
    dcs: &Dcs,
    mut alive: impl FnMut(),
) -> anyhow::Result<(String, RouteTarget)> {
    let kubernetes = &settings.kubernetes;
    let node_name = std::env::var("NODE_NAME").ok();
    let target = |uid: &str, ips, node_name| RouteTarget {
        ips,
        pod_name: settings.name.clone(),
        pod_uid: uid.to_owned(),
        node_name,
    };
    if let (Some(uid), Some(ip)) = (&kubernetes.pod_uid, kubernetes.pod_ip) {
        return Ok((uid.clone(), target(uid, vec![ip], node_name)));
    }
    let mut told = false;
    loop {
        alive();
        match dcs.read_pod(&settings.name).await {
            Ok(pod) if !pod.ips.is_empty() => {
                let uid = kubernetes
                    .pod_uid
                    .clone()
                    .unwrap_or_else(|| pod.uid.clone());
                let ips = kubernetes.pod_ip.map_or(pod.ips, |ip| vec![ip]);
                return Ok((
                    uid.clone(),
                    target(&uid, ips, node_name.or(Some(pod.node_name))),
                ));
            }
            Ok(_) => tracing::debug!("the own Pod has no address yet"),
            Err(error) if !told => {
                told = true;
                tracing::warn!(%error, "the own Pod cannot be read; waiting for the API server");
            }
            Err(error) => tracing::debug!(%error, "still waiting for the API server"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
