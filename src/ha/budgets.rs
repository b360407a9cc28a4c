//! G2 and G3: every instant that follows from D, the time to live written in the lock record.
//!
//! A budget that breaks `F + K ≤ D(1−2ρ)` cannot be constructed: that inequality is the whole
//! proof that an old primary is dead before a candidate may act on the record's age.

use super::model::Ms;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Relative clock-rate error of one machine, in parts per million (ρ).
pub const CLOCK_RATE_ERROR_PPM: u64 = 500;

/// The instants of G3, in milliseconds counted from the last acknowledged `sent_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Budgets {
    /// D.
    pub ttl_ms: Ms,
    /// R: the next renewal leaves.
    pub renew_ms: Ms,
    /// c: the deadline of one API call.
    pub call_ms: Ms,
    /// E: one election of etcd that a renewal rides out.
    pub election_ms: Ms,
    /// S: the agent's fast stop.
    pub fast_stop_ms: Ms,
    /// I: the agent's immediate stop.
    pub immediate_stop_ms: Ms,
    /// F: the guardian's kill.
    pub kill_ms: Ms,
    /// K: the worst time from the deadline to the last SIGKILL delivered.
    pub kill_budget_ms: Ms,
}

/// Instants set by hand, whatever D is: R, c, E, S, I, F, K.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Overrides(pub [Option<Ms>; 7]);

/// Why a set of instants is no budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBudget(pub String);

impl fmt::Display for BadBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadBudget {}

/// The rows of G3 in milliseconds: D, R, c, E, S, I, F, K.
const ROWS: [[Ms; 8]; 3] = [
    [6_000, 1_000, 750, 2_000, 4_500, 5_000, 5_350, 600],
    [15_000, 3_000, 2_000, 3_000, 10_500, 12_500, 13_500, 1_200],
    [30_000, 5_000, 3_000, 3_000, 20_000, 25_000, 28_000, 1_500],
];

impl Budgets {
    fn row(ttl_ms: Ms) -> Result<[Ms; 8], BadBudget> {
        let [first, .., last] = &ROWS;
        if ttl_ms < first[0] {
            return Err(BadBudget(format!(
                "ttl of {ttl_ms} ms is too short: at least {} ms are needed to ride out one slow \
                 answer of the API server and still be stopped in time",
                first[0]
            )));
        }
        let row = if ttl_ms >= last[0] {
            // S, I and F keep their share of D; R, c, E and K are the API server's and the
            // machine's and do not grow.
            let share = |at: usize| last[at] * ttl_ms / last[0];
            let [_, r, c, e, _, _, _, k] = *last;
            [ttl_ms, r, c, e, share(4), share(5), share(6), k]
        } else {
            let high = ROWS
                .iter()
                .position(|row| row[0] > ttl_ms)
                .unwrap_or(ROWS.len() - 1);
            let (low, high) = (&ROWS[high - 1], &ROWS[high]);
            let mut row = *low;
            for (at, value) in row.iter_mut().enumerate() {
                let (grown, width) = ((high[at] - low[at]) * (ttl_ms - low[0]), high[0] - low[0]);
                // Down, but for S and K, where more is the safe side.
                *value += if matches!(at, 4 | 7) {
                    grown.div_ceil(width)
                } else {
                    grown / width
                };
            }
            row
        };
        Ok(row)
    }

    /// The budgets of D under instants set by hand.
    pub fn with_overrides(ttl_ms: Ms, by_hand: &Overrides) -> Result<Self, BadBudget> {
        let mut row = Self::row(ttl_ms)?;
        for (value, given) in row.iter_mut().skip(1).zip(by_hand.0) {
            *value = given.unwrap_or(*value);
        }
        Self::checked(row)
    }

    /// The budgets of D: the rows of G3, linear between them.
    pub fn for_ttl(ttl_ms: Ms) -> Result<Self, BadBudget> {
        Self::with_overrides(ttl_ms, &Overrides::default())
    }

    /// The only constructor: D, R, c, E, S, I, F, K in milliseconds, refused when G2 or G3 breaks.
    pub fn checked(row: [Ms; 8]) -> Result<Self, BadBudget> {
        let [
            ttl_ms,
            renew_ms,
            call_ms,
            election_ms,
            fast_stop_ms,
            immediate_stop_ms,
            kill_ms,
            k,
        ] = row;
        let usable_ms = ttl_ms - ttl_ms * 2 * CLOCK_RATE_ERROR_PPM / 1_000_000;
        if kill_ms + k > usable_ms {
            return Err(BadBudget(format!(
                "ttl of {ttl_ms} ms breaks G2: the kill at {kill_ms} ms plus {k} ms to finish it \
                 is later than {usable_ms} ms, when another member may already lead"
            )));
        }
        if fast_stop_ms < renew_ms + 2 * call_ms + election_ms {
            return Err(BadBudget(format!(
                "ttl of {ttl_ms} ms breaks G3: the fast stop at {fast_stop_ms} ms leaves no room \
                 for a renewal at {renew_ms} ms, two calls of {call_ms} ms and an election of \
                 {election_ms} ms"
            )));
        }
        if fast_stop_ms >= immediate_stop_ms || immediate_stop_ms >= kill_ms {
            return Err(BadBudget(format!(
                "the stops must follow each other: fast {fast_stop_ms} ms, immediate \
                 {immediate_stop_ms} ms, kill {kill_ms} ms"
            )));
        }
        Ok(Self {
            ttl_ms,
            renew_ms,
            call_ms,
            election_ms,
            fast_stop_ms,
            immediate_stop_ms,
            kill_ms,
            kill_budget_ms: k,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ttl_from_the_minimum_up_satisfies_g2_and_g3() {
        for ttl_ms in (6_000..120_000).step_by(250) {
            let budgets = Budgets::for_ttl(ttl_ms).unwrap();
            assert!(budgets.kill_ms + budgets.kill_budget_ms <= ttl_ms * 999 / 1000);
        }
        assert_eq!(Budgets::for_ttl(15_000).unwrap().kill_ms, 13_500);
    }

    #[test]
    fn a_ttl_that_breaks_g2_is_refused_with_the_numbers() {
        let words = Budgets::for_ttl(5_999).unwrap_err().0;
        assert!(
            words.contains("5999 ms") && words.contains("6000 ms"),
            "{words}"
        );
        let mut row = ROWS[0];
        row[6] = 5_400;
        assert!(Budgets::checked(row).unwrap_err().0.contains("G2"));
    }
}
