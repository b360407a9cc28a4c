//! The one function that decides: absorb the fact, then compare what is with what should be.
//!
//! Deciding is level-triggered: every step looks at the whole state, so a lost or repeated event
//! costs time and never correctness. Instants at which something is due are collected while
//! deciding and leave as one [`Effect::Wake`].

use super::effect::{Effect, Rule};
use super::event::{Event, Op, PgFacts};
use super::model::{DataDir, Ms};
use super::quorum::SyncSetting;
use super::schedule::WallClock;
use super::state::{InForce, Process, State};
use std::sync::Arc;

/// The longest time without a step.
const IDLE_MS: Ms = 1_000;

/// One step: the only way the state changes. `now` never goes backwards.
pub fn step(state: &mut State, event: Event, now: Ms) -> Vec<Effect> {
    let mut turn = Turn {
        s: state,
        now,
        out: Vec::new(),
        wake: now + IDLE_MS,
    };
    turn.absorb(event);
    turn.decide();
    turn.tell_callbacks();
    let at = turn.wake.max(now + 1);
    turn.out.push(Effect::Wake { at });
    turn.out
}

/// A step in progress.
pub(super) struct Turn<'a> {
    pub(super) s: &'a mut State,
    pub(super) now: Ms,
    pub(super) out: Vec<Effect>,
    pub(super) wake: Ms,
}

impl Turn<'_> {
    pub(super) fn emit(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    pub(super) fn explain(&mut self, rule: Rule, words: impl Into<String>) {
        self.out.push(Effect::Explain {
            rule,
            words: words.into(),
        });
    }

    /// Explain once, until the words under this topic change.
    pub(super) fn explain_once(&mut self, topic: &str, rule: Rule, words: impl Into<String>) {
        let words = words.into();
        if self.s.explained.get(topic) != Some(&words) {
            self.s.explained.insert(topic.to_owned(), words.clone());
            self.explain(rule, words);
        }
    }

    /// The reason under this topic is gone: the next one is news again.
    pub(super) fn settled(&mut self, topic: &str) {
        self.s.explained.remove(topic);
    }

    pub(super) fn wake_at(&mut self, at: Ms) {
        self.wake = self.wake.min(at);
    }

    /// Whether a repeated effect may leave now; if so, the next one not before `every_ms`.
    pub(super) fn may(&mut self, topic: &str, every_ms: Ms) -> bool {
        let due = self.s.not_before.get(topic).copied().unwrap_or(0);
        if self.now < due {
            self.wake_at(due);
            return false;
        }
        self.s
            .not_before
            .insert(topic.to_owned(), self.now + every_ms);
        true
    }

    /// Begin an operation on PostgreSQL; the effect must belong to it.
    pub(super) fn begin(&mut self, op: Op, effect: Effect) {
        debug_assert!(
            self.s.pg.op.is_none() || op == Op::Stop,
            "one operation at a time"
        );
        self.s.pg.op = Some(op);
        self.s.pg.op_since = self.now;
        self.emit(effect);
    }

    fn absorb(&mut self, event: Event) {
        match event {
            Event::Tick => {}
            Event::LockSeen { lock, quorum } => self.absorb_lock(lock, quorum),
            Event::LockReadFailed { why } => {
                self.lock_read_ended();
                self.explain_once(
                    "read",
                    Rule::L6,
                    format!("the lock could not be read: {why}"),
                );
            }
            Event::LockWritten { nonce, outcome } => self.absorb_lock_write(nonce, outcome),
            Event::SharedSeen { shared, quorum } => self.absorb_shared(shared, quorum),
            Event::SharedWritten { what, outcome } => self.absorb_shared_write(what, outcome),
            Event::DeadlineMoved { to } => self.s.armed_until = Some(to),
            Event::DeadlineLatched => self.absorb_latch(),
            Event::PostmasterRuns { as_primary } => {
                self.settled("left");
                self.s.pg.latched = false;
                self.s.pg.may_be_promoting = false;
                self.s.pg.process = Process::Running { as_primary };
            }
            Event::PostmasterGone { why } => self.absorb_gone(&why),
            Event::PgSeen(facts) => self.absorb_facts(facts),
            Event::PgSilent { why } => {
                self.explain_once(
                    "silent",
                    Rule::G9,
                    format!("PostgreSQL does not answer: {why}"),
                );
            }
            Event::DataSeen(data) => {
                if matches!(data, DataDir::Present(_)) && self.s.pg.process == Process::Down {
                    // It is through, whatever failed.
                    self.s.hooks.bootstrap_failed = None;
                }
                self.recognize_copy(&data);
                self.s.pg.data = Some(data);
            }
            Event::WalCompared { with, differs } => self.absorb_comparison(&with, differs),
            Event::EndSaid { with, number, lsn } => self.absorb_end(&with, number, lsn),
            Event::HistoryCompared { with, differs } => self.absorb_line(&with, differs),
            Event::OpDone { op, result } => self.absorb_op(&op, result),
            Event::SyncSet { wanted, lsn, shown } => {
                // An answer to an older order says nothing about the newer one.
                if self.s.sync.asked == wanted {
                    self.s.sync.in_force = Some(InForce {
                        wanted,
                        lsn,
                        setting: shown,
                        seen: false,
                        settled: false,
                    });
                }
            }
            Event::SlotsSet { broken, failed } => self.absorb_slots_set(broken, failed),
            Event::SlotsFetched { slots, failed } => self.absorb_fetched(slots, failed),
            Event::SlotsConfirmed { positions } => self.absorb_confirmed(positions),
            Event::RemoteSeen(facts) => self.absorb_remote(facts),
            Event::PeerAnswered {
                round,
                name,
                status,
            } => self.absorb_answer(round, name, status),
            Event::Promised {
                round,
                name,
                refused,
            } => self.absorb_promise(round, &name, refused),
            Event::Voted { round, name, vote } => self.absorb_vote(round, name, vote),
            Event::ContainerKnown { id } => self.s.place.container_id = id,
            Event::ProofFound(proof) => self.absorb_proof(proof),
            Event::Volume { full } => self.s.pg.full = full,
            Event::Serving { ok, why } => self.s.pg.not_serving = (!ok).then_some(why),
            Event::Asked { id, ask } => self.absorb_ask(id, ask),
            Event::SettingsChanged => self.s.pg.settings_stale = true,
            Event::Reloaded { nofailover, stream } => {
                self.s.nofailover = nofailover;
                self.s.stream = stream;
                self.s.pg.settings_stale = true;
            }
            Event::WallClock { wall_ms } => {
                let at = self.now;
                self.s.wall = Some(WallClock { wall_ms, at });
            }
            Event::HooksWanted(wanted) => self.s.hooks.wanted = wanted,
            Event::HookDone {
                guard,
                number,
                result,
            } => self.absorb_hook(guard, number, result),
            Event::Terminate => self.absorb_terminate(),
        }
    }

    fn absorb_latch(&mut self) {
        self.s.lease.held = None;
        self.s.armed_until = None;
        self.s.pg.latched = true;
        let words = "the deadline has passed: PostgreSQL dies, the lock is not mine";
        self.explain(Rule::G1, words);
    }

    fn absorb_terminate(&mut self) {
        if !self.s.terminating {
            self.explain(Rule::Handover, "asked to terminate");
        }
        self.s.terminating = true;
    }

    fn absorb_gone(&mut self, why: &str) {
        self.s.hooks.gone = Some(self.s.pg.stopping.is_some());
        if self.s.pg.process != Process::Down {
            self.s.pg.down_since = self.now;
            if self.s.pg.stopping.is_none() {
                self.explain(Rule::Primary, format!("PostgreSQL is gone: {why}"));
            } else {
                self.explain(Rule::Handover, format!("PostgreSQL stopped: {why}"));
            }
        }
        self.s.armed_until = None;
        if let Some(held) = &mut self.s.lease.held {
            held.armed = false;
        }
        let pg = &mut self.s.pg;
        pg.latched = false;
        pg.may_be_promoting = false;
        let ran = pg.process != Process::Down;
        if ran {
            pg.stopped_by_others = pg.stopping.is_none();
        }
        pg.process = Process::Down;
        pg.facts = None;
        pg.stopping = None;
        pg.data = None;
        pg.not_serving = None;
        pg.unstreamed_since = None;
        pg.mute_since = None;
        if matches!(
            pg.op,
            Some(
                Op::Stop
                    | Op::Promote
                    | Op::Follow
                    | Op::Checkpoint
                    | Op::Configure
                    | Op::StopReceiver
            )
        ) {
            pg.op = None;
        }
        // A second word of the same end says nothing about a start that has begun since: that one
        // is still on its way, and nothing is released before it has ended (L4).
        if ran && matches!(pg.op, Some(Op::StartPrimary | Op::StartReplica)) {
            pg.op = None;
        }
        self.s.sync.in_force = None;
        self.s.sync.asked = SyncSetting::default();
        self.forget_copies();
        self.emit(Effect::Inspect);
    }

    fn absorb_facts(&mut self, facts: PgFacts) {
        if self.s.pg.process == Process::Down {
            return;
        }
        self.settled("silent");
        self.s.pg.facts = Some(Arc::new(facts));
        self.s.pg.facts_at = self.now;
        self.note_lead();
        self.note_stream();
        self.explain_silence();
        self.hear_standbys();
    }

    fn absorb_op(&mut self, op: &Op, result: Result<(), String>) {
        if let Err(why) = &result {
            self.note_bootstrap(op, why);
        }
        if self.s.pg.op.as_ref() == Some(op) {
            self.s.pg.op = None;
        }
        let failed = result.is_err();
        match op {
            Op::Clone if !failed => self.complete_fresh_copy(),
            Op::Initdb if !failed => self.lead_with_this_copy(),
            _ => {}
        }
        if let Err(why) = result {
            self.explain(Rule::Replica, format!("{op:?} failed: {why}"));
            self.restart_failed(op, &why);
        }
        match op {
            Op::StartPrimary | Op::StartReplica | Op::Promote if failed => {
                self.s.pg.failed_starts += u32::from(self.s.lease.held.is_some());
            }
            Op::StartPrimary | Op::StartReplica | Op::Promote => {
                self.s.pg.failed_starts = 0;
                self.s.hooks.bootstrap_failed = None;
            }
            Op::Rewind => {
                self.s.pg.failed_rewinds += 1;
                if !failed {
                    self.s.pg.failed_rewinds = 0;
                    self.s.pg.diverged_from = None;
                }
                self.s.pg.data = None;
                self.emit(Effect::Inspect);
            }
            Op::Clone if !failed => {
                self.s.rebuild = None;
                self.s.pg.stopped_by_others = false;
                self.s.pg.failed_clones.0 = 0;
                self.s.pg.failed_rewinds = 0;
                self.s.pg.twin_of = None;
                self.s.pg.line = None;
                self.s.pg.diverged_from = None;
                self.s.pg.data = None;
                self.emit(Effect::Inspect);
            }
            Op::StopReceiver if !failed => self.s.votes.stopped_at = Some(self.now),
            Op::Configure | Op::Follow => {
                self.s.pg.settings_stale |= failed;
                self.s.hooks.reloaded |= !failed;
            }
            Op::Initdb | Op::Clone | Op::CrashRecover => {
                self.s.pg.data = None;
                self.emit(Effect::Inspect);
            }
            _ => {}
        }
        if failed {
            let wait_ms = match op {
                Op::Clone => {
                    self.count_failed_rebuild();
                    self.pause_after_clone()
                }
                _ => self.s.budgets.renew_ms,
            };
            self.s
                .not_before
                .insert(format!("{op:?}"), self.now + wait_ms);
        }
    }

    fn decide(&mut self) {
        if self.s.said_bye || self.s.pg.process == Process::Unknown {
            return;
        }
        self.end_hooks();
        self.self_fence();
        self.press_stop();
        self.tend_lease();
        self.tend_failsafe();
        self.tend_votes();
        self.explain_mixed();
        self.answer_asks();
        self.write_vouch();
        self.tend_restart();
        if self.s.holds(self.now) {
            self.lead();
        } else {
            self.follow();
        }
    }
}
