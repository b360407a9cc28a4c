//! The record of the synchronous set while the cluster follows another one's primary: who may lead
//! once it is a primary's again.

use super::effect::Rule;
use super::event::PgFacts;
use super::model::Name;
use super::remote::Standby;
use super::shared::SharedWrite;
use super::step::Turn;

impl Turn<'_> {
    /// A copy that was made anew counts where no list has said anything of the one before it, or
    /// where the list names this member alone: nobody else is said to have more.
    pub(super) fn count_copy_if_alone(&mut self, standby: &Standby) {
        let record = self.s.sync_record();
        let counts = match &record.leader {
            None => !self.s.sync_seen || self.my_name_creates(),
            Some(leader) if *leader != self.s.me.name || !record.standbys.is_empty() => false,
            Some(_) => self.my_name_creates() || self.remote_is_ours(standby),
        };
        if counts {
            self.lead_with_this_copy();
        }
    }

    /// It streams from whom it is to follow, and that is no member of this cluster: what a member
    /// sends says nothing of the remote primary's WAL.
    pub(super) fn streams_from_remote(&mut self, standby: &Standby, facts: &PgFacts) -> bool {
        let sender = facts.sender.as_ref().filter(|_| facts.streaming);
        let Some((host, port)) = sender.filter(|sender| standby.names(sender)) else {
            return false;
        };
        let own = self.member_at(host, *port);
        if let Some(name) = &own {
            self.explain_own(name);
        }
        own.is_none()
    }

    /// The record of the synchronous set in a standby cluster; true: it is as it should be.
    ///
    /// Whoever was admitted to the lock, or named by a person, takes the place of the leader before;
    /// who claimed it under a view that lagged does not. Once the remote primary's WAL arrives,
    /// every member is as good as any: what they had is in it.
    pub(super) fn keep_standby_set(&mut self, streams: bool) -> bool {
        let record = self.s.sync_record();
        if record.leader.is_none() && !self.s.rules.synchronous_mode {
            return true;
        }
        let leader = record.leader.clone();
        let me = self.s.me.name.clone();
        let others = |names: Vec<Name>| -> Vec<Name> {
            let mut names: Vec<Name> = names.into_iter().filter(|name| *name != me).collect();
            names.sort();
            names.dedup();
            names
        };
        let standbys = if streams {
            let members = self.s.shared.as_ref().map(|shared| &shared.members);
            others(members.map_or_else(Vec::new, |members| members.keys().cloned().collect()))
        } else if leader.as_ref() == Some(&me) || !(self.has_led() || self.failover_to_me()) {
            return true;
        } else if self.failover_to_me() || leader.is_none() {
            Vec::new()
        } else {
            // In a quorum each may lack what others have confirmed: not its leader.
            let all_have_it = record.quorum == 0;
            let listed = record.standbys.iter().filter(|_| all_have_it);
            others(listed.cloned().chain(leader.clone()).collect())
        };
        if leader.as_ref() == Some(&me) && record.standbys == standbys && record.quorum == 0 {
            if streams {
                self.lead_with_this_copy();
            }
            return true;
        }
        let words = format!("the members that may lead: {me} and {standbys:?}");
        self.explain_once("sync", Rule::StandbyCluster, words);
        self.write_shared(SharedWrite::Sync {
            leader: me,
            standbys,
            quorum: 0,
            expect: record.resource_version,
        });
        false
    }
}
