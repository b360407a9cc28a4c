//! A Patroni in the cluster (L10): its record and its release as this member may take them.
//!
//! During a migration some members run Patroni. Its record names a holder and nothing more: no Pod,
//! no incarnation, no place, so there is no proof of its death but its own release. It is followed
//! as any leader is, and waited for as any leader is. What the two programs promise together is what
//! Patroni promises.

use super::effect::Rule;
use super::lock::{Held, LockSnapshot, LockState, Released};
use super::model::{Identity, Member, Name};
use super::state::State;
use super::step::Turn;

impl Identity {
    /// A Patroni, of which a record tells the name alone.
    pub fn of_patroni(name: Name) -> Self {
        Self {
            name,
            pod_uid: String::new(),
            incarnation: String::new(),
        }
    }

    /// Whether it is a Patroni's.
    pub fn is_patronis(&self) -> bool {
        self.pod_uid.is_empty() && self.incarnation.is_empty()
    }
}

impl Held {
    /// The member whose Pod holds this lock: a Patroni's record knows no Pods (L1).
    pub(super) fn is_of_pod(&self, member: &Member) -> bool {
        self.holder.is_patronis() || member.pod_uid == self.holder.pod_uid
    }
}

impl State {
    /// The lock as this member may take it. The codec knows one sight of the object; what a
    /// Patroni's record means also depends on what was there before.
    pub(super) fn as_seen(&self, lock: LockSnapshot) -> LockSnapshot {
        let why = match &lock.state {
            LockState::Held(held) if self.is_my_own_edited(held) => {
                "somebody wrote past my record, under my name".to_owned()
            }
            LockState::Released(released) if released.by.is_patronis() => {
                match self.who_released(released) {
                    Some(by) => {
                        let released = Released {
                            by,
                            ..released.clone()
                        };
                        return LockSnapshot {
                            state: LockState::Released(released),
                            ..lock
                        };
                    }
                    // L4: nobody saw its holder, so that a hand may have emptied it.
                    None => "nobody holds it, and no Patroni was seen to hold it before".to_owned(),
                }
            }
            _ => return lock,
        };
        let epoch = lock.epoch();
        LockSnapshot {
            state: LockState::Garbled { why, epoch },
            ..lock
        }
    }

    /// A hand at my own record looks like a Patroni of my name. While I hold the lock I am no
    /// Patroni.
    fn is_my_own_edited(&self, held: &Held) -> bool {
        let mine = self.lease.held.as_ref();
        held.holder.is_patronis()
            && held.holder.name == self.me.name
            && mine.is_some_and(|mine| mine.epoch == held.epoch)
    }

    /// The Patroni that was seen to hold the lock in the epoch of this release.
    fn who_released(&self, released: &Released) -> Option<Identity> {
        let by = match &self.lock.snapshot.as_ref()?.state {
            LockState::Held(held) if held.epoch == released.epoch => &held.holder,
            LockState::Released(known) if known.epoch == released.epoch => &known.by,
            _ => return None,
        };
        by.is_patronis().then(|| by.clone())
    }

    /// What it takes for admission is the published set alone, and of equals it waits for nobody.
    pub(super) fn runs_patroni(&self, name: &str) -> bool {
        let shared = self.shared.as_ref();
        let member = shared.and_then(|shared| shared.members.get(name));
        member.is_some_and(|member| member.patroni)
    }

    /// Whether its failsafe map is in force. A Patroni leaves an old one standing when the mode
    /// ends.
    pub(super) fn map_counts(&self, held: &Held) -> bool {
        !held.holder.is_patronis() || self.rules.failsafe
    }
}

impl Turn<'_> {
    /// Said once for as long as it lasts.
    pub(super) fn explain_mixed(&mut self) {
        let shared = self.s.shared.as_ref();
        let members = shared.into_iter().flat_map(|shared| &shared.members);
        let names: Vec<&str> = members
            .filter(|(name, member)| member.patroni && **name != self.s.me.name)
            .map(|(name, _)| name.as_str())
            .collect();
        if names.is_empty() {
            return self.settled("mixed");
        }
        let words = format!(
            "mixed: {} runs Patroni; until it is replaced, what holds is what Patroni promises",
            names.join(", ")
        );
        self.explain_once("mixed", Rule::L10, words);
    }
}
