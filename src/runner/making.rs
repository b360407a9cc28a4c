//! How a data directory is made: a new cluster by initdb or by a command of the user's, a copy by
//! the first method of the list that goes well.

use super::Context;
use super::files;
use super::hooks::OWN_PROGRAM;
use super::inspect::run_inspect;
use super::server::{CLONE, Done, REPAIR, STATEMENT, blocking, report, words};
use crate::guardian::protocol::Request;
use crate::ha::cloning::NOBODY;
use crate::ha::event::Op;
use crate::ha::model::Name;
use crate::ha::remote::REMOTE;
use crate::postgres::basebackup::{self, CloneProgress};
use crate::postgres::config::Follow;
use crate::postgres::method::{self, Method, Recovery};
use crate::postgres::session::Session;
use crate::postgres::{Postgres, Source, bootstrap, post_bootstrap, stage, trial};
use crate::settings;
use crate::settings::ReplicaMethod;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use tokio::sync::watch;

impl Method {
    fn of(given: &settings::Method) -> Self {
        Self {
            name: given.name.clone(),
            argv: given.command.words().to_vec(),
            no_params: given.no_params,
            keep_data: given.keep_data,
            arguments: given.arguments.clone(),
            cluster: None,
        }
    }
}

pub(super) async fn run_initdb(context: Arc<Context>) {
    let result = make_cluster(&context).await;
    context.fresh.store(result.is_ok(), SeqCst);
    let own = &context.settings().bootstrap;
    let more = own.custom.is_some() || own.post_bootstrap.is_some();
    context.on_trial.store(more && result.is_ok(), SeqCst);
    report(&context, Op::Initdb, result).await;
}

async fn make_cluster(context: &Context) -> Done {
    let pg = context.checked_postgres().await;
    let settings = context.settings();
    // What an earlier bootstrap left behind, this agent's or another's.
    let dir = pg.data_dir.clone();
    let aside = blocking(move || {
        let failed = trial::is_on(&dir).then(|| trial::set_aside(&dir));
        failed.transpose().map_err(words)
    });
    if let Some(to) = aside.await? {
        tracing::warn!("the bootstrap that failed is kept in {}", to.display());
    }
    let own = &settings.bootstrap;
    let installation = &context.installation;
    let Some(custom) = &own.custom else {
        let made = if own.post_bootstrap.is_some() {
            bootstrap::initdb_on_trial(&pg, installation, REPAIR).await
        } else {
            bootstrap::initdb(&pg, installation, REPAIR).await
        };
        return made.map_err(words);
    };
    let recovery = match (&custom.recovery_conf, custom.keep_existing_recovery_conf) {
        (Some(given), _) => Recovery::Given(given.clone()),
        (None, true) => Recovery::Own,
        (None, false) => Recovery::None,
    };
    let method = Method::of(&custom.method);
    let made = method::bootstrap(
        &pg,
        installation,
        Path::new(OWN_PROGRAM),
        (&method, &recovery),
        CLONE,
    );
    made.await.map_err(words)
}

/// The server of a new cluster is up: it goes through the rest of its bootstrap, and is an ordinary
/// one from then on.
pub(super) async fn end_trial(context: &Arc<Context>, turn: u64) -> Done {
    let pg = context.postgres();
    let dir = pg.data_dir.clone();
    if !blocking(move || Ok(trial::is_on(&dir))).await? {
        return Ok(());
    }
    let session = Session::local(&pg, STATEMENT).await.map_err(words)?;
    bootstrap::own_superuser(&session, &pg, STATEMENT)
        .await
        .map_err(words)?;
    drop(session);
    let settings = context.settings();
    if let Some(command) = &settings.bootstrap.post_bootstrap {
        let own = Path::new(OWN_PROGRAM);
        post_bootstrap::run(&pg, own, command.words(), REPAIR)
            .await
            .map_err(words)?;
    }
    blocking(move || trial::end(&pg.data_dir).map_err(words)).await?;
    // Whoever came in because nobody knew a password yet does not any more.
    files::write_files(context, turn, Follow::Nobody).await?;
    files::reload(context).await
}

/// The new cluster is not kept: the core is told what is left of it.
pub(super) async fn fail_trial(context: Arc<Context>) {
    context.on_trial.store(false, SeqCst);
    run_inspect(context).await;
}

/// The agent that bootstrapped died under it: what it made is not gone on with.
pub(super) async fn end_orphaned_trial(context: &Context) {
    let dir = context.settings().postgresql.data_dir.clone();
    if !blocking(move || Ok(trial::is_on(&dir)))
        .await
        .unwrap_or(false)
    {
        return;
    }
    let reason = "its bootstrap was interrupted".to_owned();
    if let Err(error) = context.link.request(&Request::KillAll { reason }).await {
        tracing::error!(%error, "the guardian cannot be asked to stop PostgreSQL");
    }
}

/// `replaces`: whoever is copied leads, so that its copy may take the place of what is here.
pub(super) async fn run_clone(
    context: Arc<Context>,
    source: Option<Source>,
    from: Name,
    (replaces, cluster): (bool, Option<String>),
) {
    let mut pg = context.checked_postgres().await;
    if from == REMOTE {
        pg.name = pg.name_elsewhere();
    }
    let mut failures = Vec::new();
    let mut result = Err("no method of create_replica_methods works without a leader".to_owned());
    for method in methods(&context, &from) {
        let made = match (&method, &source) {
            (ReplicaMethod::Basebackup, None) => continue,
            (ReplicaMethod::Own(own), None) if !own.no_leader => continue,
            (ReplicaMethod::Basebackup, Some(source)) => {
                copy_leader(&context, &pg, source, (&from, replaces)).await
            }
            (ReplicaMethod::Own(own), source) => {
                tracing::info!("the copy is made by {}", own.name);
                let from = ((from.as_str(), replaces), cluster.as_deref());
                by_method(&context, &pg, source.as_ref(), from, own).await
            }
        };
        result = made;
        let Err(why) = &result else { break };
        tracing::warn!("a method of create_replica_methods failed: {why}");
        failures.push(why.clone());
    }
    if result.is_err() && failures.len() > 1 {
        result = Err(failures.join("; "));
    }
    report(&context, Op::Clone, result).await;
}

/// The methods for a copy of this one, in their order.
fn methods(context: &Context, from: &str) -> Vec<ReplicaMethod> {
    let settings = context.settings();
    let named = context.dynamic.read().ok().and_then(|dynamic| {
        let standby = dynamic.standby_cluster.as_ref();
        let names = standby.map(|standby| standby.create_replica_methods.clone());
        names.filter(|names| from == REMOTE && !names.is_empty())
    });
    let Some(names) = named else {
        return settings.postgresql.replica_methods.clone();
    };
    let known = &settings.postgresql.methods;
    let method = |name: &String| {
        if name == "basebackup" {
            return ReplicaMethod::Basebackup;
        }
        let described = known.get(name).cloned();
        ReplicaMethod::Own(described.unwrap_or_else(|| settings::Method::bare(name)))
    };
    names.iter().map(method).collect()
}

fn proof((from, replaces): (&str, bool)) -> Option<stage::ReplaceProof> {
    (replaces && from != NOBODY).then(|| {
        stage::ReplaceProof::granted(format!(
            "{from} runs as the primary of this cluster, or of the one that it follows"
        ))
    })
}

async fn by_method(
    context: &Context,
    pg: &Postgres,
    source: Option<&Source>,
    (from, cluster): ((&str, bool), Option<&str>),
    own: &settings::Method,
) -> Done {
    let own = Method {
        cluster: cluster.map(str::to_owned),
        ..Method::of(own)
    };
    let made = method::copy(
        pg,
        &context.installation,
        Path::new(OWN_PROGRAM),
        &own,
        (source, proof(from)),
        CLONE,
    );
    made.await.map_err(words)
}

async fn copy_leader(
    context: &Context,
    pg: &Postgres,
    source: &Source,
    from: (&str, bool),
) -> Done {
    let (sender, mut receiver) = watch::channel(CloneProgress::default());
    let clone = basebackup::clone(
        pg,
        &context.installation,
        source,
        proof(from),
        &sender,
        CLONE,
    );
    let tell = async {
        let mut told = 0;
        while receiver.changed().await.is_ok() {
            let at = *receiver.borrow_and_update();
            context.note_cloning(Some((at.done_bytes, at.total_bytes)));
            let percent = 100 * at.done_bytes / at.total_bytes.max(1);
            if percent >= told + 10 {
                told = percent;
                tracing::info!(
                    "clone of {}: {percent}% of {} bytes",
                    from.0,
                    at.total_bytes
                );
            }
        }
        std::future::pending::<()>().await;
    };
    let result = tokio::select! {
        done = clone => done.map_err(words),
        () = tell => Ok(()),
    };
    context.note_cloning(None);
    result
}
