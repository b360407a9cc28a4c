//! `pgwarden ctl` and `patronictl`: the verbs that ask and steer a cluster, over any member's REST
//! API.

mod absent;
mod ask;
mod change;
mod choose;
mod config;
mod dsn;
mod flush;
mod history;
mod list;
mod loss;
mod pause;
mod pgpass;
mod query;
mod reinit;
mod reload;
mod remote;
mod restart;
mod standby;
mod version;
pub mod when;

pub(super) use list::{clock, decode};
pub(super) use remote::base_of;
pub use remote::{Manner, Remote};

use super::verbs::{CtlArgs, CtlVerb};
use super::{Dispatch, Exit, Failure, block_on, live};
use std::io::Write;

/// Do what the verb says.
pub fn run(dispatch: &Dispatch, args: &CtlArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    perform(dispatch, args, Manner::Ours, &[], out)
}

/// The same for either program. `clusters`: the names the cluster must have.
pub(super) fn perform(
    dispatch: &Dispatch,
    args: &CtlArgs,
    manner: Manner,
    clusters: &[String],
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    match &args.verb {
        CtlVerb::Remove(_) => return Err(absent::remove(clusters)),
        CtlVerb::Version(_) => {
            version::client(manner, out)?;
            if manner.is_patronictl() && clusters.is_empty() {
                return Ok(Exit::Ok);
            }
        }
        _ => {}
    }
    let query = match &args.verb {
        CtlVerb::Query(args) => args.config.as_ref(),
        _ => None,
    };
    let mut target = args.target.clone();
    target.config = target.config.or(query.cloned());
    let cluster = clusters.first().map(String::as_str);
    let asked = super::remote(dispatch, &target, cluster);
    if let (CtlVerb::Version(args), Manner::Ours, Err(_)) = (&args.verb, manner, &asked)
        && args.members.is_empty()
        && target.names_nobody()
    {
        return Ok(Exit::Ok);
    }
    let remote = asked?.speaking(manner);
    block_on(async {
        for name in clusters {
            list::expect_scope(&remote, name).await?;
        }
        verb(&remote, &args.verb, out).await
    })?
}

async fn verb(remote: &Remote, verb: &CtlVerb, out: &mut dyn Write) -> Result<Exit, Failure> {
    match verb {
        CtlVerb::List(args) => match args.watch.interval() {
            Some(every) => live::run(remote, live::Wanted::list(args, every), out).await,
            None => list::run(remote, args, out).await,
        },
        CtlVerb::Topology(args) => match args.watch.interval() {
            Some(every) => live::run(remote, live::Wanted::topology(every), out).await,
            None => list::topology(remote, out).await,
        },
        CtlVerb::History { format } => history::run(remote, *format, out).await,
        CtlVerb::ShowConfig { format } => config::show(remote, *format, out).await,
        CtlVerb::EditConfig(args) => config::edit(remote, args, out).await,
        CtlVerb::Restart(args) => restart::run(remote, args, out).await,
        CtlVerb::Reload(args) => reload::run(remote, args, out).await,
        CtlVerb::Reinit(args) => reinit::run(remote, args, out).await,
        CtlVerb::Flush(args) => flush::run(remote, args, out).await,
        CtlVerb::Pause(args) => pause::run(remote, true, args.wait, out).await,
        CtlVerb::Resume(args) => pause::run(remote, false, args.wait, out).await,
        CtlVerb::Dsn(args) => dsn::run(remote, args, out).await,
        CtlVerb::Query(args) => query::run(remote, args, out).await,
        CtlVerb::Version(args) => version::members(remote, args, out).await,
        CtlVerb::Switchover(args) => change::switchover(remote, args, out).await,
        CtlVerb::Failover(args) => change::failover(remote, args, out).await,
        CtlVerb::Remove(_) => Err(absent::remove(&[])),
        CtlVerb::DemoteCluster(args) => standby::demote(remote, args, out).await,
        CtlVerb::PromoteCluster(args) => standby::promote(remote, args, out).await,
    }
}
