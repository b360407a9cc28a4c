//! Pictures, to the letter.

use super::*;
use crate::cli::live::asker::Answer;
use serde_json::{Value, json};

const PLAIN: Look = Look {
    colors: false,
    unicode: true,
};

fn body(lag: u64, leader: &str) -> Value {
    let member = |name: &str, replay_lag: Value| {
        let role = if name == leader {
            "leader"
        } else {
            "sync_standby"
        };
        let state = if name == leader {
            "running"
        } else {
            "streaming"
        };
        json!({ "name": name, "host": format!("10.0.0.{}", &name[3..]), "port": 5432,
            "role": role, "state": state, "timeline": 3, "receive_lsn": "0/5000060",
            "receive_lag": 0, "replay_lsn": "0/5000000", "replay_lag": replay_lag,
            "tags": { "zone": "a" } })
    };
    json!({ "scope": "bench", "pause": true,
        "members": [member("pg-0", json!(null)), member("pg-1", json!(lag))] })
}

fn memory(bodies: &[Value], start: Instant) -> Memory {
    let mut memory = Memory::default();
    for (at, body) in (0..).zip(bodies) {
        let answer = Answer {
            cluster: Cluster::decode(body, Some("77".to_owned())).expect("a cluster"),
            who: "pg-0".to_owned(),
            missed: Vec::new(),
        };
        let clock = format!("2026-11-28 09:00:0{at}");
        memory.learn(answer, start + Duration::from_secs(at), &clock);
    }
    memory
}

fn drawn(memory: &Memory, now: Instant, look: Look, wide: usize, high: usize) -> Vec<String> {
    let picture = Picture {
        memory,
        manner: render::Manner::TABLE,
        every: Duration::from_secs(2),
        now,
        look,
    };
    picture.draw(wide, high)
}

#[test]
fn a_wide_terminal_shows_everything() {
    let start = Instant::now();
    let memory = memory(&[body(10, "pg-0"), body(3_000_000, "pg-0")], start);
    let lines = drawn(&memory, start + Duration::from_secs(4), PLAIN, 120, 30);
    let title = format!(" bench  77{}every 2 s, q ends", " ".repeat(92));
    let wanted = [
        title.as_str(),
        " pg-0 said it 3 s ago",
        "",
        "   Member  Host      Role          State      TL  Receive LSN  Lag  Replay LSN       Lag  Tags",
        " ● pg-0    10.0.0.0  Leader        running     3    0/5000060  0 B   0/5000000            {zone: a}",
        " ○ pg-1    10.0.0.1  Sync Standby  streaming   3    0/5000060  0 B   0/5000000  ▲ 2.9 MB  {zone: a}",
        " Maintenance mode: on",
    ];
    assert_eq!(lines, wanted);
}

#[test]
fn a_narrow_terminal_keeps_what_matters_and_nothing_is_wider() {
    let start = Instant::now();
    let memory = memory(&[body(10, "pg-0"), body(5, "pg-1")], start);
    let later = start + Duration::from_secs(1);
    for wide in 1..130 {
        for high in [1, 3, 8, 30] {
            let lines = drawn(&memory, later, PLAIN, wide, high);
            assert!(lines.len() <= high, "{lines:?}");
            for line in &lines {
                assert!(width(line) <= wide, "{wide}: {line:?}");
            }
        }
    }
    let lines = drawn(&memory, later, PLAIN, 42, 30);
    assert_eq!(lines[0], " bench  77              every 2 s, q ends");
    assert_eq!(lines[3], "   Member  Role          State        Lag");
    assert!(lines[4].starts_with(" ○ pg-0    Sync Standby  streaming"));
    let lines = drawn(&memory, later, PLAIN, 20, 30);
    assert_eq!(lines[0], " bench  77");
    assert_eq!(lines[4], " ○ pg-0    Sync Sta…");
    let ascii = Look {
        unicode: false,
        ..PLAIN
    };
    assert!(drawn(&memory, later, ascii, 20, 30)[4].ends_with("Sync Sta~"));
}

#[test]
fn changes_stand_out_and_are_told() {
    let start = Instant::now();
    let memory = memory(&[body(10, "pg-0"), body(5, "pg-1")], start);
    let colored = Look {
        colors: true,
        unicode: true,
    };
    let later = start + Duration::from_secs(1);
    let lines = drawn(&memory, later, colored, 100, 30);
    assert!(lines[4].contains("\x1b[7mSync Standby\x1b[0m"), "{lines:?}");
    assert!(lines[5].contains("\x1b[7mLeader\x1b[0m"), "{lines:?}");
    assert!(lines[5].contains("▼ 5 B"), "{lines:?}");
    let told = "09:00:01  pg-0: Leader -> Sync Standby";
    assert!(lines[8].contains(told), "{lines:?}");
    // After a while they are as everything else.
    let lines = drawn(&memory, start + Duration::from_secs(20), colored, 100, 30);
    assert!(!lines[4].contains("\x1b[7m"), "{lines:?}");
}

#[test]
fn an_old_answer_is_called_old() {
    let start = Instant::now();
    let mut memory = memory(&[body(10, "pg-0")], start);
    memory.miss(vec!["http://a cannot be reached".to_owned()]);
    let lines = drawn(&memory, start + Duration::from_mins(3), PLAIN, 100, 30);
    let told = " nobody answers; this is what pg-0 said 3 min ago: http://a cannot be reached";
    assert_eq!(lines[1], told);
    let mut memory = Memory::default();
    assert_eq!(drawn(&memory, start, PLAIN, 80, 9)[1], " asking");
    memory.miss(vec!["why".to_owned()]);
    assert_eq!(
        drawn(&memory, start, PLAIN, 80, 9)[1],
        " nobody answers: why"
    );
}

#[test]
fn a_member_that_was_asked_in_vain_is_named() {
    let start = Instant::now();
    let mut memory = memory(&[body(10, "pg-0")], start);
    memory.missed = vec!["http://b did not answer within 2000 ms".to_owned()];
    let lines = drawn(&memory, start, PLAIN, 100, 30);
    let told = " pg-0 said it 0.0 s ago; http://b did not answer within 2000 ms";
    assert_eq!(lines[1], told);
}

#[test]
fn sizes_are_short() {
    for (bytes, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 kB"),
        (20 << 20, "20 MB"),
        (3 << 40, "3.0 TB"),
        (u64::MAX, "16777216 TB"),
    ] {
        assert_eq!(size(bytes), text);
    }
}
