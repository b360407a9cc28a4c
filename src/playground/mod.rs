//! A whole cluster on this machine: real PostgreSQL, real members, an embedded Kubernetes API.
//!
//! ```text
//! playground   plays the kubelet, the cluster's network and the clients
//!   ├── kube_api        the Kubernetes API, or a real one behind `proxy`
//!   ├── stage           the directory, the account, the ports; and that nothing is left of them
//!   ├── keeper          one per member: starts its guardian again as a kubelet would
//!   ├── live            the table in place: for people
//!   └── exercise        accidents, with a writer on every member and an oracle over all of them
//! ```
//!
//! The runtime has one thread, the main one: guardians are told by the kernel when the thread that
//! started them ends, so that a playground that is killed leaves no cluster behind. The embedded
//! API has a runtime of its own, lest the accounts of the exercise delay a renewal.

mod accident;
mod byhand;
mod cluster;
mod consumer;
mod exercise;
mod heal;
mod journal;
mod keeper;
pub mod kube_api;
mod kubelet;
mod ledger;
mod live;
mod member;
mod oracle;
mod outage;
mod processes;
mod proxy;
mod report;
mod sql;
mod stage;
mod writer;

use crate::cli::args::{Lock, PlaygroundArgs, Synchronous};
use crate::cli::exit::Exit;
use crate::dcs::Dialect;
use accident::Accident;
use anyhow::{Context, bail};
use cluster::Cluster;
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// What the playground is to be, checked.
#[derive(Clone, Debug)]
struct Plan {
    exercise: bool,
    rounds: u32,
    members: usize,
    ttl_s: u64,
    outage: Duration,
    sync: Synchronous,
    dialect: Dialect,
    bin_dir: Option<PathBuf>,
    accidents: Vec<Accident>,
    /// A real API server's administrator; without it the embedded API serves.
    kubeconfig: Option<PathBuf>,
    /// One address per member.
    addresses: Vec<IpAddr>,
    /// The kubelet reports the end of a container.
    terminated: bool,
    /// A permanent logical slot has a consumer.
    consumer: bool,
    keep_logs: bool,
}

impl Plan {
    fn new(args: &PlaygroundArgs) -> anyhow::Result<Self> {
        let members = usize::from(args.members);
        let mut addresses = args.addresses.clone();
        if addresses.is_empty() {
            addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST); members];
        }
        if addresses.len() < members {
            bail!(
                "--addresses: found {}; expected one per member, {members}",
                addresses.len()
            );
        }
        let mut accidents = Vec::new();
        for name in &args.accidents {
            let Some(accident) = Accident::named(name) else {
                let all = Accident::ALL.map(Accident::name).join(", ");
                let by_hand = Accident::BY_HAND.map(Accident::name).join(", ");
                bail!("--accidents: found {name:?}; expected some of {all}, {by_hand}");
            };
            accidents.push(accident);
        }
        if accidents.is_empty() {
            accidents = Accident::ALL.to_vec();
        }
        let people = std::io::stdout().is_terminal();
        Ok(Self {
            exercise: args.exercise || !people,
            rounds: args.rounds,
            members,
            ttl_s: args.ttl,
            outage: Duration::from_secs(args.outage.unwrap_or(4 * args.ttl)),
            sync: args.sync,
            dialect: match args.lock {
                Lock::Lease => Dialect::Lease,
                Lock::Endpoints => Dialect::Endpoints,
                Lock::Configmaps => Dialect::ConfigMap,
            },
            bin_dir: args.bin_dir.clone(),
            accidents,
            kubeconfig: args.kubeconfig.clone(),
            addresses,
            terminated: !args.no_terminated,
            consumer: args.consumer,
            keep_logs: args.keep_logs,
        })
    }
}

/// Runs the playground until it is told to end, or until the exercise is done.
pub fn run(args: &PlaygroundArgs) -> anyhow::Result<Exit> {
    let plan = Plan::new(args)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let serving = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start the runtime of the API")?;
    let exit = runtime.block_on(play(&plan, &serving));
    serving.shutdown_background();
    exit
}

async fn play(plan: &Plan, serving: &Runtime) -> anyhow::Result<Exit> {
    let mut ends = Ends::new()?;
    let mut cluster = Cluster::set_up(plan, serving).await?;
    let done = tokio::select! {
        biased;
        () = ends.arrived() => {
            say("ending: stopping the members")?;
            Ok(if plan.exercise { Exit::Failure } else { Exit::Ok })
        }
        done = perform(plan, &cluster) => done,
    };
    // Who interrupts it wants nothing kept.
    let failed = plan.exercise && matches!(done, Err(_) | Ok(Exit::ExerciseFailed));
    let left = cluster.tear_down(failed || plan.keep_logs).await;
    if left > 0 {
        bail!("{left} processes of the stage could not be ended");
    }
    done
}

async fn perform(plan: &Plan, cluster: &Cluster) -> anyhow::Result<Exit> {
    if plan.exercise {
        exercise::run(plan, cluster).await
    } else {
        live::run(cluster).await
    }
}

/// The ways a person or a supervisor asks for the end.
struct Ends {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Ends {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn arrived(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// One line for people.
fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
