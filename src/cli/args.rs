//! What a person can type. Parsing reads no file and asks nobody.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `pgwarden agent`.
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// The configuration (Patroni's YAML).
    pub config: PathBuf,
}

/// `pgwarden check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The configuration (Patroni's YAML).
    pub config: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = TextFormat::Pretty)]
    pub format: TextFormat,
}

/// `pgwarden replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// A journal: JSON lines, as a member keeps them.
    pub file: PathBuf,
}

/// `pgwarden playground`.
#[derive(Args, Clone, Debug)]
pub struct PlaygroundArgs {
    /// Run the accidents by itself, print each write gap, and end.
    #[arg(long)]
    pub exercise: bool,
    /// How often each accident happens.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// How many members.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub members: u8,
    /// The lease's time to live, in seconds.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(6..=300))]
    pub ttl: u64,
    /// Synchronous replication.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub sync: Switch,
    /// Which Kubernetes objects carry the lock.
    #[arg(long, value_enum, default_value_t = Lock::Lease)]
    pub lock: Lock,
    /// Where PostgreSQL's programs are; by default they are looked for.
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Only these accidents.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', hide = true)]
    pub accidents: Vec<String>,
    /// Use the API server of this kubeconfig instead of the embedded one.
    #[arg(long, value_name = "PATH", hide = true)]
    pub kubeconfig: Option<PathBuf>,
    /// The members' addresses, one each; a real API server refuses loopback ones.
    #[arg(long, value_name = "IPS", value_delimiter = ',', hide = true)]
    pub addresses: Vec<std::net::IpAddr>,
    /// The kubelet never reports the end of a container: no proof by it.
    #[arg(long, hide = true)]
    pub no_terminated: bool,
    /// Keep the members' logs and journals although nothing failed.
    #[arg(long, hide = true)]
    pub keep_logs: bool,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// A dialect of the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lock {
    /// A Lease.
    Lease,
    /// Endpoints, as Patroni with `use_endpoints`.
    Endpoints,
    /// ConfigMaps, as Patroni by default.
    Configmaps,
}

/// Whom to ask.
#[derive(Args, Clone, Debug, Default)]
pub struct Target {
    /// A member's REST address; repeat it, or separate with commas, to name more.
    #[arg(
        long = "api",
        value_name = "URL",
        env = "PGWARDEN_API",
        value_delimiter = ',',
        global = true
    )]
    pub api: Vec<String>,
    /// Ask the member this configuration describes (restapi.connect_address).
    #[arg(short, long, value_name = "CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// The API's user, where it asks for one.
    #[arg(
        long,
        value_name = "NAME",
        env = "PGWARDEN_API_USERNAME",
        global = true
    )]
    pub username: Option<String>,
    /// The API's password; better given in the environment.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PGWARDEN_API_PASSWORD",
        hide_env_values = true,
        global = true
    )]
    pub password: Option<String>,
    /// Believe any certificate of a member.
    #[arg(short = 'k', long, global = true)]
    pub insecure: bool,
    /// Believe certificates of the authorities in this PEM file, instead of ctl.cacert.
    #[arg(long, value_name = "FILE", env = "PGWARDEN_API_CACERT", global = true)]
    pub cacert: Option<PathBuf>,
}

/// `pgwarden ctl`.
#[derive(Args, Clone, Debug)]
pub struct CtlArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub verb: CtlVerb,
}

/// The verbs of `ctl`.
#[derive(Subcommand, Clone, Debug)]
pub enum CtlVerb {
    /// Show the members: roles, states, timelines, positions and lags
    #[command(
        after_help = "Examples:\n  pgwarden ctl list --api http://pg-0:8008\n  \
                            pgwarden ctl list -c /etc/patroni.yml -f json"
    )]
    List {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = Format::Pretty)]
        format: Format,
    },
    /// Move the leader's role to another member, without losing a transaction
    #[command(
        after_help = "Examples:\n  pgwarden ctl switchover --api http://pg-0:8008\n  \
                            pgwarden ctl switchover --leader pg-0 --candidate pg-1 --force"
    )]
    Switchover {
        /// The leader to be replaced; refused if another one leads by then. Default: the present
        /// one.
        #[arg(long, value_name = "MEMBER", alias = "primary")]
        leader: Option<String>,
        /// Who shall lead; by default the cluster chooses.
        #[arg(long, value_name = "MEMBER")]
        candidate: Option<String>,
        /// How to carry it out.
        #[command(flatten)]
        act: Act,
    },
    /// Make a member the leader although the present one is not asked: transactions may be lost
    #[command(after_help = "Example:\n  pgwarden ctl failover --candidate pg-1 --force")]
    Failover {
        /// Who shall lead.
        #[arg(long, value_name = "MEMBER")]
        candidate: String,
        /// How to carry it out.
        #[command(flatten)]
        act: Act,
    },
    /// Show the dynamic configuration that the cluster has stored
    #[command(
        name = "show-config",
        after_help = "Example:\n  pgwarden ctl show-config --api http://pg-0:8008"
    )]
    ShowConfig {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = DocumentFormat::Yaml)]
        format: DocumentFormat,
    },
    /// Change the dynamic configuration: keys, parameters, a file, or in your editor
    #[command(
        name = "edit-config",
        after_help = "Examples:\n  pgwarden ctl edit-config --set ttl=20 --pg work_mem=8MB --force\n  \
                      pgwarden ctl edit-config --pg work_mem=null      (takes it away)\n  \
                      pgwarden ctl edit-config                         (opens $EDITOR)"
    )]
    EditConfig(EditConfig),
    /// Restart PostgreSQL on members: all of them, some by name, or those of a role
    #[command(after_help = "Examples:\n  pgwarden ctl restart --pending --force\n  \
                      pgwarden ctl restart pg-1 pg-2\n  pgwarden ctl restart --role replica")]
    Restart(RestartArgs),
    /// Show where each timeline ended, and who led after it
    #[command(after_help = "Example:\n  pgwarden ctl history --api http://pg-0:8008 -f tsv")]
    History {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = Format::Pretty)]
        format: Format,
    },
}

/// `ctl edit-config`.
#[derive(Args, Clone, Debug)]
pub struct EditConfig {
    /// Set a key, as ttl=20 or postgresql.use_slots=true; null takes it away.
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Set a parameter of PostgreSQL, as work_mem=8MB; null takes it away.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub pg: Vec<String>,
    /// Lay this YAML file over the stored document; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "replace")]
    pub apply: Option<PathBuf>,
    /// Replace the stored document by this YAML file; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["set", "pg"])]
    pub replace: Option<PathBuf>,
    /// Do not show what changes.
    #[arg(short, long)]
    pub quiet: bool,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub force: bool,
}

/// `ctl restart`.
#[derive(Args, Clone, Debug)]
pub struct RestartArgs {
    /// The members; without a name, all of them.
    pub members: Vec<String>,
    /// Only members of this role.
    #[arg(short, long, value_enum, default_value_t = Role::Any)]
    pub role: Role,
    /// Only where a setting waits for a restart.
    #[arg(long)]
    pub pending: bool,
    /// How long each may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub force: bool,
}

/// A role as `ctl` chooses by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The leader.
    #[value(alias = "primary")]
    Leader,
    /// All others.
    Replica,
    /// Everybody.
    Any,
}

/// How to print a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DocumentFormat {
    /// As in the configuration file.
    Yaml,
    /// For programs.
    Json,
}

/// How a change is carried out.
#[derive(Args, Clone, Debug)]
pub struct Act {
    /// Do not ask for confirmation.
    #[arg(long)]
    pub force: bool,
    /// How long to wait until the cluster shows the new leader; 0: not at all.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Pretty,
    /// For programs.
    Json,
    /// For `cut` and spreadsheets.
    Tsv,
}

/// `pgwarden explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// Whom to ask: all of them, and their journals are merged by time.
    #[command(flatten)]
    pub target: Target,
    /// Journals to read instead of asking: JSON lines.
    pub files: Vec<PathBuf>,
    /// Only the last so many entries of each journal.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
    /// Only what happened since then: a time (2026-11-22T18:00:00Z) or an age (10m, 2h).
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = TextFormat::Pretty)]
    pub format: TextFormat,
}

/// How to print what is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TextFormat {
    /// For people.
    Pretty,
    /// For programs.
    Json,
}
