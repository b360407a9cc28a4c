//! A server that answers what a test wants, one route at a time, and keeps what it was asked.

use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

type Answers = BTreeMap<String, VecDeque<(u16, String)>>;

#[derive(Default)]
struct Script {
    answers: Mutex<Answers>,
    asked: Mutex<Vec<String>>,
}

/// A running one.
pub(crate) struct Fake {
    pub(crate) addr: SocketAddr,
    script: Arc<Script>,
    task: JoinHandle<()>,
}

impl Fake {
    /// One that knows nothing yet.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let script = Arc::new(Script::default());
        let known = script.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One after the other: the program asks so too.
                serve(stream, &known).await;
            }
        });
        Self { addr, script, task }
    }

    /// One with the members of [`cluster`], each under a path of its own.
    pub(crate) async fn with_cluster(change: impl FnOnce(&mut Value)) -> Self {
        let fake = Self::start().await;
        let mut body = cluster();
        for member in body["members"].as_array_mut().unwrap() {
            let name = member["name"].as_str().unwrap().to_owned();
            member["api_url"] = json!(format!("http://{}/{name}/patroni", fake.addr));
            let status = json!({ "state": "running", "role": "replica", "server_version": 150_018,
                "patroni": { "version": "4.1.5", "scope": "bench", "name": name } });
            fake.answer(&format!("GET /{name}/patroni"), 200, status);
        }
        change(&mut body);
        fake.answer("GET /cluster", 200, body);
        let own = json!({ "state": "running", "role": "primary",
            "database_system_identifier": "7711060383094632475",
            "patroni": { "version": "4.1.5", "scope": "bench", "name": "pg-0" } });
        fake.answer("GET /patroni", 200, own);
        fake
    }

    /// The next answer of a route; the last one stays. A text is sent as it is.
    pub(crate) fn answer(&self, route: &str, status: u16, body: impl Into<Value>) -> &Self {
        let text = match body.into() {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let mut answers = self.script.answers.lock().unwrap();
        let known = answers.entry(route.to_owned()).or_default();
        known.push_back((status, text));
        self
    }

    /// Forget what a route answered.
    pub(crate) fn forget(&self, route: &str) {
        self.script.answers.lock().unwrap().remove(route);
    }

    /// What would change something, in its order: `POST /pg-1/reload {}`.
    pub(crate) fn changes(&self) -> Vec<String> {
        let asked = self.script.asked.lock().unwrap();
        let changes = asked.iter().filter(|line| !line.starts_with("GET "));
        changes.cloned().collect()
    }

    /// The option that names it.
    pub(crate) fn api(&self) -> String {
        format!("--api={}", self.addr)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, script: &Script) {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) <= 2 {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if head.is_empty() {
            head = line;
        }
    }
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let bare = path.split('?').next().unwrap_or(path);
    let text = String::from_utf8(body).unwrap();
    script
        .asked
        .lock()
        .unwrap()
        .push(format!("{method} {path} {text}").trim_end().to_owned());
    let (status, text) = {
        let mut answers = script.answers.lock().unwrap();
        let known = answers.get_mut(&format!("{method} {bare}"));
        match known {
            Some(queue) if queue.len() > 1 => queue.pop_front().unwrap(),
            Some(queue) => queue[0].clone(),
            None => (404, "nothing here".to_owned()),
        }
    };
    let answer = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}

/// `/cluster` of the four members of which patronictl printed `recorded/patronictl.json`.
pub(crate) fn cluster() -> Value {
    const MIB: u64 = 1024 * 1024;
    let replica = |name: &str, port: u16, more: Value| {
        let mut row = json!({ "name": name, "role": "replica", "state": "streaming",
            "host": "127.0.0.1", "port": port, "timeline": 2,
            "receive_lsn": "0/6300000", "receive_lag": MIB,
            "replay_lsn": "0/5EFEC78", "replay_lag": 5 * MIB + 5000 });
        let more = more.as_object().unwrap().clone();
        row.as_object_mut().unwrap().extend(more);
        row
    };
    json!({ "scope": "bench", "members": [
        { "name": "pg-0", "role": "leader", "state": "running", "host": "127.0.0.1", "port": 5432,
          "timeline": 2 },
        replica("pg-1", 5433, json!({ "tags": { "clonefrom": true, "zone": "a" },
            "pending_restart": true, "pending_restart_reason":
                { "max_connections": { "old_value": "100", "new_value": "120" } } })),
        replica("pg-2", 5434, json!({ "tags": { "replicatefrom": "pg-1" }, "scheduled_restart":
            { "schedule": "2099-01-01T00:00:00+00:00", "postgres_version": "15.9" } })),
        replica("pg-3", 5435, json!({ "tags": { "replicatefrom": "pg-2" }, "state": "stopped",
            "receive_lsn": "unknown", "receive_lag": "unknown",
            "replay_lsn": "0/6400000", "replay_lag": 0 })),
    ], "scheduled_switchover":
        { "at": "2099-01-01T00:00:00+00:00", "from": "pg-0", "to": "pg-1" } })
}
