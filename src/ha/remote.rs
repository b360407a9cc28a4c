//! A standby cluster: whoever holds the lock follows a primary that belongs to another cluster, and
//! the other members follow it.
//!
//! The remote primary is followed, copied and rewound to like a member, under a name that no Pod
//! can have. Nothing is writable here, so the guardian is not armed: an outage of the API stops no
//! standby, and a PostgreSQL that leaves recovery by another hand is killed (G1). Who may lead when
//! the cluster becomes a primary one again is what the record of the synchronous set said before,
//! until the standby leader streams from the remote primary: from then on that one's history counts.

use super::effect::{Effect, Rule, Stop};
use super::event::PgFacts;
use super::model::{DataDir, HistoryEntry, Member, Ms, Name, Timeline, fork_elsewhere};
use super::pause::FOREVER;
use super::rejoin::{Relation, Stand};
use super::state::{Process, State};
use super::step::Turn;
use serde::{Deserialize, Serialize};

/// The remote primary's name among the members'.
pub const REMOTE: &str = "the remote primary";
/// How often it is asked while it does not stream.
const ASK_MS: Ms = 5_000;
/// How long a running primary waits for its first answer before it steps down: an order to follow
/// somebody who cannot be reached is obeyed.
const STEP_DOWN_MS: Ms = 3_000;
/// An answer older than that is asked for again before anything is given up for it.
const FRESH_MS: Ms = 15_000;

/// `standby_cluster`, as far as decisions depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Standby {
    /// Where the remote primary listens; `None`: its WAL comes from an archive alone.
    pub host: Option<String>,
    /// On which port.
    pub port: u16,
}

impl Standby {
    /// One of several hosts, as libpq tries them in turn.
    pub(super) fn names(&self, (host, port): &(String, u16)) -> bool {
        let mut hosts = self.host.iter().flat_map(|hosts| hosts.split(','));
        self.port == *port && hosts.any(|named| named.trim() == host)
    }
}

/// What the remote primary says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RemoteFacts {
    /// Where it was asked: an answer from another address says nothing.
    pub asked: Standby,
    /// Its system identifier.
    pub system_id: String,
    /// It follows somebody else.
    pub in_recovery: bool,
    /// Its timeline.
    pub timeline: Timeline,
    /// The history of that timeline.
    pub history: Vec<HistoryEntry>,
    /// It is this member of the very cluster that asks, under another name.
    #[serde(default)]
    pub member: Option<Name>,
}

impl State {
    /// Nothing here is writable, or is to be: what the agent before me held can be held on to.
    pub(super) fn is_unarmed_standby(&self) -> bool {
        let running = matches!(self.pg.process, Process::Running { as_primary: false });
        self.rules.standby.is_some() && running && self.armed_until.is_none()
    }

    /// I hold the lock of a standby cluster, and my server runs.
    pub fn is_standby_leader(&self) -> bool {
        let running = matches!(self.pg.process, Process::Running { .. });
        let recovering = self.pg.facts.as_ref().is_some_and(|f| f.in_recovery);
        self.rules.standby.is_some() && self.lease.held.is_some() && running && recovering
    }
}

impl Turn<'_> {
    /// The server leads: as a primary, or as the standby leader.
    pub(super) fn serves_as_leader(&self) -> bool {
        self.s.is_primary() || self.s.is_standby_leader()
    }

    /// G1: from none, by the request that was acknowledged last. A standby leader is not armed.
    /// False: that one bore the mark of maintenance mode; another is on its way.
    pub(super) fn arm(&mut self) -> bool {
        let Some(held) = self.s.lease.held.as_mut().filter(|held| !held.armed) else {
            return true;
        };
        if held.until == FOREVER {
            return false;
        }
        held.armed = true;
        let to = held.until;
        self.emit(Effect::MoveDeadline { to });
        true
    }

    /// The lock of a standby cluster is mine.
    pub(super) fn lead_standby(&mut self, standby: &Standby) {
        self.s.pg.left_to_people = None;
        match (self.s.pg.process, self.s.pg.facts.clone()) {
            (Process::Unknown, _) | (Process::Running { .. }, None) => {}
            (Process::Running { .. }, Some(facts)) if !facts.in_recovery => {
                if self.stays_primary(standby, &facts) {
                    return self.as_a_primary(|turn| turn.duties(&facts));
                }
                self.s.routed_epoch = None;
                let words = "the cluster becomes a standby cluster";
                self.stop(Stop::Fast, Rule::StandbyCluster, words);
            }
            (Process::Running { .. }, Some(facts)) => {
                self.standby_duties(standby, &facts);
            }
            (Process::Down, _) => self.start_standby_leader(standby),
        }
    }

    /// A primary that is told to follow itself, or another database, does not go down for it.
    fn stays_primary(&mut self, standby: &Standby, facts: &PgFacts) -> bool {
        if self.points_at_itself(standby) {
            return true;
        }
        let since = match &self.s.pg.told_to_follow {
            Some((told, since)) if told == standby => *since,
            _ => self.now,
        };
        self.s.pg.told_to_follow = Some((standby.clone(), since));
        let heard = self.answer_of(standby).is_some_and(|(_, at)| *at >= since);
        let until = since + STEP_DOWN_MS;
        if standby.host.is_some() && !heard && self.now < until {
            self.ask_remote(standby);
            self.wake_at(until);
            return true;
        }
        self.is_another_database(standby, &facts.system_id)
    }

    /// What whoever is to be followed said last, and when.
    pub(super) fn answer_of(&self, standby: &Standby) -> Option<&(RemoteFacts, Ms)> {
        let remote = self.s.pg.remote.as_ref();
        remote.filter(|(facts, _)| facts.asked == *standby)
    }

    /// By its last answer, however old: one that is silent for a while is no other one by that.
    fn is_another_database(&mut self, standby: &Standby, system_id: &str) -> bool {
        let answer = self.answer_of(standby);
        let foreign = answer.is_some_and(|(facts, _)| facts.system_id != system_id);
        if foreign {
            self.ask_remote(standby);
            self.explain_foreign();
        }
        foreign
    }

    /// What is done by a primary that is told to follow what cannot be followed: the setting is
    /// as good as absent, and people are told of it.
    fn as_a_primary(&mut self, work: impl FnOnce(&mut Self)) {
        let told = self.s.pg.left_to_people.clone();
        let standby = self.s.rules.standby.take();
        work(self);
        self.s.rules.standby = standby;
        self.s.pg.left_to_people = told;
    }

    /// This cluster's primary follows what cannot be followed, and is none: a replica sees it lead.
    pub(super) fn follows_another_cluster(&self) -> bool {
        let primary = |(_, member): (&Name, &Member)| member.role == "primary";
        self.s.rules.standby.is_some() && !self.primary_leader().is_some_and(primary)
    }

    fn start_standby_leader(&mut self, standby: &Standby) {
        // A renewal acknowledged while the server was stopping may have armed a guardian that has
        // nothing to guard.
        if self.s.pg.op.is_some() || !self.disarmed() {
            return;
        }
        if !self.knows_cluster() {
            return;
        }
        let itself = self.points_at_itself(standby);
        if itself && !matches!(self.s.pg.data, Some(DataDir::Present(_))) {
            return;
        }
        if self.refills_from_remote(standby) {
            return;
        }
        let Some(data) = self.data_to_lead_with() else {
            return;
        };
        if itself || self.is_another_database(standby, &data.system_id) {
            // A primary it was, and one it stays; a replica waits for somebody to follow.
            if !data.standby_signal {
                self.as_a_primary(Self::start_as_leader);
            }
            return;
        }
        if let Some(foreign) = self.foreign_system_id() {
            return self.explain_once("foreign", Rule::Untouched, foreign);
        }
        self.ask_remote(standby);
        let stand = Stand::of_data(&data);
        if self.recovers_first(&data, &stand) {
            return;
        }
        match self.remote_relation(&data.system_id, &stand) {
            None => self.explain_foreign(),
            Some(Relation::Behind) => self.start_replica(Some(REMOTE.to_owned())),
            Some(_) if self.s.rules.pause => {
                let words = "my history is not in the remote primary's; in maintenance mode it is \
                             left as it is";
                self.leave_to_people(Rule::Pause, words.to_owned());
            }
            Some(relation) => self.repair_from(REMOTE.to_owned(), relation, &stand, true),
        }
    }

    fn standby_duties(&mut self, standby: &Standby, facts: &PgFacts) {
        if self.s.shared.is_none() || !self.knows_cluster() {
            return;
        }
        if self.points_at_itself(standby) {
            return;
        }
        // A ring streams well, and only the answer tells.
        let unknown = self.s.pg.remote.is_none() && standby.host.is_some();
        if unknown && self.may("first AskRemote", FRESH_MS) {
            self.emit(Effect::AskRemote);
        }
        self.count_copy_if_alone(standby);
        if self.holds_every_commit() || self.failover_to_me() {
            self.note_admission();
        }
        self.publish_route();
        self.keep_slots(facts);
        self.tend_schedule();
        if self.feed_starved() || self.heed_remote(standby, facts) {
            return;
        }
        let idle = self.s.pg.op.is_none() && self.s.pg.stopping.is_none();
        if idle {
            self.follow_leader(REMOTE.to_owned());
        }
        let followed = idle && self.s.pg.op.is_none();
        let streams = self.streams_from_remote(standby, facts);
        // Who has no data yet is in no set: the cluster has to be there first.
        let counts = streams && followed && self.cluster_id().is_some();
        if self.keep_standby_set(counts) {
            self.keep_records(facts);
        }
    }

    /// While nothing comes from it: what does the remote primary say? True: the server is stopped.
    fn heed_remote(&mut self, standby: &Standby, facts: &PgFacts) -> bool {
        if facts.streaming {
            return false;
        }
        self.ask_remote(standby);
        match self.remote_relation(&facts.system_id, &Stand::of_server(facts)) {
            None => self.explain_foreign(),
            Some(Relation::Behind) => {}
            Some(_) if self.s.rules.pause => {}
            Some(_) => {
                let words = format!("{REMOTE} left my history before my position {}", facts.lsn);
                self.stop(Stop::Fast, Rule::StandbyCluster, &words);
                return true;
            }
        }
        false
    }

    pub(super) fn ask_remote(&mut self, standby: &Standby) {
        if standby.host.is_some() && self.may("AskRemote", ASK_MS) {
            self.emit(Effect::AskRemote);
        }
    }

    pub(super) fn absorb_remote(&mut self, facts: RemoteFacts) {
        self.s.pg.remote = Some((facts, self.now));
    }

    /// By what it said last, if that is not too old: nothing is given up for less. `None`: it is
    /// another cluster's.
    fn remote_relation(&self, system_id: &str, mine: &Stand<'_>) -> Option<Relation> {
        let asked = self.s.rules.standby.as_ref();
        let counts = |(facts, at): &&(RemoteFacts, Ms)| {
            self.now < *at + FRESH_MS && Some(&facts.asked) == asked
        };
        let Some((remote, _)) = self.s.pg.remote.as_ref().filter(counts) else {
            return Some(Relation::Behind);
        };
        if system_id != remote.system_id {
            return None;
        }
        if remote.in_recovery {
            // It may follow me, or who follows me: it has nothing to say yet.
            return Some(Relation::Behind);
        }
        let another_line = fork_elsewhere(mine.history, &remote.history);
        Some(mine.compare(remote.timeline, &remote.history, another_line))
    }

    pub(super) fn explain_foreign(&mut self) {
        let theirs = self.s.pg.remote.as_ref().map(|(facts, _)| &facts.system_id);
        let words = format!(
            "standby_cluster: {REMOTE} has the system identifier {}, which is another cluster's: \
             correct host and port",
            theirs.map_or("?", String::as_str)
        );
        self.leave_to_people(Rule::StandbyCluster, words);
    }

    /// A cluster that follows itself would never see a primary. It is asked again: the name may come
    /// to lead elsewhere. Where only some of several hosts are its own, the others count.
    fn points_at_itself(&mut self, standby: &Standby) -> bool {
        let hosts = standby.host.iter().flat_map(|hosts| hosts.split(','));
        let own: Option<Vec<Name>> = hosts
            .map(|host| self.member_at(host, standby.port))
            .collect();
        let member = own.and_then(|own| own.into_iter().next());
        // Under a name that does not say so, through a Service or a pooler.
        let answer = self.answer_of(standby);
        let member = member.or_else(|| answer.and_then(|(facts, _)| facts.member.clone()));
        if let Some(name) = &member {
            self.ask_remote(standby);
            self.explain_own(name);
        }
        member.is_some()
    }

    /// Whose PostgreSQL listens there, of this cluster's members.
    pub(super) fn member_at(&self, host: &str, port: u16) -> Option<Name> {
        let shared = self.s.shared.as_ref()?;
        let mut members = shared.members.iter();
        let same = members.find(|(_, member)| member.listens_at(host, port));
        same.map(|(name, _)| name.clone())
    }

    pub(super) fn explain_own(&mut self, name: &Name) {
        let words = format!(
            "standby_cluster: host and port lead to {name}, a member of this very cluster: name \
             the primary of another one"
        );
        self.leave_to_people(Rule::StandbyCluster, words);
    }
}
