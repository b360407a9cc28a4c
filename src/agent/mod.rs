//! The composition root of a member: both of its processes start here.
//!
//! `pgwarden agent CONFIG` is the guardian; it runs this program again as the agent, which it tells
//! by the environment. Only this module knows the settings, the guardian, PostgreSQL, Kubernetes
//! and the REST API at once.

mod endpoint;
mod log_files;
mod logging;
mod namesake;
pub mod notes;
mod reloading;
mod rest;
mod rules;
pub mod wiring;

pub use endpoint::endpoint;

use crate::api;
use crate::cli::{AgentArgs, Exit, Failure};
use crate::dcs::{Dcs, DcsError, WatchOptions};
use crate::guardian::link::Link;
use crate::guardian::protocol::{Hello, Notice};
use crate::guardian::{self, GuardianSettings};
use crate::ha::model::Identity;
use crate::ha::state::State;
use crate::postgres::stage;
use crate::postgres::version::Installation;
use crate::runner::{End, Journal, Parts, Runner};
use crate::settings::{self, Live, Settings};
use crate::sys::clock::boottime_ms;
use crate::sys::process::own_uid;
use crate::sys::{heap, image};
use anyhow::{Context as _, bail};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// The guardian's variable: who finds it in the environment is the agent.
const GUARDIAN_VARIABLE: &str = "PGWARDEN_GUARDIAN";
/// What a start on the network may take before it is said and tried again.
const START: Duration = Duration::from_secs(5);
/// When what the start left behind is given back, and how often what bursts did.
const TRIM: Duration = Duration::from_mins(1);
/// PostgreSQL refuses to run as root, but a directory that root made would already be there.
const ROOT: &str = "the agent was started as root (user ID 0), and PostgreSQL does not run as root; \
                    start it as the user that owns the data directory: runAsUser in the pod's \
                    securityContext, or setpriv --reuid=postgres --regid=postgres --init-groups";
/// Two workers: a probe is answered while a step runs.
const WORKERS: usize = 2;

/// `pgwarden agent CONFIG`.
pub fn run(args: &AgentArgs) -> anyhow::Result<Exit> {
    heap::keep_small();
    let path = args.config.as_deref();
    if own_uid() == 0 {
        return Err(Failure::new(Exit::Permission, ROOT).into());
    }
    let loaded = settings::load_given(path, &settings::process_env);
    let agent = std::env::var_os(GUARDIAN_VARIABLE).is_some();
    let Some(settings) = loaded.settings else {
        let lines: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        let place = path.unwrap_or(Path::new("PATRONI_CONFIGURATION"));
        let words = format!("{} cannot be used\n{}", place.display(), lines.join("\n"));
        return Err(Failure::new(Exit::Config, words).into());
    };
    if !agent {
        return run_guardian(path, &settings);
    }
    let (lost, set_level) = logging::start(&settings.log);
    for problem in &loaded.problems {
        tracing::warn!("{problem}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = run_agent(path, settings, set_level) => ended,
            never = lost.tell() => never,
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended
}

fn run_guardian(config: Option<&Path>, settings: &Settings) -> anyhow::Result<Exit> {
    let budgets = wiring::budgets(settings)?;
    let data_dir = settings.postgresql.data_dir.clone();
    let config: Option<PathBuf> = config
        .map(|config| std::path::absolute(config).context("find the configuration"))
        .transpose()?;
    let mut agent_argv = vec!["pgwarden".to_owned(), "agent".to_owned()];
    agent_argv.extend(config.map(|config| config.to_string_lossy().into_owned()));
    let code = guardian::run(GuardianSettings {
        sweep_dirs: wiring::sweep_dirs(&data_dir),
        data_dir,
        agent_program: "/proc/self/exe".into(),
        agent_argv,
        agent_env: text_env(),
        fatal_exit_codes: vec![
            i32::from(Exit::Config.code()),
            i32::from(Exit::CannotCreate.code()),
            i32::from(Exit::NameTaken.code()),
        ],
        ttl_ms: budgets.ttl_ms,
        heartbeat_replica_ms: 30_000.max(budgets.ttl_ms),
        json_logs: settings.log.format == settings::LogFormat::Json,
    });
    if code == guardian::EXIT_LOCKED {
        return Ok(Exit::DataDirHeld);
    }
    Ok(Exit::ALL
        .into_iter()
        .find(|exit| i32::from(exit.code()) == code)
        .unwrap_or(Exit::Failure))
}

/// The environment for the agent. `std::env::vars` would panic at a value that is not UTF-8.
fn text_env() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

async fn run_agent(
    path: Option<&Path>,
    settings: Settings,
    set_level: logging::SetLevel,
) -> anyhow::Result<Exit> {
    // From the first moment: unhandled, it would end the agent.
    let hangups = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    let settings = Live::new(settings);
    let link = Arc::new(Link::from_env().context("reach the guardian")?);
    let Some(Notice::Hello(hello)) = link.next().await else {
        bail!("the guardian did not say hello");
    };
    link.words().set_ttl_ms(settings.get().bootstrap.dcs.ttl_ms);
    link.beat();
    let installation = wiring::installation(&settings.get(), START).await;
    let installation =
        installation.map_err(|error| Failure::new(Exit::Config, format!("{error:#}")))?;
    let agent = Agent::compose(
        settings,
        (path, set_level),
        installation,
        link.clone(),
        *hello,
    )
    .await?;
    let exit = Box::pin(agent.run(hangups)).await;
    // The channel ends with the process and not before: its end is a fault to the guardian.
    std::mem::forget(link);
    exit
}

/// Finish or undo what a predecessor left half done in the data directory (L9).
async fn settle(settings: &Settings) -> anyhow::Result<()> {
    let dir = settings.postgresql.data_dir.clone();
    match tokio::task::spawn_blocking(move || stage::settle(&dir)).await? {
        Ok(settled) => tracing::debug!("the data directory: {settled:?}"),
        // The classification says why it cannot be used; nothing is touched.
        Err(error) => tracing::error!(%error, "the data directory cannot be settled"),
    }
    Ok(())
}

/// Everything that runs in the agent's process.
struct Agent {
    parts: Parts,
    /// The REST API: it answers from the first moment, whatever is still being waited for.
    serving: JoinSet<()>,
    stop_api: watch::Sender<bool>,
    journal: Arc<Journal>,
    dcs: Dcs,
    commands: mpsc::Sender<api::Command>,
}

impl Agent {
    async fn compose(
        live: Live,
        (path, set_level): (Option<&Path>, logging::SetLevel),
        installation: Installation,
        link: Arc<Link>,
        hello: Hello,
    ) -> anyhow::Result<Self> {
        let settings = live.get();
        let first = settings.bootstrap.dcs.clone();
        let budgets = wiring::budgets(&settings)?;
        let dynamic = Arc::new(RwLock::new(first.clone()));
        let (commands_in, commands) = mpsc::channel(16);
        let uid = settings.kubernetes.pod_uid.clone().unwrap_or_default();
        let unknown = wiring::identity(&settings, &hello, uid.clone());
        let view = watch::Sender::new(Arc::new(api::View {
            ttl_ms: budgets.ttl_ms,
            ..api::View::starting(
                &settings.scope,
                unknown,
                env!("CARGO_PKG_VERSION"),
                boottime_ms(),
            )
        }));
        let journal = Arc::new(Journal::open(
            &settings.name,
            notes::journal_path(&settings),
        ));
        let adopting = hello.postmaster.is_some();
        let security = rest::secure(&settings, adopting).await?;
        let server = rest::serve(
            &settings,
            security.clone(),
            &view,
            commands_in.clone(),
            &journal,
        )
        .await
        .map_err(|error| no_address(&error, adopting))?;
        let (stop_api, stopped) = watch::channel(false);
        let mut serving = JoinSet::new();
        serving.spawn(server.run(until_true(stopped)));
        let client = wiring::connect(&settings.kubernetes, budgets.call_ms).await?;
        let dcs = wiring::dcs(&live, &dynamic, client, budgets.call_ms, &uid)?;
        let (uid, route) = wiring::own_pod(&settings, &dcs, || {
            link.beat();
            view.send_modify(|view| Arc::make_mut(view).beat_ms = boottime_ms());
        })
        .await?;
        let dcs = wiring::dcs_again(&live, &dynamic, &dcs, budgets.call_ms, &uid).await?;
        let me: Identity = wiring::identity(&settings, &hello, uid);
        if !adopting {
            let peers = security.current();
            namesake::refuse(&dcs, peers.peers(), &settings.scope, &me).await?;
            settle(&settings).await?;
        }
        let place = wiring::place(&settings, &hello, &route);
        let mut state = State::new(
            me,
            place,
            wiring::nofailover(&settings),
            rules::at_first(&first, &settings),
            budgets,
        );
        state.stream = wiring::stream_tags(&settings);
        state.overrides = wiring::overrides(&settings);
        state.lease.next_nonce = crate::sys::clock::boottime_us();
        let (epoch_file, memory_file, slots_file) = notes::recall(&mut state, &settings);
        let watching = dcs.watch(WatchOptions {
            renew_ms: budgets.renew_ms,
            queue: 64,
        });
        let parts = Parts {
            settings: live,
            reloading: reloading::of(path, set_level, security.clone()),
            installation,
            dcs: dcs.clone(),
            link,
            dynamic,
            route,
            hello,
            state,
            watching,
            commands,
            view,
            security,
            journal: journal.clone(),
            epoch_file,
            memory_file,
            slots_file,
        };
        Ok(Self {
            parts,
            serving,
            stop_api,
            journal,
            dcs,
            commands: commands_in,
        })
    }

    async fn run(self, mut hangups: Signal) -> anyhow::Result<Exit> {
        let terminate = watch::Sender::new(false);
        let mut signals = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupts = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let (runner, hello) = Runner::new(self.parts);
        let mut server = self.serving;
        let loop_ended = runner.run(hello, terminate.subscribe());
        let checks = check_service(self.dcs);
        tokio::pin!(loop_ended, checks);
        let mut serving = true;
        let mut checking = true;
        let mut trim = interval_at(Instant::now() + TRIM, TRIM);
        trim.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fresh = true;
        let exit = loop {
            tokio::select! {
                end = &mut loop_ended => break match end {
                    End::Stopped => Exit::Ok,
                    // The link's own thread fences and ends the process; this is only its company.
                    End::Orphaned => Exit::Internal,
                },
                _ = server.join_next(), if serving => {
                    serving = false;
                    tracing::error!("the REST API ended");
                }
                fatal = &mut checks, if checking => {
                    checking = false;
                    if let Some(why) = fatal {
                        tracing::error!("{why}");
                        let _ = terminate.send(true);
                    }
                }
                _ = trim.tick() => {
                    heap::trim();
                    // Once: what is needed from then on is to stay mapped.
                    if std::mem::take(&mut fresh) {
                        image::release();
                    }
                }
                _ = hangups.recv() => reloading::ask(&self.commands),
                _ = signals.recv() => { let _ = terminate.send(true); }
                _ = interrupts.recv() => { let _ = terminate.send(true); }
            }
        };
        let _ = self.stop_api.send(true);
        if serving {
            let _ = tokio::time::timeout(Duration::from_secs(1), server.join_next()).await;
        }
        self.journal.close();
        Ok(exit)
    }
}

async fn until_true(mut flag: watch::Receiver<bool>) {
    let _ = flag.wait_for(|stop| *stop).await;
}

/// L7 and L8: asked until the API answers; only a definite answer ends the agent.
async fn check_service(dcs: Dcs) -> Option<String> {
    loop {
        match dcs.check_service().await {
            Ok(checked) => {
                for warning in checked.warnings {
                    tracing::warn!("{warning}");
                }
                return None;
            }
            Err(error @ (DcsError::ServiceSelector { .. } | DcsError::OtherDialect { .. })) => {
                return Some(error.to_string());
            }
            Err(error) => tracing::debug!(%error, "the Service cannot be checked yet"),
        }
        tokio::time::sleep(START).await;
    }
}

/// A port in use ends the member, so that everybody sees it; under a PostgreSQL that runs it is
/// tried again.
fn no_address(error: &api::server::Error, adopting: bool) -> Failure {
    let exit = if adopting {
        Exit::Temporary
    } else {
        Exit::CannotCreate
    };
    Failure::new(exit, error.to_string())
}
