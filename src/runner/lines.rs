//! Whether this member is on the leader's line of history, asked of the leader's server.

use super::Context;
use super::kube::candidate;
use super::server::STATEMENT;
use crate::ha::event::Event;
use crate::ha::model::{HistoryEntry, Name, fork_elsewhere};
use crate::ha::remote::{RemoteFacts, Standby};
use crate::postgres::lines::Instance;
use crate::postgres::session::{Session, SqlError};
use crate::postgres::{Postgres, Source, history, lines};
use std::net::IpAddr;
use std::sync::Arc;

/// The topic of its complaint.
pub(super) const REMOTE_SILENT: &str = "remote primary";

/// Likewise.
const UNPROVEN: &str = "new copy";

pub(super) async fn run_compare_wal(context: Arc<Context>, source: Source, with: Name) {
    let pg = context.postgres();
    let same = async {
        let session = Session::remote(&source, &pg.superuser, &pg.database, STATEMENT).await?;
        lines::same_wal(&pg, &session, STATEMENT).await
    };
    match same.await {
        Ok(Some(same)) => {
            let differs = !same;
            context.tell(Event::WalCompared { with, differs }).await;
        }
        Ok(None) => tracing::info!("{with} has no WAL that can be compared with mine"),
        Err(error) => tracing::info!(%error, "the WAL of {with} cannot be compared with mine"),
    }
}

/// Who the remote primary of a standby cluster is. `members`: where those of this cluster listen.
pub(super) async fn run_ask_remote(
    context: Arc<Context>,
    source: Source,
    members: Vec<(Name, Source)>,
) {
    let pg = context.postgres();
    let said = who_answers(&pg, &source);
    let remote = format!("the remote primary at {}:{}", source.host, source.port);
    match said.await {
        Ok((facts, reached)) => {
            context.complaints.settle(REMOTE_SILENT);
            let asked = Standby {
                host: Some(source.host),
                port: source.port,
            };
            let member = match reached {
                Some(reached) => which_member(&pg, reached, members).await,
                None => None,
            };
            context
                .tell(Event::RemoteSeen(RemoteFacts {
                    asked,
                    member,
                    ..facts
                }))
                .await;
        }
        Err(error) => {
            let words = format!("standby_cluster: {remote} cannot be asked: {error}");
            context.complaints.say(REMOTE_SILENT, words);
        }
    }
}

/// The first of several hosts that is a primary, else the first that answers.
async fn who_answers(
    pg: &Postgres,
    source: &Source,
) -> Result<(RemoteFacts, Option<Instance>), SqlError> {
    let mut best = Err(SqlError::Timeout(0));
    for host in source.host.split(',') {
        let one = Source {
            host: host.trim().to_owned(),
            port: source.port,
        };
        let said = async {
            let session = Session::remote(&one, &pg.superuser, &pg.database, STATEMENT).await?;
            let facts = lines::who_is(&session, STATEMENT).await?;
            Ok((facts, lines::instance(&session, STATEMENT).await?))
        };
        match said.await {
            Ok((facts, reached)) if !facts.in_recovery => return Ok((facts, reached)),
            said if best.is_err() => best = said,
            _ => {}
        }
    }
    best
}

/// The member that was reached under another name, if any. Two sites may use the same addresses:
/// the member itself is asked whether it is the same server.
async fn which_member(
    pg: &Postgres,
    reached: Instance,
    members: Vec<(Name, Source)>,
) -> Option<Name> {
    let local = reached
        .host
        .parse::<IpAddr>()
        .is_ok_and(|ip| ip.is_loopback());
    for (name, source) in members {
        let mine = local && name == pg.name;
        if source.port != reached.port || (source.host != reached.host && !mine) {
            continue;
        }
        let same = async {
            let session = Session::remote(&source, &pg.superuser, &pg.database, STATEMENT).await?;
            lines::instance(&session, STATEMENT).await
        };
        if let Ok(Some(there)) = same.await
            && there.started == reached.started
        {
            return Some(name);
        }
    }
    None
}

/// Whose WAL, and for which copy.
pub(super) struct AskEnd {
    pub(super) with: Name,
    pub(super) number: u64,
}

/// Where a leader's WAL ends. A server that lets replicas stream and nothing else is asked by its
/// agent, which has read it a moment ago.
pub(super) async fn run_ask_end(
    context: Arc<Context>,
    source: Source,
    api_url: String,
    ask: AskEnd,
) {
    let pg = context.postgres();
    let end = async {
        let session = Session::remote(&source, &pg.superuser, &pg.database, STATEMENT).await?;
        lines::end_of_wal(&session, STATEMENT).await
    };
    let AskEnd { with, number } = ask;
    let end = match end.await {
        Ok(lsn) => Ok(lsn),
        Err(error) => match candidate(&context, &with, &api_url, STATEMENT).await {
            Some(status) if status.primary => Ok(status.lsn),
            _ => Err(error),
        },
    };
    match end {
        Ok(lsn) => {
            context.complaints.settle(UNPROVEN);
            context.tell(Event::EndSaid { with, number, lsn }).await;
        }
        Err(error) => {
            let words = format!(
                "{with} cannot be asked where its WAL ends, and until then this copy does not \
                 stand for election in synchronous mode: {error}"
            );
            context.complaints.say(UNPROVEN, words);
        }
    }
}

pub(super) async fn run_compare_history(
    context: Arc<Context>,
    source: Source,
    with: Name,
    mine: Vec<HistoryEntry>,
) {
    let pg = context.postgres();
    let theirs = async {
        let session = Session::remote(&source, &pg.superuser, &pg.database, STATEMENT).await?;
        history::read_remote(&session, STATEMENT).await
    };
    match theirs.await {
        Ok(theirs) => {
            let differs = fork_elsewhere(&mine, &theirs);
            context.tell(Event::HistoryCompared { with, differs }).await;
        }
        Err(error) => tracing::info!(%error, "the history of {with} cannot be compared with mine"),
    }
}
