//! The effects that work on PostgreSQL: start, stop, promote, clone, rewind, configure.
//!
//! The guardian forks and kills; what is done here prepares the ground for it and reports back.

use super::effects::ms;
use super::launch::fork;
use super::pace::{LOOK, next_look};
use super::standbys;
use super::{Context, making};
use crate::guardian::protocol::{PostmasterSignal, Request, StopHow};
use crate::ha::effect::Stop;
use crate::ha::event::{Event, Op};
use crate::ha::quorum::SyncSetting;
use crate::postgres::config::{self, Follow};
use crate::postgres::session::{Session, SqlError};
use crate::postgres::{Postgres, Source, bootstrap, control, rewind, room};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// One statement of the agent.
pub(super) const STATEMENT: Duration = Duration::from_secs(5);
/// A replica that has not reached consistency by then goes on by itself.
const REPLICA_UP: Duration = Duration::from_secs(10);
/// A promotion.
const PROMOTE: Duration = Duration::from_mins(2);
/// A checkpoint before a handover, or after a promotion.
pub(super) const CHECKPOINT: Duration = Duration::from_mins(1);
/// A clone; a large one takes hours.
pub(super) const CLONE: Duration = Duration::from_hours(7 * 24);
/// A rewind, a crash recovery, an initdb, a recovery to a point in time.
pub(super) const REPAIR: Duration = Duration::from_hours(24);

pub(super) type Done = Result<(), String>;

pub(super) fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(super) async fn report(context: &Context, op: Op, result: Done) {
    context.kick.notify_one();
    let result = result.map_err(room::advised);
    context.tell(Event::OpDone { op, result }).await;
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(words)?
}

/// Until the server answers as asked, or is gone, or the time is up.
async fn wait_up(context: &Context, writable: bool, deadline: Duration) -> Result<bool, String> {
    let mut guard = context.postmaster.subscribe();
    let pg = context.postgres();
    let ready = async {
        let begun = Instant::now();
        let mut pause = LOOK;
        loop {
            let up = is_up(&pg, writable).await;
            pause = next_look(pause, begun.elapsed(), &up);
            match up {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => tracing::trace!(%error, "not up yet"),
            }
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        up = ready => up,
        gone = guard.wait_for(|postmaster| postmaster.pid.is_none()) => {
            drop(gone);
            Err("PostgreSQL ended; its log says why".to_owned())
        }
        () = tokio::time::sleep(deadline) => Ok(false),
    }
}

async fn is_up(pg: &Postgres, writable: bool) -> Result<bool, SqlError> {
    let session = Session::local(pg, Duration::from_secs(2)).await?;
    if !writable {
        return Ok(true);
    }
    session
        .value("SELECT NOT pg_is_in_recovery()", Duration::from_secs(2))
        .await
}

pub(super) async fn run_start_primary(context: Arc<Context>, turn: u64, sync: SyncSetting) {
    let on_trial = context.on_trial.load(SeqCst);
    let mut result = start_primary(&context, turn, sync, on_trial).await;
    if result.is_ok() && on_trial {
        result = making::end_trial(&context, turn).await;
    }
    let failed = on_trial && result.is_err();
    context.on_trial.store(false, SeqCst);
    report(&context, Op::StartPrimary, result).await;
    if failed {
        making::fail_trial(context).await;
    }
}

async fn start_primary(context: &Context, turn: u64, sync: SyncSetting, on_trial: bool) -> Done {
    fork(context, turn, Follow::Nobody, true, sync).await?;
    let limit_ms = context
        .dynamic
        .read()
        .map_or(300_000, |d| d.primary_start_timeout_ms);
    // A recovery to a point in time replays what it has to.
    let limit = if on_trial {
        REPAIR
    } else {
        ms(limit_ms.max(10_000))
    };
    if !wait_up(context, true, limit).await? {
        context
            .link
            .request(&Request::KillAll {
                reason: "the start took too long".into(),
            })
            .await
            .map_err(words)?;
        return Err(format!(
            "not up within primary_start_timeout of {limit_ms} ms"
        ));
    }
    make_users(context).await
}

/// After initdb, or where the agent's users are missing.
async fn make_users(context: &Context) -> Done {
    let pg = context.postgres();
    let session = Session::local(&pg, STATEMENT).await.map_err(words)?;
    let name = crate::postgres::quote::literal(&pg.replication.username);
    let sql = format!("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = {name})");
    let known: bool = session.value(&sql, STATEMENT).await.map_err(words)?;
    let fresh = context.fresh.swap(false, SeqCst);
    if !known || fresh {
        bootstrap::create_users(&session, &pg, STATEMENT)
            .await
            .map_err(words)?;
        tracing::info!("the users for replication and rewind are made");
    }
    Ok(())
}

pub(super) async fn run_start_replica(context: Arc<Context>, turn: u64, follow: Follow) {
    let result = async {
        // Strict mode enforces something from the first commit on.
        let strict = context.dynamic.read().is_ok_and(|d| d.waits_for_nobody());
        let sync = if strict {
            SyncSetting::nobody()
        } else {
            SyncSetting::default()
        };
        fork(&context, turn, follow, false, sync).await?;
        // "Starting up" may last until the leader sends what is missing: not an error.
        wait_up(&context, false, REPLICA_UP).await.map(drop)
    };
    let result = result.await;
    report(&context, Op::StartReplica, result).await;
}

pub(super) async fn run_stop(context: Arc<Context>, how: Stop) {
    let request = match how {
        Stop::Fast => Request::Stop { how: StopHow::Fast },
        Stop::Immediate => Request::Stop {
            how: StopHow::Immediate,
        },
        Stop::Kill => Request::KillAll {
            reason: "asked by the agent".into(),
        },
    };
    if let Err(error) = context.link.request(&request).await {
        tracing::error!(%error, "the guardian cannot be asked to stop PostgreSQL");
    }
}

pub(super) async fn run_promote(context: Arc<Context>, turn: u64, sync: SyncSetting) {
    let result = promote(&context, turn, sync).await;
    let promoted = result.is_ok();
    report(&context, Op::Promote, result).await;
    if promoted {
        complete_promotion(&context).await;
    }
}

async fn promote(context: &Context, turn: u64, sync: SyncSetting) -> Done {
    let dir = context.settings().postgresql.data_dir.clone();
    // A replica was started with this already, but where the mode has changed since: a reload would
    // only wake the start process a moment before the signal that counts.
    if !config::has_sync(&dir, &sync) {
        standbys::set_sync(context, &sync).await?;
    }
    let files = Arc::clone(&context.files);
    let trigger = move || control::write_promote_trigger(&dir).map_err(words);
    blocking(move || files.write(turn, trigger)).await?;
    // The disk may have held the trigger up until another server runs here, which is not meant.
    context.files.still(turn)?;
    context.unchecked.store(true, SeqCst);
    let usr1 = Request::Signal {
        signal: PostmasterSignal::Usr1,
    };
    context.link.request(&usr1).await.map_err(words)?;
    if wait_up(context, true, PROMOTE).await? {
        return Ok(());
    }
    Err(format!("still in recovery after {} s", PROMOTE.as_secs()))
}

/// pg_rewind needs the new timeline in the control file: a checkpoint, off the critical path.
async fn complete_promotion(context: &Context) {
    if let Err(error) = make_users(context).await {
        tracing::warn!("the agent's users could not be checked: {error}");
    }
    let pg = context.postgres();
    let done = match Session::local(&pg, STATEMENT).await {
        Ok(session) => control::checkpoint(&session, CHECKPOINT).await,
        Err(error) => Err(error),
    };
    if let Err(error) = done {
        tracing::warn!(%error, "the checkpoint after the promotion failed; PostgreSQL writes one itself");
    }
    context.unchecked.store(false, SeqCst);
    context.kick.notify_one();
}

pub(super) async fn run_rewind(context: Arc<Context>, source: Source) {
    let pg = context.checked_postgres().await;
    let result = async {
        let standbys = context
            .dynamic
            .read()
            .is_ok_and(|d| d.standby_cluster.is_some());
        leader_is_ready(&pg, &source, standbys).await?;
        rewind::rewind(&pg, &context.installation, &source, REPAIR)
            .await
            .map_err(words)
    };
    let result = result.await;
    report(&context, Op::Rewind, result).await;
}

/// It must lead, whatever the lock and its own last word say of it: a store that came back from a
/// backup names leaders of before. And its control file must show the timeline that the rewind is
/// to reach.
///
/// The leader of a standby cluster is in recovery, and `pg_rewind` takes the timeline from its
/// minimum recovery point.
async fn leader_is_ready(pg: &Postgres, source: &Source, standbys: bool) -> Done {
    let user = &pg.superuser;
    let session = Session::remote(source, user, &pg.database, STATEMENT)
        .await
        .map_err(words)?;
    let ready = rewind::leader_ready_for_rewind(&session, STATEMENT).await;
    match ready.map_err(words)? {
        None if standbys => Ok(()),
        None => Err("it is in recovery, and only who leads is followed".to_owned()),
        Some(true) => Ok(()),
        Some(false) => control::checkpoint(&session, CHECKPOINT)
            .await
            .map_err(words),
    }
}

pub(super) async fn run_crash_recover(context: Arc<Context>) {
    let pg = context.checked_postgres().await;
    let result = rewind::recover(&pg, &context.installation, REPAIR).await;
    report(&context, Op::CrashRecover, result.map(drop).map_err(words)).await;
}

pub(super) async fn run_checkpoint(context: Arc<Context>) {
    let pg = context.postgres();
    let result = match Session::local(&pg, STATEMENT).await {
        Ok(session) => control::checkpoint(&session, CHECKPOINT)
            .await
            .map_err(words),
        Err(error) => Err(words(error)),
    };
    report(&context, Op::Checkpoint, result).await;
}
