//! What every effect works with: the way to PostgreSQL, to Kubernetes, to the guardian and back.

use super::complaints::Complaints;
use super::files::Files;
use super::hooks;
use super::slots::Shelf;
use super::{Reloading, configuration, parameters};
use crate::dcs::Dcs;
use crate::dcs::codec::route::RouteTarget;
use crate::guardian::link::{Link, Words};
use crate::ha::event::Event;
use crate::ha::model::Ms;
use crate::postgres::version::Installation;
use crate::postgres::{Place, Postgres};
use crate::settings::{Dynamic, Live, Settings, effective};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::{Notify, mpsc, watch};

/// The topic of a standing complaint.
const CONFIGURATION: &str = "the dynamic configuration";

/// The postmaster as the guardian reports it.
#[derive(Clone, Debug, Default)]
pub struct Postmaster {
    /// Its process, while it runs.
    pub pid: Option<i32>,
    /// How many starts and refusals there were.
    pub answers: u64,
    /// The last refusal.
    pub refused: Option<String>,
    /// How many of its processes have ended, each verified (G4).
    pub ends: u64,
}

/// What the prober has to know of the loop's intentions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watchful {
    /// A postmaster runs.
    pub running: bool,
    /// A start, a stop or a promotion is in progress: silence is not a failure (G9).
    pub ordered: bool,
    /// D.
    pub ttl_ms: Ms,
    /// R.
    pub renew_ms: Ms,
}

/// Everything the effects work with.
pub struct Context {
    /// The resolved settings.
    pub settings: Live,
    /// How they are read again, and whose turn it is.
    pub(super) reloading: Reloading,
    pub(super) reloading_turn: tokio::sync::Mutex<()>,
    /// PostgreSQL's programs.
    pub installation: Installation,
    /// The Kubernetes side.
    pub dcs: Dcs,
    /// The last dynamic configuration that could be obeyed as a whole.
    pub(super) good: Mutex<Value>,
    /// The guardian.
    pub link: Arc<Link>,
    /// The words shared with it.
    pub words: Words,
    /// The dynamic configuration in force.
    pub dynamic: Arc<RwLock<Dynamic>>,
    /// Where the route points.
    pub route: RouteTarget,
    /// Who may call, and how others are asked.
    pub security: Arc<crate::api::security::Handle>,
    pub(super) inbox: mpsc::Sender<Event>,
    pub(super) postmaster: watch::Sender<Postmaster>,
    /// The socket of the server that runs.
    pub(super) reached_at: std::sync::Mutex<Option<Place>>,
    pub(super) starting_as_primary: AtomicBool,
    /// A promotion whose checkpoint is not done yet.
    pub(super) unchecked: AtomicBool,
    /// initdb ran in this life: its users are to be made.
    pub(super) fresh: AtomicBool,
    /// A new cluster that this agent has made is not through its bootstrap.
    pub(super) on_trial: AtomicBool,
    pub(super) kick: Notify,
    /// The newest order to set the synchronous names, and who carries one out.
    pub(super) sync_turn: AtomicU64,
    pub(super) sync_setter: tokio::sync::Mutex<()>,
    /// Slots on their way.
    pub(super) shelf: Shelf,
    /// How often the files of a running server were written anew.
    pub(super) configured: AtomicU64,
    pub(super) files: Arc<Files>,
    pub(super) complaints: Complaints,
    /// The parameters that were checked last.
    pub(super) checked: tokio::sync::Mutex<parameters::Checked>,
    /// The copy being made: bytes of bytes.
    pub(super) cloning: std::sync::Mutex<Option<(u64, u64)>>,
    /// The user's commands that wait or run.
    pub(super) hooks: hooks::Running,
}

impl Context {
    /// PostgreSQL as it is configured now, and where the running one is reached.
    pub fn postgres(&self) -> Postgres {
        let dynamic = self.dynamic.read().map(|d| d.clone()).unwrap_or_default();
        let mut pg = crate::agent::wiring::postgres(&self.settings(), &dynamic, &self.installation);
        let reached_at = self.reached_at.lock();
        pg.reached_at
            .clone_from(&reached_at.unwrap_or_else(PoisonError::into_inner));
        pg
    }

    /// The server that starts now is reached here for its whole life, whatever is configured later.
    pub(super) fn note_place(&self, place: Place) {
        let mut reached_at = self
            .reached_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *reached_at = Some(place);
    }

    /// All of this document can be obeyed: a copy of it is for an agent after this one.
    pub(super) fn note_good(&self, document: &Value) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.clone_from(document);
    }

    /// The last of those; null: none was seen.
    pub(super) fn last_good(&self) -> Value {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.clone()
    }

    /// Put a stored dynamic configuration in force, as it reads over the local settings: whether
    /// that changed anything, and whether all of it could be obeyed.
    pub(super) fn resolve(&self, raw: &str) -> (bool, bool) {
        let mut dynamic = self.dynamic.write().unwrap_or_else(PoisonError::into_inner);
        let settings = self.settings();
        let fallback = configuration::fallback(&dynamic, &settings);
        let (parsed, problems) = Dynamic::parse(raw, &fallback, &settings);
        for problem in problems.iter().filter(|problem| !problem.is_error()) {
            tracing::warn!("{CONFIGURATION}: {problem}");
        }
        // Who wrote it by another way than through a member has not been told.
        let told = effective::disobeyed(&parsed, problems);
        for words in &told {
            tracing::error!("{CONFIGURATION}: {words}");
        }
        self.complaints.keep(CONFIGURATION, &told);
        let assumed = Dynamic {
            stored: parsed.stored,
            ..dynamic.clone()
        };
        let changed = assumed != parsed;
        *dynamic = parsed;
        (changed, told.is_empty())
    }

    /// The settings in force now.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.get()
    }

    pub(super) fn note_cloning(&self, progress: Option<(u64, u64)>) {
        *self.cloning.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    pub(super) async fn tell(&self, event: Event) {
        // The loop ends only together with the process.
        let _ = self.inbox.send(event).await;
    }
}
