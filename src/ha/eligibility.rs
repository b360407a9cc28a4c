//! Whether this member may lead at all, by its own data, tags and place in the set.

use super::effect::Rule;
use super::event::Op;
use super::model::{DataDir, Lsn, Ms, Timeline};
use super::shared::Initialize;
use super::state::{Process, Sabotage};
use super::step::Turn;

/// The topic under which a cluster without a leader is explained.
pub(super) const UNLED: &str = "unled";
/// Told after so many times D.
const UNLED_TTLS: Ms = 3;

impl Turn<'_> {
    /// Nobody leads for long, and it is not for me to: a person may have to.
    pub(super) fn explain_unled(&mut self, why: &str) {
        if self.s.position().is_none() {
            return; // What is to be done with an empty volume is said by whoever fills it.
        }
        let told_at = self.s.lock.changed_at + UNLED_TTLS * self.s.rules.ttl_ms;
        if self.now < told_at {
            return self.wake_at(told_at);
        }
        let words = format!(
            "nobody leads, and I may not: {why}; if nobody else can be brought back, a person \
             decides: ctl failover --candidate"
        );
        self.explain_once(UNLED, Rule::Election, words);
    }

    /// Whether I may lead at all; the reason not to, in words.
    pub(super) fn eligible(&self) -> Result<(), String> {
        if self.s.shared.is_none() {
            return Err("the cluster is not known yet".into());
        }
        if self.s.terminating {
            return Err("I am terminating".into());
        }
        match (&self.s.pg.process, &self.s.pg.data) {
            (Process::Unknown, _) | (Process::Down, None) => {
                return Err("PostgreSQL's state is not known yet".into());
            }
            (Process::Down, Some(DataDir::Empty | DataDir::Unfinished)) => {
                return self.may_bootstrap();
            }
            (Process::Down, Some(DataDir::Unusable(why))) => return Err(why.clone()),
            (Process::Down, Some(DataDir::Present(data))) if data.standby_signal => {
                return Err("my replica is to be started first".into());
            }
            _ => {}
        }
        if let Some(op) = self.s.pg.op.as_ref().filter(|op| **op != Op::StopReceiver) {
            return Err(format!("{op:?} is in progress"));
        }
        if !self.s.repaired() {
            return Err("a tag forbids it, or my data has to be repaired first".into());
        }
        let Some((timeline, lsn)) = self.s.position() else {
            return Err("no position yet".into());
        };
        if let Some(foreign) = self.foreign_system_id() {
            return Err(foreign);
        }
        if self.failover_to_me() {
            return Ok(());
        }
        if !self.may_be_admitted() {
            return Err(self.not_in_the_set());
        }
        self.far_enough(timeline, lsn)
    }

    /// No leader has noted a newer timeline than mine.
    pub(super) fn not_left_behind(&self, timeline: Timeline) -> Result<(), String> {
        let shared = self.s.shared.as_ref();
        let cluster = shared.map_or(1, |shared| shared.config.newest_timeline());
        if timeline < cluster && !self.s.sabotaged(Sabotage::TimelineCheckOff) {
            return Err(format!(
                "my timeline {timeline} is behind the cluster's {cluster}"
            ));
        }
        Ok(())
    }

    pub(super) fn far_enough(&self, timeline: Timeline, lsn: Lsn) -> Result<(), String> {
        if self.s.sabotaged(Sabotage::TimelineCheckOff) {
            return Ok(());
        }
        self.not_left_behind(timeline)?;
        let optime = self.s.lock.optime;
        let lag_bytes = optime.map_or(0, |leader| leader.0.saturating_sub(lsn.0));
        let allowed_bytes = self.s.rules.maximum_lag_on_failover_bytes;
        if !self.set_decides() && lag_bytes > allowed_bytes {
            return Err(format!(
                "{lag_bytes} bytes behind the leader; {allowed_bytes} are allowed"
            ));
        }
        Ok(())
    }

    /// L9: no initdb where a trace of a cluster exists.
    pub(super) fn may_bootstrap(&self) -> Result<(), String> {
        let Some(shared) = &self.s.shared else {
            return Err("the cluster is not known yet".into());
        };
        if let Initialize::Done(id) = &shared.config.initialize {
            return Err(format!(
                "I have no data, and the cluster {id} exists: waiting for its leader"
            ));
        }
        if !shared.config.history.is_empty() {
            return Err("I have no data, and a history of the cluster exists".into());
        }
        let other = shared
            .members
            .iter()
            .find(|(name, member)| **name != self.s.me.name && member.system_id.is_some());
        if let Some((name, _)) = other {
            return Err(format!(
                "I have no data, and {name} has: it has to lead first"
            ));
        }
        if self.s.nofailover {
            return Err("tag nofailover".into());
        }
        self.set_lets_me_create()
    }

    /// My data belongs to another cluster.
    pub(super) fn foreign_system_id(&self) -> Option<String> {
        let cluster = self.cluster_id()?;
        let mine = match (&self.s.pg.facts, &self.s.pg.data) {
            (Some(facts), _) => &facts.system_id,
            (None, Some(DataDir::Present(data))) => &data.system_id,
            _ => return None,
        };
        (mine != cluster).then(|| {
            format!("my data directory has system identifier {mine}, the cluster {cluster}: it is not touched")
        })
    }
}
