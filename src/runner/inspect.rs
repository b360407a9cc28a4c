//! Looking at the data directory, on a disk that may hang.

use super::Context;
use super::server::blocking;
use crate::ha::event::Event;
use crate::ha::model::DataDir;
use crate::postgres::data_dir;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// How long a look may take.
const LOOK: Duration = Duration::from_secs(10);

pub(super) async fn run_inspect(context: Arc<Context>) {
    let dir = context.settings().postgresql.data_dir.clone();
    let major = context.installation.major;
    let expected = context.on_trial.load(SeqCst);
    let tell = |data| context.tell(Event::DataSeen(data));
    inspect(
        LOOK,
        move || data_dir::classify_on_trial(&dir, major, expected),
        tell,
    )
    .await;
}

/// A disk that hangs counts as unusable until it answers: a leader that waited for it silently
/// would keep the lock for ever and run nothing (G9).
async fn inspect<T: Future<Output = ()>>(
    limit: Duration,
    look: impl FnOnce() -> DataDir + Send + 'static,
    tell: impl Fn(DataDir) -> T,
) {
    let look = blocking(move || Ok(look()));
    tokio::pin!(look);
    let data = if let Ok(data) = tokio::time::timeout(limit, look.as_mut()).await {
        data
    } else {
        let why = format!("data_dir did not answer within {} ms", limit.as_millis());
        tell(DataDir::Unusable(format!("{why}; does its disk hang?"))).await;
        look.await
    };
    tell(data.unwrap_or_else(DataDir::Unusable)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, mpsc};

    #[tokio::test]
    async fn a_disk_that_hangs_is_unusable_until_it_answers() {
        let (answer, hung) = mpsc::channel::<()>();
        let told = Mutex::new(Vec::new());
        let look = move || {
            let _ = hung.recv();
            DataDir::Empty
        };
        inspect(Duration::from_millis(50), look, |data| {
            let _ = answer.send(());
            told.lock().unwrap().push(data);
            std::future::ready(())
        })
        .await;
        let told = told.into_inner().unwrap();
        assert!(
            matches!(&told[..], [DataDir::Unusable(why), DataDir::Empty] if why.contains("50 ms")),
            "{told:?}"
        );
    }
}
