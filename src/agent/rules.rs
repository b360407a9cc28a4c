//! The settings that decisions depend on, from all of them.

use crate::ha::remote::Standby;
use crate::ha::shared::{Repair, Rules, SyncRules};
use crate::ha::slots::SlotRules;
use crate::settings::{Dynamic, Settings, SyncMode};

/// The settings that decisions depend on: the dynamic ones, under what the local file says of them.
pub(super) fn rules(dynamic: &Dynamic, settings: &Settings) -> Rules {
    let local = &settings.postgresql;
    let on_failure = local.remove_data_directory_on_rewind_failure;
    let on_divergence = local.remove_data_directory_on_diverged_timelines;
    Rules {
        ttl_ms: dynamic.ttl_ms,
        maximum_lag_on_failover_bytes: dynamic.maximum_lag_on_failover_bytes,
        synchronous_mode: dynamic.synchronous_mode != SyncMode::Off,
        sync: SyncRules {
            quorum: dynamic.synchronous_mode == SyncMode::Quorum,
            strict: dynamic.synchronous_mode_strict,
            count: dynamic.synchronous_node_count,
            lag_max_bytes: dynamic.maximum_lag_on_syncnode_bytes,
        },
        check_timeline: dynamic.check_timeline,
        primary_start_timeout_ms: dynamic.primary_start_timeout_ms,
        primary_stop_timeout_ms: dynamic.primary_stop_timeout_ms,
        member_slots_ttl_ms: dynamic.member_slots_ttl_ms,
        slots: SlotRules {
            off: !dynamic.use_slots,
            permanent: dynamic.slots.clone(),
            ignore: dynamic.ignore_slots.clone(),
        },
        pause: dynamic.pause,
        failsafe: dynamic.failsafe_mode,
        standby: dynamic.standby_cluster.as_ref().map(|remote| Standby {
            host: remote.host.clone(),
            port: remote.port,
        }),
        repair: Repair {
            rewind: local.use_pg_rewind.unwrap_or(dynamic.use_pg_rewind),
            copy_after_failed_rewinds: on_failure
                .unwrap_or(dynamic.remove_data_directory_on_rewind_failure),
            copy_when_diverged: on_divergence
                .unwrap_or(dynamic.remove_data_directory_on_diverged_timelines),
        },
    }
}

/// Until the stored ones are known. Maintenance mode is for a cluster that is there, not for its
/// beginning.
pub(super) fn at_first(dynamic: &Dynamic, settings: &Settings) -> Rules {
    Rules {
        pause: false,
        ..rules(dynamic, settings)
    }
}
