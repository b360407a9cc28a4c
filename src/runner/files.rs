//! Who may write PostgreSQL's files: one at a time, and only the newest operation.
//!
//! A disk that stands still holds a write up for longer than its operation is waited for. When it
//! goes on, another operation may have written other files, for another role: the old one must not
//! be last.

use super::server::{Done, STATEMENT, blocking, report, words};
use super::{Context, configuration};
use crate::guardian::protocol::{PostmasterSignal, Request};
use crate::ha::event::Op;
use crate::postgres::config::{self, Follow};
use crate::postgres::control;
use crate::postgres::session::Session;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Files {
    newest: AtomicU64,
    writing: Mutex<()>,
}

impl Files {
    /// The turn of an operation that begins now; every turn before it is over. Taken where effects
    /// are begun, in the order of the decisions: their tasks run in any.
    pub(super) fn turn(&self) -> u64 {
        self.newest.fetch_add(1, SeqCst) + 1
    }

    /// Write, unless a later operation has begun. Blocks while another writes.
    pub(super) fn write<T>(
        &self,
        turn: u64,
        write: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.still(turn)?;
        write()
    }

    /// No later operation has begun.
    pub(super) fn still(&self, turn: u64) -> Result<(), String> {
        if self.newest.load(SeqCst) != turn {
            return Err("a later operation writes the files".to_owned());
        }
        Ok(())
    }
}

pub(super) async fn run_follow(context: Arc<Context>, turn: u64, follow: Follow) {
    let written = write_files(&context, turn, follow);
    let result = match written.await {
        Ok(()) => reload(&context).await,
        Err(error) => Err(error),
    };
    report(&context, Op::Follow, result).await;
}

/// For the WAL receiver to end; one that does not holds up an election for no longer.
const RECEIVER: Duration = Duration::from_secs(2);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(15);
/// How often it has to be seen gone: the startup process may be about to start one as it was told
/// before.
const LOOKS: u32 = 3;

/// Receive no more WAL (G10). It ends once the receiver is seen gone, with all that it had received
/// on disk: PostgreSQL flushes that before it ends.
pub(super) async fn run_stop_receiver(context: Arc<Context>, turn: u64) {
    let stopped = async {
        write_files(&context, turn, Follow::Nobody).await?;
        reload(&context).await?;
        let session = Session::local(&context.postgres(), STATEMENT)
            .await
            .map_err(words)?;
        let mut gone = 0;
        while gone < LOOKS {
            let none = control::receives_nothing(&session, STATEMENT)
                .await
                .map_err(words)?;
            gone = if none { gone + 1 } else { 0 };
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    let stopped = tokio::time::timeout(RECEIVER, stopped).await;
    let result = stopped.unwrap_or_else(|_| Err("the WAL receiver goes on".to_owned()));
    report(&context, Op::StopReceiver, result).await;
}

/// A disk that takes no writes must not hold up the operations that come after.
const CONFIGURE: Duration = Duration::from_secs(10);

pub(super) async fn run_configure(context: Arc<Context>, turn: u64) {
    let written = write_files(&context, turn, Follow::Nobody);
    let result = match tokio::time::timeout(CONFIGURE, written).await {
        Ok(Ok(())) => reload(&context).await,
        Ok(Err(error)) => Err(error),
        Err(_) => Err("the settings could not be written in time".to_owned()),
    };
    report(&context, Op::Configure, result).await;
}

pub(super) async fn write_files(context: &Context, turn: u64, follow: Follow) -> Done {
    let files = Arc::clone(&context.files);
    let pg = context.checked_postgres().await;
    let known = context.last_good();
    blocking(move || {
        files.write(turn, || {
            configuration::keep_copy(&pg.data_dir, &known);
            config::write(&pg, &pg.data_dir, &follow).map_err(words)
        })
    })
    .await
}

pub(super) async fn reload(context: &Context) -> Done {
    let hup = Request::Signal {
        signal: PostmasterSignal::Hup,
    };
    context.link.request(&hup).await.map_err(words)?;
    context.configured.fetch_add(1, SeqCst);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_turn_writes() {
        let files = Files::default();
        let (old, new) = (files.turn(), files.turn());
        assert_eq!(files.write(new, || Ok(1)), Ok(1));
        assert!(files.write(old, || Ok(2)).is_err());
        assert_eq!(files.write(new, || Ok(3)), Ok(3));
    }
}
