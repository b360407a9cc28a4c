//! An agent without a mind of its own: it does what the test tells it over a Unix socket, and says
//! what the guardian tells it.

use pgwarden::guardian::link::Link;
use pgwarden::guardian::protocol::{Request, StartSpec};
use pgwarden::postgres::stale;
use pgwarden::sys::clock::boottime_ms;
use pgwarden::sys::process::{exit_now, own_pid};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};

/// What a test orders.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    Ask {
        request: Request,
    },
    /// Move the deadline to this many milliseconds from now.
    Move {
        in_ms: u64,
    },
    Ttl {
        ms: u64,
    },
    Deadline,
    /// Start `sleep` as a stand-in for pg_rewind.
    Child,
    Exit {
        code: i32,
    },
}

/// Serves until told to exit, or until the guardian or the test is gone.
pub fn run() -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(serve());
    exit_now(3)
}

async fn serve() {
    let link = Link::from_env().unwrap();
    let stream = UnixStream::connect(std::env::var("PGWARDEN_TEST_SOCKET").unwrap())
        .await
        .unwrap();
    let (read, mut write) = stream.into_split();
    let mut orders = BufReader::new(read).lines();
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let mut hangup = signal(SignalKind::hangup()).unwrap();
    let mut beats = tokio::time::interval(Duration::from_millis(20));
    link.beat();
    let mut say = Some(json!({ "pid": own_pid() }));
    loop {
        if let Some(line) = say.take() {
            write
                .write_all(format!("{line}\n").as_bytes())
                .await
                .unwrap();
        }
        tokio::select! {
            _ = beats.tick() => link.beat(),
            _ = terminate.recv() => say = Some(json!({ "signal": "TERM" })),
            _ = hangup.recv() => say = Some(json!({ "signal": "HUP" })),
            notice = link.next() => match notice {
                Some(notice) => say = Some(json!({ "notice": notice })),
                // The orphan thread ends this process; nothing else may.
                None => std::future::pending().await,
            },
            order = orders.next_line() => {
                let Ok(Some(order)) = order else { return };
                let order: Order = serde_json::from_str(&order).unwrap();
                say = Some(json!({ "reply": obey(&link, order).await }));
            }
        }
    }
}

async fn obey(link: &Link, order: Order) -> Value {
    match order {
        Order::Ask { request } => {
            if let Request::Start(spec) = &request {
                clear_the_way(spec);
            }
            json!(link.request(&request).await.map_err(|e| e.to_string()))
        }
        Order::Move { in_ms } => {
            let moved = link.move_deadline(boottime_ms() + in_ms);
            json!(moved.map_err(|error| format!("{error:?}")))
        }
        Order::Ttl { ms } => {
            link.words().set_ttl_ms(ms);
            Value::Null
        }
        Order::Deadline => json!(link.deadline_ms()),
        Order::Child => {
            // Left to whoever inherits it: that is what it is for.
            #[allow(clippy::zombie_processes)]
            let child = std::process::Command::new("sleep")
                .arg("600")
                .spawn()
                .unwrap();
            json!(child.id())
        }
        Order::Exit { code } => exit_now(code),
    }
}

/// As every agent does before a start, with the same code.
fn clear_the_way(spec: &StartSpec) {
    let Some(data_dir) = spec.argv.get(2).map(Path::new) else {
        return;
    };
    let socket_lock = data_dir.with_file_name(".s.PGSQL.5432.lock");
    stale::remove(data_dir, &[socket_lock]).unwrap();
}
