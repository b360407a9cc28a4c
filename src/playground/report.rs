//! What the exercise says: a line as each accident ends, a table at the end, and evidence where
//! something failed.

use super::cluster::Cluster;
use super::ledger::Us;
use super::oracle::TwoWriters;
use super::{journal, say};
use comfy_table::presets::ASCII_FULL_CONDENSED;
use comfy_table::{CellAlignment, LineStyle, Table};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Lines of a member's log, and steps of its journal, that are shown.
const LOG_LINES: usize = 25;
const JOURNAL_STEPS: usize = 20;
/// So much of the end of a log is read.
const TAIL_BYTES: u64 = 32 * 1024;
const LINE_CHARS: usize = 400;

/// One accident and its verdict.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    accident: &'static str,
    round: u32,
    ttl_s: u64,
    /// The longest time without an acknowledgement.
    pub(super) gap_us: Us,
    /// Why somebody could take the lock.
    pub(super) proof: String,
    /// Who led before and after.
    pub(super) became: String,
    /// Acknowledged during the accident.
    pub(super) acked: usize,
    /// Acknowledged and gone.
    pub(super) missing: usize,
    /// The rules allow that.
    pub(super) may_miss: bool,
    /// Two writers.
    pub(super) two_writers: Vec<TwoWriters>,
    /// One primary, everybody streaming from it.
    pub(super) whole: bool,
    /// What else went wrong.
    pub(super) trouble: Vec<String>,
}

impl Row {
    pub(super) fn new(accident: &'static str, round: u32, ttl_s: u64) -> Self {
        Self {
            accident,
            round,
            ttl_s,
            ..Self::default()
        }
    }

    /// The cluster is not whole.
    pub(super) fn broken(mut self, why: String) -> Self {
        self.whole = false;
        self.trouble.push(why);
        self
    }

    pub(super) fn passed(&self) -> bool {
        self.whole
            && self.two_writers.is_empty()
            && self.trouble.is_empty()
            && (self.missing == 0 || self.may_miss)
    }

    fn verdict(&self) -> &'static str {
        if self.passed() { "passed" } else { "FAILED" }
    }

    fn missing_text(&self) -> String {
        match (self.missing, self.may_miss) {
            (0, _) => "0".to_owned(),
            (missing, true) => format!("{missing} (allowed)"),
            (missing, false) => format!("{missing} (NOT ALLOWED)"),
        }
    }

    fn writers_text(&self) -> String {
        let told = self.two_writers.iter().map(|pair| {
            let TwoWriters {
                old,
                new,
                rows,
                overlap_us,
            } = pair;
            format!(
                "YES: pg-{} (timeline {}) acknowledged {rows} rows sent up to {} ms after pg-{} \
                 (timeline {}) had begun",
                old.member,
                old.timeline,
                overlap_us / 1000,
                new.member,
                new.timeline
            )
        });
        let told: Vec<String> = told.collect();
        if told.is_empty() {
            "no".to_owned()
        } else {
            told.join("; ")
        }
    }

    /// For the moment it ends.
    pub(super) fn line(&self) -> String {
        let mut trouble = self.trouble.join("; ");
        if !trouble.is_empty() {
            trouble.insert_str(0, "; ");
        }
        format!(
            "{} {} {}: gap {} ms, {}, proof: {}, {} rows, missing {}, two writers: {}{trouble}",
            self.verdict(),
            self.accident,
            self.round,
            self.gap_us / 1000,
            self.became,
            self.proof,
            self.acked,
            self.missing_text(),
            self.writers_text(),
        )
    }
}

/// All verdicts.
pub(super) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    let rule = LineStyle::new('+', '-', '+', '+');
    table.load_style(ASCII_FULL_CONDENSED.header_separator(rule));
    table.set_header([
        "accident",
        "round",
        "write gap ms",
        "TTL ms",
        "leader",
        "proof that applied",
        "rows acked",
        "missing",
        "two writers",
        "verdict",
    ]);
    for row in rows {
        let mut cells = vec![row.accident.to_owned(), row.round.to_string()];
        cells.extend([
            (row.gap_us / 1000).to_string(),
            (row.ttl_s * 1000).to_string(),
        ]);
        cells.extend([row.became.clone(), row.proof.clone(), row.acked.to_string()]);
        let two = if row.two_writers.is_empty() {
            "no"
        } else {
            "YES"
        };
        cells.extend([row.missing_text(), two.to_owned(), row.verdict().to_owned()]);
        table.add_row(cells);
    }
    for column in [1, 2, 3, 6, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// The ends of the members' logs and journals.
pub(super) async fn evidence(cluster: &Cluster) -> std::io::Result<()> {
    for keeper in &cluster.keepers {
        let (member, seen) = (&keeper.member, keeper.seen());
        say(&format!(
            "--- {}: {} starts; last end: {}; the end of its log:",
            member.name,
            seen.starts,
            if seen.last_end.is_empty() {
                "none"
            } else {
                &seen.last_end
            },
        ))?;
        for line in tail(&member.log()) {
            say(&format!("    {line}"))?;
        }
        say(&format!(
            "--- {}: the last decisions in its journal:",
            member.name
        ))?;
        for line in decisions(&journal::read(member, 500).await, JOURNAL_STEPS) {
            say(&format!("    {line}"))?;
        }
    }
    Ok(())
}

/// The last steps that say something, oldest first.
pub(super) fn decisions(journal: &[crate::cli::explain::Entry], last: usize) -> Vec<String> {
    let mut lines: Vec<String> = journal
        .iter()
        .rev()
        .filter(|entry| !entry.words.is_empty())
        .take(last)
        .map(|entry| {
            let at = entry.at.map(|at| at.strftime("%H:%M:%S%.3f").to_string());
            let text = format!(
                "{} {} [{}] {}",
                at.unwrap_or_default(),
                entry.member,
                entry.rules.join(","),
                entry.words.join("; ")
            );
            cut(&text)
        })
        .collect();
    lines.reverse();
    lines
}

fn tail(path: &Path) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut text = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(LOG_LINES))
        .map(|line| cut(line))
        .collect()
}

fn cut(line: &str) -> String {
    line.chars().take(LINE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::super::oracle::Reign;
    use super::*;

    fn passed() -> Row {
        Row {
            whole: true,
            proof: "terminated".into(),
            ..Row::new("killed-pod", 1, 6)
        }
    }

    #[test]
    fn a_missing_row_fails_unless_the_rules_allow_it() {
        assert!(passed().passed());
        assert!(
            !Row {
                missing: 1,
                ..passed()
            }
            .passed()
        );
        assert!(
            Row {
                missing: 1,
                may_miss: true,
                ..passed()
            }
            .passed()
        );
    }

    #[test]
    fn two_writers_and_a_cluster_that_does_not_heal_always_fail() {
        let reign = |member, timeline| Reign {
            member,
            timeline,
            first_us: 0,
        };
        let pair = TwoWriters {
            old: reign(0, 1),
            new: reign(1, 2),
            rows: 3,
            overlap_us: 5_000,
        };
        let two = Row {
            two_writers: vec![pair],
            may_miss: true,
            ..passed()
        };
        assert!(!two.passed());
        assert!(
            two.line().contains("sent up to 5 ms after pg-1"),
            "{}",
            two.line()
        );
        assert!(table(&[two]).contains("YES"));
        assert!(!passed().broken("no primary".into()).passed());
    }
}
