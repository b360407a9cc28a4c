//! G6: guardian and agent watch each other. The agent's silence is the guardian's business; a
//! guardian that somebody stopped (SIGSTOP, a debugger that forgot it) fences nobody, and it is sent
//! on its way again.

use super::Context;
use crate::sys::process;
use std::os::unix::process::parent_id;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks; a primary without a fence for so long is short of every deadline.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn run(context: Arc<Context>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let guardian = parent_id();
        if !is_stopped(guardian) {
            context.complaints.settle(STOPPED);
            continue;
        }
        let words = format!("process {guardian} was sent SIGSTOP; sending SIGCONT");
        context.complaints.say(STOPPED, words);
        process::resume(guardian.cast_signed());
    }
}

/// The topic of a complaint.
const STOPPED: &str = "the guardian stood still, and nothing would have fenced PostgreSQL";

/// Stopped by a signal, as field 3 of its stat says.
fn is_stopped(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map(|(_, rest)| rest);
    after_name.is_some_and(|rest| rest.starts_with('T'))
}
