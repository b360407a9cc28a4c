//! Keeps one member running, as a kubelet keeps a container: when its guardian ends, everything of
//! it is ended, the end is reported, and a second later it starts again under the same Pod.

use super::kubelet::{Container, Kubelet};
use super::member::Member;
use super::processes;
use super::stage::Stage;
use crate::sys::process::{Pid, Signal, signal};
use anyhow::Context;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long a kubelet takes to start a container anew.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// How long an ordered stop may take before everything is killed.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// What others may know of a member's container.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The guardian; `None` while the container is down.
    pub(super) guardian: Option<Pid>,
    /// The id of the last container.
    pub(super) container_id: String,
    /// How often it was started.
    pub(super) starts: u32,
    /// How the last one ended.
    pub(super) last_end: String,
}

/// A member that is kept running.
pub(super) struct Keeper {
    /// Who.
    pub(super) member: Arc<Member>,
    seen: watch::Receiver<Seen>,
    wanted: watch::Sender<Wanted>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Running,
    /// Not started again for now.
    Down,
    /// Stopped in order, for good.
    Ended,
}

impl Keeper {
    /// Starts the member and keeps it running.
    pub(super) fn start(member: Arc<Member>, stage: Arc<Stage>, kubelet: Kubelet) -> Self {
        let (wanted, orders) = watch::channel(Wanted::Running);
        let (seen_sender, seen) = watch::channel(Seen::default());
        let duty = Duty {
            member: Arc::clone(&member),
            stage,
            kubelet,
            orders,
            seen: seen_sender,
        };
        Self {
            member,
            seen,
            wanted,
            task: tokio::spawn(duty.run()),
        }
    }

    /// What is known of the container now.
    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Do not start it again until [`Keeper::resume`].
    pub(super) fn hold(&self) {
        self.wanted.send_replace(Wanted::Down);
    }

    /// Start it again.
    pub(super) fn resume(&self) {
        self.wanted.send_replace(Wanted::Running);
    }

    /// Asks for an orderly end.
    pub(super) fn end(&self) {
        self.wanted.send_replace(Wanted::Ended);
    }

    /// Waits for it; the caller kills what is left after that.
    pub(super) async fn ended(&mut self) {
        if timeout(STOP_WITHIN + Duration::from_secs(2), &mut self.task)
            .await
            .is_err()
        {
            self.task.abort();
        }
    }

    /// Waits until the container is down.
    pub(super) async fn down(&self) {
        // The only error is that nobody keeps it any more: it is down.
        drop(
            self.seen
                .clone()
                .wait_for(|seen| seen.guardian.is_none())
                .await,
        );
    }
}

struct Duty {
    member: Arc<Member>,
    stage: Arc<Stage>,
    kubelet: Kubelet,
    orders: watch::Receiver<Wanted>,
    seen: watch::Sender<Seen>,
}

impl Duty {
    async fn run(mut self) {
        let mut container = Container::default();
        loop {
            let order = self.orders.wait_for(|wanted| *wanted != Wanted::Down).await;
            if order.map_or(Wanted::Ended, |wanted| *wanted) == Wanted::Ended {
                return;
            }
            let end = match self.one_life(&mut container).await {
                Ok(end) => end,
                Err(error) => format!("{error:#}"),
            };
            self.seen.send_modify(|seen| {
                seen.guardian = None;
                seen.last_end = end;
            });
            if *self.orders.borrow() == Wanted::Ended {
                return;
            }
            sleep(RESTART_AFTER).await;
        }
    }

    async fn one_life(&mut self, container: &mut Container) -> anyhow::Result<String> {
        let mut guardian = self.spawn()?;
        let pid = guardian.id().and_then(|id| Pid::try_from(id).ok());
        // An error is told when this life is over: the container runs, whatever the API says.
        let reported = self.kubelet.started(&self.member, container).await;
        self.seen.send_modify(|seen| {
            seen.guardian = pid;
            seen.container_id.clone_from(&container.id);
            seen.starts += 1;
        });
        let mut orders = self.orders.clone();
        let told_to_end = async { drop(orders.wait_for(|wanted| *wanted == Wanted::Ended).await) };
        let ended = tokio::select! {
            status = guardian.wait() => Some(status),
            () = told_to_end => None,
        };
        let status = match ended {
            Some(status) => status,
            None => stop(pid, &mut guardian).await,
        };
        let status = status.context("wait for the guardian")?;
        // The end of a container is the end of everything in it; only then is it reported.
        let dir = self.member.dir.clone();
        let swept = tokio::task::spawn_blocking(move || processes::end_all(&dir)).await?;
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        reported?;
        self.kubelet.ended(&self.member, container, code).await?;
        Ok(format!("{status}, {swept} processes were left"))
    }

    /// In the calling thread, whose end the kernel reports to the guardian: the main one.
    fn spawn(&self) -> anyhow::Result<Child> {
        let member = &self.member;
        let log = File::options().create(true).append(true).open(member.log());
        let log = log.with_context(|| format!("open {}", member.log().display()))?;
        let mut command = self.stage.command(&self.stage.program);
        command
            .arg("agent")
            .arg(member.config())
            .current_dir(&member.dir);
        for (name, _) in std::env::vars_os() {
            // A PostgreSQL client's surroundings would reach the server.
            let text = name.to_string_lossy();
            if text.starts_with("PG") && !text.starts_with("PGWARDEN") {
                command.env_remove(&name);
            }
        }
        command
            .env("HOME", &member.dir)
            .stdin(std::process::Stdio::null());
        // A group of its own: Ctrl-C is the playground's to pass on.
        command
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        tokio::process::Command::from(command)
            .spawn()
            .context("start a guardian")
    }
}

async fn stop(pid: Option<Pid>, guardian: &mut Child) -> std::io::Result<ExitStatus> {
    if let Some(pid) = pid {
        signal(pid, Signal::SIGTERM);
    }
    if let Ok(status) = timeout(STOP_WITHIN, guardian.wait()).await {
        return status;
    }
    guardian.start_kill()?;
    guardian.wait().await
}
