//! What the program costs, each figure beside something measured in the same run: a machine that is
//! slow today is slow for both.

// A wrong assumption ends a benchmark as it ends a test.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../recorded/mod.rs"]
mod recorded;

use axum::Router;
use axum::routing::get;
use pgwarden::api::security::{Handle, Security};
use pgwarden::api::{Limits, Parts, Server, bind};
use pgwarden::ha::budgets::Budgets;
use pgwarden::ha::event::Event;
use pgwarden::ha::lock::Place;
use pgwarden::ha::model::Identity;
use pgwarden::ha::shared::{Repair, Rules};
use pgwarden::ha::state::State;
use pgwarden::ha::step::step;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Clients at once.
const CLIENTS: usize = 4;
/// One turn of either side.
const TURN: Duration = Duration::from_millis(700);
/// Turns of each side, taken alternately; the median counts.
const TURNS: usize = 7;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (ours, bare) = runtime.block_on(probes());
    say(&format!(
        "probes: {ours:.0} a second, {:.2} of a bare axum route's {bare:.0}",
        ours / bare
    ));
    let (steps, copies) = decisions();
    say(&format!(
        "decisions: {steps:.0} quiet ticks a second, {:.2} of {copies:.0} copies of their state",
        steps / copies
    ));
}

fn say(line: &str) {
    println!("{line}");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Answers a second of `/readiness` and of a route that does nothing.
async fn probes() -> (f64, f64) {
    let (_view, seen) = watch::channel(Arc::new(recorded::view("running", "leader")));
    let (sender, _commands) = mpsc::channel(4);
    let parts = Parts {
        view: seen,
        commands: sender,
        journal: Arc::new(|_| Box::pin(async { Ok(String::new()) })),
        now: recorded::now,
        security: Handle::new(Security::plain(None), || 0),
        limits: Limits::default(),
    };
    let server = Server::new(bind("127.0.0.1:0", None).await.unwrap(), parts);
    let ours = server.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(server.run(std::future::pending()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bare = listener.local_addr().unwrap();
    let app = Router::new().route("/readiness", get(|| async { "ok" }));
    serving.spawn(async move { axum::serve(listener, app).await.unwrap() });
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        first.push(answers_per_second(ours).await);
        second.push(answers_per_second(bare).await);
    }
    (median(first), median(second))
}

async fn answers_per_second(addr: SocketAddr) -> f64 {
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(ask(addr, begun));
    }
    let answers: u64 = clients.join_all().await.into_iter().sum();
    answers as f64 / begun.elapsed().as_secs_f64()
}

/// One connection that asks again as soon as it is answered.
async fn ask(addr: SocketAddr, begun: Instant) -> u64 {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut answers, mut buffer) = (0, vec![0; 16 << 10]);
    while begun.elapsed() < TURN {
        stream
            .write_all(b"GET /readiness HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut read = 0;
        while !is_whole(&buffer[..read]) {
            let more = stream.read(&mut buffer[read..]).await.unwrap();
            assert!(more > 0, "the server closed the connection");
            read += more;
        }
        answers += 1;
    }
    answers
}

/// The head and as much body as it announces.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let head = std::str::from_utf8(&answer[..end]).unwrap().to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |text| text.parse::<usize>().unwrap());
    answer.len() >= end + 4 + length
}

/// Ticks that decide nothing, and copies of the state that decides, a second.
fn decisions() -> (f64, f64) {
    let me = Identity {
        name: "a".into(),
        pod_uid: "uid".into(),
        incarnation: "life".into(),
    };
    let rules = Rules {
        ttl_ms: 6_000,
        maximum_lag_on_failover_bytes: 1_048_576,
        synchronous_mode: true,
        sync: pgwarden::ha::shared::SyncRules::default(),
        check_timeline: true,
        primary_start_timeout_ms: 300_000,
        primary_stop_timeout_ms: None,
        member_slots_ttl_ms: 1_800_000,
        slots: pgwarden::ha::slots::SlotRules::default(),
        repair: Repair::default(),
        pause: false,
        standby: None,
        failsafe: false,
    };
    let budgets = Budgets::for_ttl(6_000).unwrap();
    let mut state = State::new(me, Place::default(), false, rules, budgets);
    let mut now = 1_000_000;
    let (mut ticks, mut copies) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        ticks.push(per_second(|| {
            now += 1;
            std::hint::black_box(step(&mut state, Event::Tick, now));
        }));
        copies.push(per_second(|| {
            std::hint::black_box(state.clone());
        }));
    }
    (median(ticks), median(copies))
}

fn per_second(mut work: impl FnMut()) -> f64 {
    let (begun, mut count) = (Instant::now(), 0_u64);
    while begun.elapsed() < TURN / 4 {
        for _ in 0..100 {
            work();
        }
        count += 100;
    }
    count as f64 / begun.elapsed().as_secs_f64()
}
