//! Whom a replica streams from, and whom an empty member copies, where tags say so.
//!
//! `replicatefrom` names another member; the leader is followed where that one cannot give what
//! the leader could: it is not there, not on the leader's timeline, receives nothing itself, or
//! would follow whoever asks. `nostream` wants WAL from an archive alone. `clonefrom` offers a
//! replica as the source of copies.

use super::effect::{Effect, Rule};
use super::event::Op;
use super::model::{Member, Ms, Name};
use super::remote::REMOTE;
use super::step::Turn;
use serde::{Deserialize, Serialize};

/// A member that gave nothing for so long is not followed any more.
const SILENT_MS: Ms = 10_000;
/// And not again before that long.
const AGAIN_MS: Ms = 60_000;
/// The topic of that.
const TOPIC: &str = "cascade";

/// My own tags about streaming.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StreamTags {
    /// `nostream`: WAL comes from an archive alone.
    pub nostream: bool,
    /// `replicatefrom`: from this member, if it can.
    pub replicatefrom: Option<Name>,
}

impl Turn<'_> {
    /// Whom I stream from while this one leads; nobody where a tag says so.
    pub(super) fn upstream_under(&mut self, leader: Name) -> Option<Name> {
        if self.s.stream.nostream {
            return None;
        }
        let Some(wanted) = self.s.stream.replicatefrom.clone() else {
            return Some(leader);
        };
        if wanted == leader || leader == REMOTE {
            return Some(leader);
        }
        let why = match self.can_feed(&wanted, &leader) {
            Err(why) => why,
            Ok(()) if self.gives_nothing(&wanted) => {
                let again = self.now + AGAIN_MS;
                self.s.not_before.insert(TOPIC.to_owned(), again);
                format!("nothing came from it for {SILENT_MS} ms")
            }
            Ok(())
                if self
                    .s
                    .not_before
                    .get(TOPIC)
                    .is_some_and(|at| self.now < *at) =>
            {
                return Some(leader);
            }
            Ok(()) => {
                self.settled(TOPIC);
                return Some(wanted);
            }
        };
        let words = format!("replicatefrom: I follow {leader} and not {wanted}: {why}");
        self.explain_once(TOPIC, Rule::Replica, words);
        Some(leader)
    }

    /// It receives what the leader writes, and not through me.
    fn can_feed(&self, name: &Name, leader: &Name) -> Result<(), String> {
        let Some(shared) = &self.s.shared else {
            return Err("the cluster is not known".to_owned());
        };
        let Some(member) = shared.members.get(name) else {
            return Err("there is no such member".to_owned());
        };
        if self.leads_back(name) {
            return Err("it would follow me".to_owned());
        }
        if member.state != "running" || member.replication_state.as_deref() != Some("streaming") {
            return Err("it does not stream itself".to_owned());
        }
        let newest = shared
            .members
            .get(leader)
            .and_then(|leader| leader.timeline);
        if member.timeline != newest {
            return Err("it is not on the leader's timeline".to_owned());
        }
        Ok(())
    }

    /// Along the tags, whoever feeds it is fed by me.
    fn leads_back(&self, from: &Name) -> bool {
        let Some(shared) = &self.s.shared else {
            return false;
        };
        let (mut name, mut left) = (from, shared.members.len());
        while *name != self.s.me.name && left > 0 {
            let member = shared.members.get(name);
            let Some(next) = member.and_then(|member| member.tags.get("replicatefrom")) else {
                return false;
            };
            (name, left) = (next, left - 1);
        }
        true
    }

    fn gives_nothing(&self, name: &Name) -> bool {
        let since = self.s.pg.unstreamed_since;
        let mine = self.s.pg.upstream.as_ref() == Some(name);
        mine && since.is_some_and(|since| self.now >= since + SILENT_MS)
    }

    /// Stream from whom the tags say, under this leader.
    pub(super) fn follow_as_tagged(&mut self, leader: Name) {
        match self.upstream_under(leader) {
            Some(upstream) => self.follow_leader(upstream),
            None => self.follow_nobody(),
        }
    }

    /// `nostream`: no receiver, and the files as they should be.
    fn follow_nobody(&mut self) {
        let receives = self.s.pg.facts.as_ref().is_some_and(|f| f.sender.is_some());
        let stale = self.s.pg.settings_stale || self.s.pg.upstream.is_some();
        if (receives || stale) && self.may("Follow", self.s.budgets.renew_ms / 2) {
            self.s.pg.upstream = None;
            self.s.pg.settings_stale = false;
            self.begin(Op::StopReceiver, Effect::StopReceiver);
        }
    }

    /// Whom to copy where there is nothing: a replica that offers itself, else the leader, which
    /// also is asked where the last copy failed.
    pub(super) fn copy_source(&self, leader: Name) -> Name {
        let failed = self.s.pg.failed_clones;
        let Some(shared) = self.s.shared.as_ref() else {
            return leader;
        };
        if failed.0 > 0 && failed.1 == self.record_epoch() {
            return leader;
        }
        let offers = |(name, member): &(&Name, &Member)| {
            **name != self.s.me.name
                && member
                    .tags
                    .get("clonefrom")
                    .is_some_and(|tag| tag == "true")
                && self.can_feed(name, &leader).is_ok()
        };
        let sources: Vec<&Name> = shared
            .members
            .iter()
            .filter(offers)
            .map(|(n, _)| n)
            .collect();
        // Members that begin together do not all burden one.
        let mine: usize = self.s.me.name.bytes().map(usize::from).sum();
        match sources.len() {
            0 => leader,
            all => sources[mine % all].clone(),
        }
    }
}
