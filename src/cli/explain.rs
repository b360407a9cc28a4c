//! `pgwarden explain`: the members' journals, from their REST API or from files, merged and told.
//!
//! The journal is written by the decision loop, a JSON object on a line. It is read with patience:
//! a key that is missing or new is no reason not to show the rest.

use super::args::{ExplainArgs, TextFormat};
use super::ctl::Remote;
use super::story;
use super::{Dispatch, Exit, Failure, block_on, remote};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// The longest a member may take to hand out its journal.
const PATIENCE: Duration = Duration::from_secs(10);

/// One step of one member.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Whose.
    pub member: String,
    /// When, by that member's wall clock.
    pub at: Option<Timestamp>,
    /// The rules that fired.
    pub rules: Vec<String>,
    /// Why, in words.
    pub words: Vec<String>,
    /// What was ordered.
    pub effects: Vec<String>,
    /// The fact that came in.
    pub event: Value,
    /// The line as it was.
    pub raw: Value,
}

impl Entry {
    /// Read a line; `member` is whose journal it is, unless the line says so itself.
    pub fn read(line: &str, member: &str) -> Option<Self> {
        let raw: Value = serde_json::from_str(line).ok()?;
        let texts = |key: &str| match &raw[key] {
            Value::String(text) => vec![text.clone()],
            Value::Array(texts) => texts
                .iter()
                .filter_map(|text| text.as_str().map(str::to_owned))
                .collect(),
            _ => Vec::new(),
        };
        Some(Self {
            member: raw["member"].as_str().unwrap_or(member).to_owned(),
            at: raw["wall"].as_str().and_then(|text| text.parse().ok()),
            rules: texts("rule"),
            words: texts("words"),
            effects: texts("effects"),
            event: raw["event"].clone(),
            raw,
        })
    }
}

/// What was read from all sources.
#[derive(Debug, Default)]
struct Journals {
    entries: Vec<Entry>,
    /// Lines that are no JSON: a write cut short by a crash, or another file altogether.
    unreadable: usize,
    /// Members that did not answer.
    silent: Vec<String>,
}

impl Journals {
    fn add(&mut self, text: &str, member: &str, last: Option<usize>) {
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let skip = last.map_or(0, |last| lines.len().saturating_sub(last));
        for line in &lines[skip..] {
            match Entry::read(line, member) {
                Some(entry) => self.entries.push(entry),
                None => self.unreadable += 1,
            }
        }
    }
}

/// Read, merge, print.
pub fn run(dispatch: &Dispatch, args: &ExplainArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let since = args
        .since
        .as_deref()
        .map(|text| parse_since(text, Timestamp::now()))
        .transpose()?;
    let mut journals = if args.files.is_empty() {
        let remote = remote(dispatch, &args.target, None)?;
        block_on(ask(&remote, args.last))??
    } else {
        read_files(args)?
    };
    if journals.entries.is_empty() && journals.unreadable > 0 {
        let what = "no line is a journal entry; expected JSON lines as in GET /explain";
        return Err(Failure::new(Exit::BadData, what));
    }
    if let Some(since) = since {
        journals
            .entries
            .retain(|entry| entry.at.is_none_or(|at| at >= since));
    }
    // Stable: entries of one member keep their order whatever their clock did.
    journals.entries.sort_by_key(|entry| entry.at);
    match args.format {
        TextFormat::Json => {
            for entry in &journals.entries {
                let mut line = entry.raw.clone();
                line["member"] = Value::from(entry.member.as_str());
                writeln!(out, "{line}")?;
            }
        }
        TextFormat::Pretty => {
            story::tell(&journals.entries, out)?;
            for silent in &journals.silent {
                writeln!(out, "not asked in the end: {silent}")?;
            }
            if journals.unreadable > 0 {
                writeln!(out, "{} lines could not be read", journals.unreadable)?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// A time, or an age such as `10m`.
fn parse_since(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let age = text.parse::<SignedDuration>().ok();
    age.and_then(|age| now.checked_sub(age).ok()).ok_or_else(|| {
        let what = format!(
            "--since \"{text}\" is no time; expected one as in 2026-11-22T18:00:00Z, or an age as in 10m"
        );
        Failure::new(Exit::Usage, what)
    })
}

fn read_files(args: &ExplainArgs) -> Result<Journals, Failure> {
    let mut journals = Journals::default();
    for path in &args.files {
        let bytes = std::fs::read(path).map_err(|error| {
            let what = format!("{} cannot be read: {error}", path.display());
            Failure::new(Exit::from_io(&error), what)
        })?;
        journals.add(&String::from_utf8_lossy(&bytes), &name_of(path), args.last);
    }
    Ok(journals)
}

/// `/var/lib/pg-0.journal` is the journal of pg-0.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or(path.as_os_str());
    stem.to_string_lossy().into_owned()
}

/// Ask every member: an election is understood from both sides of it.
async fn ask(remote: &Remote, last: Option<usize>) -> Result<Journals, Failure> {
    let (urls, client) = (remote.urls(), remote.client());
    let mut journals = Journals::default();
    let query = last.map_or_else(String::new, |last| format!("?last={last}"));
    for base in urls {
        let name = match client.get_patroni(base, PATIENCE).await {
            Ok(status) => status.name,
            Err(error) => {
                journals.silent.push(error.to_string());
                continue;
            }
        };
        match client
            .get(&format!("{base}/explain{query}"), PATIENCE)
            .await
        {
            Ok(answer) if answer.status == 200 => journals.add(&answer.text(), &name, None),
            Ok(answer) => journals.silent.push(format!("{name}: {}", answer.text())),
            Err(error) => journals.silent.push(error.to_string()),
        }
    }
    if journals.silent.len() == urls.len() {
        let what = format!(
            "{}; give the address of a running member with --api, or a journal file",
            journals.silent.join("; ")
        );
        return Err(Failure::new(Exit::Unavailable, what));
    }
    Ok(journals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_an_age() {
        let now: Timestamp = "2026-11-22T18:00:00Z".parse().unwrap();
        for (text, wanted) in [
            ("2026-11-22T17:00:00Z", "2026-11-22T17:00:00Z"),
            ("2026-11-22T18:30:00+01:00", "2026-11-22T17:30:00Z"),
            ("10m", "2026-11-22T17:50:00Z"),
            ("1h 30m", "2026-11-22T16:30:00Z"),
        ] {
            assert_eq!(
                parse_since(text, now).unwrap().to_string(),
                wanted,
                "{text}"
            );
        }
        for text in ["", "yesterday", "10"] {
            assert_eq!(
                parse_since(text, now).unwrap_err().exit(),
                Exit::Usage,
                "{text}"
            );
        }
    }
}
