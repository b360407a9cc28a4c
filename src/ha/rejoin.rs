//! A data directory that is to follow: how its history relates to that of whom it follows, and what
//! is done where they have parted.

use super::effect::{Effect, Rule};
use super::event::{Op, PgFacts};
use super::model::{
    ControlState, DataFacts, HistoryEntry, Lsn, Member, Name, Timeline, fork_elsewhere,
};
use super::step::Turn;

/// Rewinds that may fail before a clone: one may only have missed the leader.
const FAILED_REWINDS_MAX: u32 = 3;

/// How my history relates to that of whom I am to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// A prefix of it: streaming will do.
    Behind,
    /// It left mine before my position.
    Forked,
    /// The same timeline number from another promotion: no rewind can tell them apart, and
    /// streaming would go on in the middle of other records.
    Twin,
    /// The published history says that my line is another one: to be confirmed by the leader's own
    /// before anything is given up for it.
    Suspect,
    /// The leader has not published enough yet.
    Unknown,
}

/// Where a member stands, by its server or by its data directory.
pub(super) struct Stand<'a> {
    timeline: Timeline,
    lsn: Lsn,
    /// Not the last record's start but its end.
    replica: bool,
    pub(super) history: &'a [HistoryEntry],
}

impl<'a> Stand<'a> {
    /// A server in recovery.
    pub(super) fn of_server(facts: &'a PgFacts) -> Self {
        Self {
            timeline: facts.timeline,
            lsn: facts.lsn,
            replica: true,
            history: &facts.history,
        }
    }

    pub(super) fn of_data(data: &'a DataFacts) -> Self {
        // Who was in recovery is a replica, whatever became of its signal file.
        let recovering = matches!(
            data.state,
            ControlState::InArchiveRecovery | ControlState::ShutDownInRecovery
        );
        Self {
            timeline: data.timeline,
            lsn: data.lsn,
            replica: data.standby_signal || recovering,
            history: &data.history,
        }
    }

    /// Against a server on this timeline, with its history. `another_line`: both left one timeline
    /// at different positions.
    pub(super) fn compare(
        &self,
        theirs: Timeline,
        history: &[HistoryEntry],
        another_line: bool,
    ) -> Relation {
        if self.timeline == theirs {
            return if self.replica && !another_line {
                Relation::Behind
            } else {
                Relation::Twin
            };
        }
        if self.timeline > theirs || another_line {
            return Relation::Forked;
        }
        let lsn = self.lsn;
        match history.iter().find(|entry| entry.timeline == self.timeline) {
            None => Relation::Forked,
            Some(entry) if self.replica && lsn > entry.switch_lsn => Relation::Forked,
            // A primary's last record starts at its position: it must lie before the fork.
            Some(entry) if !self.replica && lsn >= entry.switch_lsn => Relation::Forked,
            Some(_) => Relation::Behind,
        }
    }
}

impl Turn<'_> {
    pub(super) fn rejoin(&mut self, data: &DataFacts) {
        if let Some(foreign) = self.foreign_system_id() {
            self.leave_to_people(Rule::Untouched, foreign);
            // Whoever puts it right need not restart anything.
            if self.may("inspect", 10_000) {
                self.emit(Effect::Inspect);
            }
            return;
        }
        let stand = Stand::of_data(data);
        if self.recovers_first(data, &stand) {
            return;
        }
        let Some((name, leader)) = self.primary_leader().map(|(n, m)| (n.clone(), m.clone()))
        else {
            if stand.replica {
                let leader = self.leader_name();
                let upstream = leader.and_then(|leader| self.upstream_under(leader));
                self.start_replica(upstream);
            }
            return;
        };
        self.s.pg.left_to_people = None;
        match self.relation(&stand, &leader) {
            Relation::Unknown => {}
            Relation::Suspect => self.confirm_line(&name, stand.history),
            Relation::Behind if !self.diverged() => {
                let upstream = self.upstream_under(name);
                self.start_replica(upstream);
            }
            relation => {
                let ready = leader.checkpoint_after_promote != Some(false);
                self.repair_from(name, relation, &stand, ready);
            }
        }
    }

    /// A crashed primary knows its own end only after recovery. True: it is not through with it.
    pub(super) fn recovers_first(&mut self, data: &DataFacts, mine: &Stand<'_>) -> bool {
        let clean = matches!(
            data.state,
            ControlState::ShutDown | ControlState::ShutDownInRecovery
        );
        if mine.replica || clean || self.diverged() {
            return false;
        }
        if self.may("CrashRecover", self.s.budgets.renew_ms) {
            self.begin(Op::CrashRecover, Effect::CrashRecover);
        }
        true
    }

    /// What is here has left the history of `from`. `ready`: it can be rewound to by now.
    pub(super) fn repair_from(
        &mut self,
        from: Name,
        relation: Relation,
        mine: &Stand<'_>,
        ready: bool,
    ) {
        if relation == Relation::Twin {
            return self.copy_where_diverged(from, "the same timeline from another promotion");
        }
        if self.s.pg.failed_rewinds >= FAILED_REWINDS_MAX {
            return self.copy_after_failed_rewinds(from);
        }
        self.s.pg.diverged_from = self.record_epoch();
        if !self.s.rules.repair.rewind {
            let why = format!("my history left that of {from}, and use_pg_rewind is false");
            self.copy_where_diverged(from, &why);
        } else if ready && self.may("Rewind", self.s.budgets.renew_ms) {
            let words = format!(
                "rewind: my history (timeline {}, {}) is not in that of {from}",
                mine.timeline, mine.lsn
            );
            self.explain(Rule::Replica, words);
            self.begin(Op::Rewind, Effect::Rewind { from });
        }
    }

    fn diverged(&self) -> bool {
        self.s.pg.diverged_from.is_some() && self.s.pg.diverged_from == self.record_epoch()
    }

    /// Compare by the history that the leader published.
    pub(super) fn relation(&self, mine: &Stand<'_>, leader: &Member) -> Relation {
        let Some(theirs) = leader.timeline else {
            return Relation::Unknown;
        };
        let Some(shared) = &self.s.shared else {
            return Relation::Unknown;
        };
        let history = &shared.config.history;
        let of_this_leader = Some(shared.config.epoch) == self.record_epoch();
        if self.s.pg.twin_of.is_some() && self.s.pg.twin_of == self.record_epoch() {
            return Relation::Twin;
        }
        let suspect = of_this_leader && fork_elsewhere(mine.history, history);
        let line = self.s.pg.line;
        let line = line.filter(|line| Some(line.epoch) == self.record_epoch());
        let another_line = match line {
            _ if !suspect => false,
            Some(line) => line.differs,
            None => return Relation::Suspect,
        };
        if mine.timeline < theirs && !another_line && !shared.config.tells_of(theirs) {
            return Relation::Unknown;
        }
        mine.compare(theirs, history, another_line)
    }
}
