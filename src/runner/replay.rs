//! A journal run again through the same function: whether this version decides as that one did.

use super::journal::Line;
use crate::cli::{Exit, Failure, ReplayArgs};
use crate::ha::effect::Effect;
use crate::ha::event::Event;
use crate::ha::model::Ms;
use crate::ha::state::State;
use crate::ha::step::step;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};

/// `pgwarden replay FILE`.
pub fn replay_verb(args: &ReplayArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let path = args.file.display();
    let unreadable = |error: std::io::Error| {
        let words = format!("{path} cannot be read: {error}");
        Failure::new(Exit::from_io(&error), words)
    };
    let file = File::open(&args.file).map_err(unreadable)?;
    let mut replay = Replay::default();
    let mut source = BufReader::new(file);
    let mut line = Vec::new();
    while source.read_until(b'\n', &mut line).map_err(unreadable)? > 0 {
        replay
            .line(&line, out)
            .map_err(|error| about(&args.file, error))?;
        line.clear();
    }
    replay
        .end(out)
        .map_err(|error| about(&args.file, error))
        .map(|()| Exit::Ok)
}

/// The same failure, and whose it is.
fn about(path: &std::path::Path, failure: Failure) -> anyhow::Error {
    match failure {
        Failure::Told { exit, what } => {
            Failure::new(exit, format!("{}: {what}", path.display())).into()
        }
        other => other.into(),
    }
}

/// A life is recorded without gaps: what follows one was decided on a state that is not known.
fn gap(last: u64, n: u64) -> Failure {
    let what = if n <= last {
        format!("entry {n} follows entry {last}: a line is missing or in the wrong place")
    } else {
        let missing = match (last + 1, n - 1) {
            (one, same) if one == same => format!("entry {one} is missing"),
            (from, to) => format!("entries {from} to {to} are missing"),
        };
        let after = match last {
            0 => "the beginning of a life".to_owned(),
            last => format!("entry {last}"),
        };
        format!("{missing}: after {after} comes entry {n}")
    };
    Failure::new(
        Exit::Failure,
        format!("{what}; nothing after that can be compared"),
    )
}

/// A replay in progress.
#[derive(Default)]
struct Replay {
    /// `None`: what was read belongs to a life that began in the rotated part.
    state: Option<Box<State>>,
    /// The number of the last entry of this life.
    last: u64,
    lines: u64,
    entries: u64,
    steps: u64,
    /// A line that is no entry: only the end of a life that was killed may leave one.
    torn: Option<(u64, String)>,
}

impl Replay {
    fn line(&mut self, line: &[u8], out: &mut dyn Write) -> Result<(), Failure> {
        self.lines += 1;
        let line = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => {
                self.refuse_torn()?;
                self.torn = Some((self.lines, error.to_string()));
                return Ok(());
            }
        };
        self.entries += 1;
        match line {
            Line::State { state, .. } => {
                self.pass_torn(out)?;
                self.state = Some(state);
                self.last = 0;
                Ok(())
            }
            Line::Decision {
                n,
                at_ms,
                event,
                effects,
                words,
                ..
            } => {
                self.refuse_torn()?;
                if self.decide(n, at_ms, event, &effects)? {
                    for why in words {
                        writeln!(out, "{at_ms:>12} {n:>6}  {why}")?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Whether there was a state to decide on.
    fn decide(&mut self, n: u64, at: Ms, event: Event, was: &[String]) -> Result<bool, Failure> {
        let Some(state) = self.state.as_mut() else {
            return Ok(false);
        };
        if n != self.last + 1 {
            return Err(gap(self.last, n));
        }
        self.last = n;
        let now: Vec<String> = step(state, event, at)
            .iter()
            .filter(|e| !matches!(e, Effect::Explain { .. } | Effect::Wake { .. }))
            .map(ToString::to_string)
            .collect();
        if now != was {
            let what = format!("entry {n} decides otherwise now: {now:?}, the journal has {was:?}");
            return Err(Failure::new(Exit::Failure, what));
        }
        self.steps += 1;
        Ok(true)
    }

    fn end(mut self, out: &mut dyn Write) -> Result<(), Failure> {
        if self.lines == 0 {
            let what = "the journal is empty; expected the JSON lines that a member keeps";
            return Err(Failure::new(Exit::BadData, what));
        }
        if self.entries == 0 {
            self.refuse_torn()?;
        }
        if self.state.is_none() {
            let what = "no life of an agent begins here, so nothing can be compared; give the \
                        newer part of the journal";
            return Err(Failure::new(Exit::BadData, what));
        }
        self.pass_torn(out)?;
        writeln!(out, "{} steps, every one decides as it did", self.steps)?;
        Ok(())
    }

    fn refuse_torn(&mut self) -> Result<(), Failure> {
        self.torn.take().map_or(Ok(()), |(at, error)| {
            let what = format!("line {at} is no journal entry: {error}");
            Err(Failure::new(Exit::BadData, what))
        })
    }

    fn pass_torn(&mut self, out: &mut dyn Write) -> Result<(), Failure> {
        if let Some((at, _)) = self.torn.take() {
            writeln!(
                out,
                "warning: line {at} was cut short, as by a kill; compared up to it"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Journal;
    use super::*;
    use crate::ha::budgets::Budgets;
    use crate::ha::lock::Place;
    use crate::ha::model::Identity;
    use crate::ha::shared::{Repair, Rules};
    use std::fs;

    const ME: &str = "replay-0";

    /// A life: its state, and two steps.
    fn life(path: &std::path::Path, state: &State) {
        let journal = Journal::open(ME, Some(path.to_owned()));
        let mut state = state.clone();
        journal.start(&state);
        for at in [1_000, 2_000] {
            let effects = step(&mut state, Event::Tick, at);
            journal.record(at, Event::Tick, &effects);
        }
        journal.close();
    }

    fn newborn() -> State {
        let me = Identity {
            name: ME.into(),
            pod_uid: "uid".into(),
            incarnation: "1".into(),
        };
        let rules = Rules {
            ttl_ms: 6_000,
            maximum_lag_on_failover_bytes: 1 << 20,
            synchronous_mode: false,
            sync: crate::ha::shared::SyncRules::default(),
            check_timeline: true,
            primary_start_timeout_ms: 300_000,
            primary_stop_timeout_ms: None,
            member_slots_ttl_ms: 1_800_000,
            slots: crate::ha::slots::SlotRules::default(),
            repair: Repair::default(),
            pause: false,
            standby: None,
            failsafe: false,
        };
        let budgets = Budgets::for_ttl(rules.ttl_ms).unwrap();
        State::new(me, Place::default(), false, rules, budgets)
    }

    fn run(path: &std::path::Path) -> (Exit, String) {
        let args = ReplayArgs {
            file: path.to_owned(),
        };
        let mut out = Vec::new();
        let exit = match replay_verb(&args, &mut out) {
            Ok(exit) => exit,
            Err(error) => {
                write!(out, "{error:#}").unwrap();
                Failure::from(error).exit()
            }
        };
        (exit, String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_a_kill_tore_is_no_obstacle_and_garbage_is() {
        let dir = std::env::temp_dir().join(format!("pgw-replay-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("journal.jsonl");
        let state = newborn();

        assert_eq!(run(&path).0, Exit::NoInput);
        fs::write(&path, "").unwrap();
        let (exit, said) = run(&path);
        assert_eq!(exit, Exit::BadData);
        assert!(said.contains("is empty"), "{said}");
        fs::write(&path, b"\xff\xfe garbage").unwrap();
        let (exit, said) = run(&path);
        assert_eq!(exit, Exit::BadData, "{said}");
        assert!(said.contains("line 1 is no journal entry"), "{said}");

        fs::remove_file(&path).unwrap();
        life(&path, &state);
        let (exit, said) = run(&path);
        assert_eq!(exit, Exit::Ok, "{said}");
        assert!(said.ends_with("2 steps, every one decides as it did\n"));
        assert!(!said.contains("warning"), "{said}");

        // Killed in the middle of its third line.
        let whole = fs::read(&path).unwrap();
        let torn = [&whole[..], &whole[..40]].concat();
        fs::write(&path, &torn).unwrap();
        let (exit, said) = run(&path);
        assert_eq!(exit, Exit::Ok, "{said}");
        assert!(said.contains("warning: line 4 was cut short"), "{said}");
        assert!(said.contains("2 steps, every"), "{said}");

        // The next life begins on a line of its own.
        life(&path, &state);
        let (exit, said) = run(&path);
        assert_eq!(exit, Exit::Ok, "{said}");
        assert!(said.contains("4 steps, every"), "{said}");

        // In the middle of a life it is no kill that did it.
        let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        fs::write(&path, [lines[0], b"x\n", lines[1]].concat()).unwrap();
        let (exit, said) = run(&path);
        assert_eq!(exit, Exit::BadData, "{said}");
        assert!(said.contains("line 2 is no journal entry"), "{said}");

        // A line taken out.
        for (kept, words) in [
            (
                [lines[0], lines[2]],
                "entry 1 is missing: after the beginning",
            ),
            ([lines[0], lines[1]], ""),
        ] {
            fs::write(&path, kept.concat()).unwrap();
            let (exit, said) = run(&path);
            let gone = !words.is_empty();
            assert_eq!(exit == Exit::Failure, gone, "{said}");
            assert!(said.contains(words), "{said}");
        }
        fs::write(&path, [lines[0], lines[1], lines[1]].concat()).unwrap();
        let (exit, said) = run(&path);
        assert_eq!(exit, Exit::Failure, "{said}");
        assert!(said.contains("entry 1 follows entry 1"), "{said}");

        // The older part of a long life holds no beginning.
        fs::write(&path, lines[1]).unwrap();
        let (exit, said) = run(&path);
        assert_eq!(exit, Exit::BadData, "{said}");
        assert!(said.contains("nothing can be compared"), "{said}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
