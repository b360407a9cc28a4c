//! G6: guardian and agent watch each other. The agent's silence is the guardian's business; a
//! guardian that somebody stopped (SIGSTOP, a debugger that forgot it) fences nobody, and it is
//! sent on its way again.

use super::Context;
use crate::sys::process::{Signal, parent_pid, signal};
use crate::sys::proctable::is_stopped;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks; a primary without a fence for so long is short of every deadline.
const LOOK: Duration = Duration::from_secs(1);
/// The topic of a complaint.
const STOPPED: &str = "the guardian stood still, and nothing would have fenced PostgreSQL";

pub(super) async fn run(context: Arc<Context>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let guardian = parent_pid();
        if !is_stopped(guardian) {
            context.complaints.settle(STOPPED);
            continue;
        }
        let words = format!("process {guardian} was sent SIGSTOP; sending SIGCONT");
        context.complaints.say(STOPPED, words);
        signal(guardian, Signal::SIGCONT);
    }
}
