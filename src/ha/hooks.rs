//! Commands of the user's around what PostgreSQL does.
//!
//! Callbacks tell what has happened: they follow from what the server is seen to be, and nothing
//! waits for them. Two hooks are asked first and waited for, a bounded time: `pre_promote`, whose
//! failure gives the lock back, and `before_stop`, whose failure changes nothing. Neither holds up
//! a fence: what stops a server that must not go on ([`super::lease`]) asks nobody.

use super::effect::{Effect, Rule, Stop};
use super::event::Op;
use super::model::Ms;
use super::shared::{Initialize, SharedWrite};
use super::state::{Process, State};
use super::step::Turn;
use serde::{Deserialize, Serialize};
use std::fmt;

/// `pre_promote` fails when it takes longer.
pub const PRE_PROMOTE_MS: Ms = 60_000;
/// The stop does not wait longer for `before_stop`.
pub const BEFORE_STOP_MS: Ms = 10_000;
/// What the end of a hook takes at most after its deadline: asking, then killing.
const ENDING_MS: Ms = 8_000;

/// Which of them are configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wanted {
    /// Any callback.
    pub callbacks: bool,
    /// `postgresql.pre_promote`.
    pub pre_promote: bool,
    /// `postgresql.before_stop`.
    pub before_stop: bool,
    /// A method of `create_replica_methods` needs no leader.
    #[serde(default)]
    pub copies_without_leader: bool,
    /// A new cluster goes through more than initdb and a start.
    #[serde(default)]
    pub bootstraps: bool,
}

/// What a callback is told has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Action {
    OnStart,
    OnStop,
    OnRestart,
    OnReload,
    OnRoleChange,
}

impl Action {
    /// Each of them.
    pub const ALL: [Self; 5] = [
        Self::OnStart,
        Self::OnStop,
        Self::OnRestart,
        Self::OnReload,
        Self::OnRoleChange,
    ];

    /// Patroni's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::OnStart => "on_start",
            Self::OnStop => "on_stop",
            Self::OnRestart => "on_restart",
            Self::OnReload => "on_reload",
            Self::OnRoleChange => "on_role_change",
        }
    }
}

/// The role a callback is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Role {
    Primary,
    Replica,
    StandbyLeader,
}

impl Role {
    /// Patroni's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::StandbyLeader => "standby_leader",
        }
    }
}

/// A hook that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Guard {
    /// Before a promotion.
    PrePromote,
    /// Before a stop in order.
    BeforeStop,
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PrePromote => "pre_promote",
            Self::BeforeStop => "before_stop",
        })
    }
}

/// One run of a hook that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Run {
    /// Its number.
    pub number: u64,
    /// The epoch it was begun in; 0: without the lock.
    pub epoch: u64,
    /// When it was begun.
    pub since: Ms,
    /// How it ended.
    pub ended: Option<Result<(), String>>,
}

/// What is remembered of hooks between two steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hooks {
    /// Which are configured.
    pub wanted: Wanted,
    /// The role in which the server that is up was told of.
    pub up: Option<Role>,
    /// The role told last.
    pub last: Option<Role>,
    /// The server went down, by my order or not.
    pub gone: Option<bool>,
    /// It is being restarted: its stop is no news.
    pub restarting: bool,
    /// Settings were reloaded.
    pub reloaded: bool,
    /// Runs so far.
    pub runs: u64,
    /// The last `pre_promote`.
    pub pre_promote: Option<Run>,
    /// The `before_stop` of the stop to come.
    pub before_stop: Option<Run>,
    /// Why the bootstrap of a new cluster failed.
    #[serde(default)]
    pub bootstrap_failed: Option<String>,
}

impl State {
    /// The cluster that I lead is new, and not through its bootstrap.
    pub fn is_on_trial(&self) -> bool {
        let shared = self.shared.as_ref();
        let initialize = shared.map(|shared| &shared.config.initialize);
        let pending = self.pg.op == Some(Op::StartPrimary) || self.hooks.bootstrap_failed.is_some();
        pending && matches!(initialize, Some(Initialize::Running(_)))
    }

    /// The role of a server that is up, and of which nothing is about to change.
    fn shown_role(&self) -> Option<Role> {
        let facts = self.pg.facts.as_ref()?;
        let running = matches!(self.pg.process, Process::Running { .. });
        let becoming = matches!(
            self.pg.op,
            Some(Op::StartPrimary | Op::StartReplica | Op::Promote)
        );
        if !running || becoming {
            return None;
        }
        Some(match (facts.in_recovery, self.is_standby_leader()) {
            (false, _) => Role::Primary,
            (true, true) => Role::StandbyLeader,
            (true, false) => Role::Replica,
        })
    }
}

impl Turn<'_> {
    /// What callbacks are to be told of this step.
    pub(super) fn tell_callbacks(&mut self) {
        let hooks = &mut self.s.hooks;
        let role = hooks.up;
        if let Some(ordered) = hooks.gone.take()
            && let Some(role) = hooks.up.take()
            && ordered
            && !hooks.restarting
        {
            self.call(Action::OnStop, role);
        }
        let Some(shown) = self.s.shown_role() else {
            return;
        };
        let hooks = &mut self.s.hooks;
        let action = match (hooks.up, hooks.last) {
            (Some(up), _) if up == shown => None,
            (Some(_), _) => Some(Action::OnRoleChange),
            (None, None) => Some(Action::OnStart),
            (None, Some(last)) if last != shown => Some(Action::OnRoleChange),
            (None, Some(_)) if hooks.restarting => Some(Action::OnRestart),
            (None, Some(_)) => Some(Action::OnStart),
        };
        hooks.up = Some(shown);
        hooks.last = Some(shown);
        let reloaded = std::mem::take(&mut hooks.reloaded) && role == Some(shown);
        if let Some(action) = action {
            hooks.restarting = false;
            self.call(action, shown);
        }
        if reloaded {
            self.call(Action::OnReload, shown);
        }
    }

    fn call(&mut self, action: Action, role: Role) {
        if self.s.hooks.wanted.callbacks {
            self.emit(Effect::Callback { action, role });
        }
    }

    pub(super) fn absorb_hook(&mut self, guard: Guard, number: u64, result: Result<(), String>) {
        let run = match guard {
            Guard::PrePromote => &mut self.s.hooks.pre_promote,
            Guard::BeforeStop => &mut self.s.hooks.before_stop,
        };
        let Some(run) = run.as_mut().filter(|run| run.number == number) else {
            return;
        };
        // What was given up before stays so.
        if run.ended.is_none() {
            run.ended = Some(result.clone());
            if let Err(why) = result {
                self.explain(Rule::Primary, format!("{guard} failed: {why}"));
            }
        }
    }

    /// L9: what failed is not kept, and whom no set keeps from it may begin. True: that is on its
    /// way.
    pub(super) fn give_bootstrap_back(&mut self) -> bool {
        let Some(why) = self.s.hooks.bootstrap_failed.clone() else {
            return false;
        };
        let mine = Initialize::Running(self.s.me.to_string());
        let config = self.s.shared.as_ref().map(|shared| shared.config.clone());
        let config = config.unwrap_or_default();
        if config.initialize == mine {
            let (value, expect) = (Initialize::Never, config.resource_version);
            self.write_shared(SharedWrite::Initialize { value, expect });
        } else if self.may_write_lock() {
            self.s.hooks.bootstrap_failed = None;
            self.give_up(&format!("the bootstrap failed: {why}"));
        }
        true
    }

    /// Remembers why a bootstrap failed. A start that fails is one only where it is part of it.
    pub(super) fn note_bootstrap(&mut self, op: &Op, why: &str) {
        let part =
            *op == Op::StartPrimary && self.s.hooks.wanted.bootstraps && self.s.is_on_trial();
        if part || *op == Op::Initdb {
            self.s.hooks.bootstrap_failed = Some(why.to_owned());
        }
    }

    /// What did not get through its bootstrap does not go on running. True: it is being stopped.
    pub(super) fn ends_bootstrap(&mut self) -> bool {
        let running = matches!(self.s.pg.process, Process::Running { .. });
        let Some(why) = self.s.hooks.bootstrap_failed.clone() else {
            return false;
        };
        if !running || !self.s.is_on_trial() {
            return false;
        }
        self.stop(
            Stop::Kill,
            Rule::L9,
            &format!("its bootstrap failed: {why}"),
        );
        true
    }

    fn begin_hook(&mut self, guard: Guard) -> Run {
        self.s.hooks.runs += 1;
        let number = self.s.hooks.runs;
        self.emit(Effect::RunHook { guard, number });
        Run {
            number,
            epoch: self.s.lease.held.as_ref().map_or(0, |held| held.epoch),
            since: self.now,
            ended: None,
        }
    }

    /// Ends what nobody waits for any more: the lock is lost, the server is gone, or somebody who
    /// does not ask has ordered its stop.
    pub(super) fn end_hooks(&mut self) {
        let running = matches!(self.s.pg.process, Process::Running { .. });
        let epoch = self.s.lease.held.as_ref().map(|held| held.epoch);
        let leads = running && self.s.holds(self.now) && self.s.pg.stopping.is_none();
        let pending = |run: &&mut Run| run.ended.is_none();
        // One that was taken out of the file is not run to its end either.
        let wanted = self.s.hooks.wanted;
        let hooks = &mut self.s.hooks;
        let mut ended = Vec::new();
        if let Some(run) = hooks.pre_promote.as_mut().filter(pending)
            && !(leads
                && wanted.pre_promote
                && epoch == Some(run.epoch)
                && self.now < run.since + PRE_PROMOTE_MS + ENDING_MS)
        {
            run.ended = Some(Err("it was not waited for any more".to_owned()));
            ended.push((Guard::PrePromote, run.number));
        }
        let stays = running && wanted.before_stop && self.s.pg.stopping.is_none();
        if let Some(run) = hooks.before_stop.as_mut().filter(pending)
            && !stays
        {
            run.ended = Some(Ok(()));
            ended.push((Guard::BeforeStop, run.number));
        }
        // A stop that was called off; the next one asks again.
        let forgotten = |run: &Run| self.now >= run.since + BEFORE_STOP_MS + 2 * ENDING_MS;
        if !running || hooks.before_stop.as_ref().is_some_and(forgotten) {
            hooks.before_stop = None;
        }
        for (guard, number) in ended {
            self.emit(Effect::EndHook { guard, number });
        }
    }

    /// `pre_promote` agrees, in this epoch. Where it does not, the lock is given back, and for a
    /// TTL the race is left to others.
    pub(super) fn may_promote(&mut self) -> bool {
        if !self.s.hooks.wanted.pre_promote {
            return true;
        }
        let Some(epoch) = self.s.lease.held.as_ref().map(|held| held.epoch) else {
            return false;
        };
        let run = self.s.hooks.pre_promote.clone();
        match run.filter(|run| run.epoch == epoch) {
            None => {
                self.explain(Rule::Primary, "ask pre_promote before the promotion");
                let run = self.begin_hook(Guard::PrePromote);
                self.wake_at(run.since + PRE_PROMOTE_MS + ENDING_MS);
                self.s.hooks.pre_promote = Some(run);
            }
            Some(Run {
                ended: None, since, ..
            }) => {
                self.wake_at(since + PRE_PROMOTE_MS + ENDING_MS);
            }
            Some(Run {
                ended: Some(Ok(())),
                ..
            }) => return true,
            Some(Run {
                ended: Some(Err(why)),
                ..
            }) => {
                if self.may_write_lock() {
                    let words = format!("release the lock: pre_promote does not agree: {why}");
                    self.explain(Rule::Handover, words);
                    self.give_back("pre_promote does not agree", self.s.rules.ttl_ms);
                }
            }
        }
        false
    }

    /// A stop that can wait: `before_stop` is asked first. True: the stop has been ordered.
    pub(super) fn stop_in_order(&mut self, how: Stop, rule: Rule, why: &str) -> bool {
        let asked = self.s.pg.stopping.is_some();
        let running = matches!(self.s.pg.process, Process::Running { .. });
        if !self.s.hooks.wanted.before_stop || asked || !running {
            self.stop(how, rule, why);
            return true;
        }
        match &self.s.hooks.before_stop {
            Some(Run {
                ended: None, since, ..
            }) if self.now < since + BEFORE_STOP_MS => {
                let until = since + BEFORE_STOP_MS;
                self.wake_at(until);
                return false;
            }
            Some(_) => {}
            None => {
                self.explain(rule, format!("run before_stop: {why}"));
                let run = self.begin_hook(Guard::BeforeStop);
                self.wake_at(run.since + BEFORE_STOP_MS);
                self.s.hooks.before_stop = Some(run);
                return false;
            }
        }
        self.stop(how, rule, why);
        true
    }
}
