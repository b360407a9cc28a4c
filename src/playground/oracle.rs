//! The verdicts: two writers, the write gap, rows that are missing. Plain functions of the ledger.
//!
//! Two writers are an acknowledgement by the old primary of a statement *sent after* the new one's
//! first acknowledgement. An acknowledgement alone may come late: it says when the client read it,
//! not when the server committed. A statement sent after another member has acknowledged one can
//! only be acknowledged by somebody who still believes to be the primary.

use super::ledger::{Attempt, Us};
use std::collections::{BTreeMap, BTreeSet};

/// One member writing on one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reign {
    /// Who.
    pub(super) member: usize,
    /// On which timeline.
    pub(super) timeline: u32,
    /// Its first acknowledgement.
    pub(super) first_us: Us,
}

/// Two members who both acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TwoWriters {
    /// Who should have stopped.
    pub(super) old: Reign,
    /// Who had begun.
    pub(super) new: Reign,
    /// How many statements the old one acknowledged that were sent after the new one had begun.
    pub(super) rows: usize,
    /// How long after the new one's first acknowledgement the last of them was sent.
    pub(super) overlap_us: Us,
}

/// The reigns, in the order of their first acknowledgements.
fn reigns(attempts: &[Attempt]) -> Vec<Reign> {
    let mut first: BTreeMap<(usize, u32), Us> = BTreeMap::new();
    for attempt in attempts {
        if let Some((at_us, timeline)) = attempt.acked() {
            let known = first.entry((attempt.member, timeline)).or_insert(at_us);
            *known = at_us.min(*known);
        }
    }
    let mut reigns: Vec<Reign> = first
        .into_iter()
        .map(|((member, timeline), first_us)| Reign {
            member,
            timeline,
            first_us,
        })
        .collect();
    reigns.sort_by_key(|reign| reign.first_us);
    reigns
}

/// Every pair of members that wrote at one time. Only statements sent from `since_us` on count, so
/// that each accident answers for its own.
pub(super) fn two_writers(attempts: &[Attempt], since_us: Us) -> Vec<TwoWriters> {
    let reigns = reigns(attempts);
    let mut found: Vec<TwoWriters> = Vec::new();
    for attempt in attempts
        .iter()
        .filter(|attempt| attempt.sent_us >= since_us)
    {
        let Some((_, timeline)) = attempt.acked() else {
            continue;
        };
        let own = |reign: &&Reign| reign.member == attempt.member && reign.timeline == timeline;
        let Some(old) = reigns.iter().find(own) else {
            continue;
        };
        let later = reigns.iter().filter(|new| {
            new.member != old.member
                && new.first_us > old.first_us
                && attempt.sent_us > new.first_us
        });
        for new in later {
            let overlap_us = attempt.sent_us - new.first_us;
            match found
                .iter_mut()
                .find(|pair| pair.old == *old && pair.new == *new)
            {
                Some(pair) => {
                    pair.rows += 1;
                    pair.overlap_us = pair.overlap_us.max(overlap_us);
                }
                None => found.push(TwoWriters {
                    old: *old,
                    new: *new,
                    rows: 1,
                    overlap_us,
                }),
            }
        }
    }
    found
}

/// The longest time between `from_us` and `to_us` without any acknowledgement.
pub(super) fn write_gap_us(attempts: &[Attempt], from_us: Us, to_us: Us) -> Us {
    let acked = attempts
        .iter()
        .filter_map(|attempt| attempt.acked().map(|(at_us, _)| at_us));
    // The last one before: the gap may have begun with it.
    let before = acked.clone().filter(|at_us| *at_us < from_us).max();
    let mut instants: Vec<Us> = acked
        .filter(|at_us| (from_us..=to_us).contains(at_us))
        .collect();
    instants.extend(before);
    instants.push(to_us);
    instants.sort_unstable();
    instants
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .max()
        .unwrap_or_default()
}

/// Acknowledged ids from `from_id` on that are not among the rows found.
pub(super) fn missing(attempts: &[Attempt], from_id: i64, found: &BTreeSet<i64>) -> BTreeSet<i64> {
    attempts
        .iter()
        .filter(|attempt| attempt.id >= from_id && attempt.acked().is_some())
        .map(|attempt| attempt.id)
        .filter(|id| !found.contains(id))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Outcome;
    use super::*;

    /// `(member, timeline, sent, acknowledged)`, numbered from 1; timeline 0: never answered.
    fn history(statements: &[(usize, u32, Us, Us)]) -> Vec<Attempt> {
        let attempt = |(at, (member, timeline, sent_us, at_us)): (usize, &(usize, u32, Us, Us))| {
            let acked = Outcome::Acked {
                at_us: *at_us,
                timeline: *timeline,
            };
            let outcome = if *timeline == 0 {
                Outcome::Unknown
            } else {
                acked
            };
            Attempt {
                id: at as i64 + 1,
                member: *member,
                sent_us: *sent_us,
                outcome,
            }
        };
        statements.iter().enumerate().map(attempt).collect()
    }

    #[test]
    fn a_failover_is_fine() {
        let fine = history(&[
            (0, 1, 10, 11),
            (0, 1, 12, 13),
            (1, 2, 20, 21),
            (1, 2, 22, 23),
        ]);
        assert_eq!(two_writers(&fine, 0), []);
    }

    #[test]
    fn an_answer_that_comes_late_is_fine_if_it_was_sent_before() {
        let late = history(&[
            (0, 1, 10, 11),
            (0, 1, 19, 40),
            (1, 2, 20, 21),
            (1, 2, 30, 31),
        ]);
        assert_eq!(two_writers(&late, 0), []);
    }

    #[test]
    fn a_statement_sent_to_the_old_one_after_the_new_one_acknowledged_is_two_writers() {
        let two = history(&[
            (0, 1, 10, 11),
            (1, 2, 20, 21),
            (0, 1, 22, 23),
            (1, 2, 24, 25),
            (0, 1, 30, 31),
        ]);
        let found = two_writers(&two, 0);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].old.member, found[0].new.member), (0, 1));
        assert_eq!((found[0].rows, found[0].overlap_us), (2, 9));
        assert_eq!(
            two_writers(&two, 25)[0].rows,
            1,
            "only what was sent since then"
        );
    }

    #[test]
    fn without_an_acknowledgement_nobody_can_say() {
        let unknown = history(&[(0, 1, 10, 11), (1, 2, 20, 21), (0, 0, 22, 0)]);
        assert_eq!(two_writers(&unknown, 0), []);
    }

    #[test]
    fn there_and_back_again_is_fine_and_back_to_the_old_timeline_is_not() {
        let back = history(&[
            (0, 1, 10, 11),
            (1, 2, 20, 21),
            (0, 3, 30, 31),
            (0, 3, 40, 41),
        ]);
        assert_eq!(two_writers(&back, 0), []);
        let stale = history(&[(0, 1, 10, 11), (1, 2, 20, 21), (0, 1, 30, 31)]);
        assert_eq!(two_writers(&stale, 0).len(), 1);
    }

    #[test]
    fn two_members_that_chose_the_same_timeline_are_told_apart() {
        let same = history(&[(0, 2, 10, 11), (1, 2, 12, 13), (0, 2, 14, 15)]);
        assert_eq!(two_writers(&same, 0).len(), 1);
        let restarted = history(&[(0, 2, 10, 11), (0, 2, 30, 31)]);
        assert_eq!(two_writers(&restarted, 0), []);
    }

    #[test]
    fn the_order_of_entry_does_not_matter() {
        let mut two = history(&[(0, 1, 10, 11), (1, 2, 20, 21), (0, 1, 22, 23)]);
        two.reverse();
        assert_eq!(two_writers(&two, 0).len(), 1);
    }

    #[test]
    fn the_gap_reaches_from_the_last_acknowledgement_before_to_the_first_after() {
        let acks = history(&[
            (0, 1, 1, 10),
            (0, 1, 11, 20),
            (1, 2, 90, 95),
            (1, 2, 96, 99),
        ]);
        assert_eq!(write_gap_us(&acks, 30, 100), 75);
        assert_eq!(
            write_gap_us(&acks, 96, 100),
            4,
            "the end of the time counts as one"
        );
        assert_eq!(write_gap_us(&[], 10, 50), 0);
    }

    #[test]
    fn only_acknowledged_rows_can_be_missing() {
        let acks = history(&[(0, 1, 1, 2), (0, 0, 3, 0), (0, 1, 5, 6), (0, 1, 7, 8)]);
        assert_eq!(
            missing(&acks, 1, &BTreeSet::from([1, 4])),
            BTreeSet::from([3])
        );
        assert_eq!(missing(&acks, 4, &BTreeSet::from([4])), BTreeSet::new());
    }
}
