//! Programs, waits, and a scenario's own kind of failure: a sentence.

use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) type Outcome<T> = Result<T, String>;

/// Runs a program to its end; what it printed, or what it complained of.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Outcome<String> {
    run_with(program, arguments, "")
}

/// The same with a text for its standard input.
pub(crate) fn run_with(program: &str, arguments: &[&str], input: &str) -> Outcome<String> {
    let shown = format!("{program} {}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{shown}: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who ends without reading has its reasons, and says them.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| format!("{shown}: {error}"))?;
    said(&shown, &output)
}

/// The same with a file for its standard input.
pub(crate) fn run_from(program: &str, arguments: &[&str], file: &str) -> Outcome<String> {
    let shown = format!("{program} {}", arguments.join(" "));
    let input = std::fs::File::open(file).map_err(|error| format!("{file}: {error}"))?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(input)
        .output()
        .map_err(|error| format!("{shown}: {error}"))?;
    said(&shown, &output)
}

fn said(shown: &str, output: &std::process::Output) -> Outcome<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    Err(format!("{shown}: {}: {}", output.status, said.trim()))
}

/// A line of shell, on this machine.
pub(crate) fn shell(line: &str) -> Outcome<String> {
    run("bash", &["-c", line])
}

pub(crate) fn kubectl(arguments: &[&str]) -> Outcome<String> {
    run("kubectl", arguments)
}

pub(crate) fn apply(manifest: &Value) -> Outcome<String> {
    run_with("kubectl", &["apply", "-f", "-"], &manifest.to_string())
}

pub(crate) fn json(text: &str) -> Outcome<Value> {
    serde_json::from_str(text).map_err(|error| format!("{error} in {text}"))
}

/// Waits until `look` answers with something; its last reason not to is part of the failure.
pub(crate) fn wait_for<T>(
    what: &str,
    seconds: u64,
    mut look: impl FnMut() -> Outcome<T>,
) -> Outcome<T> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(why) if Instant::now() >= end => {
                return Err(format!("not within {seconds} s: {what}; last seen: {why}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// What is seen now stays so for a while; how it ended otherwise.
pub(crate) fn holds_for(
    what: &str,
    seconds: u64,
    mut look: impl FnMut() -> Outcome<()>,
) -> Outcome<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        look().map_err(|why| format!("not for {seconds} s: {what}; seen: {why}"))?;
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// `Err` with this sentence unless it holds.
pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome<()> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// A variable of the environment that is not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
