//! The postmaster as the guardian sees it: forked on request, signalled, and seen to its end.

use super::deadline::Deadline;
use super::protocol::{PostmasterExit, PostmasterSignal, RunningPostmaster, StartSpec, StopHow};
use crate::sys::process::{Pid, Reaped, Signal, signal};
use crate::sys::spawn::{SpawnOutcome, SpawnSpec, SpawnStep, spawn, spawn_outcome};
use std::os::fd::OwnedFd;
use std::path::Path;

/// A postmaster from its fork to the verified stop.
#[derive(Debug)]
pub(super) struct Postmaster {
    pub(super) pid: Pid,
    pub(super) started_ms: u64,
    writable: bool,
    ordered: bool,
    /// Still on its way to becoming the program: this tells when.
    outcome: Option<OwnedFd>,
    /// It never became the program; the agent has been told.
    failed: bool,
    /// How it ended, once reaped.
    end: Option<Reaped>,
}

/// What became of a fork.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing new.
    None,
    /// The program runs.
    Started,
    /// It could not be started: why.
    Failed(String),
}

/// May this be started now? Why not, in words (G1).
pub(super) fn may_start(spec: &StartSpec, deadline: Deadline) -> Result<(), String> {
    let absolute = spec
        .argv
        .first()
        .is_some_and(|program| program.starts_with('/'));
    match deadline {
        _ if !absolute => Err("argv must begin with the absolute path of the program".to_owned()),
        Deadline::Passed(at) => Err(format!("the deadline of {at} ms has passed")),
        Deadline::None if spec.writable => {
            Err("it may come up writable and no deadline is armed; renew the lock first".to_owned())
        }
        Deadline::None | Deadline::Armed(_) | Deadline::Suspended => Ok(()),
    }
}

impl Postmaster {
    /// Forks it. Unarmed, `standby.signal` must be there when the child looks, just before exec.
    pub(super) fn start(
        spec: &StartSpec,
        data_dir: &Path,
        deadline: Deadline,
        is_pid1: bool,
        now: u64,
    ) -> Result<Self, String> {
        may_start(spec, deadline)?;
        let standby_signal = data_dir.join("standby.signal");
        let env: Vec<_> = spec
            .env
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let spawned = spawn(&SpawnSpec {
            program: &spec.argv[0],
            argv: &spec.argv,
            env: &env,
            cwd: Some(data_dir),
            log: spec.log_path.as_deref(),
            required_file: (deadline == Deadline::None).then_some(standby_signal.as_path()),
            new_session: true,
            // As PID 1 the kernel kills everything with us; elsewhere this is the best there is.
            death_signal: (!is_pid1).then_some(Signal::SIGQUIT),
            ..SpawnSpec::default()
        });
        let spawned = spawned.map_err(|error| format!("fork: {error}"))?;
        Ok(Self {
            pid: spawned.pid,
            started_ms: now,
            writable: spec.writable,
            ordered: false,
            outcome: Some(spawned.outcome),
            failed: false,
            end: None,
        })
    }

    /// The descriptor to wait on while it starts.
    pub(super) fn outcome(&self) -> Option<&OwnedFd> {
        self.outcome.as_ref()
    }

    /// Looks whether it has become its program.
    pub(super) fn progress(&mut self) -> Progress {
        let Some(outcome) = &self.outcome else {
            return Progress::None;
        };
        let progress = match spawn_outcome(outcome) {
            SpawnOutcome::Pending => return Progress::None,
            SpawnOutcome::Running => Progress::Started,
            SpawnOutcome::Failed(step, error) => Progress::Failed(match step {
                SpawnStep::Prepare => format!("prepare the child: {error}"),
                SpawnStep::OpenLog => format!("open its log file: {error}"),
                SpawnStep::ChangeDir => format!("enter the data directory: {error}"),
                SpawnStep::RequiredFile => {
                    format!("no deadline is armed and standby.signal is not there: {error}")
                }
                SpawnStep::Execute => format!("execute the program: {error}"),
            }),
        };
        self.outcome = None;
        self.failed = matches!(progress, Progress::Failed(_));
        progress
    }

    /// Asks it to stop.
    pub(super) fn stop(&mut self, how: StopHow) {
        self.ordered = true;
        signal(
            self.pid,
            match how {
                StopHow::Smart => Signal::SIGTERM,
                StopHow::Fast => Signal::SIGINT,
                StopHow::Immediate => Signal::SIGQUIT,
            },
        );
    }

    /// Sends it a signal it understands without stopping.
    pub(super) fn signal(&self, which: PostmasterSignal) {
        signal(
            self.pid,
            match which {
                PostmasterSignal::Hup => Signal::SIGHUP,
                PostmasterSignal::Usr1 => Signal::SIGUSR1,
            },
        );
    }

    /// It was reaped. `true` if it had been PostgreSQL: then a verified stop must follow.
    pub(super) fn reaped(&mut self, end: Reaped) -> bool {
        self.end = Some(end);
        !self.failed
    }

    /// Its number while it has not been reaped.
    pub(super) fn living_pid(&self) -> Option<Pid> {
        self.end.is_none().then_some(self.pid)
    }

    /// For an agent that is to adopt it.
    pub(super) fn running(&self) -> Option<RunningPostmaster> {
        (self.end.is_none() && !self.failed).then_some(RunningPostmaster {
            pid: self.pid,
            started_ms: self.started_ms,
            writable: self.writable,
        })
    }

    /// The report after the verified stop.
    pub(super) fn exit(&self, fenced: Option<String>, at_ms: u64) -> PostmasterExit {
        PostmasterExit {
            pid: self.pid,
            code: self.end.and_then(|end| end.code),
            signal: self.end.and_then(|end| end.signal),
            ordered: self.ordered,
            fenced,
            verified: true,
            at_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn spec(program: &str, writable: bool) -> StartSpec {
        StartSpec {
            argv: vec![program.into()],
            env: BTreeMap::new(),
            log_path: None,
            writable,
        }
    }

    #[test]
    fn nothing_writable_starts_unarmed_and_nothing_at_all_after_the_deadline() {
        let (writable, standby) = (spec("/bin/postgres", true), spec("/bin/postgres", false));
        assert!(may_start(&writable, Deadline::None).is_err());
        assert!(
            may_start(&standby, Deadline::None).is_ok(),
            "the child looks for standby.signal"
        );
        assert!(may_start(&writable, Deadline::Armed(9)).is_ok());
        assert!(may_start(&writable, Deadline::Passed(9)).is_err());
        assert!(may_start(&standby, Deadline::Passed(9)).is_err());
        assert!(may_start(&spec("postgres", false), Deadline::Armed(9)).is_err());
    }
}
