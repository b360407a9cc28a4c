//! What is on the screen, as a function of what is known, the time and the size of the terminal.

use super::changes::{Cell, Memory, Seen, Trend};
use crate::cli::cluster::{Cluster, Row};
use crate::cli::render::{self, footer, host, indented, tags, title_case};
use crate::cli::table::width;
use std::time::Duration;
use tokio::time::Instant;

/// What the terminal can show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Colours and bold.
    pub(super) colors: bool,
    /// More than ASCII.
    pub(super) unicode: bool,
}

impl Look {
    /// As the environment says: NO_COLOR, TERM and the locale.
    pub(super) fn of_environment() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        Self {
            colors: set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb"),
            // A container has no locale, and the terminal in front of it is almost never without.
            unicode: locale.is_none_or(|locale| locale.to_ascii_lowercase().contains("utf")),
        }
    }
}

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Plain,
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
    Changed,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "1;32",
            Self::Warn => "33",
            Self::Bad => "1;31",
            Self::Changed => "7",
        }
    }
}

type Span = (String, Tone);

/// Everything that is drawn.
pub(super) struct Picture<'a> {
    pub(super) memory: &'a Memory,
    pub(super) manner: render::Manner,
    pub(super) every: Duration,
    pub(super) now: Instant,
    pub(super) look: Look,
}

/// A column and when it goes where the terminal is narrow: the greatest first, 0 never.
struct Column {
    head: &'static str,
    goes: u8,
    right: bool,
    cells: Vec<Span>,
}

impl Picture<'_> {
    /// The lines, none wider and no more than the terminal.
    pub(super) fn draw(&self, wide: usize, high: usize) -> Vec<String> {
        let mut lines = vec![self.title(wide), self.source()];
        let mut news: Vec<Vec<Span>> = Vec::new();
        if let Some(seen) = &self.memory.seen {
            lines.push(Vec::new());
            lines.extend(self.table(seen, wide));
            let below = footer(&seen.cluster);
            lines.extend(below.into_iter().map(|line| vec![(line, Tone::Warn)]));
        }
        let left = high.saturating_sub(lines.len() + 1);
        let told = self.memory.news.iter().take(left);
        news.extend(told.map(|line| vec![(format!(" {line}"), Tone::Dim)]));
        if !news.is_empty() {
            lines.push(Vec::new());
            lines.extend(news);
        }
        lines.truncate(high);
        lines
            .into_iter()
            .map(|line| self.paint(fitted(line, wide, self.mark("…", "~"))))
            .collect()
    }

    fn mark(&self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.look.unicode { unicode } else { ascii }
    }

    /// The cluster, and to the right how to end.
    fn title(&self, wide: usize) -> Vec<Span> {
        let (scope, id) = match &self.memory.seen {
            Some(Seen { cluster, .. }) => (
                cluster.scope.as_str(),
                cluster.system_id.as_deref().unwrap_or("uninitialized"),
            ),
            None => ("", ""),
        };
        let every = self.every.as_secs_f64();
        let help = format!("every {every} s, q ends ");
        let used = width(scope) + width(id) + 3;
        let mut line = vec![
            (format!(" {scope}"), Tone::Bold),
            (format!("  {id}"), Tone::Dim),
        ];
        if let Some(gap) = wide.checked_sub(used + width(&help))
            && gap >= 2
        {
            line.push((format!("{}{help}", " ".repeat(gap)), Tone::Dim));
        }
        line
    }

    /// Who said it, how long ago, and who did not answer.
    fn source(&self) -> Vec<Span> {
        let missed = self.memory.missed.join("; ");
        let Some(seen) = &self.memory.seen else {
            return if self.memory.deaf {
                vec![(format!(" nobody answers: {missed}"), Tone::Bad)]
            } else {
                vec![(" asking".to_owned(), Tone::Dim)]
            };
        };
        let age = age(self.now.saturating_duration_since(seen.at));
        if self.memory.deaf {
            let words = format!(" nobody answers; this is what {} said {age} ago", seen.who);
            return vec![(words, Tone::Bad), (format!(": {missed}"), Tone::Dim)];
        }
        let mut line = vec![(format!(" {} said it {age} ago", seen.who), Tone::Plain)];
        if !missed.is_empty() {
            line.push((format!("; {missed}"), Tone::Warn));
        }
        line
    }

    fn table(&self, seen: &Seen, wide: usize) -> Vec<Vec<Span>> {
        let cluster = &seen.cluster;
        let rows: Vec<(usize, &Row)> = if self.manner.tree {
            cluster.tree()
        } else {
            cluster.members.iter().map(|row| (0, row)).collect()
        };
        let mut columns = self.columns(cluster, &rows);
        columns.retain(|column| {
            column.goes == 0
                || self.manner.extended
                || column.cells.iter().any(|(text, _)| !text.is_empty())
        });
        while total(&columns) > wide {
            let Some(at) = first_to_go(&columns) else {
                break;
            };
            columns.remove(at);
        }
        let heads = columns.iter().map(|column| {
            let text = padded(column.head, width_of(column), column.right);
            (format!("{text}  "), Tone::Dim)
        });
        let mut first = vec![("   ".to_owned(), Tone::Plain)];
        first.extend(heads);
        let mut lines = vec![first];
        for (at, (_, row)) in rows.iter().enumerate() {
            let mut line = vec![(" ".to_owned(), Tone::Plain), self.bullet(cluster, row)];
            for column in &columns {
                let (text, tone) = &column.cells[at];
                let cell = padded(text, width_of(column), column.right);
                // The padding is not marked with the text.
                let (before, after) = cell.split_once(text.as_str()).unwrap_or(("", ""));
                line.push((before.to_owned(), Tone::Plain));
                line.push((text.clone(), self.stale(*tone)));
                line.push((format!("{after}  "), Tone::Plain));
            }
            lines.push(line);
        }
        lines
    }

    /// What nobody vouches for any more is grey.
    fn stale(&self, tone: Tone) -> Tone {
        if self.memory.deaf { Tone::Dim } else { tone }
    }

    fn bullet(&self, cluster: &Cluster, row: &Row) -> Span {
        let trouble = cluster.troubles().contains_key(&row.name);
        let (mark, tone) = match row.state.as_str() {
            _ if trouble => (self.mark("✗", "!"), Tone::Bad),
            "running" if row.leads() => (self.mark("●", "*"), Tone::Good),
            "running" | "streaming" | "in archive recovery" => (self.mark("○", "o"), Tone::Plain),
            _ => (self.mark("◌", "-"), Tone::Warn),
        };
        (format!("{mark} "), self.stale(tone))
    }

    fn columns(&self, cluster: &Cluster, rows: &[(usize, &Row)]) -> Vec<Column> {
        let ports = cluster.shows_ports();
        let column = |head, goes, right, cell: &dyn Fn(usize, &Row) -> Span| Column {
            head,
            goes,
            right,
            cells: rows.iter().map(|(depth, row)| cell(*depth, row)).collect(),
        };
        let plain = |text: String| (text, Tone::Plain);
        let marked = |row: &Row, cell: Cell, text: String, tone: Tone| {
            let changed = self.memory.is_marked(&row.name, cell, self.now);
            (text, if changed { Tone::Changed } else { tone })
        };
        vec![
            column("Member", 0, false, &|depth, row| {
                (indented(&row.name, depth), Tone::Bold)
            }),
            column("Host", 8, false, &|_, row| plain(host(row, ports))),
            column("Role", 0, false, &|_, row| {
                let tone = if row.leads() { Tone::Good } else { Tone::Plain };
                marked(row, Cell::Role, title_case(&row.role), tone)
            }),
            column("State", 0, false, &|_, row| {
                marked(row, Cell::State, row.state.clone(), state_tone(&row.state))
            }),
            column("TL", 3, true, &|_, row| {
                let text = row.timeline.map_or_else(String::new, |tl| tl.to_string());
                marked(row, Cell::Timeline, text, Tone::Plain)
            }),
            column("Receive LSN", 6, true, &|_, row| {
                plain(row.receive_lsn.clone().unwrap_or_default())
            }),
            column("Lag", 4, true, &|_, row| {
                self.lag(row.receive_lag, self.memory.trends(row).0)
            }),
            column("Replay LSN", 7, true, &|_, row| {
                plain(row.replay_lsn.clone().unwrap_or_default())
            }),
            column("Lag", 1, true, &|_, row| {
                self.lag(row.replay_lag, self.memory.trends(row).1)
            }),
            column("Restart", 5, false, &|_, row| {
                let at = render::scheduled(row);
                let pending = row.pending_restart.then(|| "pending".to_owned());
                (at.or(pending).unwrap_or_default(), Tone::Warn)
            }),
            column("Tags", 9, false, &|_, row| plain(tags(&row.tags, true))),
        ]
    }

    /// `3 MB` with an arrow that says where it goes.
    fn lag(&self, bytes: Option<u64>, trend: Trend) -> Span {
        let Some(bytes) = bytes else {
            return (String::new(), Tone::Plain);
        };
        let text = size(bytes);
        match trend {
            Trend::Grows => (format!("{}{text}", self.mark("▲ ", "+ ")), Tone::Warn),
            Trend::Shrinks => (format!("{}{text}", self.mark("▼ ", "- ")), Tone::Plain),
            Trend::Stays => (text, Tone::Plain),
        }
    }

    fn paint(&self, line: Vec<Span>) -> String {
        let pieces = line.into_iter().map(|(text, tone)| {
            if self.look.colors && tone != Tone::Plain && !text.trim().is_empty() {
                format!("\x1b[{}m{text}\x1b[0m", tone.code())
            } else {
                text
            }
        });
        let line: String = pieces.collect();
        line.trim_end().to_owned()
    }
}

fn state_tone(state: &str) -> Tone {
    match state {
        "running" | "streaming" | "in archive recovery" => Tone::Plain,
        "stopped"
        | "crashed"
        | "start failed"
        | "stop failed"
        | "restart failed"
        | "initdb failed"
        | "custom bootstrap failed" => Tone::Bad,
        _ => Tone::Warn,
    }
}

fn width_of(column: &Column) -> usize {
    let cells = column.cells.iter().map(|(text, _)| width(text));
    cells.max().unwrap_or(0).max(width(column.head))
}

/// What the columns take, with the gutter before and two blanks between them.
fn total(columns: &[Column]) -> usize {
    let cells: usize = columns.iter().map(|column| width_of(column) + 2).sum();
    3 + cells.saturating_sub(2)
}

/// The column that is needed least; none where only the last ones are left.
fn first_to_go(columns: &[Column]) -> Option<usize> {
    let least = columns.iter().enumerate().filter(|(_, c)| c.goes > 0);
    least.max_by_key(|(_, c)| c.goes).map(|(at, _)| at)
}

fn padded(text: &str, wide: usize, right: bool) -> String {
    if right {
        format!("{text:>wide$}")
    } else {
        format!("{text:<wide$}")
    }
}

/// Cut what does not fit, and show that it was cut.
fn fitted(line: Vec<Span>, wide: usize, cut: &str) -> Vec<Span> {
    let all: usize = line.iter().map(|(text, _)| width(text)).sum();
    // Blanks at the end may go without a word.
    let blank: String = line.iter().map(|(text, _)| text.as_str()).collect();
    if all <= wide || width(blank.trim_end()) <= wide {
        return line;
    }
    let mut left = wide.saturating_sub(1);
    let mut kept = Vec::new();
    for (text, tone) in line {
        let part: String = text.chars().take(left).collect();
        left -= width(&part);
        kept.push((part, tone));
    }
    kept.push((cut.chars().take(wide).collect(), Tone::Dim));
    kept
}

/// `0.4 s`, `12 s`, `3 min`.
fn age(age: Duration) -> String {
    match age.as_secs() {
        0 => format!("{:.1} s", age.as_secs_f64()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut at = 0;
    while value >= 1024.0 && at + 1 < UNITS.len() {
        value /= 1024.0;
        at += 1;
    }
    if value < 10.0 {
        format!("{value:.1} {}", UNITS[at])
    } else {
        format!("{value:.0} {}", UNITS[at])
    }
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
