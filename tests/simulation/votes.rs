//! Votes between members, and a container that is frozen whole and wakes up.

use crate::act::Act;
use crate::node::Life;
use crate::world::{TTL_MS, World};
use pgwarden::ha::cascade::StreamTags;
use pgwarden::ha::event::{Ask, Event};
use pgwarden::ha::model::{Lsn, Name, Timeline};
use pgwarden::ha::shared::Rules;
use std::collections::BTreeMap;

/// Where the answer to a question goes.
pub(crate) struct Candidate {
    node: usize,
    life: Life,
    round: u64,
}

/// What synchronous mode asks for, by the seed.
pub(crate) fn sync_rules(seed: u64, rules: &mut Rules) {
    let variant = seed / 16;
    rules.sync.quorum = variant % 2 == 1;
    rules.sync.count = 1 + (variant / 2 % 2) as usize;
    rules.sync.strict = variant / 4 % 4 == 3;
}

/// How many members, by the seed: enough for a quorum to be a choice.
pub(crate) fn members(seed: u64) -> usize {
    match seed / 16 % 8 {
        3 | 5 => 4,
        7 => 5,
        _ => 3,
    }
}

/// The tags of a member, by the seed: in a larger cluster somebody cascades, somebody offers copies
/// and somebody is preferred.
pub(crate) fn tags(seed: u64, node: usize) -> BTreeMap<String, String> {
    let tags: &[(&str, &str)] = match (members(seed), node) {
        (4.., 1) => &[("clonefrom", "true"), ("sync_priority", "3")],
        (4.., 2) => &[("failover_priority", "2")],
        (4.., 3) => &[("replicatefrom", "pg-1")],
        (5, 4) => &[("replicatefrom", "pg-3")],
        _ => &[],
    };
    let owned = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    owned.collect()
}

/// As its agent reads them.
pub(crate) fn stream_tags(seed: u64, node: usize) -> StreamTags {
    StreamTags {
        nostream: false,
        replicatefrom: tags(seed, node).remove("replicatefrom"),
    }
}

impl World {
    pub(crate) fn ask_votes(
        &mut self,
        node: usize,
        round: u64,
        fields: &str,
        peers: Vec<(Name, String)>,
    ) {
        let life = self.nodes[node].life;
        for (name, _) in peers {
            let peer = self.nodes.iter().position(|n| n.name == name);
            let delay = self.rng.range(1, 15);
            if let Some(peer) = peer {
                let fields = fields.to_owned();
                let ask = Act::AskVote {
                    node,
                    life,
                    round,
                    peer,
                    fields,
                };
                self.schedule(delay, ask);
            }
        }
    }

    pub(crate) fn put_vote_question(&mut self, act: Act) {
        let Act::AskVote {
            node,
            life,
            round,
            peer,
            fields,
        } = act
        else {
            return;
        };
        let other = &self.nodes[peer];
        if self.nodes[node].cut_peers || other.cut_peers || other.state.is_none() {
            return;
        }
        let peer_life = other.life;
        let id = self.next_id();
        self.candidates.insert(id, Candidate { node, life, round });
        let ask = Ask::Vote { fields };
        self.tell(1, peer, peer_life, Event::Asked { id, ask });
    }

    /// True: it was a question for a vote.
    pub(crate) fn answer_candidate(
        &mut self,
        peer: usize,
        id: u64,
        vote: Result<(Timeline, Lsn), String>,
    ) -> bool {
        let Some(Candidate { node, life, round }) = self.candidates.remove(&id) else {
            return false;
        };
        if !self.nodes[node].cut_peers && !self.nodes[peer].cut_peers {
            let name = self.nodes[peer].name.clone();
            let voted = Event::Voted { round, name, vote };
            let delay = self.rng.range(1, 30);
            self.tell(delay, node, life, voted);
        }
        true
    }

    /// Guardian, agent and server stand still together, longer than D, and go on one after the
    /// other: no timer of theirs runs meanwhile.
    pub(crate) fn freeze_container(&mut self) {
        let Some(node) = self.leader() else { return };
        let ms = TTL_MS + self.rng.range(0, 2_000);
        let (agent, guardian) = (self.rng.range(1, 60), self.rng.range(1, 100));
        self.note(|| format!("FAULT the container of {node} is frozen for {ms} ms"));
        self.freeze_server(node, ms);
        self.freeze_agent(node, ms + agent);
        self.nodes[node].guardian_frozen_until = self.now + ms + guardian;
    }

    /// Synchronous mode is changed while commits run.
    pub(crate) fn change_sync(&mut self) {
        let what = self.rng.range(0, 3);
        self.note(|| format!("FAULT synchronous mode is changed ({what})"));
        self.store.edit_rules(|rules| match what {
            0 => rules.sync.quorum = !rules.sync.quorum,
            1 => rules.sync.count = 3 - rules.sync.count.min(2),
            2 => rules.sync.strict = !rules.sync.strict,
            _ => {
                rules.sync.quorum = !rules.sync.quorum;
                rules.sync.count = 3 - rules.sync.count.min(2);
            }
        });
        self.shared_changed();
    }
}
