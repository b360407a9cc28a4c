//! The listening socket, the tasks of its connections, and what they share.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Options;
use super::faults::Faults;
use super::requests;
use super::status::ApiError;
use super::store::{Snapshot, Store};

/// What every request sees.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) faults: Faults,
    store: Mutex<Store>,
    /// Changes with every write; watches wait on it.
    announced: watch::Sender<u64>,
    /// Requests being carried out.
    tasks: Mutex<JoinSet<()>>,
}

impl Shared {
    pub(super) fn new(options: Options, start: Snapshot) -> Self {
        Self {
            store: Mutex::new(Store::new(start, options.log_limit)),
            faults: Faults::new(),
            announced: watch::Sender::new(0),
            tasks: Mutex::default(),
            options,
        }
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the store and wakes the watches.
    pub(super) fn write<T>(
        &self,
        change: impl FnOnce(&mut Store) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let result = change(&mut self.store());
        self.announce();
        result
    }

    pub(super) fn restore(&self, snapshot: &Snapshot) {
        self.store().restore(snapshot.clone());
        self.announce();
    }

    pub(super) fn announce(&self) {
        self.announced
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn revisions(&self) -> watch::Receiver<u64> {
        self.announced.subscribe()
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs to its end even if the connection it came by is gone, but not beyond the server's life.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Ends the requests under way.
    pub(super) fn abort_requests(&self) {
        self.tasks().abort_all();
    }
}

/// Serves until told to stop. Dropping the future ends every connection with it.
pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&shared)));
                }
                Err(error) => retry_later(&error).await,
            },
        }
    }
}

/// An accept that fails (no descriptors left) would otherwise spin.
async fn retry_later(error: &io::Error) {
    tracing::warn!(%error, "embedded Kubernetes API: accepting a connection failed");
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Small answers must not wait for the client's acknowledgement of earlier ones.
    drop(stream.set_nodelay(true));
    let service = service_fn(move |request| requests::answer(Arc::clone(&shared), request));
    let served = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::trace!(%error, "embedded Kubernetes API: connection ended");
    }
}
