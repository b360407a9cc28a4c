//! What can be typed after `pgwarden ctl`, and after `patronictl`: one set of verbs for both.

use super::args::Target;
use super::choices::patience;
pub use super::choices::{Act, Choice, DocumentFormat, Format, Role, Watch};
use clap::{Args, Subcommand};
use std::path::PathBuf;

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
                            pgwarden ctl list -c /etc/patroni.yml -f json\n  \
                            pgwarden ctl list -W      (a screen; q ends it)"
    )]
    List(ListArgs),
    /// Show who replicates from whom
    #[command(after_help = "Example:\n  pgwarden ctl topology -W")]
    Topology(TopologyArgs),
    /// Move the leader's role to another member, without losing a transaction
    #[command(
        after_help = "Examples:\n  pgwarden ctl switchover --api http://pg-0:8008\n  \
                            pgwarden ctl switchover --leader pg-0 --candidate pg-1 --force\n  \
                            pgwarden ctl switchover --scheduled 2026-12-01T03:00+01:00"
    )]
    Switchover(SwitchoverArgs),
    /// Make a member the leader although the present one is not asked: transactions may be lost
    #[command(after_help = "Example:\n  pgwarden ctl failover --candidate pg-1 --force")]
    Failover(FailoverArgs),
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
                      pgwarden ctl restart pg-1 pg-2\n  pgwarden ctl restart --role replica\n  \
                      pgwarden ctl restart pg-1 --scheduled 2026-12-01T03:00+01:00")]
    Restart(RestartArgs),
    /// Let members read their configuration files again
    #[command(after_help = "Example:\n  pgwarden ctl reload pg-1 --force")]
    Reload(MembersArgs),
    /// Throw a replica's data away and copy it anew
    #[command(after_help = "Examples:\n  pgwarden ctl reinit pg-1 --wait\n  \
                      pgwarden ctl reinit pg-1 --from-leader --force")]
    Reinit(ReinitArgs),
    /// Drop what is scheduled: a restart of members, or the switchover
    #[command(after_help = "Examples:\n  pgwarden ctl flush switchover\n  \
                      pgwarden ctl flush restart pg-1 pg-2")]
    Flush(FlushArgs),
    /// Suspend automatic failover
    #[command(after_help = "Example:\n  pgwarden ctl pause --wait")]
    Pause(PauseArgs),
    /// Take automatic failover up again
    #[command(after_help = "Example:\n  pgwarden ctl resume --wait")]
    Resume(PauseArgs),
    /// Show where each timeline ended, and who led after it
    #[command(after_help = "Example:\n  pgwarden ctl history --api http://pg-0:8008 -f tsv")]
    History {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = Format::Pretty)]
        format: Format,
    },
    /// Print the address of a member's PostgreSQL, the leader's by default
    #[command(after_help = "Example:\n  psql \"$(pgwarden ctl dsn --role replica) dbname=shop\"")]
    Dsn(DsnArgs),
    /// Run SQL on a member, the leader by default
    #[command(
        after_help = "Examples:\n  pgwarden ctl query -c 'select pg_is_in_recovery()' --role any\n  \
                      pgwarden ctl query -m pg-1 -f report.sql --format json\n\n\
                      The password is that of PGPASSWORD, or of ~/.pgpass; the connection is not \
                      encrypted."
    )]
    Query(QueryArgs),
    /// Print the version of this program, and of each member that can be asked
    #[command(after_help = "Example:\n  pgwarden ctl version --api http://pg-0:8008")]
    Version(VersionArgs),
    /// Remove a cluster's objects from Kubernetes: not over REST, it tells what to do instead
    #[command(after_help = "Example:\n  pgwarden ctl remove")]
    Remove(Absent),
    /// Make the cluster a standby of another one
    #[command(
        name = "demote-cluster",
        after_help = "Example:\n  pgwarden ctl demote-cluster --host other.example --port 5432"
    )]
    DemoteCluster(DemoteArgs),
    /// Make a standby cluster stand alone
    #[command(
        name = "promote-cluster",
        after_help = "Example:\n  pgwarden ctl promote-cluster --force"
    )]
    PromoteCluster(PromoteArgs),
}

/// `ctl list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Show every column, also empty ones.
    #[arg(short, long)]
    pub extended: bool,
    /// Print the time above.
    #[arg(short, long)]
    pub timestamp: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Pretty)]
    pub format: Format,
    /// Again and again.
    #[command(flatten)]
    pub watch: Watch,
}

/// `ctl topology`.
#[derive(Args, Clone, Debug)]
pub struct TopologyArgs {
    /// Again and again.
    #[command(flatten)]
    pub watch: Watch,
}

/// `ctl switchover`.
#[derive(Args, Clone, Debug)]
pub struct SwitchoverArgs {
    /// The leader to be replaced; refused if another one leads by then. Default: the present one.
    #[arg(long, value_name = "MEMBER", alias = "primary")]
    pub leader: Option<String>,
    /// Who shall lead; by default the cluster chooses.
    #[arg(long, value_name = "MEMBER")]
    pub candidate: Option<String>,
    /// When: a time with its zone, as 2026-12-01T03:00+01:00, or now.
    #[arg(long, value_name = "TIME")]
    pub scheduled: Option<String>,
    /// How to carry it out.
    #[command(flatten)]
    pub act: Act,
}

/// `ctl failover`.
#[derive(Args, Clone, Debug)]
pub struct FailoverArgs {
    /// Who shall lead.
    #[arg(
        long,
        value_name = "MEMBER",
        required_unless_present = "holder_is_dead"
    )]
    pub candidate: Option<String>,
    /// Vouch that this holder of the lock in maintenance mode is dead and will write no more, so
    /// that an election can be held.
    #[arg(long, value_name = "MEMBER", conflicts_with = "candidate")]
    pub holder_is_dead: Option<String>,
    /// Fail over though the candidate lacks commits; what it lacks is said without this.
    #[arg(long)]
    pub accept_data_loss: bool,
    /// How to carry it out.
    #[command(flatten)]
    pub act: Act,
}

/// `ctl demote-cluster`.
#[derive(Args, Clone, Debug)]
pub struct DemoteArgs {
    /// Where the primary to follow listens.
    #[arg(long)]
    pub host: Option<String>,
    /// On which port.
    #[arg(long)]
    pub port: Option<u16>,
    /// How WAL is fetched from its archive.
    #[arg(long, value_name = "COMMAND")]
    pub restore_command: Option<String>,
    /// The slot that it keeps for this cluster.
    #[arg(long, value_name = "SLOT")]
    pub primary_slot_name: Option<String>,
    /// Do not ask.
    #[arg(long)]
    pub force: bool,
}

/// `ctl promote-cluster`.
#[derive(Args, Clone, Debug)]
pub struct PromoteArgs {
    /// Do not ask.
    #[arg(long)]
    pub force: bool,
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

/// `ctl reload`.
#[derive(Args, Clone, Debug)]
pub struct MembersArgs {
    /// Which.
    #[command(flatten)]
    pub choice: Choice,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub force: bool,
}

/// `ctl restart`.
#[derive(Args, Clone, Debug)]
pub struct RestartArgs {
    /// Which.
    #[command(flatten)]
    pub choice: Choice,
    /// One of them only: a replica where there is one.
    #[arg(long)]
    pub any: bool,
    /// When: a time with its zone, as 2026-12-01T03:00+01:00, or now.
    #[arg(long, value_name = "TIME")]
    pub scheduled: Option<String>,
    /// Only where PostgreSQL is older than this, as 15.9.
    #[arg(long, value_name = "VERSION")]
    pub pg_version: Option<String>,
    /// Only where a setting waits for a restart.
    #[arg(long)]
    pub pending: bool,
    /// How long each may take: seconds, or as 10min.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = patience)]
    pub timeout: u64,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub force: bool,
}

/// `ctl reinit`.
#[derive(Args, Clone, Debug)]
pub struct ReinitArgs {
    /// The members.
    #[arg(value_name = "MEMBER")]
    pub members: Vec<String>,
    /// Do not ask for confirmation, and break off what the member is doing, but for a copy that is
    /// being made.
    #[arg(long)]
    pub force: bool,
    /// Copy from the leader, not from a replica with the tag clonefrom.
    #[arg(long)]
    pub from_leader: bool,
    /// Wait until the copies run, and show how far they are.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait at most: seconds, or as 10min.
    #[arg(long, value_name = "SECONDS", default_value = "86400", value_parser = patience)]
    pub timeout: u64,
}

/// `ctl flush`.
#[derive(Args, Clone, Debug)]
pub struct FlushArgs {
    /// `restart` and the members, all of them without a name; or `switchover`.
    #[arg(required = true, value_name = "WHAT")]
    pub members: Vec<String>,
    /// Only members of this role.
    #[arg(short, long, value_enum, default_value_t = Role::Any)]
    pub role: Role,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub force: bool,
}

/// `ctl pause` and `ctl resume`.
#[derive(Args, Clone, Debug)]
pub struct PauseArgs {
    /// Wait until every member knows it.
    #[arg(long)]
    pub wait: bool,
}

/// `ctl dsn`.
#[derive(Args, Clone, Debug)]
pub struct DsnArgs {
    /// Of a member of this role.
    #[arg(short, long, value_enum, conflicts_with = "member")]
    pub role: Option<Role>,
    /// Of any member: the same as --role any.
    #[arg(long, conflicts_with_all = ["role", "member"])]
    pub any: bool,
    /// Of this member.
    #[arg(short, long, value_name = "MEMBER")]
    pub member: Option<String>,
}

/// `ctl query`.
#[derive(Args, Clone, Debug)]
pub struct QueryArgs {
    /// The SQL.
    #[arg(
        short = 'c',
        long = "command",
        value_name = "SQL",
        conflicts_with = "file"
    )]
    pub command: Option<String>,
    /// A file of SQL; - is standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The user of the database; default: PGUSER, else postgres.
    #[arg(short = 'U', long, value_name = "NAME")]
    pub user: Option<String>,
    /// The database; default: PGDATABASE, else the user's name.
    #[arg(short, long, value_name = "NAME")]
    pub dbname: Option<String>,
    /// Ask for the password.
    #[arg(long)]
    pub ask_password: bool,
    /// On a member of this role.
    #[arg(short, long, value_enum, conflicts_with = "member")]
    pub role: Option<Role>,
    /// On this member.
    #[arg(short, long, value_name = "MEMBER")]
    pub member: Option<String>,
    /// What stands between columns.
    #[arg(long, default_value = "\t", value_name = "TEXT")]
    pub delimiter: String,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Tsv)]
    pub format: Format,
    /// Again and again.
    #[command(flatten)]
    pub watch: Watch,
    /// Ask the member this configuration describes.
    // Here -c is the SQL, as in patronictl.
    #[arg(long, value_name = "CONFIG")]
    pub config: Option<PathBuf>,
}

/// `ctl version`.
#[derive(Args, Clone, Debug)]
pub struct VersionArgs {
    /// The members; without a name, all of them.
    #[arg(value_name = "MEMBER")]
    pub members: Vec<String>,
}

/// A verb of patronictl that this version does not have, with whatever is said after it.
#[derive(Args, Clone, Debug)]
pub struct Absent {
    /// Whatever patronictl takes.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub words: Vec<String>,
}
