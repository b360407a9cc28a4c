//! The accidents: what happens to the members, and what each may cost.

use super::byhand;
use super::cluster::Cluster;
use super::heal::Whole;
use super::outage;
use super::processes;
use crate::api::client;
use crate::sys::process::{Pid, Signal, signal};
use anyhow::{Context, anyhow, bail};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long a switchover may take to be answered.
const SWITCHOVER: Duration = Duration::from_mins(1);
/// How long an agent may take to be there again.
const AGENT: Duration = Duration::from_secs(20);

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accident {
    Switchover,
    PostgresKilled,
    PodKilled,
    AgentKilled,
    AgentFrozen,
    PostmasterFrozen,
    ContainerFrozen,
    ApiCut,
    ReplicaLost,
    AllKilled,
    TtlLowered,
    LockDamaged,
    LockDeleted,
    ConfigDeleted,
    ParameterRaised,
    PasswordChanged,
    ResumedWhileCut,
    Outage,
    OutageInFailsafe,
    BrokenFailsafe,
}

impl Accident {
    /// Those of the exercise, in the order they happen.
    pub(super) const ALL: [Self; 9] = [
        Self::Switchover,
        Self::PostgresKilled,
        Self::PodKilled,
        Self::AgentKilled,
        Self::AgentFrozen,
        Self::PostmasterFrozen,
        Self::ApiCut,
        Self::ReplicaLost,
        Self::AllKilled,
    ];

    /// What people do by hand, and what takes long: only when asked for.
    pub(super) const BY_HAND: [Self; 11] = [
        Self::ContainerFrozen,
        Self::TtlLowered,
        Self::LockDamaged,
        Self::LockDeleted,
        Self::ConfigDeleted,
        Self::ParameterRaised,
        Self::PasswordChanged,
        Self::ResumedWhileCut,
        Self::Outage,
        Self::OutageInFailsafe,
        Self::BrokenFailsafe,
    ];

    /// The accident of that name, of either kind.
    pub(super) fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter().chain(Self::BY_HAND);
        all.find(|accident| accident.name() == name)
    }

    /// Its name on the command line and in the table.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::PostgresKilled => "killed-postgres",
            Self::PodKilled => "killed-pod",
            Self::AgentKilled => "killed-agent",
            Self::AgentFrozen => "frozen-agent",
            Self::PostmasterFrozen => "frozen-postmaster",
            Self::ContainerFrozen => "frozen-container",
            Self::ApiCut => "cut-from-api",
            Self::ReplicaLost => "lost-replica",
            Self::AllKilled => "killed-all",
            Self::TtlLowered => "lowered-ttl",
            Self::LockDamaged => "damaged-lock",
            Self::LockDeleted => "deleted-lock",
            Self::ConfigDeleted => "deleted-config",
            Self::ParameterRaised => "raised-parameter",
            Self::PasswordChanged => "changed-password",
            Self::ResumedWhileCut => "resumed-while-cut",
            Self::Outage => "outage",
            Self::OutageInFailsafe => "outage-in-failsafe",
            Self::BrokenFailsafe => "broken-failsafe",
        }
    }

    /// Without synchronous replication a primary that dies takes along what no replica had. One
    /// that is asked to go, and one that stays, lose nothing.
    pub(super) const fn may_lose(self) -> bool {
        !matches!(
            self,
            Self::Switchover
                | Self::ReplicaLost
                | Self::ConfigDeleted
                | Self::PasswordChanged
                | Self::ResumedWhileCut
                | Self::OutageInFailsafe
        )
    }

    /// Lets it happen, and undoes what has to be undone.
    pub(super) async fn happen(
        self,
        cluster: &Cluster,
        whole: Whole,
        round: u32,
    ) -> anyhow::Result<()> {
        let primary = whole.primary;
        let data_dir = cluster.keepers[primary].member.data_dir();
        let frozen_for = Duration::from_secs(2 * cluster.ttl_s);
        let postmaster = || processes::postmaster_of(&data_dir).context("find the postmaster");
        let agent = || agent_of(cluster, primary);
        match self {
            Self::Switchover => switchover(cluster, primary, round).await,
            Self::PostgresKilled => kill(postmaster()?),
            Self::AgentKilled => kill(agent().await?),
            Self::PodKilled => {
                let keeper = &cluster.keepers[primary];
                // Odd rounds: a restart in place. Even ones: the node takes its time, so that
                // another member has to go by the kubelet's word or by the lock's age.
                let late = round.is_multiple_of(2);
                if late {
                    keeper.hold();
                }
                let killed = kill_pods(cluster, &[primary]).await;
                if late {
                    sleep(frozen_for).await;
                    keeper.resume();
                }
                killed
            }
            Self::AllKilled => {
                let all: Vec<usize> = (0..cluster.keepers.len()).collect();
                kill_pods(cluster, &all).await
            }
            Self::AgentFrozen => freeze(agent().await?, frozen_for).await,
            Self::PostmasterFrozen => freeze(postmaster()?, frozen_for).await,
            Self::ContainerFrozen => freeze_container(cluster, round, frozen_for).await,
            Self::ApiCut => {
                cluster.set_cut(primary, true);
                sleep(frozen_for).await;
                cluster.set_cut(primary, false);
                Ok(())
            }
            Self::ReplicaLost => lose_replica(cluster, primary, round).await,
            Self::TtlLowered => {
                cluster.set_cut(primary, true);
                let lowered =
                    byhand::lower_the_ttl(&cluster.kubelet, round.is_multiple_of(2)).await;
                sleep(frozen_for).await;
                cluster.set_cut(primary, false);
                lowered
            }
            Self::Outage => {
                outage::for_all(cluster).await;
                Ok(())
            }
            Self::ResumedWhileCut => outage::resume_while_cut(cluster, primary).await,
            Self::OutageInFailsafe => outage::in_failsafe(cluster, primary).await,
            Self::BrokenFailsafe => {
                let replica = replica(cluster, primary, round)?;
                outage::with_a_hung_member(cluster, primary, replica).await
            }
            Self::LockDamaged => {
                byhand::damage_the_lock(&cluster.kubelet, round.is_multiple_of(2)).await
            }
            Self::LockDeleted => byhand::delete_the_lock(&cluster.kubelet).await,
            Self::ParameterRaised => {
                let keeper = &cluster.keepers[primary];
                byhand::raise_a_parameter(&keeper.member.api_url(), round).await?;
                keeper.hold();
                let killed = kill_pods(cluster, &[primary]).await;
                sleep(frozen_for).await;
                keeper.resume();
                killed
            }
            Self::PasswordChanged => {
                let members: Vec<_> = cluster.members().cloned().collect();
                byhand::change_the_password(&members, primary, frozen_for).await
            }
            Self::ConfigDeleted => {
                byhand::delete_the_config(&cluster.kubelet).await?;
                byhand::until_config_is_back(&cluster.kubelet).await
            }
        }
    }
}

/// A replica, another one in every round.
fn replica(cluster: &Cluster, primary: usize, round: u32) -> anyhow::Result<usize> {
    let count = cluster.keepers.len();
    if count < 2 {
        bail!("there is no replica");
    }
    let step = 1 + round as usize % (count - 1);
    Ok((primary + step) % count)
}

/// Odd rounds name the candidate, even ones leave the choice to the cluster.
async fn switchover(cluster: &Cluster, primary: usize, round: u32) -> anyhow::Result<()> {
    let leader = &cluster.keepers[primary].member;
    let mut body = json!({"leader": leader.name});
    if round % 2 == 1 {
        let candidate = if cluster.sync.waits() {
            sync_standby(cluster, primary).await?
        } else {
            cluster.keepers[replica(cluster, primary, round)?]
                .member
                .name
                .clone()
        };
        body["candidate"] = json!(candidate);
    }
    let url = format!("{}/switchover", leader.api_url());
    let answer = client::post_json(&url, &body, None, SWITCHOVER).await?;
    if answer.status != 200 {
        bail!(
            "the switchover was answered with {}: {}",
            answer.status,
            answer.text()
        );
    }
    Ok(())
}

/// The one replica that may take over in synchronous mode.
async fn sync_standby(cluster: &Cluster, primary: usize) -> anyhow::Result<String> {
    let url = format!("{}/cluster", cluster.keepers[primary].member.api_url());
    let (_, body) = client::get_json(&url, Duration::from_secs(5)).await?;
    let members = body["members"].as_array().cloned().unwrap_or_default();
    let standby = members
        .iter()
        .find(|member| member["role"] == "sync_standby" || member["role"] == "quorum_standby");
    let name = standby.and_then(|member| member["name"].as_str());
    name.map(str::to_owned)
        .ok_or_else(|| anyhow!("no synchronous standby is published"))
}

/// The agent; its guardian may be starting it anew just now.
async fn agent_of(cluster: &Cluster, number: usize) -> anyhow::Result<Pid> {
    let begun = Instant::now();
    loop {
        let guardian = cluster.keepers[number].seen().guardian;
        if let Some(agent) = guardian.and_then(processes::agent_of) {
            return Ok(agent);
        }
        if begun.elapsed() > AGENT {
            bail!("{} has no agent", cluster.keepers[number].member.name);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn kill(pid: Pid) -> anyhow::Result<()> {
    if !signal(pid, Signal::SIGKILL) {
        bail!("process {pid} had ended before it could be killed");
    }
    Ok(())
}

/// Stops a process for that long. It may be killed meanwhile: then there is nothing to continue,
/// and its number may be another's.
async fn freeze(pid: Pid, time: Duration) -> anyhow::Result<()> {
    let known = processes::started_at(pid);
    if !signal(pid, Signal::SIGSTOP) {
        bail!("process {pid} had ended before it could be frozen");
    }
    sleep(time).await;
    if processes::started_at(pid) == known {
        signal(pid, Signal::SIGCONT);
    }
    Ok(())
}

/// Guardian, agent and PostgreSQL with all its backends stand still together and go on together
/// (G10), each round those of the next member.
async fn freeze_container(cluster: &Cluster, round: u32, time: Duration) -> anyhow::Result<()> {
    let number = round.saturating_sub(1) as usize % cluster.keepers.len();
    let keeper = &cluster.keepers[number];
    let guardian = keeper.seen().guardian.context("find the guardian")?;
    let member = &keeper.member;
    let mut pids = vec![guardian];
    pids.extend(processes::agent_of(guardian));
    pids.extend(processes::in_dir(&member.dir));
    let known: Vec<(Pid, Option<String>)> = pids
        .into_iter()
        .map(|pid| (pid, processes::started_at(pid)))
        .collect();
    for (pid, _) in &known {
        signal(*pid, Signal::SIGSTOP);
    }
    sleep(time).await;
    // PostgreSQL first: it must find nobody to confirm a commit before the guardian runs.
    for (pid, started_at) in known.iter().rev() {
        if processes::started_at(*pid) == *started_at {
            signal(*pid, Signal::SIGCONT);
        }
    }
    Ok(())
}

/// Guardians, agents and PostgreSQL at once, as the end of a container or of a node.
async fn kill_pods(cluster: &Cluster, numbers: &[usize]) -> anyhow::Result<()> {
    let mut first: Vec<Pid> = Vec::new();
    let mut dirs: Vec<PathBuf> = Vec::new();
    for number in numbers {
        let guardian = cluster.keepers[*number]
            .seen()
            .guardian
            .context("find the guardian")?;
        let member = &cluster.keepers[*number].member;
        first.push(guardian);
        first.extend(processes::agent_of(guardian));
        first.extend(processes::postmaster_of(&member.data_dir()));
        dirs.push(member.dir.clone());
    }
    tokio::task::spawn_blocking(move || {
        let mut first = first.as_slice();
        for dir in &dirs {
            processes::kill_at_once(first, dir);
            first = &[];
        }
    })
    .await
    .context("kill the pods")
}

/// A replica and its data are gone; it comes back with an empty volume.
async fn lose_replica(cluster: &Cluster, primary: usize, round: u32) -> anyhow::Result<()> {
    let keeper = &cluster.keepers[replica(cluster, primary, round)?];
    keeper.hold();
    let killed = kill_pods(cluster, &[keeper.member.number]).await;
    let removed = match killed {
        Ok(()) => {
            keeper.down().await;
            tokio::fs::remove_dir_all(keeper.member.data_dir())
                .await
                .context("remove the data directory")
        }
        Err(error) => Err(error),
    };
    keeper.resume();
    removed
}
