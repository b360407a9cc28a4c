//! The listener: connections with deadlines on everything a client could be slow at.

use super::access::Caller;
use super::command::Command;
use super::connections::{Connections, Slot};
use super::routes::Routes;
use super::security::{Handle, Transport};
use super::view::View;
use crate::ha::model::Ms;
use futures::future::BoxFuture;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `restapi.listen` cannot be used.
    #[error(
        "restapi.listen: cannot listen on {address}: {source}; expected a free host:port of this machine"
    )]
    Bind {
        /// What was asked for.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where the journal's tail comes from: the last so many entries as JSON lines.
pub type Journal = Arc<dyn Fn(usize) -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// The bounds of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections.
    pub max_connections: usize,
    /// Requests that wait for a decision; more are told to come back.
    pub max_deciding: usize,
    /// The longest a TLS handshake may take.
    pub handshake_ms: u64,
    /// How often the certificates' files and the names of the allowlist are looked at.
    pub look_ms: u64,
    /// The longest a request's head may take to arrive.
    pub head_ms: u64,
    /// The longest a request's body may take to arrive.
    pub body_ms: u64,
    /// The largest body.
    pub max_body_bytes: usize,
    /// The longest a decision may take: Patroni's callers give up after 30 s.
    pub decision_ms: u64,
    /// The longest the journal may take.
    pub journal_ms: u64,
    /// The longest a connection may live; a client that never reads its answers ends here.
    pub connection_ms: u64,
    /// The longest the last answers may take when the server stops.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 512,
            max_deciding: 16,
            handshake_ms: 5_000,
            look_ms: 10_000,
            head_ms: 5_000,
            body_ms: 5_000,
            max_body_bytes: 64 * 1024,
            decision_ms: 20_000,
            journal_ms: 3_000,
            connection_ms: 300_000,
            drain_ms: 2_000,
        }
    }
}

/// What the composition root connects the API to.
pub struct Parts {
    /// The newest view.
    pub view: watch::Receiver<Arc<View>>,
    /// The way to the decision loop.
    pub commands: mpsc::Sender<Command>,
    /// The journal.
    pub journal: Journal,
    /// The boottime clock.
    pub now: fn() -> Ms,
    /// Who may call and change things.
    pub security: Arc<Handle>,
    /// Bounds.
    pub limits: Limits,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Connections the system keeps until they are taken, unless the configuration says.
const BACKLOG: u32 = 1024;

/// Take the address. Separate from serving, so that a used port is known before anything starts.
/// `backlog`: `restapi.request_queue_size`.
pub async fn bind(address: &str, backlog: Option<u32>) -> Result<TcpListener, Error> {
    let bound = async {
        let mut last = None;
        for at in tokio::net::lookup_host(address).await? {
            match listen(at, backlog.unwrap_or(BACKLOG)) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some(error),
            }
        }
        let none = || std::io::Error::other("the name stands for no address");
        Err(last.unwrap_or_else(none))
    };
    bound.await.map_err(|source| Error::Bind {
        address: address.to_owned(),
        source,
    })
}

fn listen(at: SocketAddr, backlog: u32) -> std::io::Result<TcpListener> {
    let socket = if at.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // What an earlier life left in TIME_WAIT does not hold the port.
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(backlog)
}

/// The REST server.
pub struct Server {
    listener: TcpListener,
    limits: Limits,
    routes: Arc<Routes>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Put the parts together. Nothing is answered before [`Server::run`].
    pub fn new(listener: TcpListener, parts: Parts) -> Self {
        Self {
            listener,
            limits: parts.limits.clone(),
            routes: Arc::new(Routes::new(parts)),
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serve until `shutdown` is ready, then let running answers end within `drain_ms`.
    ///
    /// Every connection is a task of this future: when it ends or is dropped, all have ended.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self {
            listener,
            limits,
            routes,
        } = self;
        let (stop, stopping) = watch::channel(false);
        let clock = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        let mut connections = Connections::default();
        tasks.spawn(follow(
            Arc::clone(&routes),
            limits.look_ms,
            stopping.clone(),
        ));
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = tasks.join_next_with_id() => {
                    let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    connections.remove(id);
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => {
                        if connections.len() >= limits.max_connections {
                            connections.evict_one();
                        }
                        let slot = Arc::new(Slot::default());
                        slot.touch(&clock);
                        let serving = Connection {
                            routes: Arc::clone(&routes),
                            slot: Arc::clone(&slot),
                            clock: Arc::clone(&clock),
                            stopping: stopping.clone(),
                        };
                        let task = tasks.spawn(serving.run(stream, from, limits.clone()));
                        connections.add(task, slot);
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: make room, and do not spin.
                        tracing::warn!(%error, "the REST API cannot accept a connection");
                        connections.evict_one();
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                },
            }
        }
        drop(listener);
        stop.send_replace(true);
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_millis(limits.drain_ms), drained)
            .await
            .is_err()
        {
            tracing::debug!("the REST API stops with answers still unread by their clients");
        }
        tasks.shutdown().await;
    }
}

/// How often an old connection that waits for a decision is looked at.
const DECIDING_LOOK: Duration = Duration::from_millis(250);

/// Until the connection is old, and nobody waits on it for a decision that takes long: a restart.
async fn outlived(slot: &Slot, connection_ms: u64) {
    tokio::time::sleep(Duration::from_millis(connection_ms)).await;
    while slot.is_deciding() {
        tokio::time::sleep(DECIDING_LOOK).await;
    }
}

/// Until the server stops.
async fn follow(routes: Arc<Routes>, look_ms: u64, mut stopping: watch::Receiver<bool>) {
    let security = Arc::clone(routes.security());
    tokio::select! {
        () = security.follow(routes.views(), Duration::from_millis(look_ms)) => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
}

/// A connection, with TLS or without: one type, so that the server is not compiled twice.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

struct Connection {
    routes: Arc<Routes>,
    slot: Arc<Slot>,
    clock: Arc<AtomicU64>,
    stopping: watch::Receiver<bool>,
}

impl Connection {
    async fn run(self, stream: TcpStream, from: SocketAddr, limits: Limits) {
        // Answers are one small write each; waiting for more helps nobody.
        let _ = stream.set_nodelay(true);
        let transport = self.routes.security().current().transport().clone();
        let mut caller = Caller {
            ip: from.ip(),
            certificate: false,
            transport,
        };
        let config = match &caller.transport {
            Transport::Plain => return self.serve(Box::new(stream), caller, limits).await,
            Transport::Closed => return,
            Transport::Tls(config) => Arc::clone(config),
        };
        let mut stopping = self.stopping.clone();
        // Boxed: most of what a handshake needs is not needed after it.
        let handshake = Box::pin(TlsAcceptor::from(config).accept(stream));
        let handshake = tokio::time::timeout(Duration::from_millis(limits.handshake_ms), handshake);
        let stream = tokio::select! {
            shaken = handshake => match shaken {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%error, "{from}: no TLS handshake"),
                Err(_) => return tracing::debug!("{from}: no TLS handshake in time"),
            },
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        let shown = stream.get_ref().1.peer_certificates();
        caller.certificate = shown.is_some_and(|chain| !chain.is_empty());
        self.serve(Box::new(stream), caller, limits).await;
    }

    async fn serve(self, stream: Box<dyn Stream>, caller: Caller, limits: Limits) {
        let Self {
            routes,
            slot,
            clock,
            mut stopping,
        } = self;
        let seen = Arc::clone(&slot);
        let caller = Arc::new(caller);
        let service = service_fn(move |request| {
            slot.touch(&clock);
            let (routes, slot) = (Arc::clone(&routes), Arc::clone(&slot));
            let caller = Arc::clone(&caller);
            async move { Ok::<_, Infallible>(routes.answer(request, &caller, &slot).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(limits.head_ms))
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            // A client that goes away or talks nonsense is its own affair.
            _ = connection.as_mut() => return,
            _ = stopping.wait_for(|stop| *stop) => {}
            () = outlived(&seen, limits.connection_ms) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(Duration::from_millis(limits.drain_ms), connection).await;
    }
}
