//! What is another since the last picture, and for how long that is marked.

use super::asker::Answer;
use crate::cli::cluster::{Cluster, Row};
use crate::cli::render::title_case;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// How long a change is marked.
const MARKED: Duration = Duration::from_secs(10);
/// How many lines of news are kept.
const NEWS: usize = 50;

/// Which cell of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cell {
    Role,
    State,
    Timeline,
}

/// How a lag went on since the last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trend {
    Grows,
    Shrinks,
    Stays,
}

/// What is known of the cluster.
#[derive(Default)]
pub(super) struct Memory {
    /// The last answer, who gave it and when.
    pub(super) seen: Option<Seen>,
    /// Who did not answer, and why.
    pub(super) missed: Vec<String>,
    /// Nobody answered the last question.
    pub(super) deaf: bool,
    /// What happened, the newest first.
    pub(super) news: VecDeque<String>,
    marks: BTreeMap<(String, Cell), Instant>,
    before: BTreeMap<String, (Option<u64>, Option<u64>)>,
}

/// An answer with its time.
pub(super) struct Seen {
    pub(super) cluster: Cluster,
    pub(super) who: String,
    pub(super) at: Instant,
}

impl Memory {
    /// An answer came now; `clock` is the time of day for people.
    pub(super) fn learn(&mut self, answer: Answer, now: Instant, clock: &str) {
        let Answer {
            cluster,
            who,
            missed,
        } = answer;
        self.marks.retain(|_, until| *until > now);
        self.before.clear();
        if let Some(seen) = self.seen.take() {
            // Read from the top, they stand in the order of the members.
            for change in between(&seen.cluster, &cluster).into_iter().rev() {
                if let Some(cell) = change.cell {
                    self.marks.insert((change.member, cell), now + MARKED);
                }
                self.tell(clock, &change.words);
            }
            for row in seen.cluster.members {
                self.before
                    .insert(row.name, (row.receive_lag, row.replay_lag));
            }
            if seen.who != who {
                self.tell(clock, &format!("{} does not answer, {who} does", seen.who));
            }
        }
        self.missed = missed;
        self.deaf = false;
        self.seen = Some(Seen {
            cluster,
            who,
            at: now,
        });
    }

    /// Nobody answered.
    pub(super) fn miss(&mut self, missed: Vec<String>) {
        self.missed = missed;
        self.deaf = true;
    }

    fn tell(&mut self, clock: &str, words: &str) {
        let time = clock.rsplit(' ').next().unwrap_or(clock);
        self.news.push_front(format!("{time}  {words}"));
        self.news.truncate(NEWS);
    }

    /// Whether a cell is to be marked.
    pub(super) fn is_marked(&self, member: &str, cell: Cell, now: Instant) -> bool {
        let until = self.marks.get(&(member.to_owned(), cell));
        until.is_some_and(|until| *until > now)
    }

    /// How the lags of a member went on: of receiving, of replaying.
    pub(super) fn trends(&self, row: &Row) -> (Trend, Trend) {
        let (receive, replay) = self.before.get(&row.name).copied().unwrap_or_default();
        (
            trend(receive, row.receive_lag),
            trend(replay, row.replay_lag),
        )
    }
}

fn trend(before: Option<u64>, now: Option<u64>) -> Trend {
    match (before, now) {
        (Some(before), Some(now)) if now > before => Trend::Grows,
        (Some(before), Some(now)) if now < before => Trend::Shrinks,
        _ => Trend::Stays,
    }
}

struct Change {
    member: String,
    cell: Option<Cell>,
    words: String,
}

fn between(old: &Cluster, new: &Cluster) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut add = |member: &str, cell: Option<Cell>, words: String| {
        changes.push(Change {
            member: member.to_owned(),
            cell,
            words,
        });
    };
    for row in &new.members {
        let name = &row.name;
        let Some(was) = old.members.iter().find(|was| was.name == *name) else {
            add(name, Some(Cell::State), format!("{name} is new"));
            continue;
        };
        if was.role != row.role {
            let (from, to) = (title_case(&was.role), title_case(&row.role));
            add(name, Some(Cell::Role), format!("{name}: {from} -> {to}"));
        }
        if was.state != row.state {
            let words = format!("{name}: {} -> {}", was.state, row.state);
            add(name, Some(Cell::State), words);
        }
        if let (Some(from), Some(to)) = (was.timeline, row.timeline)
            && from != to
        {
            let words = format!("{name}: timeline {from} -> {to}");
            add(name, Some(Cell::Timeline), words);
        }
    }
    for was in &old.members {
        if !new.members.iter().any(|row| row.name == was.name) {
            add(&was.name, None, format!("{} is gone", was.name));
        }
    }
    if old.pause != new.pause {
        let word = if new.pause { "on" } else { "off" };
        add("", None, format!("maintenance mode: {word}"));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn answer(members: Value, who: &str) -> Answer {
        let body = json!({ "scope": "bench", "members": members });
        Answer {
            cluster: Cluster::decode(&body, None).expect("a cluster"),
            who: who.to_owned(),
            missed: Vec::new(),
        }
    }

    #[test]
    fn changes_are_marked_for_a_while_and_told() {
        let mut memory = Memory::default();
        let start = Instant::now();
        let member = |name: &str, role: &str, state: &str, lag: u64| json!({ "name": name, "role": role, "state": state, "timeline": 1, "replay_lag": lag });
        let first = json!([
            member("a", "leader", "running", 0),
            member("b", "replica", "x", 5)
        ]);
        memory.learn(answer(first, "a"), start, "2026-11-28 09:00:00");
        assert!(memory.news.is_empty());
        let second = json!([
            member("b", "sync_standby", "streaming", 9),
            member("c", "replica", "starting", 0)
        ]);
        let later = start + Duration::from_secs(2);
        memory.learn(answer(second, "b"), later, "2026-11-28 09:00:02");
        let news: Vec<_> = memory.news.iter().map(String::as_str).collect();
        assert_eq!(
            news,
            [
                "09:00:02  a does not answer, b does",
                "09:00:02  b: Replica -> Sync Standby",
                "09:00:02  b: x -> streaming",
                "09:00:02  c is new",
                "09:00:02  a is gone",
            ]
        );
        assert!(memory.is_marked("b", Cell::Role, later));
        assert!(!memory.is_marked("b", Cell::Timeline, later));
        assert!(!memory.is_marked("b", Cell::Role, later + MARKED));
        let seen = memory.seen.as_ref().expect("an answer");
        assert_eq!(
            memory.trends(&seen.cluster.members[0]),
            (Trend::Stays, Trend::Grows)
        );
        assert_eq!(
            memory.trends(&seen.cluster.members[1]),
            (Trend::Stays, Trend::Stays)
        );
    }

    #[test]
    fn news_have_a_bound() {
        let mut memory = Memory::default();
        for number in 0..2 * NEWS {
            memory.tell("t", &number.to_string());
        }
        assert_eq!(memory.news.len(), NEWS);
        assert!(memory.news[0].ends_with(&(2 * NEWS - 1).to_string()));
    }
}
