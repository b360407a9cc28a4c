//! One member: where it lives, how it is reached, and the configuration it is started with.

use super::Plan;
use super::consumer::SLOT;
use super::stage::Stage;
use crate::dcs::Dialect;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The cluster's name.
pub(super) const SCOPE: &str = "playground";
/// Its namespace.
pub(super) const NAMESPACE: &str = "default";
/// The superuser, whom writers and checks use too.
pub(super) const SUPERUSER: &str = "postgres";

/// What a member is and has.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Its number, from 0.
    pub(super) number: usize,
    /// Its name, which is its Pod's.
    pub(super) name: String,
    /// Its directory.
    pub(super) dir: PathBuf,
    /// Its address.
    pub(super) ip: IpAddr,
    /// The port of its PostgreSQL.
    pub(super) pg_port: u16,
    /// The port of its API.
    pub(super) api_port: u16,
    /// The UID of its Pod.
    pub(super) pod_uid: String,
    /// The passwords of all users.
    pub(super) password: String,
}

impl Member {
    /// The data directory.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("pgwarden.yml")
    }

    /// Its way to the API server.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// What guardian, agent and PostgreSQL print.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("member.log")
    }

    /// The address of its API.
    pub(super) fn api_url(&self) -> String {
        format!("http://{}", SocketAddr::new(self.ip, self.api_port))
    }

    /// For `psql`.
    pub(super) fn connection_string(&self) -> String {
        let Self {
            ip,
            pg_port,
            password,
            ..
        } = self;
        format!(
            "postgresql://{SUPERUSER}:{password}@{}/postgres",
            SocketAddr::new(*ip, *pg_port)
        )
    }

    /// Writes the configuration and the kubeconfig.
    pub(super) fn write_files(
        &self,
        stage: &Stage,
        plan: &Plan,
        bin_dir: &Path,
        kubeconfig: &str,
    ) -> anyhow::Result<()> {
        stage.write(&self.kubeconfig(), kubeconfig)?;
        stage.write(&self.config(), &self.yaml(plan, bin_dir))
    }

    fn yaml(&self, plan: &Plan, bin_dir: &Path) -> String {
        let Self {
            name,
            ip,
            pg_port,
            api_port,
            pod_uid,
            password,
            ..
        } = self;
        // JSON's quotes are YAML's.
        let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
        let (dir, data) = (quoted(&self.dir), quoted(&self.data_dir()));
        let (kubeconfig, bin_dir) = (quoted(&self.kubeconfig()), quoted(bin_dir));
        let (ttl_s, sync) = (plan.ttl_s, plan.sync.word());
        let lock = match plan.dialect {
            Dialect::Lease => "lock: lease",
            Dialect::Endpoints => "use_endpoints: true",
            Dialect::ConfigMap => "use_endpoints: false",
        };
        let feed = format!("{SLOT}: {{type: logical, database: postgres, plugin: test_decoding}}");
        let slots = if plan.consumer { feed } else { String::new() };
        let level = if plan.consumer { "logical" } else { "replica" };
        let api = SocketAddr::new(*ip, *api_port);
        let pg = SocketAddr::new(*ip, *pg_port);
        format!(
            r#"scope: {SCOPE}
name: {name}
restapi:
  listen: "{api}"
kubernetes:
  {lock}
  namespace: {NAMESPACE}
  labels: {{application: pgwarden}}
  pod_ip: "{ip}"
  pod_uid: "{pod_uid}"
  kubeconfig: {kubeconfig}
  ports: [{{name: postgresql, port: {pg_port}}}]
bootstrap:
  dcs:
    ttl: {ttl_s}
    synchronous_mode: {sync}
    maximum_lag_on_failover: 1048576
    slots: {{{slots}}}
    postgresql:
      use_pg_rewind: true
      remove_data_directory_on_rewind_failure: true
      remove_data_directory_on_diverged_timelines: true
      parameters:
        wal_level: {level}
        max_connections: 50
        max_wal_senders: 10
        max_replication_slots: 10
        wal_keep_size: 64MB
        max_wal_size: 256MB
  initdb: [data-checksums, {{encoding: UTF8}}, {{locale: C}}]
  pg_hba:
    - local all all trust
    - host replication replicator all scram-sha-256
    - host all all all scram-sha-256
postgresql:
  listen: "{pg}"
  data_dir: {data}
  bin_dir: {bin_dir}
  pgpass: {pgpass}
  authentication:
    superuser: {{username: {SUPERUSER}, password: "{password}"}}
    replication: {{username: replicator, password: "{password}"}}
    rewind: {{username: rewinder, password: "{password}"}}
  basebackup: {{checkpoint: fast}}
  parameters:
    unix_socket_directories: {dir}
    shared_buffers: 32MB
    fsync: on
    jit: off
    max_parallel_workers_per_gather: 0
    autovacuum_max_workers: 1
tags: {{}}
"#,
            pgpass = quoted(&self.dir.join("pgpass")),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;
    use std::net::Ipv4Addr;

    #[test]
    fn the_configuration_is_accepted_without_an_error() {
        let member = Member {
            number: 0,
            name: "pg-0".into(),
            dir: "/tmp/pgw-play-1/pg-0".into(),
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            pg_port: 5433,
            api_port: 8009,
            pod_uid: "2f1c".into(),
            password: "secret".into(),
        };
        let plan = Plan {
            exercise: true,
            rounds: 1,
            members: 3,
            ttl_s: 6,
            outage: std::time::Duration::from_secs(24),
            sync: crate::cli::args::Synchronous::On,
            dialect: Dialect::ConfigMap,
            bin_dir: None,
            accidents: Vec::new(),
            kubeconfig: None,
            addresses: Vec::new(),
            terminated: true,
            consumer: false,
            keep_logs: false,
        };
        let text = member.yaml(&plan, Path::new("/usr/lib/postgresql/15/bin"));
        let loaded = settings::from_text("pgwarden.yml", &text, &|_| None);
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        let settings = loaded.settings.unwrap();
        assert_eq!(settings.name, "pg-0");
        assert_eq!(settings.postgresql.port, 5433);
    }
}
