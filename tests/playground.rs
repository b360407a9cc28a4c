//! The playground as a person starts it: a short exercise on real PostgreSQL, and nothing left
//! behind however it ends.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use pgwarden::sys::process::{Signal, signal};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// For what must end some time on a slow machine.
const LONG: Duration = Duration::from_mins(4);

/// A directory that every stage of this test is made in, removed at the end.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        // A short name: sockets are in it.
        let dir = std::env::temp_dir().join(format!("pgwp-{name}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        // Searched by the account that PostgreSQL runs as.
        fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Self(dir.canonicalize().unwrap())
    }

    fn playground(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgwarden"));
        command.arg("playground").args(args).env("TMPDIR", &self.0);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn has_postgresql(test: &str) -> bool {
    let found = Path::new("/usr/lib/postgresql")
        .read_dir()
        .is_ok_and(|mut dir| dir.next().is_some());
    if !found {
        eprintln!("SKIPPED: {test}: no PostgreSQL under /usr/lib/postgresql");
    }
    found
}

/// Every process whose working directory is in `dir`.
fn working_in(dir: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter(|entry| {
            fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir))
        })
        .map(|entry| fs::read_to_string(entry.path().join("comm")).unwrap_or_default())
        .collect()
}

#[test]
fn a_short_exercise_passes_and_leaves_nothing() {
    if !has_postgresql("a_short_exercise_passes_and_leaves_nothing") {
        return;
    }
    let home = Home::new("ex");
    // What an earlier playground left that was killed; no process has such a number.
    let leftover = home.0.join("pgw-play-4194305");
    fs::create_dir(&leftover).unwrap();
    let accidents = "--accidents=switchover,killed-postgres";
    let output = home
        .playground(&["--exercise", "--members=2", accidents])
        .output()
        .unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("an earlier playground was killed"), "{said}");
    assert!(said.trim_end().ends_with("2 passed, 0 failed"), "{said}");
    assert_eq!(
        fs::read_dir(&home.0).unwrap().count(),
        0,
        "something is left in {:?}",
        home.0
    );
    assert_eq!(working_in(&home.0), Vec::<String>::new());
}

/// The TTL in the lock lowered while the holder is cut off; the lock full of nonsense, deleted; the
/// configuration deleted. Asynchronous: a second writer would be acknowledged, and seen.
#[test]
fn objects_changed_by_hand_never_make_two_writers() {
    if !has_postgresql("objects_changed_by_hand_never_make_two_writers") {
        return;
    }
    let home = Home::new("hand");
    let accidents = "--accidents=lowered-ttl,damaged-lock,deleted-lock,deleted-config";
    // Replays nothing, and could not be promoted, until it has as much as its primary had.
    let raised = format!("{accidents},raised-parameter,changed-password");
    for (lock, accidents, passed) in [
        ("--lock=lease", raised.as_str(), "6 passed, 0 failed"),
        ("--lock=endpoints", accidents, "4 passed, 0 failed"),
        ("--lock=configmaps", accidents, "4 passed, 0 failed"),
    ] {
        let output = home
            .playground(&["--exercise", "--sync=off", lock, accidents])
            .output()
            .unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(0), "{lock}: {said}");
        assert!(said.contains("two writers: never"), "{said}");
        assert!(said.trim_end().ends_with(passed), "{said}");
    }
}

#[test]
fn a_logical_consumer_misses_nothing_over_failovers() {
    if !has_postgresql("a_logical_consumer_misses_nothing_over_failovers") {
        return;
    }
    let home = Home::new("feed");
    let accidents = "--accidents=killed-pod,switchover";
    let output = home
        .playground(&["--exercise", "--consumer", accidents])
        .output()
        .unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("; the consumer saw all "), "{said}");
    assert!(said.trim_end().ends_with("2 passed, 0 failed"), "{said}");
}

/// The lock in Patroni's objects: handed over, taken with the kubelet's word, waited for.
#[test]
fn patronis_dialects_suffer_the_same_accidents() {
    if !has_postgresql("patronis_dialects_suffer_the_same_accidents") {
        return;
    }
    let home = Home::new("dialects");
    let accidents = "--accidents=switchover,killed-pod,cut-from-api";
    for lock in ["--lock=endpoints", "--lock=configmaps"] {
        let output = home
            .playground(&["--exercise", lock, accidents])
            .output()
            .unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(0), "{lock}: {said}");
        assert!(
            said.contains("0 of them missing, two writers: never"),
            "{said}"
        );
        assert!(said.trim_end().ends_with("3 passed, 0 failed"), "{said}");
    }
}

/// Asynchronous: a second writer would be acknowledged, and seen.
#[test]
fn promises_keep_a_primary_going_and_one_that_is_missing_stops_it() {
    if !has_postgresql("promises_keep_a_primary_going_and_one_that_is_missing_stops_it") {
        return;
    }
    let home = Home::new("failsafe");
    let accidents = "--accidents=outage-in-failsafe,broken-failsafe,resumed-while-cut";
    let output = home
        .playground(&["--exercise", "--sync=off", "--outage=12", accidents])
        .output()
        .unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("two writers: never"), "{said}");
    assert!(said.trim_end().ends_with("3 passed, 0 failed"), "{said}");
}

#[test]
fn a_supervisor_that_ends_it_finds_nothing_left() {
    if !has_postgresql("a_supervisor_that_ends_it_finds_nothing_left") {
        return;
    }
    let home = Home::new("end");
    let playground = home.playground(&["--exercise"]).spawn().unwrap();
    let begun = Instant::now();
    let runs_postgres = || {
        working_in(&home.0)
            .iter()
            .any(|name| name.starts_with("postgres"))
    };
    while !runs_postgres() {
        assert!(begun.elapsed() < LONG, "no PostgreSQL was started");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(signal(playground.id().cast_signed(), Signal::SIGTERM));
    let output = playground.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(working_in(&home.0), Vec::<String>::new());
    assert_eq!(
        fs::read_dir(&home.0).unwrap().count(),
        0,
        "something is left in {:?}",
        home.0
    );
}

#[test]
fn wrong_words_are_refused_with_the_right_ones() {
    let home = Home::new("words");
    let unknown = home.playground(&["--accidents", "flood"]).output().unwrap();
    assert_ne!(unknown.status.code(), Some(0));
    assert!(text(&unknown).contains("found \"flood\"; expected some of switchover, "));
    let few = home
        .playground(&["--addresses", "198.18.0.11"])
        .output()
        .unwrap();
    assert_ne!(few.status.code(), Some(0));
    assert!(
        text(&few).contains("expected one per member, 3"),
        "{}",
        text(&few)
    );
    let nowhere = home
        .playground(&["--bin-dir", "/usr/share"])
        .output()
        .unwrap();
    assert!(
        text(&nowhere).contains("has no executable program"),
        "{}",
        text(&nowhere)
    );
    assert_eq!(fs::read_dir(&home.0).unwrap().count(), 0);
}
