//! Which standbys a commit waits for, which members may lead, and how to get from one to another.
//!
//! A commit is acknowledged once `need` of the names that PostgreSQL enforces have it. A member of
//! the published set may lead once `quorum` others of that set say that they have nothing it lacks.
//! The two fit together while any `quorum + 1` members of the set and any `need` of the names have
//! one in common: `quorum + need ≥ |set ∪ names|`. With as many needed as there are names the
//! quorum is 0, and whoever is in the set holds every commit: `synchronous_mode: on`.
//!
//! Both sides are changed one after the other, and either may be lost or late on its way, so this
//! has to hold between all that may be in force and all that may be published.

use super::model::Name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Enforced where strict synchronous mode knows no standby: the name of nobody, so that commits
/// wait. Patroni knows it by the same name.
pub const NOBODY: &str = "__patroni_strict_sync_replica_placeholder__";

/// What PostgreSQL enforces: a commit waits until `need` of `names` have flushed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SyncSetting {
    /// The standbys, sorted; none: commits wait for nobody.
    pub names: Vec<Name>,
    /// How many of them have to answer.
    pub need: usize,
    /// Written as `ANY`: PostgreSQL shows them as `quorum`, not `sync`.
    pub any: bool,
}

/// The published set: who may lead, and with how many votes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Voters {
    /// The standbys, sorted.
    pub standbys: Vec<Name>,
    /// How many others of them have to vote for one before it may lead.
    #[serde(default)]
    pub quorum: usize,
}

impl Voters {
    /// These, with so many votes.
    pub fn of(standbys: &[Name], quorum: usize) -> Self {
        Self {
            standbys: sorted(standbys.iter().cloned()),
            quorum,
        }
    }
}

/// The next change on the way to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Enforce this; the target is published already.
    Enforce(SyncSetting),
    /// Enforce this; once it is in force, publish that.
    EnforceThenPublish(SyncSetting, Voters),
    /// Publish this: what is in force allows it.
    Publish(Voters),
}

fn sorted(names: impl IntoIterator<Item = Name>) -> Vec<Name> {
    let set: BTreeSet<Name> = names.into_iter().collect();
    set.into_iter().collect()
}

fn union<'a>(one: &'a [Name], other: &'a [Name]) -> BTreeSet<&'a Name> {
    one.iter().chain(other).collect()
}

impl SyncSetting {
    /// All of these have every commit.
    pub fn all(names: impl IntoIterator<Item = Name>) -> Self {
        let names = sorted(names);
        let need = names.len();
        Self {
            names,
            need,
            any: false,
        }
    }

    /// `need` of these have it.
    pub fn any(names: impl IntoIterator<Item = Name>, need: usize) -> Self {
        let names = sorted(names);
        Self {
            need: need.min(names.len()),
            any: !names.is_empty(),
            names,
        }
    }

    /// Commits wait for a standby that does not exist.
    pub fn nobody() -> Self {
        Self::all([NOBODY.to_owned()])
    }

    /// Who is published may lead while this is in force: no acknowledged commit is missing there.
    pub fn covers(&self, voters: &Voters) -> bool {
        voters.standbys.is_empty()
            || voters.quorum + self.need >= union(&voters.standbys, &self.names).len()
    }

    /// The strongest promise that this setting keeps for its names.
    pub fn voters(&self) -> Voters {
        if self.names.iter().any(|name| name == NOBODY) {
            return Voters::default();
        }
        Voters {
            standbys: self.names.clone(),
            quorum: self.names.len() - self.need,
        }
    }
}

impl fmt::Display for SyncSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.names.len(), self.need) {
            (0, _) => write!(f, "no standby"),
            (all, need) if all == need => write!(f, "all of {:?}", self.names),
            (_, need) => write!(f, "any {need} of {:?}", self.names),
        }
    }
}

impl fmt::Display for Voters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.standbys)?;
        if self.quorum > 0 {
            write!(f, " with {} votes", self.quorum)?;
        }
        Ok(())
    }
}

/// The next change towards `target`, while any of `promised` may be published and `in_force` is
/// enforced, if anything is known to be.
pub fn next_change(
    promised: &[Voters],
    in_force: Option<&SyncSetting>,
    target: &SyncSetting,
    is_there: impl Fn(&Name) -> bool,
) -> Change {
    let voters = target.voters();
    if promised.iter().all(|known| *known == voters) {
        return Change::Enforce(target.clone());
    }
    if promised.iter().all(|known| target.covers(known)) {
        return Change::EnforceThenPublish(target.clone(), voters);
    }
    if in_force.is_some_and(|in_force| in_force.covers(&voters)) {
        return Change::Publish(voters);
    }
    // Enough for both sides at once, where enough of them are there to answer.
    let known = promised.iter().flat_map(|known| known.standbys.clone());
    let names = sorted(known.chain(voters.standbys.clone()));
    let least = promised.iter().map(|known| known.quorum);
    let least = least.chain([voters.quorum]).min().unwrap_or(0);
    let need = names.len().saturating_sub(least);
    let there = names.iter().filter(|name| is_there(name)).count();
    if !voters.standbys.is_empty() && there >= need {
        let both = if need == names.len() {
            SyncSetting::all(names)
        } else {
            SyncSetting::any(names, need)
        };
        return Change::EnforceThenPublish(both, voters);
    }
    Change::Publish(weaker(promised, target))
}

/// What all that may be in force keeps, and the target too: more votes for the same members where
/// that leaves anybody who can get them, else nobody.
fn weaker(promised: &[Voters], target: &SyncSetting) -> Voters {
    let [known] = promised else {
        return Voters::default();
    };
    let quorum = union(&known.standbys, &target.names).len() - target.need;
    if quorum < known.standbys.len() {
        Voters {
            standbys: known.standbys.clone(),
            quorum: quorum.max(known.quorum),
        }
    } else {
        Voters::default()
    }
}
