//! Quorum commit: the way from one set to another, and the election by votes.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use super::conditions::{acknowledge, shared_seen};
use super::*;
use pgwarden::ha::event::{Ask, Op};
use pgwarden::ha::quorum::{Change, Voters, next_change};
use pgwarden::ha::shared::{SharedWrite, SyncRecord};
use pgwarden::ha::state::Process;

/// Numbers that look like chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn some_of(&mut self, names: &[&str]) -> Vec<String> {
        let picked = names
            .iter()
            .filter(|_| !self.0.is_multiple_of(3) && self.below(3) > 0);
        picked.map(|name| (*name).to_owned()).collect()
    }

    fn target(&mut self) -> SyncSetting {
        let names = self.some_of(&["b", "c", "d", "e"]);
        let need = 1 + self.below(2);
        match self.below(4) {
            0 => SyncSetting::default(),
            1 => SyncSetting::nobody(),
            2 => SyncSetting::all(names.into_iter().take(need)),
            _ => {
                let need = need.min(names.len());
                SyncSetting::any(names, need)
            }
        }
    }
}

/// Everything that may be in force and everything that may be published, as a leader that loses
/// answers brings it about.
struct Sides {
    enforced: Vec<SyncSetting>,
    settled: bool,
    promised: Vec<Voters>,
}

impl Sides {
    fn check(&self, step: usize) {
        for setting in &self.enforced {
            for voters in &self.promised {
                let none = setting.names.iter().any(|name| name.starts_with("__"));
                assert!(
                    none || setting.covers(voters),
                    "step {step}: {setting} does not keep what {voters} promises"
                );
            }
        }
    }

    fn in_force(&self) -> Option<&SyncSetting> {
        let one = self.enforced.len() == 1 && self.settled;
        self.enforced.first().filter(|_| one)
    }

    fn enforce(&mut self, setting: SyncSetting) {
        if self.enforced.last() != Some(&setting) {
            self.enforced.push(setting);
            self.settled = false;
        }
    }

    fn publish(&mut self, voters: Voters) {
        if !self.promised.contains(&voters) {
            self.promised.push(voters);
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Enforce(setting) => self.enforce(setting),
            Change::Publish(voters) => self.publish(voters),
            Change::EnforceThenPublish(setting, voters) => {
                self.enforce(setting.clone());
                if self.in_force() == Some(&setting) {
                    self.publish(voters);
                }
            }
        }
    }

    /// What was ordered last is in force, and confirmed if those are there.
    fn confirm(&mut self, there: &[String]) {
        if let Some(last) = self.enforced.pop() {
            let flushed = last.names.iter().filter(|name| there.contains(name));
            self.settled |= flushed.count() >= last.need;
            self.enforced = vec![last];
        }
    }

    fn acknowledge(&mut self) {
        if let Some(last) = self.promised.pop() {
            self.promised = vec![last];
        }
    }
}

#[test]
fn whatever_is_enforced_keeps_whatever_is_published() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut sides = Sides {
        enforced: vec![SyncSetting::default()],
        settled: true,
        promised: vec![Voters::default()],
    };
    let mut target = SyncSetting::default();
    let mut there = Vec::new();
    for step in 0..300_000 {
        match dice.below(8) {
            0 => target = dice.target(),
            1 => there = dice.some_of(&["b", "c", "d", "e"]),
            2 | 3 => sides.confirm(&there),
            4 | 5 => sides.acknowledge(),
            _ => {
                let in_force = sides.in_force().cloned();
                let is_there = |name: &String| there.contains(name);
                let change = next_change(&sides.promised, in_force.as_ref(), &target, is_there);
                sides.apply(change);
            }
        }
        sides.check(step);
    }
}

#[test]
fn every_target_is_reached_while_who_is_wanted_is_there() {
    let mut dice = Dice(77);
    for round in 0..20_000 {
        let before = dice.target();
        let target = dice.target();
        let mut sides = Sides {
            enforced: vec![before.clone()],
            settled: dice.below(2) == 0,
            promised: vec![before.voters()],
        };
        let is_there = |name: &String| target.names.contains(name);
        let mut changes = 0;
        while sides.promised != [target.voters()] || sides.in_force() != Some(&target) {
            let in_force = sides.in_force().cloned();
            let change = next_change(&sides.promised, in_force.as_ref(), &target, is_there);
            sides.apply(change);
            sides.confirm(&target.names);
            // Nobody waits for a standby that does not exist to confirm.
            sides.settled |= target == SyncSetting::nobody();
            sides.acknowledge();
            changes += 1;
            assert!(
                changes < 8,
                "round {round}: from {before} to {target}: {:?}",
                sides.promised
            );
        }
    }
}

/// `a` of the set `a`, `c`, `d` of the dead `b`, whose record is old: a member of a quorum.
fn voter(votes: usize) -> (State, u64) {
    let mut state = replica();
    let lock = held("b", 4, 50);
    read(&mut state, lock, START + 10);
    let mut shared = state.shared.as_deref().cloned().unwrap();
    shared.config.rules = Some(Rules {
        synchronous_mode: true,
        sync: SyncRules {
            quorum: true,
            ..SyncRules::default()
        },
        ..rules()
    });
    shared.sync = SyncRecord {
        leader: Some("b".into()),
        standbys: vec!["a".into(), "c".into(), "d".into()],
        quorum: votes,
        resource_version: Some("60".into()),
    };
    for name in ["c", "d"] {
        let member = Member {
            api_url: format!("http://{name}/patroni"),
            role: "replica".into(),
            state: "running".into(),
            ..Member::default()
        };
        shared.members.insert(name.into(), member);
    }
    shared_seen(&mut state, shared, true, START + 11);
    (state, START + 8_000)
}

fn asked_for_votes(effects: &[Effect]) -> Option<(u64, Vec<String>)> {
    effects.iter().find_map(|effect| match effect {
        Effect::AskVotes { round, peers, .. } => {
            Some((*round, peers.iter().map(|(name, _)| name.clone()).collect()))
        }
        _ => None,
    })
}

fn vote(state: &mut State, round: u64, name: &str, lsn: u64, now: u64) -> Vec<Effect> {
    let voted = Event::Voted {
        round,
        name: name.into(),
        vote: Ok((1, Lsn(lsn))),
    };
    step(state, voted, now)
}

fn answers(state: &mut State, round: u64, now: u64) {
    for name in ["c", "d"] {
        let unreachable = Event::PeerAnswered {
            round,
            name: name.into(),
            status: None,
        };
        step(state, unreachable, now);
    }
}

#[test]
fn a_member_of_a_quorum_leads_only_with_votes() {
    let (mut state, now) = voter(2);
    let effects = step(&mut state, Event::Tick, now);
    let (round, asked) = asked_for_votes(&effects).expect("votes are asked for");
    assert_eq!(asked, ["c", "d"]);
    answers(&mut state, round, now + 1);
    let effects = vote(&mut state, round, "c", 100, now + 2);
    assert!(
        !effects.contains(&Effect::ReadLock),
        "one vote of two: {effects:?}"
    );
    let effects = vote(&mut state, round, "d", 90, now + 3);
    assert!(
        effects.contains(&Effect::ReadLock),
        "two votes: {effects:?}"
    );
}

#[test]
fn a_vote_of_who_has_more_is_none_for_me() {
    let (mut state, now) = voter(1);
    let effects = step(&mut state, Event::Tick, now);
    let (round, _) = asked_for_votes(&effects).unwrap();
    answers(&mut state, round, now + 1);
    let effects = vote(&mut state, round, "c", 101, now + 2);
    assert!(!effects.contains(&Effect::ReadLock), "{effects:?}");
    let effects = vote(&mut state, round, "d", 100, now + 3);
    assert!(effects.contains(&Effect::ReadLock), "{effects:?}");
}

#[test]
fn votes_count_for_the_claim_that_they_were_cast_for() {
    let (mut state, now) = voter(1);
    let effects = step(&mut state, Event::Tick, now);
    let (round, _) = asked_for_votes(&effects).unwrap();
    answers(&mut state, round, now + 1);
    vote(&mut state, round, "c", 100, now + 2);
    let effects = read(&mut state, held("b", 4, 50), now + 3);
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::WriteLock { .. })),
        "{effects:?}"
    );
    acknowledge(&mut state, 51, now + 5);
    // The last word of the leader before: another vote is needed.
    let mut shared = state.shared.as_deref().cloned().unwrap();
    shared.sync.quorum = 2;
    shared.sync.resource_version = Some("61".into());
    let mut later = state.clone();
    let effects = shared_seen(&mut later, shared.clone(), true, now + 6);
    let released = |e: &Effect| {
        matches!(
            e,
            Effect::WriteLock {
                write: LockWrite::Release { .. },
                ..
            }
        )
    };
    assert!(effects.iter().any(released), "one vote of two: {effects:?}");
    // As it was: mine.
    shared.sync.quorum = 1;
    let effects = shared_seen(&mut state, shared, true, now + 6);
    let publishes = |e: &Effect| matches!(e, Effect::WriteShared(SharedWrite::Sync { .. }));
    assert!(effects.iter().any(publishes), "{effects:?}");
}

/// `c` asks for a vote about the lock as I see it.
fn asked_to_vote(state: &mut State, fields: &str, now: u64) -> Vec<Effect> {
    let ask = Ask::Vote {
        fields: fields.to_owned(),
    };
    step(state, Event::Asked { id: 9, ask }, now)
}

fn refused(effects: &[Effect]) -> bool {
    let no = |e: &Effect| {
        matches!(
            e,
            Effect::Answer {
                id: 9,
                done: false,
                ..
            }
        )
    };
    effects.iter().any(no)
}

fn fields(state: &State) -> String {
    state.lock.snapshot.as_ref().unwrap().fields.clone()
}

#[test]
fn a_vote_is_cast_after_the_receiver_has_stopped() {
    let (mut state, now) = voter(2);
    let about = fields(&state);
    let effects = asked_to_vote(&mut state, &about, now);
    assert!(effects.contains(&Effect::StopReceiver), "{effects:?}");
    assert!(!refused(&effects), "{effects:?}");
    let cast = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Vote { .. }));
    let stopped = Event::OpDone {
        op: Op::StopReceiver,
        result: Ok(()),
    };
    let effects = step(&mut state, stopped, now + 50);
    assert!(
        !cast(&effects),
        "what is known was read before: {effects:?}"
    );
    let seen = |asked_at| PgFacts {
        asked_at,
        drained: true,
        ..facts(true)
    };
    let effects = step(&mut state, Event::PgSeen(seen(now + 49)), now + 51);
    assert!(!cast(&effects), "{effects:?}");
    let effects = step(&mut state, Event::PgSeen(seen(now + 60)), now + 62);
    assert!(cast(&effects), "{effects:?}");
    // The leader of before is not followed again, whatever becomes of this agent.
    assert_eq!(state.lock.memory().voted, Some(about));
    let effects = step(&mut state, Event::Tick, now + 2_000);
    assert!(
        !effects.iter().any(|e| matches!(e, Effect::Follow { .. })),
        "{effects:?}"
    );
    // Until it renews, or another leads.
    let effects = read(&mut state, held("c", 5, 70), now + 2_100);
    let follows = |e: &Effect| matches!(e, Effect::Follow { upstream } if upstream == "c");
    assert!(effects.iter().any(follows), "{effects:?}");
}

#[test]
fn nobody_votes_about_a_lock_that_is_held_or_another() {
    let (mut state, now) = voter(2);
    let about = fields(&state);
    // Fresh: its holder has just renewed it.
    read(&mut state, held("b", 4, 51), now - 1_000);
    let effects = asked_to_vote(&mut state, &about, now - 900);
    assert!(refused(&effects), "another record: {effects:?}");
    let about = fields(&state);
    let effects = asked_to_vote(&mut state, &about, now - 800);
    assert!(refused(&effects), "not free: {effects:?}");
    assert!(!effects.contains(&Effect::StopReceiver), "{effects:?}");
}

#[test]
fn who_may_have_more_than_it_has_replayed_does_not_vote() {
    let (mut state, now) = voter(2);
    let about = fields(&state);
    asked_to_vote(&mut state, &about, now);
    let stopped = Event::OpDone {
        op: Op::StopReceiver,
        result: Ok(()),
    };
    step(&mut state, stopped, now + 50);
    let seen = PgFacts {
        asked_at: now + 60,
        drained: false,
        ..facts(true)
    };
    let effects = step(&mut state, Event::PgSeen(seen), now + 62);
    assert!(refused(&effects), "{effects:?}");
    assert!(matches!(state.pg.process, Process::Running { .. }));
}
