//! Who may lead in synchronous mode: whoever holds every acknowledged commit.
//!
//! The published set says who that is. In quorum mode it names everybody who may have confirmed a
//! commit, and a candidate needs the votes of enough others that they have nothing it lacks.

use super::model::{Lsn, Name, Timeline};
use super::shared::{Initialize, SyncRecord};
use super::state::{Answered, Sabotage};
use super::step::Turn;
use super::vote::Ballot;
use std::collections::BTreeMap;

impl Turn<'_> {
    /// Synchronous mode: only the recorded leader and its published standbys can hold every
    /// acknowledged commit. A record that is gone is no empty one: as in L4, absence is not
    /// release. Then only the last holder of the lock is known to hold everything.
    pub(super) fn sync_admits(&self, name: &str) -> bool {
        let Some(shared) = &self.s.shared else {
            return false;
        };
        if !self.may_bind() {
            return true;
        }
        if name == self.s.me.name && self.s.is_unproven_copy() {
            return false;
        }
        if let Some(leader) = &shared.sync.leader {
            let listed = shared.sync.standbys.iter().any(|standby| standby == name);
            return listed || leader == name;
        }
        if self.s.sabotaged(Sabotage::AbsentSetAdmits) {
            return true;
        }
        let led_last = self.last_holder();
        led_last.is_some_and(|leader| leader == name)
            || (name == self.s.me.name && self.i_create_the_cluster(led_last))
    }

    /// Who creates the cluster has every commit: there is none yet. Nor after a restart in the
    /// middle of it, unless another has led by then.
    fn i_create_the_cluster(&self, led_last: Option<&Name>) -> bool {
        let shared = self.s.shared.as_ref();
        let mine = Initialize::Running(self.s.me.to_string());
        let exactly = shared.is_some_and(|shared| shared.config.initialize == mine);
        let again = led_last.is_none() && !self.s.sabotaged(Sabotage::CreatorForgotten);
        (exactly || (again && self.my_name_creates())) && !self.s.sync_seen
    }

    /// I create the cluster, or an agent before me did.
    pub(super) fn my_name_creates(&self) -> bool {
        let shared = self.s.shared.as_ref();
        match shared.map(|shared| &shared.config.initialize) {
            Some(Initialize::Running(creator)) => {
                creator.starts_with(&format!("{} (pod ", self.s.me.name))
            }
            _ => false,
        }
    }

    /// L9: a published set is a trace of a cluster. Without data, only its leader begins again, and
    /// only where it lists nobody else: that is what a creation which failed leaves behind.
    pub(super) fn set_lets_me_create(&self) -> Result<(), String> {
        let record = self.s.sync_record();
        let me = &self.s.me.name;
        let others = record.leader.as_ref() != Some(me) || !record.standbys.is_empty();
        match &record.leader {
            _ if !self.may_bind() => Ok(()),
            Some(leader) if others => Err(format!(
                "I have no data, and the synchronous set of {leader} {:?} is a trace of a cluster: \
                 waiting for its members; only if all data are lost for good, delete the cluster's \
                 objects (the lock and its ConfigMaps) and its Pods, and a new one begins",
                record.standbys
            )),
            None if self.s.sync_seen && self.last_holder() != Some(me) => Err(
                "I have no data, and there has been a synchronous set: waiting for its members; \
                 only if all data are lost for good, delete this Pod, and a new cluster begins"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }

    /// Commits may have waited for others: a set decides, or there has been one, and no readable
    /// configuration says that none does.
    fn may_bind(&self) -> bool {
        let shared = self.s.shared.as_ref();
        let ever = self.s.sync_seen || shared.is_some_and(|shared| shared.sync.leader.is_some());
        let unreadable = shared.is_none_or(|shared| shared.config.rules.is_none());
        self.set_decides() || (unreadable && ever)
    }

    /// As a failover by hand has to ask: no word of a person but that one gives commits up.
    pub(super) fn may_lose(&self) -> bool {
        self.may_bind() || self.a_set_stands()
    }

    /// In synchronous mode; and where it was switched off, and no leader has unpublished its set
    /// since: commits may have waited for it to the end.
    pub(super) fn set_decides(&self) -> bool {
        self.s.rules.synchronous_mode || (self.a_set_stands() && self.s.rules.standby.is_none())
    }

    /// Commits have waited for others, by the mode or by a set that nobody has unpublished.
    pub(super) fn a_set_stands(&self) -> bool {
        let shared = self.s.shared.as_ref();
        let listed = shared.is_some_and(|shared| !shared.sync.standbys.is_empty());
        self.s.rules.synchronous_mode || listed
    }

    /// The votes that I need before I may lead; 0 where the set alone, or the release, admits me.
    pub(super) fn votes_needed(&self) -> usize {
        let record = self.s.sync_record();
        let me = &self.s.me.name;
        let voter = self.set_decides() && record.standbys.contains(me);
        if !voter || record.leader.as_ref() == Some(me) || self.i_have_what_was_released() {
            return 0;
        }
        record.quorum
    }

    /// The members whose votes count for me.
    pub(super) fn voters(&self) -> Vec<Name> {
        let record = self.s.sync_record();
        let others = record.standbys.into_iter();
        others.filter(|name| *name != self.s.me.name).collect()
    }

    /// How many of the set have said, each after the lock was free, that they have nothing I lack.
    /// A Patroni does not vote; what it says of itself is read when it is asked (L10).
    fn votes_for(
        &self,
        record: &SyncRecord,
        ballot: Option<&Ballot>,
        answers: &BTreeMap<Name, Answered>,
        mine: (Timeline, Lsn),
    ) -> usize {
        let vote = |name: &Name| {
            let cast = ballot.and_then(|ballot| ballot.votes.get(name)).copied();
            cast.or_else(|| match answers.get(name) {
                Some(Answered::Said(status)) if status.patroni => {
                    Some((status.timeline, status.lsn))
                }
                _ => None,
            })
        };
        let others = record
            .standbys
            .iter()
            .filter(|name| **name != self.s.me.name);
        others
            .filter_map(vote)
            .filter(|theirs| *theirs <= mine)
            .count()
    }

    /// Whether the votes of this race are enough; else why not, in words.
    pub(super) fn enough_votes(&self, answers: &BTreeMap<Name, Answered>) -> Result<(), String> {
        let needed = self.votes_needed();
        if needed == 0 || self.s.sabotaged(Sabotage::VotesIgnored) {
            return Ok(());
        }
        let record = self.s.sync_record();
        let mine = self.s.position().unwrap_or((0, Lsn(0)));
        let have = self.votes_for(&record, self.s.votes.ballot.as_ref(), answers, mine);
        if have >= needed {
            return Ok(());
        }
        Err(format!(
            "{have} of the {needed} votes that I need among {:?} say that I have everything",
            self.voters()
        ))
    }

    /// I hold every acknowledged commit: by the published set, by votes, or by what was released.
    pub(super) fn admits_me(&self) -> bool {
        if self.i_have_what_was_released() {
            return true;
        }
        if !self.sync_admits(&self.s.me.name) {
            return false;
        }
        let held = self.s.lease.held.as_ref().map(|held| held.epoch);
        let ballot = self.s.votes.ballot.as_ref();
        match ballot.filter(|ballot| held.is_none_or(|epoch| epoch == ballot.epoch)) {
            Some(ballot) => self.enough_votes(&ballot.answers).is_ok(),
            None => self.votes_needed() == 0 || self.s.sabotaged(Sabotage::VotesIgnored),
        }
    }

    /// As [`Self::admits_me`]; but where the leader of a standby cluster is admitted because no set
    /// decides there, a set that nobody has unpublished since decides all the same.
    pub(super) fn holds_every_commit(&self) -> bool {
        let record = self.s.sync_record();
        if self.set_decides() || !self.a_set_stands() || self.i_have_what_was_released() {
            return self.admits_me();
        }
        let me = &self.s.me.name;
        let listed = record.quorum == 0 && record.standbys.contains(me);
        !self.s.is_unproven_copy() && (record.leader.as_ref() == Some(me) || listed)
    }

    /// I may be admitted, once enough members have voted.
    pub(super) fn may_be_admitted(&self) -> bool {
        self.sync_admits(&self.s.me.name) || self.i_have_what_was_released()
    }

    /// Why I am not admitted, for people.
    pub(super) fn not_in_the_set(&self) -> String {
        let record = self.s.sync_record();
        if self.s.is_unproven_copy() {
            return "my data directory was made anew, and has not caught up with a leader since: \
                    what the synchronous set says of me is not about this copy"
                .to_owned();
        }
        if let Some(leader) = &record.leader {
            if self.sync_admits(&self.s.me.name) {
                let votes = record.quorum;
                return format!("I do not have the {votes} votes that I need any more");
            }
            let standbys = &record.standbys;
            return format!("not in the synchronous set of {leader} {standbys:?}");
        }
        let who = match self.last_holder() {
            Some(holder) => format!("{holder} led last"),
            None => "nothing tells who led last".to_owned(),
        };
        format!(
            "the record of the synchronous set is gone, and {who}: waiting for one that holds every \
             commit, or for a failover by hand"
        )
    }
}
