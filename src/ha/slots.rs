//! Replication slots: what a server, the record and the configuration say of them, and what is
//! changed. Which there have to be is decided in [`super::slot_keeping`].

use super::model::{Lsn, Ms};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a slot is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SlotKind {
    /// WAL as it is.
    Physical,
    /// Changes of one database, as a plugin writes them.
    Logical {
        /// The database.
        database: String,
        /// The output plugin.
        plugin: String,
    },
}

impl SlotKind {
    /// Decoded changes, not WAL.
    pub fn is_logical(&self) -> bool {
        matches!(self, Self::Logical { .. })
    }
}

impl fmt::Display for SlotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Physical => write!(f, "physical"),
            Self::Logical { database, plugin } => {
                write!(f, "logical, {plugin} in database {database}")
            }
        }
    }
}

/// A slot as the server shows it; temporary ones are not among them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlotFacts {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: SlotKind,
    /// Somebody uses it now.
    pub active: bool,
    /// How far it is: physical, from where WAL is kept; logical, up to where its consumer has
    /// confirmed. `None`: it keeps nothing yet.
    pub position: Option<Lsn>,
    /// Invalidated: what it was to keep is gone.
    pub lost: bool,
    /// It holds vacuum back.
    pub holds_xmin: bool,
    /// PostgreSQL itself takes it to the standbys, or has brought it (17 and later).
    #[serde(default)]
    pub by_server: bool,
}

/// Where a permanent physical slot is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterType {
    /// In a cluster with a primary.
    Primary,
    /// In a standby cluster.
    Standby,
}

/// A permanent slot of the dynamic configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Permanent {
    /// Its kind.
    pub kind: SlotKind,
    /// Only in clusters of this type; `None`: in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_type: Option<ClusterType>,
}

/// An entry of `ignore_slots`: a slot matches when everything that is said fits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlotPattern {
    /// Its name.
    pub name: Option<String>,
    /// Logical, or physical.
    pub logical: Option<bool>,
    /// A logical slot's database.
    pub database: Option<String>,
    /// A logical slot's plugin.
    pub plugin: Option<String>,
}

impl SlotPattern {
    /// Nothing that is said speaks against this slot.
    pub fn fits(&self, name: &str, kind: &SlotKind) -> bool {
        let (database, plugin) = match kind {
            SlotKind::Physical => (None, None),
            SlotKind::Logical { database, plugin } => (Some(database), Some(plugin)),
        };
        self.name.as_ref().is_none_or(|wanted| wanted == name)
            && self
                .logical
                .is_none_or(|wanted| wanted == kind.is_logical())
            && (self.database.is_none() || self.database.as_ref() == database)
            && (self.plugin.is_none() || self.plugin.as_ref() == plugin)
    }
}

/// What the dynamic configuration says of slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlotRules {
    /// `postgresql.use_slots` is false: none is made, moved or dropped.
    pub off: bool,
    /// `slots`.
    pub permanent: BTreeMap<String, Permanent>,
    /// `ignore_slots`: never dropped.
    pub ignore: Vec<SlotPattern>,
}

/// What a leader publishes of its slots with the lock record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlotRecord {
    /// How far each is: the members' and the permanent ones.
    pub positions: BTreeMap<String, Lsn>,
    /// The members' that are kept, whether or not the member is there.
    pub retained: BTreeSet<String>,
}

impl SlotRecord {
    /// There is nothing to publish.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty() && self.retained.is_empty()
    }
}

/// One change of the server's slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SlotChange {
    /// Make it; a physical one keeps WAL from now on.
    Create {
        /// Its name.
        name: String,
        /// Its kind.
        kind: SlotKind,
    },
    /// Drop it, unless somebody uses it by now.
    Drop {
        /// Its name.
        name: String,
    },
    /// Move it forward, unless somebody uses it by now.
    Advance {
        /// Its name.
        name: String,
        /// A logical slot's database.
        database: Option<String>,
        /// Where to.
        to: Lsn,
    },
}

impl SlotChange {
    /// The server has to decode WAL for it.
    pub(super) fn decodes(&self) -> bool {
        match self {
            Self::Create { kind, .. } => kind.is_logical(),
            Self::Advance { database, .. } => database.is_some(),
            Self::Drop { .. } => false,
        }
    }
}

impl fmt::Display for SlotChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { name, kind } => write!(f, "make {name} ({kind})"),
            Self::Drop { name } => write!(f, "drop {name}"),
            Self::Advance { name, to, .. } => write!(f, "move {name} to {to}"),
        }
    }
}

/// What a member remembers of slots between two steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlotTask {
    /// Slots on this server that were made or taken over here; kept beside the data directory.
    pub owned: BTreeSet<String>,
    /// By slot: when its member was there last, as the leader saw it.
    pub seen: BTreeMap<String, Ms>,
    /// The epoch of mine in which that was taken over from the record.
    pub seen_in: Option<u64>,
    /// Seen in use since this server has its role.
    pub used: BTreeSet<String>,
    /// The role that is about: in recovery or not.
    pub used_in_recovery: bool,
    /// A change is under way: not answered yet, and not waited for beyond.
    pub busy_until: Ms,
    /// When the last one ended: readings asked for before do not show it.
    pub changed_at: Ms,
    /// When what was compared last had been asked for: it need not be compared again.
    #[serde(default)]
    pub compared: Option<Ms>,
    /// Logical slots whose WAL this replica turned out not to have.
    pub broken: BTreeSet<String>,
    /// Copies of logical slots.
    pub copies: super::slot_copies::Copies,
}

/// The slot of a member, as Patroni names it: lower case, `-` and `.` become `_`, anything else its
/// code point (`u0032`), 63 characters at most.
pub fn slot_name(member: &str) -> String {
    let mut slot = String::with_capacity(member.len());
    for character in member.to_lowercase().chars() {
        match character {
            'a'..='z' | '0'..='9' | '_' => slot.push(character),
            '-' | '.' => slot.push('_'),
            other => slot.extend(format!("u{:04}", u32::from(other)).chars()),
        }
    }
    slot.truncate(63);
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_named_as_patroni_names_them() {
        assert_eq!(slot_name("Demo-0.x"), "demo_0_x");
        assert_eq!(slot_name("a b"), "au0032b");
        assert_eq!(slot_name(&"x".repeat(80)).len(), 63);
    }

    #[test]
    fn a_pattern_fits_by_everything_it_says() {
        let logical = SlotKind::Logical {
            database: "app".into(),
            plugin: "pgoutput".into(),
        };
        let pattern = SlotPattern {
            logical: Some(true),
            database: Some("app".into()),
            ..SlotPattern::default()
        };
        assert!(pattern.fits("any", &logical));
        assert!(!pattern.fits("any", &SlotKind::Physical));
        let named = SlotPattern {
            name: Some("a".into()),
            ..SlotPattern::default()
        };
        assert!(named.fits("a", &SlotKind::Physical) && !named.fits("b", &logical));
        let other = SlotPattern {
            plugin: Some("test_decoding".into()),
            ..pattern
        };
        assert!(!other.fits("any", &logical));
    }
}
