//! L5: the own container's id enters the lock record only once the kubelet's word is surely about
//! this life of it.

use super::Context;
use crate::dcs::codec::pod::container_id_to_record;
use crate::ha::event::Event;
use crate::sys::clock::wall_ms;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks; the conditions need at least two seconds of running anyway.
const LOOK: Duration = Duration::from_secs(3);
/// What Linux shows to programs, whatever the kernel was built with.
const TICKS_PER_SECOND: u64 = 100;

pub(super) async fn run(context: Arc<Context>) {
    let Some(pid1_start_unix_ms) = pid1_start_unix_ms() else {
        return tracing::debug!("the start of PID 1 is not known: no container id in the record");
    };
    loop {
        tokio::time::sleep(LOOK).await;
        let read_at_unix_ms = wall_ms();
        let name = &context.settings().name;
        match context.dcs.read_pod(name).await {
            Ok(pod) => {
                match container_id_to_record(&pod, None, pid1_start_unix_ms, read_at_unix_ms) {
                    Ok(id) => {
                        tracing::debug!(%id, "the container's id enters the record");
                        return context.tell(Event::ContainerKnown { id }).await;
                    }
                    Err(why) => tracing::debug!("no container id in the record yet: {why}"),
                }
            }
            Err(error) => tracing::debug!(%error, "the own Pod cannot be read"),
        }
    }
}

/// The start of PID 1 on this node's wall clock: the boot time plus field 22 of its stat.
fn pid1_start_unix_ms() -> Option<u64> {
    let stat = fs::read_to_string("/proc/1/stat").ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    let ticks: u64 = after_name.split_whitespace().nth(19)?.parse().ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let line = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    let boot_s: u64 = line.trim().parse().ok()?;
    Some(boot_s * 1000 + ticks * 1000 / TICKS_PER_SECOND)
}
