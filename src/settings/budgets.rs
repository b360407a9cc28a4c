//! The instants of a lease, derived from its TTL (rules G2 and G3).
//!
//! One number, D (the TTL in the lock record), decides everything: when to renew, how long one call
//! of the API server may take, when the agent stops PostgreSQL and when the guardian kills it. This
//! file depends on the standard library alone, and a [`Budgets`] that exists satisfies the rules:
//! there is no other way to make one than through the checks.
//!
//! **How a D between the anchors is served.** Three sets of budgets were chosen by hand, for 6, 15
//! and 30 seconds. Between two of them every number is interpolated linearly. That is safe by
//! construction: both inequalities are linear, so whatever lies between two points that satisfy
//! them satisfies them too; the remaining fraction of a millisecond is always rounded to the safe
//! side. Above 30 seconds the things that do not get slower because a lease is longer (renewal
//! period, one call, one election, one kill) keep their value, and the three instants keep their
//! share of D. Below 6 seconds there is no budget: one election of the API server's store would
//! not fit.

use std::fmt;

/// The shortest TTL that is served.
pub const MIN_TTL_MS: u64 = 6_000;
/// The longest TTL that is served: anything above is a mistake of units.
pub const MAX_TTL_MS: u64 = 3_600_000;
/// The TTL if nobody says one: Patroni's own default, so that a converted configuration without
/// the key keeps its meaning. Fast failover (6 seconds and up) is asked for by writing it.
pub const DEFAULT_TTL_MS: u64 = 30_000;
/// 2ρ of rule G2 in thousandths: two clocks, each wrong by at most 500 parts per million.
const DRIFT_PER_MILLE: u64 = 1;

/// One row of the table: D, R, c, E, S, I, F, K, in milliseconds.
struct Anchor {
    ttl: u64,
    renew: u64,
    call: u64,
    election: u64,
    fast: u64,
    immediate: u64,
    kill: u64,
    kill_budget: u64,
}

const ANCHORS: [Anchor; 3] = [
    Anchor {
        ttl: 6_000,
        renew: 1_000,
        call: 750,
        election: 2_000,
        fast: 4_500,
        immediate: 5_000,
        kill: 5_350,
        kill_budget: 600,
    },
    Anchor {
        ttl: 15_000,
        renew: 3_000,
        call: 2_000,
        election: 3_000,
        fast: 10_500,
        immediate: 12_500,
        kill: 13_500,
        kill_budget: 1_200,
    },
    Anchor {
        ttl: 30_000,
        renew: 5_000,
        call: 3_000,
        election: 3_000,
        fast: 20_000,
        immediate: 25_000,
        kill: 28_000,
        kill_budget: 1_500,
    },
];

/// The instants and periods of one lease, in milliseconds. Instants count from the `sent_at` of the
/// last acknowledged renewal. Fields are read-only: a value of this type satisfies G2 and G3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::struct_field_names)] // Units belong into names of times.
pub struct Budgets {
    ttl_ms: u64,
    renew_ms: u64,
    call_ms: u64,
    election_ms: u64,
    fast_stop_ms: u64,
    immediate_stop_ms: u64,
    kill_ms: u64,
    kill_budget_ms: u64,
}

/// What the configuration may set by hand; `None` keeps what the TTL gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetOverrides {
    /// R: the renewal period.
    pub renew_ms: Option<u64>,
    /// c: the deadline of one API call.
    pub call_ms: Option<u64>,
    /// E: how long one election of the API server's store may take.
    pub election_ms: Option<u64>,
    /// S: when the agent stops PostgreSQL fast.
    pub fast_stop_ms: Option<u64>,
    /// I: when the agent stops it immediately.
    pub immediate_stop_ms: Option<u64>,
    /// F: when the guardian kills.
    pub kill_ms: Option<u64>,
    /// K: the worst time from F to the last process gone.
    pub kill_budget_ms: Option<u64>,
}

/// Why a set of budgets is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetError {
    /// The TTL is shorter or longer than what is served.
    Ttl {
        /// What was asked for.
        ttl_ms: u64,
    },
    /// A period that must be positive is zero.
    Zero {
        /// The name of the budget.
        field: &'static str,
    },
    /// G2: a member could still write when another may already lead.
    KillTooLate {
        /// F.
        kill_ms: u64,
        /// K.
        kill_budget_ms: u64,
        /// D.
        ttl_ms: u64,
        /// D(1−2ρ): what F + K may be at most.
        limit_ms: u64,
    },
    /// G3: an ordinary slow renewal would already stop PostgreSQL.
    StopTooEarly {
        /// S.
        fast_stop_ms: u64,
        /// R + 2c + E: what S must be at least.
        least_ms: u64,
        /// R.
        renew_ms: u64,
        /// c.
        call_ms: u64,
        /// E.
        election_ms: u64,
    },
    /// S, I and F are not in this order.
    Order {
        /// S.
        fast_stop_ms: u64,
        /// I.
        immediate_stop_ms: u64,
        /// F.
        kill_ms: u64,
    },
}

impl fmt::Display for BudgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ttl { ttl_ms } => write!(
                f,
                "a TTL of {} s is not possible; expected {} to {} s: below that one election of \
                 the API server's store does not fit between renewal and stop",
                seconds(ttl_ms),
                seconds(MIN_TTL_MS),
                seconds(MAX_TTL_MS)
            ),
            Self::Zero { field } => write!(f, "{field} is 0; expected at least 1 ms"),
            Self::KillTooLate {
                kill_ms,
                kill_budget_ms,
                ttl_ms,
                limit_ms,
            } => write!(
                f,
                "kill_ms {kill_ms} + kill_budget_ms {kill_budget_ms} = {} ms is more than \
                 {limit_ms} ms, what a TTL of {ttl_ms} ms leaves after clock drift (0.1 %): the \
                 old primary could still write when the next one may start; raise ttl or lower \
                 kill_ms to {} or less",
                kill_ms.saturating_add(kill_budget_ms),
                limit_ms.saturating_sub(kill_budget_ms)
            ),
            Self::StopTooEarly {
                fast_stop_ms,
                least_ms,
                renew_ms,
                call_ms,
                election_ms,
            } => {
                write!(
                    f,
                    "fast_stop_ms {fast_stop_ms} is less than renew_ms {renew_ms} + 2 x call_ms \
                     {call_ms} + election_ms {election_ms} = {least_ms} ms: one slow renewal \
                     would stop a healthy primary; raise ttl or fast_stop_ms, or lower the others"
                )
            }
            Self::Order {
                fast_stop_ms,
                immediate_stop_ms,
                kill_ms,
            } => write!(
                f,
                "fast_stop_ms {fast_stop_ms}, immediate_stop_ms {immediate_stop_ms}, kill_ms \
                 {kill_ms} must rise in this order"
            ),
        }
    }
}

impl std::error::Error for BudgetError {}

fn seconds(ms: u64) -> String {
    if ms.is_multiple_of(1_000) {
        (ms / 1_000).to_string()
    } else {
        format!("{}.{:03}", ms / 1_000, ms % 1_000)
    }
}

impl Budgets {
    /// The budgets of a TTL.
    pub fn for_ttl(ttl_ms: u64) -> Result<Self, BudgetError> {
        Self::new(ttl_ms, &BudgetOverrides::default())
    }

    /// The budgets of a TTL with some set by hand; the checks of G2 and G3 apply to the outcome.
    pub fn new(ttl_ms: u64, overrides: &BudgetOverrides) -> Result<Self, BudgetError> {
        if !(MIN_TTL_MS..=MAX_TTL_MS).contains(&ttl_ms) {
            return Err(BudgetError::Ttl { ttl_ms });
        }
        let base = Self::derive(ttl_ms);
        let all = Self {
            ttl_ms,
            renew_ms: overrides.renew_ms.unwrap_or(base.renew_ms),
            call_ms: overrides.call_ms.unwrap_or(base.call_ms),
            election_ms: overrides.election_ms.unwrap_or(base.election_ms),
            fast_stop_ms: overrides.fast_stop_ms.unwrap_or(base.fast_stop_ms),
            immediate_stop_ms: overrides
                .immediate_stop_ms
                .unwrap_or(base.immediate_stop_ms),
            kill_ms: overrides.kill_ms.unwrap_or(base.kill_ms),
            kill_budget_ms: overrides.kill_budget_ms.unwrap_or(base.kill_budget_ms),
        };
        all.checked()
    }

    /// What the table and the rule between its rows say; not yet checked.
    fn derive(ttl_ms: u64) -> Self {
        let [_, _, last] = &ANCHORS;
        if ttl_ms >= last.ttl {
            let share = |instant: u64| instant * ttl_ms / last.ttl;
            return Self {
                ttl_ms,
                renew_ms: last.renew,
                call_ms: last.call,
                election_ms: last.election,
                fast_stop_ms: share(last.fast),
                immediate_stop_ms: share(last.immediate),
                kill_ms: share(last.kill),
                kill_budget_ms: last.kill_budget,
            };
        }
        let [low, middle, high] = &ANCHORS;
        let (from, to) = if ttl_ms < middle.ttl {
            (low, middle)
        } else {
            (middle, high)
        };
        let width = to.ttl - from.ttl;
        let into = ttl_ms - from.ttl;
        // Floor but where more is the safe side: S against R + 2c + E, K against reality.
        let down = |a: u64, b: u64| a + (b - a) * into / width;
        let up = |a: u64, b: u64| a + ((b - a) * into).div_ceil(width);
        Self {
            ttl_ms,
            renew_ms: down(from.renew, to.renew),
            call_ms: down(from.call, to.call),
            election_ms: down(from.election, to.election),
            fast_stop_ms: up(from.fast, to.fast),
            immediate_stop_ms: down(from.immediate, to.immediate),
            kill_ms: down(from.kill, to.kill),
            kill_budget_ms: up(from.kill_budget, to.kill_budget),
        }
    }

    fn checked(self) -> Result<Self, BudgetError> {
        let periods = [
            ("renew_ms", self.renew_ms),
            ("call_ms", self.call_ms),
            ("election_ms", self.election_ms),
            ("kill_budget_ms", self.kill_budget_ms),
        ];
        if let Some((field, _)) = periods.iter().find(|(_, ms)| *ms == 0) {
            return Err(BudgetError::Zero { field });
        }
        let ordered =
            self.fast_stop_ms < self.immediate_stop_ms && self.immediate_stop_ms < self.kill_ms;
        if !ordered {
            return Err(BudgetError::Order {
                fast_stop_ms: self.fast_stop_ms,
                immediate_stop_ms: self.immediate_stop_ms,
                kill_ms: self.kill_ms,
            });
        }
        let limit_ms = self.ttl_ms * (1_000 - DRIFT_PER_MILLE) / 1_000;
        if self.kill_ms.saturating_add(self.kill_budget_ms) > limit_ms {
            return Err(BudgetError::KillTooLate {
                kill_ms: self.kill_ms,
                kill_budget_ms: self.kill_budget_ms,
                ttl_ms: self.ttl_ms,
                limit_ms,
            });
        }
        let two_calls = self.call_ms.saturating_mul(2);
        let least_ms = self
            .renew_ms
            .saturating_add(two_calls)
            .saturating_add(self.election_ms);
        if self.fast_stop_ms < least_ms {
            return Err(BudgetError::StopTooEarly {
                fast_stop_ms: self.fast_stop_ms,
                least_ms,
                renew_ms: self.renew_ms,
                call_ms: self.call_ms,
                election_ms: self.election_ms,
            });
        }
        Ok(self)
    }

    /// D: the TTL written in the lock record.
    pub fn ttl_ms(&self) -> u64 {
        self.ttl_ms
    }

    /// R: the next renewal leaves this long after the last acknowledged one left.
    pub fn renew_ms(&self) -> u64 {
        self.renew_ms
    }

    /// c: the deadline of one API call.
    pub fn call_ms(&self) -> u64 {
        self.call_ms
    }

    /// E: how long one election of the API server's store may take.
    pub fn election_ms(&self) -> u64 {
        self.election_ms
    }

    /// S: when the agent stops PostgreSQL fast.
    pub fn fast_stop_ms(&self) -> u64 {
        self.fast_stop_ms
    }

    /// I: when the agent stops it immediately.
    pub fn immediate_stop_ms(&self) -> u64 {
        self.immediate_stop_ms
    }

    /// F: when the guardian kills.
    pub fn kill_ms(&self) -> u64 {
        self.kill_ms
    }

    /// K: the worst time from F to the last process gone.
    pub fn kill_budget_ms(&self) -> u64 {
        self.kill_budget_ms
    }
}
