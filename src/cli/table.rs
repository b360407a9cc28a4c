//! Tables and lines of text: patronictl's to the letter, so that eyes and scripts find what they
//! know.

use std::io::{self, Write};

/// A table to be drawn.
pub(crate) struct Table<'a> {
    /// What stands in the upper border, from its left end on.
    pub(crate) title: String,
    /// The headings.
    pub(crate) heads: &'a [&'a str],
    /// The cells, row by row; a cell may have several lines.
    pub(crate) rows: &'a [Vec<String>],
    /// The headings whose columns are set to the right.
    pub(crate) right: &'a [&'a str],
}

impl Table<'_> {
    /// Draw it. Rows are parted by a rule where one of them has several lines.
    pub(crate) fn draw(&self, out: &mut dyn Write) -> io::Result<()> {
        let widths: Vec<usize> = (0..self.heads.len())
            .map(|at| {
                let cells = self.rows.iter().filter_map(|row| row.get(at));
                let lines = cells.flat_map(|cell| cell.lines()).map(width);
                lines.max().unwrap_or(0).max(width(self.heads[at]))
            })
            .collect();
        let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        let rule = format!("+{}+", dashes.join("+"));
        let rest: String = rule.chars().skip(width(&self.title)).collect();
        writeln!(out, "{}{rest}", self.title)?;
        let heads: Vec<String> = self.heads.iter().map(|head| (*head).to_owned()).collect();
        self.line(&heads, 0, &widths, out)?;
        writeln!(out, "{rule}")?;
        let parted = self.rows.iter().flatten().any(|cell| cell.contains('\n'));
        for (number, row) in self.rows.iter().enumerate() {
            if parted && number > 0 {
                writeln!(out, "{rule}")?;
            }
            let height = row.iter().map(|cell| cell.lines().count()).max();
            for line in 0..height.unwrap_or(1).max(1) {
                self.line(row, line, &widths, out)?;
            }
        }
        writeln!(out, "{rule}")
    }

    fn line(
        &self,
        row: &[String],
        line: usize,
        widths: &[usize],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        write!(out, "|")?;
        for (at, wide) in widths.iter().enumerate() {
            let text = row
                .get(at)
                .and_then(|cell| cell.lines().nth(line))
                .unwrap_or("");
            if self.right.contains(&self.heads[at]) {
                write!(out, " {text:>wide$} |")?;
            } else {
                write!(out, " {text:<wide$} |")?;
            }
        }
        writeln!(out)
    }
}

/// How many columns a text takes: names and numbers of PostgreSQL are narrow.
pub(crate) fn width(text: &str) -> usize {
    text.chars().count()
}

/// Lines of cells.
pub(crate) fn separated(
    delimiter: &str,
    heads: &[&str],
    rows: &[Vec<String>],
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "{}", heads.join(delimiter))?;
    for row in rows {
        // A line stays a line.
        writeln!(out, "{}", row.join(delimiter).replace('\n', ", "))?;
    }
    Ok(())
}
