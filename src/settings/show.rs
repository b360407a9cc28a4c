//! The effective settings in words: what `pgwarden check` prints, never with a secret.

use super::budgets::BudgetOverrides;
use serde::Serializer;
use serde::ser::SerializeMap;

/// Serializes the overrides that are set; the budgets themselves know nothing of serde.
pub(super) fn overrides<S: Serializer>(o: &BudgetOverrides, s: S) -> Result<S::Ok, S::Error> {
    let all = [
        ("renew_ms", o.renew_ms),
        ("call_ms", o.call_ms),
        ("election_ms", o.election_ms),
        ("fast_stop_ms", o.fast_stop_ms),
        ("immediate_stop_ms", o.immediate_stop_ms),
        ("kill_ms", o.kill_ms),
        ("kill_budget_ms", o.kill_budget_ms),
    ];
    let mut map = s.serialize_map(None)?;
    for (name, value) in all {
        if let Some(ms) = value {
            map.serialize_entry(name, &ms)?;
        }
    }
    map.end()
}
