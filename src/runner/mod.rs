//! The shell around the core: inbox → `ha::step` → effects → their results back as events.
//!
//! One task owns the state. Everything that waits (requests, programs, questions to peers) runs in
//! a task of one join set and ends in an event; nothing is detached, and the loop itself never
//! waits for anything but its inbox, so its heartbeat (G5) says what it is meant to say.

mod complaints;
pub mod configuration;
mod container;
mod context;
mod effects;
mod files;
mod hooks;
mod inbound;
mod inspect;
mod journal;
mod kube;
mod launch;
mod lines;
mod making;
mod news;
mod operations;
mod pace;
mod parameters;
mod pending;
mod prober;
mod publisher;
mod reload;
mod remember;
mod replay;
mod schedule;
mod server;
mod slots;
mod sockets;
mod standbys;
mod troubles;
mod view;
mod watchdog;

pub use context::{Context, Postmaster, Watchful};
pub use journal::{Journal, Line};
pub use reload::Reloading;
pub use replay::replay_verb;

use crate::api;
use crate::dcs::Dcs;
use crate::dcs::codec::route::RouteTarget;
use crate::dcs::watch::Watching;
use crate::guardian::link::Link;
use crate::guardian::protocol::{Hello, Request};
use crate::ha::effect::{Effect, Rule};
use crate::ha::event::Event;
use crate::ha::memory::Memory;
use crate::ha::model::Ms;
use crate::ha::state::State;
use crate::ha::step::step;
use crate::postgres::probe::Facts;
use crate::postgres::start;
use crate::postgres::version::Installation;
use crate::settings::{Dynamic, Live};
use crate::sys::clock::boottime_ms;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use complaints::Complaints;
use news::Newsroom;
use troubles::Troubles;

/// Events waiting to be decided on; senders wait when it is full.
const INBOX: usize = 1024;
/// The longest time between two heartbeats.
const BEAT_MS: Ms = 250;

/// What the composition root hands over.
pub struct Parts {
    /// As in [`Context`].
    pub settings: Live,
    /// How the settings are read again.
    pub reloading: Reloading,
    /// As in [`Context`].
    pub installation: Installation,
    /// As in [`Context`].
    pub dcs: Dcs,
    /// As in [`Context`].
    pub link: Arc<Link>,
    /// As in [`Context`].
    pub dynamic: Arc<RwLock<Dynamic>>,
    /// As in [`Context`].
    pub route: RouteTarget,
    /// The guardian's first words.
    pub hello: Hello,
    /// The core's state at birth.
    pub state: State,
    /// Objects as they change.
    pub watching: Watching,
    /// People's commands.
    pub commands: mpsc::Receiver<api::Command>,
    /// What the API answers from.
    pub view: watch::Sender<Arc<api::View>>,
    /// Who may call, and how others are asked.
    pub security: Arc<api::security::Handle>,
    /// The journal.
    pub journal: Arc<Journal>,
    /// Where to remember the epoch.
    pub epoch_file: std::path::PathBuf,
    /// Where it keeps whose record does not grow old.
    pub memory_file: std::path::PathBuf,
    /// Where it keeps which slots are its own.
    pub slots_file: std::path::PathBuf,
}

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Everything is stopped as asked.
    Stopped,
    /// The guardian is gone.
    Orphaned,
}

/// The loop.
pub struct Runner {
    context: Arc<Context>,
    state: State,
    inbox: mpsc::Receiver<Event>,
    work: JoinSet<()>,
    watching: Watching,
    commands: mpsc::Receiver<api::Command>,
    questions: BTreeMap<u64, (api::Ask, oneshot::Sender<api::Reply>)>,
    next_question: u64,
    view: watch::Sender<Arc<api::View>>,
    facts: watch::Receiver<Option<Arc<Facts>>>,
    full_volume: watch::Receiver<Option<String>>,
    watchful: watch::Sender<Watchful>,
    publish: watch::Sender<publisher::Publication>,
    journal: Arc<Journal>,
    epoch_file: std::path::PathBuf,
    memory_file: std::path::PathBuf,
    remembered: Memory,
    slots_file: std::path::PathBuf,
    slots_remembered: BTreeSet<String>,
    dcs_last_seen: u64,
    config_raw: Option<Arc<str>>,
    /// What PostgreSQL is configured with changed since the last step.
    settings_changed: bool,
    /// The restart that is planned for this member.
    planned: Option<api::RestartPlan>,
    newsroom: Newsroom,
    troubles: Troubles,
    /// What stands in the way on the Kubernetes side.
    obstacle: Option<String>,
    wake_at: Ms,
    bye: bool,
}

impl Runner {
    /// Wire the loop and its helpers.
    pub fn new(parts: Parts) -> (Self, Hello) {
        let (inbox_sender, inbox) = mpsc::channel(INBOX);
        let running = parts
            .hello
            .postmaster
            .as_ref()
            .map(|postmaster| postmaster.pid);
        let data_dir = &parts.settings.get().postgresql.data_dir;
        let reached_at = running.and_then(|_| start::place_of_running(data_dir));
        let words = parts.link.words();
        let context = Arc::new(Context {
            good: std::sync::Mutex::default(),
            settings: parts.settings,
            reloading: parts.reloading,
            reloading_turn: tokio::sync::Mutex::default(),
            installation: parts.installation,
            dcs: parts.dcs,
            link: parts.link,
            words,
            dynamic: parts.dynamic,
            route: parts.route,
            security: parts.security,
            inbox: inbox_sender,
            postmaster: watch::Sender::new(Postmaster {
                pid: running,
                ..Postmaster::default()
            }),
            reached_at: std::sync::Mutex::new(reached_at),
            starting_as_primary: AtomicBool::new(false),
            unchecked: AtomicBool::new(false),
            fresh: AtomicBool::new(false),
            on_trial: AtomicBool::new(false),
            kick: Notify::new(),
            sync_turn: AtomicU64::new(0),
            sync_setter: tokio::sync::Mutex::default(),
            shelf: slots::Shelf::default(),
            configured: AtomicU64::new(0),
            files: Arc::default(),
            complaints: Complaints::default(),
            checked: tokio::sync::Mutex::default(),
            cloning: std::sync::Mutex::default(),
            hooks: hooks::Running::default(),
        });
        let (facts_sender, facts) = watch::channel(None);
        let watchful = watch::Sender::new(Watchful::default());
        let publish = watch::Sender::new(publisher::Publication::default());
        let mut work = JoinSet::new();
        work.spawn(prober::run(
            context.clone(),
            watchful.subscribe(),
            facts_sender,
        ));
        work.spawn(publisher::run(context.clone(), publish.subscribe()));
        work.spawn(container::run(context.clone()));
        work.spawn(watchdog::run(context.clone()));
        work.spawn(hooks::run_reloads(context.clone()));
        work.spawn(hooks::run_others(context.clone()));
        let (full_sender, full_volume) = watch::channel(None);
        work.spawn(troubles::watch_volumes(
            context.clone(),
            facts.clone(),
            full_sender,
        ));
        let runner = Self {
            context,
            remembered: parts.state.lock.memory(),
            slots_remembered: parts.state.slots.owned.clone(),
            slots_file: parts.slots_file,
            state: parts.state,
            inbox,
            work,
            watching: parts.watching,
            commands: parts.commands,
            questions: BTreeMap::new(),
            next_question: 1,
            view: parts.view,
            facts,
            full_volume,
            watchful,
            publish,
            journal: parts.journal,
            epoch_file: parts.epoch_file,
            memory_file: parts.memory_file,
            dcs_last_seen: 0,
            config_raw: None,
            settings_changed: false,
            planned: None,
            newsroom: Newsroom::default(),
            troubles: Troubles::default(),
            obstacle: None,
            wake_at: 0,
            bye: false,
        };
        (runner, parts.hello)
    }

    /// Run until everything is stopped, or the guardian is gone.
    pub async fn run(mut self, hello: Hello, mut terminate: watch::Receiver<bool>) -> End {
        self.journal.start(&self.state);
        self.context.words.set_ttl_ms(self.state.budgets.ttl_ms);
        self.decide(hooks::wanted(&self.context.settings()));
        if hello.postmaster.is_some() {
            making::end_orphaned_trial(&self.context).await;
        }
        self.decide(match &hello.postmaster {
            Some(running) => Event::PostmasterRuns {
                as_primary: running.writable,
            },
            None => Event::PostmasterGone {
                why: "nothing runs yet".into(),
            },
        });
        if let Some(to) = hello.deadline_ms {
            self.decide(Event::DeadlineMoved { to });
        }
        if hello.terminating {
            self.decide(Event::Terminate);
        }
        while !self.bye {
            self.context.words.beat();
            let now = boottime_ms();
            let nap = Duration::from_millis(self.wake_at.saturating_sub(now).min(BEAT_MS));
            let event = tokio::select! {
                biased;
                notice = self.context.link.next() => match notice {
                    Some(notice) => self.translate(notice),
                    None => return End::Orphaned,
                },
                Some(event) = self.inbox.recv() => Some(event),
                Some(seen) = self.watching.seen.recv() => Some(self.seen(seen)),
                Some(command) = self.commands.recv() => self.question(command),
                Ok(()) = terminate.changed() => Some(Event::Terminate),
                Some(ended) = self.work.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a task of the agent failed");
                    }
                    None
                }
                () = tokio::time::sleep(nap) => None,
            };
            if let Some(event) = event {
                self.decide(event);
                if std::mem::take(&mut self.settings_changed) {
                    self.decide(Event::SettingsChanged);
                }
            } else if boottime_ms() >= self.wake_at {
                self.decide(Event::Tick);
            }
            let now = boottime_ms();
            if let Some(event) = self.wall_clock(now) {
                self.decide(event);
            }
            if let Some(event) = self.planned_restart(now) {
                self.decide(event);
            }
        }
        self.context.hooks.farewell().await;
        self.work.shutdown().await;
        publisher::farewell(&self.context, &self.state).await;
        if let Err(error) = self.context.link.request(&Request::Bye).await {
            tracing::warn!(%error, "the guardian could not be told of the end");
        }
        End::Stopped
    }

    /// One step and its effects, and everybody told.
    fn decide(&mut self, event: Event) {
        let now = boottime_ms();
        let note = self.journal.note(&event);
        let fact = news::of_event(&event, self.state.pg.stopping.is_some());
        self.troubles.absorb(&event);
        let effects = step(&mut self.state, event, now);
        self.journal.record(now, note, &effects);
        let remembered = self.remember();
        self.tell_news(fact, &effects, now);
        for effect in effects {
            let effect = if remembered {
                effect
            } else {
                remember::unvouched(effect)
            };
            match &effect {
                Effect::Explain {
                    rule: Rule::Untouched,
                    words,
                } => tracing::error!("{words}"),
                // Without the lock in time, or without PostgreSQL's answer: what wakes people.
                Effect::Explain {
                    rule: rule @ (Rule::G1 | Rule::G3 | Rule::G9),
                    words,
                } => tracing::warn!(rule = ?rule, "{words}"),
                Effect::Explain { rule, words } => tracing::info!(rule = ?rule, "{words}"),
                Effect::Wake { at } => self.wake_at = *at,
                other => tracing::debug!("{other}"),
            }
            self.run_effect(effect);
        }
        self.tell_everybody(now);
    }
}
