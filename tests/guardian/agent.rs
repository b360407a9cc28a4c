//! The test's end of a fake agent: one connection is one agent's life.

use super::fake_agent::Order;
use super::harness::PATIENCE;
use pgwarden::guardian::protocol::{Hello, Notice, PostmasterExit, Request};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// A connection of one agent's life.
pub struct Agent {
    pub host_pid: i32,
    stream: UnixStream,
    lines: BufReader<UnixStream>,
    notices: VecDeque<Notice>,
    signals: VecDeque<String>,
}

impl Agent {
    /// Greets an agent that has connected; `host_pid` translates the number it calls itself by.
    pub fn greet(stream: UnixStream, host_pid: impl Fn(i32) -> i32) -> Self {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        let (notices, signals) = (VecDeque::new(), VecDeque::new());
        let mut agent = Self {
            host_pid: 0,
            stream,
            lines,
            notices,
            signals,
        };
        let pid = agent.read().get("pid").and_then(Value::as_i64).unwrap() as i32;
        agent.host_pid = host_pid(pid);
        agent
    }

    /// Orders what has no answer.
    pub fn send(&mut self, order: &Order) {
        let text = serde_json::to_string(order).unwrap();
        self.stream
            .write_all(format!("{text}\n").as_bytes())
            .unwrap();
    }

    pub fn order(&mut self, order: &Order) -> Value {
        self.send(order);
        loop {
            if let Some(reply) = self.read().get("reply") {
                return reply.clone();
            }
        }
    }

    pub fn ask(&mut self, request: Request) {
        let sent = self.order(&Order::Ask { request });
        assert!(sent.get("Ok").is_some(), "{sent}");
    }

    /// Arms, or moves the deadline; what the link answered.
    pub fn deadline_in(&mut self, in_ms: u64) -> Value {
        self.order(&Order::Move { in_ms })
    }

    pub fn deadline(&mut self) -> Option<u64> {
        self.order(&Order::Deadline).as_u64()
    }

    /// The next notice for which `pick` yields something; others are dropped.
    pub fn notice<T>(&mut self, what: &str, mut pick: impl FnMut(&Notice) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            while let Some(notice) = self.notices.pop_front() {
                if let Some(value) = pick(&notice) {
                    return value;
                }
            }
            assert!(Instant::now() < end, "no notice: {what}");
            self.read();
        }
    }

    pub fn hello(&mut self) -> Hello {
        self.notice("hello", |notice| match notice {
            Notice::Hello(hello) => Some((**hello).clone()),
            _ => None,
        })
    }

    pub fn exited(&mut self) -> PostmasterExit {
        self.notice("exited", |notice| match notice {
            Notice::Exited(exit) => Some(exit.clone()),
            _ => None,
        })
    }

    pub fn refused(&mut self) -> String {
        self.notice("refused", |notice| match notice {
            Notice::Refused { reason, .. } => Some(reason.clone()),
            _ => None,
        })
    }

    pub fn wait_signal(&mut self, name: &str) {
        while self.signals.pop_front().as_deref() != Some(name) {
            self.read();
        }
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the agent has gone");
        let value: Value = serde_json::from_str(&line).unwrap();
        if let Some(notice) = value.get("notice") {
            self.notices
                .push_back(serde_json::from_value(notice.clone()).unwrap());
        }
        if let Some(name) = value.get("signal").and_then(Value::as_str) {
            self.signals.push_back(name.to_owned());
        }
        value
    }
}
