//! Runs the user's commands that go with what PostgreSQL does; the core says when
//! (`ha/hooks.rs`).
//!
//! Callbacks have two slots, one for `on_reload` and one for the others. A slot runs one at a time:
//! a new one ends the one before, with all that it started, and begins when that is gone, so that
//! the last word is the newest. What comes meanwhile replaces what waits: nothing queues up.

use super::Context;
use super::server::words;
use crate::ha::event::Event;
use crate::ha::hooks::{Action, BEFORE_STOP_MS, Guard, PRE_PROMOTE_MS, Role, Wanted};
use crate::postgres::hook::{self, Hook, HookError};
use crate::settings::{Command, ReplicaMethod, Settings};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// A callback that takes longer is ended.
const CALLBACK: Duration = Duration::from_mins(10);
/// What callbacks get to end by themselves when the agent ends.
const FAREWELL: Duration = Duration::from_secs(5);
/// The topics of the complaints about the two that are asked.
const PRE_PROMOTE: &str = "postgresql.pre_promote";
const BEFORE_STOP: &str = "postgresql.before_stop";
/// This very program, whose other part holds the leash.
pub(super) const OWN_PROGRAM: &str = "/proc/self/exe";

/// What a slot is to run: the newest one.
type Slot = watch::Sender<Option<(Action, Role)>>;

/// The hooks of this agent.
pub(super) struct Running {
    reloads: Slot,
    others: Slot,
    /// Callbacks that wait or run.
    busy: watch::Sender<u32>,
    /// How to end the hooks that are waited for.
    guards: Mutex<BTreeMap<Guard, (u64, oneshot::Sender<()>)>>,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            reloads: Slot::new(None),
            others: Slot::new(None),
            busy: watch::Sender::new(0),
            guards: Mutex::default(),
        }
    }
}

impl Running {
    /// Tell a callback; the loop goes on.
    pub(super) fn call(&self, action: Action, role: Role) {
        let slot = match action {
            Action::OnReload => &self.reloads,
            _ => &self.others,
        };
        // What has not begun is replaced.
        let mut replaced = false;
        slot.send_modify(|next| replaced = next.replace((action, role)).is_some());
        if !replaced {
            self.busy.send_modify(|busy| *busy += 1);
        }
    }

    /// End this run of a hook, if it goes on.
    pub(super) fn end(&self, guard: Guard, number: u64) {
        let mut guards = self.guards.lock().unwrap_or_else(PoisonError::into_inner);
        if guards
            .get(&guard)
            .is_some_and(|(known, _)| *known == number)
            && let Some((_, enough)) = guards.remove(&guard)
        {
            // It may have ended by itself.
            let _ = enough.send(());
        }
    }

    /// A run begins: who waits on this is told when it is enough.
    pub(super) fn begin(&self, guard: Guard, number: u64) -> oneshot::Receiver<()> {
        let (enough, told) = oneshot::channel();
        let mut guards = self.guards.lock().unwrap_or_else(PoisonError::into_inner);
        guards.insert(guard, (number, enough));
        told
    }

    /// Before the agent ends: what callbacks are about gets a moment.
    pub(super) async fn farewell(&self) {
        let mut busy = self.busy.subscribe();
        let idle = busy.wait_for(|busy| *busy == 0);
        if tokio::time::timeout(FAREWELL, idle).await.is_err() {
            tracing::warn!("a callback is ended with the agent");
        }
    }
}

/// What is not configured any more does not fail any more.
pub(super) fn settle_removed(context: &Context, settings: &Settings) {
    let hooks = &settings.postgresql.hooks;
    let removed = |action: &Action| !hooks.callbacks.contains_key(action.word());
    for action in Action::ALL.into_iter().filter(removed) {
        context.complaints.settle(topic(action));
    }
    for (given, topic) in [
        (hooks.pre_promote.is_some(), PRE_PROMOTE),
        (hooks.before_stop.is_some(), BEFORE_STOP),
    ] {
        if !given {
            context.complaints.settle(topic);
        }
    }
}

/// What is configured, for the core.
pub(super) fn wanted(settings: &Settings) -> Event {
    let hooks = &settings.postgresql.hooks;
    let own = &settings.bootstrap;
    Event::HooksWanted(Wanted {
        bootstraps: own.custom.is_some() || own.post_bootstrap.is_some(),
        callbacks: !hooks.callbacks.is_empty(),
        pre_promote: hooks.pre_promote.is_some(),
        before_stop: hooks.before_stop.is_some(),
        copies_without_leader: settings
            .postgresql
            .replica_methods
            .iter()
            .any(|method| matches!(method, ReplicaMethod::Own(own) if own.no_leader)),
    })
}

/// One after the other, the slots of callbacks.
pub(super) async fn run_reloads(context: Arc<Context>) {
    let slot = context.hooks.reloads.subscribe();
    run_slot(&context, &context.hooks.reloads, slot).await;
}

/// See [`run_reloads`].
pub(super) async fn run_others(context: Arc<Context>) {
    let slot = context.hooks.others.subscribe();
    run_slot(&context, &context.hooks.others, slot).await;
}

type Seen = watch::Receiver<Option<(Action, Role)>>;

async fn run_slot(context: &Context, slot: &Slot, mut seen: Seen) {
    // The slot lives as long as the context.
    while seen.wait_for(Option::is_some).await.is_ok() {
        let mut next = None;
        slot.send_modify(|waiting| next = waiting.take());
        seen.mark_unchanged();
        let Some((action, role)) = next else { continue };
        run_callback(context, action, role, &mut seen).await;
        context.hooks.busy.send_modify(|busy| *busy -= 1);
    }
}

async fn run_callback(context: &Context, action: Action, role: Role, seen: &mut Seen) {
    let settings = context.settings();
    let topic = topic(action);
    let Some(command) = settings.postgresql.hooks.callbacks.get(action.word()) else {
        return context.complaints.settle(topic);
    };
    let mut argv = command.words().to_vec();
    argv.extend([action.word(), role.word(), &settings.scope].map(str::to_owned));
    let hook = Hook {
        lingers: true,
        ..hook_of(action.word(), argv, CALLBACK)
    };
    tracing::info!("callback {} as {}", action.word(), role.word());
    let newer = async {
        let _ = seen.wait_for(Option::is_some).await;
    };
    match hook::run_until(Path::new(OWN_PROGRAM), &hook, newer).await {
        Ok(()) => context.complaints.settle(topic),
        Err(HookError::Ended) => tracing::info!("{topic} was ended: a newer one is due"),
        Err(error) => context.complaints.say(topic, error.to_string()),
    }
}

/// What a complaint about a callback is called.
fn topic(action: Action) -> &'static str {
    match action {
        Action::OnStart => "postgresql.callbacks.on_start",
        Action::OnStop => "postgresql.callbacks.on_stop",
        Action::OnRestart => "postgresql.callbacks.on_restart",
        Action::OnReload => "postgresql.callbacks.on_reload",
        Action::OnRoleChange => "postgresql.callbacks.on_role_change",
    }
}

pub(super) fn hook_of(name: &str, argv: Vec<String>, deadline: Duration) -> Hook {
    Hook {
        name: name.to_owned(),
        argv,
        env: Vec::new(),
        works_in: None,
        lingers: false,
        deadline,
    }
}

pub(super) async fn run_guard(
    context: Arc<Context>,
    guard: Guard,
    number: u64,
    enough: oneshot::Receiver<()>,
) {
    let settings = context.settings();
    let hooks = &settings.postgresql.hooks;
    let (command, topic, limit_ms) = match guard {
        Guard::PrePromote => (&hooks.pre_promote, PRE_PROMOTE, PRE_PROMOTE_MS),
        Guard::BeforeStop => (&hooks.before_stop, BEFORE_STOP, BEFORE_STOP_MS),
    };
    let result = match command {
        Some(command) => ask(guard, command, limit_ms, enough).await,
        // It was taken out of the file meanwhile.
        None => Ok(()),
    };
    match &result {
        Ok(()) => context.complaints.settle(topic),
        Err(why) => context.complaints.say(topic, why.clone()),
    }
    let done = Event::HookDone {
        guard,
        number,
        result,
    };
    context.tell(done).await;
}

async fn ask(
    guard: Guard,
    command: &Command,
    limit_ms: u64,
    enough: oneshot::Receiver<()>,
) -> Result<(), String> {
    let deadline = Duration::from_millis(limit_ms);
    let hook = hook_of(&guard.to_string(), command.words().to_vec(), deadline);
    let enough = async {
        if enough.await.is_err() {
            // Nobody can say it any more.
            std::future::pending::<()>().await;
        }
    };
    hook::run_until(Path::new(OWN_PROGRAM), &hook, enough)
        .await
        .map_err(words)
}
