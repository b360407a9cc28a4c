//! The dynamic configuration: `bootstrap.dcs` in the file, later the document stored in the DCS.

use serde::Serialize;
use std::collections::BTreeMap;

/// `synchronous_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    /// No synchronous standby is asked for.
    Off,
    /// One standby confirms every commit; without a candidate commits go on alone.
    On,
}

/// The dynamic settings in force. Times are integer milliseconds, as everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dynamic {
    /// `ttl`: D, the TTL of the lock. [`super::Settings::budgets_for`] accepted it.
    pub ttl_ms: u64,
    /// `loop_wait`: kept for Patroni's tools; renewal follows the TTL's budgets.
    pub loop_wait_ms: u64,
    /// `retry_timeout`: kept for Patroni's tools; calls follow the TTL's budgets.
    pub retry_timeout_ms: u64,
    /// `maximum_lag_on_failover`: a candidate further behind does not race.
    pub maximum_lag_on_failover_bytes: u64,
    /// `maximum_lag_on_syncnode`: a slower synchronous standby is replaced; `None`: never.
    pub maximum_lag_on_syncnode_bytes: Option<u64>,
    /// `primary_start_timeout`: how long a start as primary may take before failing over.
    pub primary_start_timeout_ms: u64,
    /// `primary_stop_timeout`: how long a stop may take before it is forced; `None`: no limit.
    pub primary_stop_timeout_ms: Option<u64>,
    /// `synchronous_mode`.
    pub synchronous_mode: SyncMode,
    /// `check_timeline`: a candidate on an older timeline than the history's does not race.
    pub check_timeline: bool,
    /// `postgresql.parameters`, values as text (`on`/`off` for booleans).
    pub parameters: BTreeMap<String, String>,
    /// `postgresql.pg_hba`.
    pub pg_hba: Option<Vec<String>>,
    /// `postgresql.pg_ident`.
    pub pg_ident: Option<Vec<String>>,
    /// `postgresql.use_pg_rewind`.
    pub use_pg_rewind: bool,
    /// `postgresql.use_slots`.
    pub use_slots: bool,
    /// `postgresql.remove_data_directory_on_rewind_failure`.
    pub remove_data_directory_on_rewind_failure: bool,
    /// `postgresql.remove_data_directory_on_diverged_timelines`.
    pub remove_data_directory_on_diverged_timelines: bool,
}

impl Default for Dynamic {
    fn default() -> Self {
        Self {
            ttl_ms: super::budgets::DEFAULT_TTL_MS,
            loop_wait_ms: 10_000,
            retry_timeout_ms: 10_000,
            maximum_lag_on_failover_bytes: 1_048_576,
            maximum_lag_on_syncnode_bytes: None,
            primary_start_timeout_ms: 300_000,
            primary_stop_timeout_ms: None,
            synchronous_mode: SyncMode::Off,
            check_timeline: false,
            parameters: BTreeMap::new(),
            pg_hba: None,
            pg_ident: None,
            use_pg_rewind: false,
            use_slots: true,
            remove_data_directory_on_rewind_failure: false,
            remove_data_directory_on_diverged_timelines: false,
        }
    }
}
