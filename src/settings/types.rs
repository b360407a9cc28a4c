//! What the program uses: the resolved settings. A value of these types has passed every check that
//! can be made without looking at the machine; no field needs to be doubted again.

use super::address::HostPort;
use super::budgets::{BudgetError, BudgetOverrides, Budgets};
use super::dynamic::Dynamic;
use super::hooks::{Command, CustomBootstrap, Hooks, Method, ReplicaMethod};
use super::rest::{Ctl, RestApi};
use super::secret::Secret;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything the configuration file says, checked, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// The cluster's name: the name of the Lease, and the prefix of its objects.
    pub scope: String,
    /// The member's name: the pod's name.
    pub name: String,
    /// The REST interface.
    pub restapi: RestApi,
    /// What `pgwarden ctl` uses to talk to members.
    pub ctl: Ctl,
    /// How to reach Kubernetes and what the objects are called.
    pub kubernetes: Kubernetes,
    /// What the first member of a new cluster does.
    pub bootstrap: Bootstrap,
    /// PostgreSQL on this member.
    pub postgresql: Postgresql,
    /// The member's tags, values as text (`true`, `100`, …), as they are published.
    pub tags: BTreeMap<String, String>,
    /// Logging.
    pub log: Log,
    /// What only pgwarden knows.
    pub pgwarden: Pgwarden,
}

/// How `ctl` finds members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The cluster's name, where one is said.
    pub scope: Option<String>,
    /// The member that the configuration describes, if it describes one that can be reached.
    pub connect_address: Option<HostPort>,
    /// Sent with every request.
    pub authentication: Option<BasicAuth>,
    /// How `ctl` asks over https.
    pub ctl: Ctl,
    /// The authorities of the REST API itself, where it names any.
    pub cafile: Option<PathBuf>,
    /// The REST API answers over https.
    pub https: bool,
    /// Where the members' pods are; `None`: nothing is said of Kubernetes.
    pub kubernetes: Option<Kubernetes>,
}

/// A user name and password of HTTP basic authentication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// Which object carries the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LockDialect {
    /// `lock: lease`: a `coordination.k8s.io/v1` Lease named as the scope.
    Lease,
    /// `use_endpoints: true`: Patroni's annotations on the Endpoints of the leader Service.
    Endpoints,
    /// Neither, Patroni's default: its annotations on a ConfigMap.
    ConfigMap,
}

/// `kubernetes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kubernetes {
    /// The namespace of everything.
    pub namespace: String,
    /// Labels every object carries; with the scope label they select the members' pods.
    pub labels: BTreeMap<String, String>,
    /// The label whose value is the scope.
    pub scope_label: String,
    /// The label of the pod that says its role.
    pub role_label: String,
    /// Its value on the leader.
    pub leader_label_value: String,
    /// Its value on the leader of a standby cluster.
    pub standby_leader_label_value: String,
    /// Its value on a replica.
    pub follower_label_value: String,
    /// A second label of the pod with its role in Patroni's words, for the time of a migration.
    pub tmp_role_label: Option<String>,
    /// Labels of the pod while its data directory is being made, and not after.
    pub bootstrap_labels: BTreeMap<String, String>,
    /// The pod's own address; `None`: `status.podIP` of the own Pod object.
    pub pod_ip: Option<std::net::IpAddr>,
    /// The UID of the own Pod object; `None`: it must be read from the Pod object itself.
    pub pod_uid: Option<String>,
    /// The ports of the leader's route; never empty.
    pub ports: Vec<RoutePort>,
    /// A file of certificates to trust instead of the service account's.
    pub cacert: Option<PathBuf>,
    /// The API servers are reached past their Service.
    pub bypass_api_service: bool,
    /// A kubeconfig file, where the agent does not run in a pod.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it.
    pub context: Option<String>,
    /// Which object carries the lock.
    pub lock: LockDialect,
}

impl Kubernetes {
    /// The labels of every object of this cluster: the configured ones and the scope's.
    pub fn object_labels(&self, scope: &str) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert(self.scope_label.clone(), scope.to_owned());
        labels
    }

    /// The same as a label selector: `app=pg,cluster-name=main`.
    pub fn label_selector(&self, scope: &str) -> String {
        let labels = self.object_labels(scope);
        labels
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
            .join(",")
    }
}

/// One port of the leader's route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoutePort {
    /// Its name; must be that of the Service's port. Empty: unnamed.
    pub name: String,
    /// The port.
    pub port: u16,
    /// `TCP` unless said otherwise.
    pub protocol: String,
}

/// `bootstrap`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bootstrap {
    /// `bootstrap.dcs`, resolved: in force until the DCS holds a configuration.
    pub dcs: Dynamic,
    /// `bootstrap.dcs` as the file says it, to be stored in the DCS by the bootstrapper.
    pub dcs_document: serde_json::Value,
    /// Options of initdb in the file's order: `--encoding=UTF8`, `--data-checksums`.
    pub initdb: Vec<String>,
    /// Lines of pg_hba.conf written at bootstrap, where `postgresql.pg_hba` says nothing.
    pub pg_hba: Vec<String>,
    /// How the cluster is made; `None`: by initdb.
    pub custom: Option<CustomBootstrap>,
    /// Run once the new cluster is up, before anybody is told of it.
    pub post_bootstrap: Option<Command>,
}

/// `postgresql`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Postgresql {
    /// `listen_addresses` in PostgreSQL's syntax.
    pub listen_addresses: String,
    /// The port of the server.
    pub port: u16,
    /// How clients and replicas reach it.
    pub connect_address: HostPort,
    /// A proxy before it, published for clients that ask.
    pub proxy_address: Option<HostPort>,
    /// The data directory; absolute.
    pub data_dir: PathBuf,
    /// Where the programs are; `None`: they are looked for on `PATH`.
    pub bin_dir: Option<PathBuf>,
    /// Other names of the programs: `postgres` → `postgres-17`.
    pub bin_name: BTreeMap<String, String>,
    /// The password file written for libpq; absolute.
    pub pgpass: PathBuf,
    /// The database of the agent's own sessions.
    pub database: String,
    /// The three users.
    pub authentication: Authentication,
    /// Local settings of the server; they win over the dynamic ones but for the controlled ones.
    pub parameters: BTreeMap<String, String>,
    /// Lines of pg_hba.conf; `None`: the dynamic or the bootstrap ones.
    pub pg_hba: Option<Vec<String>>,
    /// Lines of pg_ident.conf; `None`: the dynamic ones.
    pub pg_ident: Option<Vec<String>>,
    /// Options of pg_basebackup: `--max-rate=100M`, `--checkpoint=fast`.
    pub basebackup: Vec<String>,
    /// Callbacks, and what is asked before a promotion and a stop.
    #[serde(flatten)]
    pub hooks: Hooks,
    /// How a copy of the leader is made: the first one that goes well. Never empty.
    #[serde(rename = "create_replica_methods")]
    pub replica_methods: Vec<ReplicaMethod>,
    /// All methods that are described.
    #[serde(skip)]
    pub methods: BTreeMap<String, Method>,
    /// `restore_command` and its like; they win over the dynamic ones.
    pub recovery_conf: BTreeMap<String, String>,
    /// A file of settings in place of the one that initdb made.
    pub custom_conf: Option<PathBuf>,
    /// `None`: what the dynamic configuration says.
    pub use_pg_rewind: Option<bool>,
    /// Wipe and clone anew when pg_rewind failed; `None`: what the dynamic configuration says.
    pub remove_data_directory_on_rewind_failure: Option<bool>,
    /// Wipe and clone anew when timelines diverged and rewind is impossible; `None`: as above.
    pub remove_data_directory_on_diverged_timelines: Option<bool>,
    /// How long an ordered start or stop may take.
    pub pg_ctl_timeout_ms: u64,
    /// The agent's sessions use the Unix socket (always true in effect; kept as said).
    pub use_unix_socket: bool,
}

impl Postgresql {
    /// The path of one program (`postgres`, `initdb`, `pg_basebackup`, …); a bare name if `PATH`
    /// decides.
    pub fn program(&self, name: &str) -> PathBuf {
        let file = self.bin_name.get(name).map_or(name, String::as_str);
        self.bin_dir
            .as_ref()
            .map_or_else(|| PathBuf::from(file), |dir| dir.join(file))
    }
}

/// `postgresql.authentication`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authentication {
    /// The user that initdb creates and the agent connects as.
    pub superuser: PgUser,
    /// The user replicas stream as.
    pub replication: PgUser,
    /// The user pg_rewind connects as; the superuser where the file has none.
    pub rewind: PgUser,
}

/// One user of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PgUser {
    /// The role's name.
    pub username: String,
    /// Its password, if it has one.
    pub password: Option<Secret>,
    /// The password of its client key, if that has one.
    pub ssl_password: Option<Secret>,
    /// libpq's own words passed through: `sslmode`, `sslrootcert`, `channel_binding`, …
    pub conninfo: BTreeMap<String, String>,
}

/// `log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Log {
    /// From which level on; in the words of `tracing`: `error`, `warn`, `info`, `debug`, `trace`.
    pub level: LogLevel,
    /// One line of text or one JSON object per entry.
    pub format: LogFormat,
    /// `static_fields`: what every JSON object has besides.
    pub static_fields: BTreeMap<String, String>,
    /// Lines go to files instead of standard error.
    pub file: Option<LogFile>,
}

/// `log.dir` and what belongs to it: `patroni.log`, and the older ones with a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogFile {
    /// `dir`: where they lie; made if it is not there.
    pub dir: PathBuf,
    /// `mode`: the permissions of a file, as of `chmod`.
    pub mode: u32,
    /// `file_num`: how many older ones are kept.
    pub kept: u32,
    /// `file_size`: a file that would grow beyond it is put aside.
    pub max_bytes: u64,
}

/// `log.level`; Python's names are understood (`CRITICAL` is `error`, `WARNING` is `warn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The directive for `tracing_subscriber::EnvFilter`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `log.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    Plain,
    /// One JSON object per line.
    Json,
}

/// `pgwarden`: what Patroni has no word for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pgwarden {
    /// Budgets set by hand; they apply to whatever TTL is in force.
    #[serde(serialize_with = "super::show::overrides")]
    pub budgets: BudgetOverrides,
}

impl Settings {
    /// The budgets of a TTL under this member's overrides. The TTL of `bootstrap.dcs` has been
    /// checked; one that arrives through the DCS may be refused here, which is never fatal.
    pub fn budgets_for(&self, ttl_ms: u64) -> Result<Budgets, BudgetError> {
        Budgets::new(ttl_ms, &self.pgwarden.budgets)
    }
}
