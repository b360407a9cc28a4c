//! PostgreSQL's life cycle, files and protocol.
//!
//! Everything the agent needs of one PostgreSQL short of forking, stopping and killing the
//! postmaster, which is the guardian's: what a data directory holds while no server runs
//! ([`control_data`], [`data_dir`]), how a directory comes to be and is replaced without a
//! half-made one ever starting ([`stage`], [`bootstrap`], [`basebackup`], [`rewind`]), what the
//! server is told ([`config`], [`start`]), and what a running one answers ([`probe`], [`control`]).
//!
//! Nothing here decides: each function does one thing with its own deadline and reports in an
//! error enum whose variants say what the caller may do next.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

mod account;
pub mod basebackup;
pub mod bootstrap;
pub mod child;
pub mod config;
pub mod control;
pub mod control_data;
pub mod data_dir;
pub mod history;
pub mod hook;
pub mod lines;
pub mod method;
pub mod parameters;
pub mod pending;
pub mod post_bootstrap;
pub mod probe;
pub mod quote;
pub mod rewind;
mod rewind_wal;
pub mod room;
pub mod scratch;
pub mod session;
pub mod slot_copies;
pub mod slots;
pub mod stage;
mod stage_filling;
mod stage_note;
pub mod stale;
pub mod start;
mod sync_file;
pub mod trial;
pub mod version;

/// How to log in as one of the agent's users.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The role's name.
    pub username: String,
    /// Its password; none where `pg_hba` lets it in by other means.
    pub password: Option<String>,
    /// Further libpq keys, as `sslmode`, `sslcert`, `channel_binding`.
    pub conninfo: BTreeMap<String, String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "(hidden)");
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("password", &password)
            .finish_non_exhaustive()
    }
}

/// One option of `initdb` or `pg_basebackup`: `--name` or `--name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramOption {
    /// Its name, without the dashes.
    pub name: String,
    /// Its value, where it takes one.
    pub value: Option<String>,
}

/// Everything this layer is told about its PostgreSQL: resolved settings, already checked.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// The server's program.
    pub program: PathBuf,
    /// The data directory, absolute.
    pub data_dir: PathBuf,
    /// The values of `listen_addresses`.
    pub listen: Vec<String>,
    /// The port, of TCP and of the socket.
    pub port: u16,
    /// The directory of the Unix socket that the agent itself uses.
    pub socket_dir: PathBuf,
    /// Where the server that runs is reached, if that is not where its next start will be: settings
    /// of its place may have changed since it started.
    pub reached_at: Option<Place>,
    /// The member's name: `application_name` of its WAL receiver.
    pub name: String,
    /// The cluster's name: `cluster_name`.
    pub scope: String,
    /// The superuser that initdb makes and the agent uses.
    pub superuser: Credentials,
    /// The user of WAL receivers and base backups.
    pub replication: Credentials,
    /// The user of `pg_rewind`; the superuser where none is given.
    pub rewind: Option<Credentials>,
    /// `postgresql.parameters`.
    pub parameters: BTreeMap<String, String>,
    /// The lines of `pg_hba.conf`; where empty, what the agent needs and passwords for the rest.
    pub pg_hba: Vec<String>,
    /// They do not let the agent in over the socket: a line of its own goes before them.
    pub own_hba_line: bool,
    /// The lines of `pg_ident.conf`.
    pub pg_ident: Vec<String>,
    /// Settings of recovery, as `restore_command`.
    pub recovery: BTreeMap<String, String>,
    /// A file of settings in place of the one that initdb made.
    pub custom_conf: Option<PathBuf>,
    /// Options of `initdb`.
    pub initdb: Vec<ProgramOption>,
    /// Options of `pg_basebackup`.
    pub basebackup: Vec<ProgramOption>,
    /// The database the agent connects to.
    pub database: String,
    /// Where the password file goes: outside the data directory.
    pub pgpass: PathBuf,
    /// Replicas use a slot named after them.
    pub use_slots: bool,
}

/// A Unix socket: its directory and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The directory, absolute.
    pub dir: PathBuf,
    /// The port.
    pub port: u16,
}

impl Postgres {
    /// The socket of the server that runs.
    pub fn place(&self) -> Place {
        self.reached_at.clone().unwrap_or_else(|| Place {
            dir: self.socket_dir.clone(),
            port: self.port,
        })
    }

    /// What this server is called where it follows another cluster's primary. No member over there
    /// can have this name: one that had would be taken for a synchronous standby of that cluster.
    pub fn name_elsewhere(&self) -> String {
        format!("{}/{}", self.scope, self.name)
    }

    /// The user of `pg_rewind`.
    pub fn rewind_user(&self) -> &Credentials {
        self.rewind.as_ref().unwrap_or(&self.superuser)
    }
}

/// Where a clone, a rewind or a stream comes from: the leader's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
}
