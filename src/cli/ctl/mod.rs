//! `pgwarden ctl`: the verbs that ask and steer a cluster, over any member's REST API.

mod change;
mod config;
mod history;
mod list;
mod remote;
mod restart;

pub use remote::Remote;

use super::args::{CtlArgs, CtlVerb};
use super::{Dispatch, Exit, Failure, block_on, remote};
use std::io::Write;

/// Do what the verb says.
pub fn run(dispatch: &Dispatch, args: &CtlArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let remote = remote(dispatch, &args.target)?;
    block_on(async {
        match &args.verb {
            CtlVerb::List { format } => list::run(&remote, *format, out).await,
            CtlVerb::History { format } => history::run(&remote, *format, out).await,
            CtlVerb::ShowConfig { format } => config::show(&remote, *format, out).await,
            CtlVerb::EditConfig(args) => config::edit(&remote, args, out).await,
            CtlVerb::Restart(args) => restart::run(&remote, args, out).await,
            CtlVerb::Switchover {
                leader,
                candidate,
                act,
            } => {
                let candidate = candidate.as_deref().filter(|name| !name.is_empty());
                let plan = change::Plan::Switchover {
                    leader: leader.as_deref(),
                    candidate,
                };
                change::run(&remote, &plan, act, out).await
            }
            CtlVerb::Failover { candidate, act } => {
                let plan = change::Plan::Failover { candidate };
                change::run(&remote, &plan, act, out).await
            }
        }
    })?
}
