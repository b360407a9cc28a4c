//! What a person can type. Parsing reads no file and asks nobody.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// `pgwarden agent`.
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// The configuration (Patroni's YAML), a file or a directory of files; without it, the variable
    /// PATRONI_CONFIGURATION holds it.
    pub config: Option<PathBuf>,
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
    #[arg(long, value_enum, default_value_t = Synchronous::On)]
    pub sync: Synchronous,
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
    /// How long the API is gone in the accidents of that kind, in seconds; by default four times the
    /// TTL.
    #[arg(long, hide = true, value_parser = clap::value_parser!(u64).range(1..=7200))]
    pub outage: Option<u64>,
    /// A consumer of a permanent logical slot, which may miss nothing.
    #[arg(long, hide = true)]
    pub consumer: bool,
    /// Keep the members' logs and journals although nothing failed.
    #[arg(long, hide = true)]
    pub keep_logs: bool,
}

/// Synchronous replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Synchronous {
    /// One named standby confirms.
    On,
    /// Any of the standbys does.
    Quorum,
    /// None has to.
    Off,
}

impl Synchronous {
    /// Commits wait for a standby.
    pub fn waits(self) -> bool {
        self != Self::Off
    }

    /// As `synchronous_mode` is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Quorum => "quorum",
            Self::Off => "off",
        }
    }
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

impl Target {
    /// What the environment says, where no option can.
    pub(super) fn of_environment() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let api = set("PGWARDEN_API").unwrap_or_default();
        Self {
            api: api.split(',').map(str::to_owned).collect(),
            config: None,
            username: set("PGWARDEN_API_USERNAME"),
            password: set("PGWARDEN_API_PASSWORD"),
            insecure: false,
            cacert: set("PGWARDEN_API_CACERT").map(PathBuf::from),
        }
    }

    /// Whether nobody is named who could be asked.
    pub(super) fn names_nobody(&self) -> bool {
        self.config.is_none() && self.api.iter().all(|url| url.trim().is_empty())
    }
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

/// `pgwarden completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// For which shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// A shell that can complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
}
