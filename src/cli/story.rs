//! A journal told to a reader who was not there: a paragraph for every election, then what was
//! decided, by whom, under which rule.

use super::explain::Entry;
use crate::ha::model::Lsn;
use jiff::Timestamp;
use std::io::{self, Write};

/// Who became the leader of an epoch, and where in the journal.
struct Election {
    epoch: u64,
    /// The entry that asked for the lock.
    claim: usize,
    /// Where the winner's race began; the claim itself if it is not in the journal.
    start: usize,
    /// The journal shows that the claim was granted.
    granted: bool,
}

/// Print everything.
pub(super) fn tell(entries: &[Entry], out: &mut dyn Write) -> io::Result<()> {
    let elections = elections(entries);
    let mut next = elections.iter().peekable();
    let mut quiet = 0;
    for (at, entry) in entries.iter().enumerate() {
        while let Some(election) = next.next_if(|election| election.start <= at) {
            paragraph(entries, election, out)?;
        }
        if is_news(entry) {
            line(entry, out)?;
        } else {
            quiet += 1;
        }
    }
    if elections.is_empty() {
        writeln!(out, "no election in this part of the journal")?;
    }
    writeln!(
        out,
        "{} steps, {quiet} of them routine and not shown",
        entries.len()
    )
}

/// Routine: waking up, renewing, reading.
fn is_news(entry: &Entry) -> bool {
    !entry.words.is_empty() || orders(entry).next().is_some()
}

/// Effects a reader wants to see.
fn orders(entry: &Entry) -> impl Iterator<Item = &str> {
    const ROUTINE: [&str; 8] = [
        "wake ",
        "renew ",
        "read ",
        "move ",
        "keep slots",
        "look for",
        "ask ",
        "[",
    ];
    let effects = entry.effects.iter().map(String::as_str);
    effects.filter(|effect| !ROUTINE.iter().any(|word| effect.starts_with(word)))
}

fn line(entry: &Entry, out: &mut dyn Write) -> io::Result<()> {
    let head = format!("{} {}", clock(entry.at), entry.member);
    let rules = if entry.rules.is_empty() {
        "-".to_owned()
    } else {
        entry.rules.join(",")
    };
    let words = entry.words.join("; ");
    writeln!(out, "{}", format!("  {head} [{rules}] {words}").trim_end())?;
    orders(entry).try_for_each(|order| writeln!(out, "      → {order}"))
}

/// The time of day; the date stands in the paragraphs.
fn clock(at: Option<Timestamp>) -> String {
    let at = at.map(|at| at.strftime("%H:%M:%S%.3f").to_string());
    at.unwrap_or_else(|| "--:--:--.---".to_owned())
}

fn elections(entries: &[Entry]) -> Vec<Election> {
    let mut found: Vec<Election> = Vec::new();
    for (claim, entry) in entries.iter().enumerate() {
        let claimed = entry
            .effects
            .iter()
            .find(|effect| effect.starts_with("acquire the lock"));
        let Some(epoch) = claimed.and_then(|effect| epoch_of(effect)) else {
            continue;
        };
        let own = |at: &usize| entries[*at].member == entry.member;
        let granted = (claim + 1..entries.len()).filter(own).any(|at| {
            let mut effects = entries[at].effects.iter();
            effects.any(|effect| {
                epoch_of(effect) == Some(epoch)
                    && (effect.starts_with("renew ") || effect.starts_with("point "))
            })
        });
        let start = (0..=claim)
            .rev()
            .filter(own)
            .find(|at| free(&entries[*at]).is_some());
        let start = start.unwrap_or(claim);
        // An attempt that was repeated or lost is told only if nothing better is known.
        match found.iter_mut().find(|election| election.epoch == epoch) {
            Some(other) if other.granted || !granted => {}
            Some(other) => {
                *other = Election {
                    epoch,
                    claim,
                    start,
                    granted,
                }
            }
            None => found.push(Election {
                epoch,
                claim,
                start,
                granted,
            }),
        }
    }
    found.sort_by_key(|election| election.start);
    found
}

fn epoch_of(effect: &str) -> Option<u64> {
    let (_, rest) = effect.split_once("epoch ")?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// Why the lock was free, and where the candidate stood.
fn free(entry: &Entry) -> Option<(&str, &str)> {
    let words = entry
        .words
        .iter()
        .find_map(|words| words.strip_prefix("the lock is free: "))?;
    Some(
        words
            .split_once("; I am at ")
            .unwrap_or((words, "an unknown position")),
    )
}

fn paragraph(entries: &[Entry], election: &Election, out: &mut dyn Write) -> io::Result<()> {
    let Election {
        epoch,
        claim,
        start,
        granted,
    } = election;
    let winner = &entries[*claim].member;
    let day = entries[*claim]
        .at
        .map_or_else(String::new, |at| at.strftime(", %Y-%m-%d").to_string());
    let did = if *granted {
        "takes the lead"
    } else {
        "asks for the lead"
    };
    writeln!(out, "\nEpoch {epoch}: {winner} {did}{day}")?;
    let last = last_sign(entries, *epoch, *start);
    if let Some((entry, what)) = last {
        writeln!(
            out,
            "    {} {what} epoch {} at {}.",
            entry.member,
            epoch - 1,
            clock(entry.at)
        )?;
    }
    let seen = clock(entries[*start].at);
    if let Some((because, position)) = free(&entries[*start]) {
        writeln!(
            out,
            "    At {seen} {winner} saw the lock free: {because}. It stood at {position}."
        )?;
    }
    let race = entries[*start..=*claim]
        .iter()
        .filter(|entry| entry.member == *winner);
    let answers: Vec<String> = race.clone().filter_map(answer).collect();
    if !answers.is_empty() {
        writeln!(out, "    It asked the others: {}.", answers.join("; "))?;
    }
    let reasons: Vec<&str> = race
        .filter(|entry| free(entry).is_none())
        .flat_map(|entry| entry.words.iter().map(String::as_str))
        .collect();
    if !reasons.is_empty() {
        writeln!(out, "    It went on because {}.", reasons.join("; then "))?;
    }
    ending(entries, election, last.map(|(entry, _)| entry), out)
}

/// The old leader's last sign under the epoch before: a release is news, a renewal the last one.
fn last_sign(entries: &[Entry], epoch: u64, before: usize) -> Option<(&Entry, &'static str)> {
    let sign = |entry: &Entry| {
        entry
            .effects
            .iter()
            .filter(|effect| epoch_of(effect) == epoch.checked_sub(1))
            .find_map(|effect| {
                let released = effect.starts_with("release ").then_some("released");
                released.or(effect
                    .starts_with("renew ")
                    .then_some("last asked to renew"))
            })
    };
    entries[..before]
        .iter()
        .rev()
        .find_map(|entry| sign(entry).map(|what| (entry, what)))
}

/// What a peer answered in the race: `pg-2 at timeline 1, 0/4000000`.
fn answer(entry: &Entry) -> Option<String> {
    let said = entry.event.get("PeerAnswered")?;
    let name = said["name"].as_str()?;
    let status = &said["status"];
    if status.is_null() {
        return Some(format!("{name} did not answer"));
    }
    let lsn = status["lsn"]
        .as_u64()
        .map_or_else(|| "?".to_owned(), |lsn| Lsn(lsn).to_string());
    let kind = if status["primary"] == true {
        " as a primary"
    } else {
        ""
    };
    Some(format!(
        "{name} was at timeline {}, {lsn}{kind}",
        status["timeline"]
    ))
}

/// From the claim to the open door, and how long nobody could write.
fn ending(
    entries: &[Entry],
    election: &Election,
    last: Option<&Entry>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let winner = &entries[election.claim].member;
    let first = |wanted: &dyn Fn(&str) -> bool| {
        let mut after = entries[election.claim..]
            .iter()
            .filter(|entry| entry.member == *winner);
        after.find(|entry| entry.effects.iter().any(|effect| wanted(effect)))
    };
    let promoted = first(&|effect| {
        effect == "promote PostgreSQL" || effect.starts_with("start PostgreSQL as the primary")
    });
    let open =
        first(&|effect| effect.starts_with("point ") && epoch_of(effect) == Some(election.epoch));
    write!(
        out,
        "    It asked for the lock at {}",
        clock(entries[election.claim].at)
    )?;
    if let Some(entry) = promoted {
        write!(out, ", ordered the promotion at {}", clock(entry.at))?;
    }
    if let Some(entry) = open {
        write!(out, " and opened the Service at {}", clock(entry.at))?;
    }
    writeln!(out, ".")?;
    let since = last.unwrap_or(&entries[election.start]);
    if let (Some(from), Some(to)) = (since.at, open.and_then(|entry| entry.at)) {
        let gap_ms = to.duration_since(from).as_millis();
        let from = if last.is_some() {
            "the old leader's last sign"
        } else {
            "the free lock"
        };
        writeln!(out, "    From {from} to the open Service: {gap_ms} ms.")?;
    }
    Ok(())
}
