//! What agent and guardian say to each other: one JSON message per packet, bounded in size.
//!
//! The deadline and the heartbeat do not travel here: they are words of shared memory, so that a
//! full or unread channel never delays a fence.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The longest message, in bytes. A longer request is refused before it is sent.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// How a postmaster is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopHow {
    /// SIGTERM: no new sessions, wait for the old ones.
    Smart,
    /// SIGINT: disconnect everyone, checkpoint, stop.
    Fast,
    /// SIGQUIT: stop at once, recover at the next start.
    Immediate,
}

/// A signal a running postmaster understands without stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostmasterSignal {
    /// SIGHUP: read the configuration again.
    Hup,
    /// SIGUSR1: look for `promote` and other trigger files.
    Usr1,
}

/// What the guardian is to start.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartSpec {
    /// The program's absolute path, then its arguments.
    pub argv: Vec<String>,
    /// Its whole environment: nothing is added.
    pub env: BTreeMap<String, String>,
    /// Where its output is appended; `None`: where the guardian's goes.
    pub log_path: Option<PathBuf>,
    /// It may come up writable: refused unless the deadline is armed. When `false` and unarmed, it
    /// is refused unless `standby.signal` is in the data directory.
    pub writable: bool,
}

// The environment may carry secrets: it is never printed.
impl fmt::Debug for StartSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartSpec")
            .field("argv", &self.argv)
            .field("env_names", &self.env.keys().collect::<Vec<_>>())
            .field("log_path", &self.log_path)
            .field("writable", &self.writable)
            .finish()
    }
}

/// Agent to guardian.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Fork PostgreSQL, in `data_dir`. Answered by `Started` or `Refused`.
    Start(StartSpec),
    /// Ask the running postmaster to stop. Answered by `Exited` once it has, or `Refused`.
    Stop {
        /// In which way.
        how: StopHow,
    },
    /// Send the running postmaster a signal. Answered by `Refused` if there is none.
    Signal {
        /// Which one.
        signal: PostmasterSignal,
    },
    /// Leave no process of PostgreSQL alive. Answered by `Exited`, or by `Cleared` if none ran.
    KillAll {
        /// Why, in words; comes back in `Exited` and in the log.
        reason: String,
    },
    /// The agent is about to exit with 0 after an ordered stop: end with it.
    Bye,
}

/// How a postmaster ended. Sent only after a verified stop, when the deadline is none again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PostmasterExit {
    /// The postmaster.
    pub pid: i32,
    /// Its exit code, when it exited by itself.
    pub code: Option<i32>,
    /// The signal that killed it, otherwise.
    pub signal: Option<i32>,
    /// A `Stop` request came before it.
    pub ordered: bool,
    /// The guardian killed it: why, in words.
    pub fenced: Option<String>,
    /// No descendant of the guardian but the agent remained.
    pub verified: bool,
    /// Boottime instant of the verified stop.
    pub at_ms: u64,
}

/// The postmaster that is running when an agent starts: to be adopted under the rules of G5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunningPostmaster {
    /// The guardian's own child, on `data_dir`.
    pub pid: i32,
    /// Boottime instant of its fork.
    pub started_ms: u64,
    /// As it was asked for by the `Start` request.
    pub writable: bool,
}

/// All a starting agent needs to know of its guardian.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hello {
    /// Random, new with every guardian process: part of the lock holder's identity (L1).
    pub incarnation: String,
    /// The guardian is PID 1 of its namespace: its death takes everything with it.
    pub is_pid1: bool,
    /// The guardian's process.
    pub guardian_pid: i32,
    /// This boot of the node.
    pub boot_id: String,
    /// The node's machine id; empty where there is none.
    pub machine_id: String,
    /// The inode of the PID namespace.
    pub pid_namespace: u64,
    /// The canonical data directory.
    pub data_dir: PathBuf,
    /// What the flock of G8 is held on, for the guardian's whole life.
    pub lock_path: PathBuf,
    /// The sweep of G6 ended with no process left: with the flock, a verified stop of predecessors.
    pub swept: bool,
    /// Running, to be adopted.
    pub postmaster: Option<RunningPostmaster>,
    /// The deadline as it stands.
    pub deadline_ms: Option<u64>,
    /// K: how long a kill may take, by what could be locked in memory.
    pub kill_budget_ms: u64,
    /// The pages of the kill path are locked in memory (G7).
    pub locked_memory: bool,
    /// How many agents this guardian started before this one.
    pub agent_restarts: u32,
    /// Why the agent before this one ended, in words.
    pub last_agent_end: Option<String>,
    /// The last exit of a postmaster under this guardian, which an earlier agent may have missed.
    pub last_exit: Option<PostmasterExit>,
    /// The guardian was told to end (SIGTERM or SIGINT): stop in order, then say `Bye`.
    pub terminating: bool,
}

/// Guardian to agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// The first message, once.
    Hello(Box<Hello>),
    /// PostgreSQL was forked and executed.
    Started {
        /// The postmaster.
        pid: i32,
    },
    /// A request was not carried out.
    Refused {
        /// Which: `start`, `stop`, `signal` or `message`.
        what: String,
        /// Why, in words.
        reason: String,
    },
    /// The guardian is killing PostgreSQL; `Exited` or `Cleared` follows.
    Fencing {
        /// Why, in words.
        reason: String,
    },
    /// The postmaster ended, nothing of it is left, the deadline is none.
    Exited(PostmasterExit),
    /// A verified stop while no postmaster ran: nothing was left, the deadline is none.
    Cleared {
        /// Why it was made, in words.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire_and_unknown_ones_are_refused() {
        let start = Request::Start(StartSpec {
            argv: vec!["/bin/postgres".into(), "-D".into(), "/data".into()],
            env: BTreeMap::from([("PGPASSWORD".into(), "hush".into())]),
            log_path: None,
            writable: true,
        });
        let wire = serde_json::to_string(&start).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&wire).unwrap(), start);
        assert!(
            !format!("{start:?}").contains("hush"),
            "secrets are never printed"
        );
        let stop = serde_json::from_str::<Request>(r#"{"request":"stop","how":"fast"}"#).unwrap();
        assert_eq!(stop, Request::Stop { how: StopHow::Fast });
        assert!(serde_json::from_str::<Request>(r#"{"request":"disarm"}"#).is_err());
    }
}
