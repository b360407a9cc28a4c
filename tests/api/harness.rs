//! A real server on a loopback port, and a client that can be as rude as a test needs.

use crate::recorded::now;
use pgwarden::api::security::{Handle, Security};
use pgwarden::api::{Ask, Command, Credentials, Limits, Parts, Reply, Server, View, bind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// No answer of a test takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub(crate) struct Harness {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// What it knows.
    pub(crate) view: watch::Sender<Arc<View>>,
    /// What it asks for.
    pub(crate) commands: mpsc::Receiver<Command>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Start one that speaks plain HTTP.
pub(crate) async fn start(view: View, limits: Limits, credentials: Option<Credentials>) -> Harness {
    let security = Handle::new(Security::plain(credentials), wall_s);
    start_with(view, limits, security).await
}

/// Seconds since 1970.
pub(crate) fn wall_s() -> i64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// Start one.
pub(crate) async fn start_with(view: View, limits: Limits, security: Arc<Handle>) -> Harness {
    let (view, seen) = watch::channel(Arc::new(view));
    let (sender, commands) = mpsc::channel(4);
    let (stop, stopped) = oneshot::channel();
    let listener = bind("127.0.0.1:0", None).await.unwrap();
    let server = Server::new(
        listener,
        Parts {
            view: seen,
            commands: sender,
            journal: Arc::new(|last| {
                let lines = ["{\"n\":1}\n", "{\"n\":2}\n", "{\"n\":3}\n"];
                let tail = lines[lines.len() - last.min(lines.len())..].concat();
                Box::pin(async move { Ok(tail) })
            }),
            now,
            security,
            limits,
        },
    );
    let addr = server.local_addr().unwrap();
    let task = tokio::spawn(server.run(async move {
        let _ = stopped.await;
    }));
    Harness {
        addr,
        view,
        commands,
        stop,
        task,
    }
}

impl Harness {
    /// Stop it and see that it ends.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("the server ends")
            .unwrap();
    }

    /// The next command that reaches the loop.
    pub(crate) async fn next(&mut self) -> Command {
        tokio::time::timeout(PATIENCE, self.commands.recv())
            .await
            .expect("a command")
            .unwrap()
    }

    /// Answer the next command, and give what it asked for.
    pub(crate) async fn obey(&mut self, reply: Reply) -> Ask {
        let command = self.next().await;
        command.reply.send(reply).unwrap();
        command.ask
    }

    /// Send text, read until the server closes.
    pub(crate) async fn raw(&self, request: &str) -> Response {
        send(self.addr, request).await
    }

    /// A request without a body.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> Response {
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    /// A POST with a body.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Response {
        self.post_with(path, "", body).await
    }

    /// A POST with more headers (each ending in CRLF) and a body.
    pub(crate) async fn post_with(&self, path: &str, headers: &str, body: &str) -> Response {
        let length = body.len();
        self.raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }
}

/// The same while the server's commands are being answered.
pub(crate) async fn send(addr: SocketAddr, request: &str) -> Response {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read_response(stream).await
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("an answer")
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Response {
    /// The status; 0: the connection was closed without an answer.
    pub(crate) status: u16,
    /// The status line and headers, in lower case.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: String,
}

/// Read until the other side closes.
pub(crate) async fn read_response(mut stream: TcpStream) -> Response {
    let mut bytes = Vec::new();
    // A reset after the answer is an end like any other.
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .map_or(0, |code| code.parse().unwrap());
    Response {
        status,
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}
