//! What comes before a server runs: its files, and the guardian's fork with its answer.

use super::context::Postmaster;
use super::server::{Done, blocking, words};
use super::{Context, configuration, sockets};
use crate::guardian::protocol::{Request, StartSpec};
use crate::ha::quorum::SyncSetting;
use crate::postgres::config::{self, Follow};
use crate::postgres::control_data::ControlData;
use crate::postgres::{Postgres, control, stale, start, trial};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Writing the files of a start: a disk that takes none must not hold a leader for ever (G9).
const PREPARE: Duration = Duration::from_secs(30);
/// Forking, or refusing to.
const FORK: Duration = Duration::from_secs(10);

/// Write the files, ask the guardian, wait for its answer.
pub(super) async fn fork(
    context: &Context,
    turn: u64,
    follow: Follow,
    primary: bool,
    sync: SyncSetting,
) -> Done {
    let prepared = tokio::time::timeout(PREPARE, lay_out(context, turn, follow, primary, sync));
    let prepared = prepared
        .await
        .map_err(|_| "the files of the server could not be written in time".to_owned())??;
    for note in &prepared.notes {
        tracing::warn!("{note}");
    }
    let mut argv = vec![prepared.program.to_string_lossy().into_owned()];
    argv.extend(
        prepared
            .argv
            .iter()
            .skip(1)
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    let spec = StartSpec {
        argv,
        env: prepared.env.into_iter().collect(),
        log_path: None,
        writable: primary,
    };
    let mut guard = context.postmaster.subscribe();
    let (before, ends) = {
        let postmaster = guard.borrow_and_update();
        (postmaster.answers, postmaster.ends)
    };
    context.starting_as_primary.store(primary, SeqCst);
    context
        .link
        .request(&Request::Start(spec))
        .await
        .map_err(words)?;
    let answered = guard.wait_for(|postmaster| postmaster.answers > before);
    if let Ok(answer) = tokio::time::timeout(FORK, answered).await {
        return accepted(&*answer.map_err(words)?);
    }
    // L4: its child may hang on a disk and come up when that goes on. What became of a primary is
    // told by its start or its verified end alone.
    let reason = "the start did not come about in time".to_owned();
    let kill = Request::KillAll {
        reason: reason.clone(),
    };
    context.link.request(&kill).await.map_err(words)?;
    if !primary {
        return Err(reason);
    }
    let told = guard.wait_for(|p| p.answers > before || p.ends > ends);
    let told = told.await.map_err(words)?;
    if told.answers > before {
        return accepted(&told);
    }
    Err("the fork of PostgreSQL hung and was killed".to_owned())
}

fn accepted(postmaster: &Postmaster) -> Done {
    let refused = postmaster.refused.clone();
    refused.map_or(Ok(()), |why| Err(format!("the guardian refused: {why}")))
}

/// The files of the server that is to start. A turn that is over by then writes nothing.
async fn lay_out(
    context: &Context,
    turn: u64,
    follow: Follow,
    primary: bool,
    sync: SyncSetting,
) -> Result<start::Launch, String> {
    let files = Arc::clone(&context.files);
    let pg = sockets::placed(context.checked_postgres().await).await?;
    context.note_place(pg.place());
    let known = context.last_good();
    let on_trial = context.on_trial.load(SeqCst);
    blocking(move || {
        files.write(turn, || {
            configuration::keep_copy(&pg.data_dir, &known);
            refuse_trial(&pg.data_dir, on_trial && primary)?;
            prepare(&pg, &follow, primary, &sync)
        })
    })
    .await
}

/// A new cluster that did not get through its bootstrap does not start again (L9).
fn refuse_trial(dir: &Path, expected: bool) -> Done {
    if trial::is_on(dir) && !expected {
        return Err("the bootstrap of this cluster has not come to its end".to_owned());
    }
    Ok(())
}

fn prepare(
    pg: &Postgres,
    follow: &Follow,
    primary: bool,
    sync: &SyncSetting,
) -> Result<start::Launch, String> {
    let dir = &pg.data_dir;
    stale::remove(dir, &stale::socket_locks(pg)).map_err(words)?;
    control::remove_promote_trigger(dir).map_err(words)?;
    config::write(pg, dir, follow).map_err(words)?;
    config::set_sync(dir, sync).map_err(words)?;
    let recovers = trial::recovers(dir);
    if !recovers {
        config::set_standby_signal(dir, !primary).map_err(words)?;
    }
    let control = if primary && !recovers {
        None
    } else {
        Some(ControlData::read(dir).map_err(words)?)
    };
    Ok(start::postmaster(pg, control.as_ref()))
}
