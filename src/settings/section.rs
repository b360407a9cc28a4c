//! Typed reading of the raw tree: every wrong value becomes a problem with its path and line, and
//! reading goes on.

use super::hba;
use super::known;
use super::problem::Problem;
use super::raw::{Node, Place, Value, join};
use super::units;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn push(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    pub(super) fn has_errors(&self) -> bool {
        self.0.borrow().iter().any(Problem::is_error)
    }

    /// Errors first, then in the order of the file.
    pub(super) fn into_sorted(self) -> Vec<Problem> {
        let mut list = self.0.into_inner();
        list.sort_by_key(|p| (p.severity, p.file.clone(), p.line));
        list
    }
}

/// One map of the file, possibly absent.
#[derive(Clone)]
pub(super) struct Section<'a> {
    pub(super) node: Option<&'a Node>,
    /// The path as the reader of a message knows it.
    pub(super) shown: String,
    /// The path in the table of known keys.
    pub(super) table: String,
    pub(super) out: &'a Problems,
}

impl<'a> Section<'a> {
    /// A whole document; `table` is where its keys stand in the table of known keys.
    pub(super) fn root(node: &'a Node, table: &str, out: &'a Problems) -> Self {
        let table = table.to_owned();
        Self {
            node: Some(node),
            shown: String::new(),
            table,
            out,
        }
    }

    /// The map under a key.
    pub(super) fn section(&self, key: &str) -> Self {
        let node = self.get(key);
        if let Some(node) = node
            && !matches!(node.value, Value::Map(_))
        {
            self.wrong(key, node, "a map of keys", false);
        }
        Section {
            node: node.filter(|n| matches!(n.value, Value::Map(_))),
            shown: join(&self.shown, key),
            table: join(&self.table, key),
            out: self.out,
        }
    }

    /// The section is there.
    pub(super) fn present(&self) -> bool {
        self.node.is_some()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn node(&self) -> Option<&'a Node> {
        self.node
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        debug_assert!(
            known::children(&self.table)
                .iter()
                .any(|(name, ..)| *name == key),
            "{}.{key} is read but not in the table of known keys",
            self.table
        );
        self.node?.get(key)
    }

    /// The path of a key in words.
    pub(super) fn path(&self, key: &str) -> String {
        join(&self.shown, key)
    }

    pub(super) fn error(&self, key: &str, message: impl Into<String>) {
        self.out
            .push(Problem::error(self.path(key), message).at(&self.place(key)));
    }

    pub(super) fn warn(&self, key: &str, message: impl Into<String>) {
        self.out
            .push(Problem::warning(self.path(key), message).at(&self.place(key)));
    }

    fn place(&self, key: &str) -> Place {
        let node = self.node.and_then(|n| n.get(key)).or(self.node);
        node.map(|n| n.place.clone()).unwrap_or_default()
    }

    fn wrong(&self, key: &str, node: &Node, expected: &str, show: bool) {
        let found = if show {
            describe(&node.value)
        } else {
            node.value.kind().to_owned()
        };
        let problem = Problem::error(
            self.path(key),
            format!("found {found}; expected {expected}"),
        );
        self.out.push(problem.at(&node.place));
    }

    /// A text; a whole number is taken as the text it is.
    pub(super) fn text(&self, key: &str, expected: &str) -> Option<String> {
        let node = self.get(key)?;
        match &node.value {
            Value::Text(text) if text.contains('\0') => {
                self.error(key, "it contains a zero byte (NUL); expected text without");
                None
            }
            Value::Text(text) if !text.is_empty() => Some(text.clone()),
            Value::Int(number) => Some(number.to_string()),
            _ => {
                self.wrong(key, node, expected, true);
                None
            }
        }
    }

    /// A password: nothing of it is ever shown.
    pub(super) fn secret(&self, key: &str) -> Option<super::secret::Secret> {
        let node = self.get(key)?;
        match &node.value {
            Value::Text(text) if text.contains(['\0', '\n', '\r']) => {
                let message = "it contains a line break or a zero byte (NUL); expected one line; \
                               a block text (|) ends in a line break";
                self.error(key, message);
                None
            }
            Value::Text(text) => Some(super::secret::Secret::new(text.as_str())),
            Value::Int(number) => {
                self.warn(
                    key,
                    "it is written as a number; put it in quotes to be sure of it",
                );
                Some(super::secret::Secret::new(number.to_string()))
            }
            _ => {
                self.wrong(key, node, "text; put it in quotes", false);
                None
            }
        }
    }

    /// A boolean in any of the ways YAML and PostgreSQL write one.
    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        let value = as_bool(&node.value);
        if value.is_none() {
            self.wrong(key, node, "true or false", true);
        }
        value
    }

    /// A whole number within bounds.
    pub(super) fn integer(&self, key: &str, least: i64, most: i64) -> Option<i64> {
        let node = self.get(key)?;
        let number = match &node.value {
            Value::Int(number) => Some(*number),
            Value::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|n| (least..=most).contains(n));
        if number.is_none() {
            self.wrong(
                key,
                node,
                &format!("a whole number from {least} to {most}"),
                true,
            );
        }
        number
    }

    /// A duration in seconds, or with a unit as PostgreSQL writes it; in milliseconds.
    pub(super) fn duration_ms(&self, key: &str, least_s: u64) -> Option<u64> {
        let words =
            format!("a number of seconds, at least {least_s} and at most a year, as 30 or \"30s\"");
        self.duration_within(key, least_s * 1_000..=units::MAX_DURATION_MS, &words)
    }

    /// The same within bounds of its own, given in words as well.
    pub(super) fn duration_within(
        &self,
        key: &str,
        bounds: RangeInclusive<u64>,
        expected: &str,
    ) -> Option<u64> {
        let node = self.get(key)?;
        let ms = match &node.value {
            Value::Int(number) => u64::try_from(*number)
                .ok()
                .and_then(|s| s.checked_mul(1_000)),
            Value::Text(text) => units::duration_ms(text),
            _ => None,
        };
        let ms = ms.filter(|ms| bounds.contains(ms));
        if ms.is_none() {
            self.wrong(key, node, expected, true);
        }
        ms
    }

    /// A size in bytes, or with a unit as PostgreSQL writes it.
    pub(super) fn bytes(&self, key: &str) -> Option<i64> {
        let node = self.get(key)?;
        let bytes = match &node.value {
            Value::Int(number) => Some(*number),
            Value::Text(text) => units::size_bytes(text),
            _ => None,
        };
        if bytes.is_none() {
            self.wrong(key, node, "a number of bytes, as 1048576 or \"1MB\"", true);
        }
        bytes
    }

    /// A list of texts (lines); a text of several lines counts as several.
    pub(super) fn lines(&self, key: &str) -> Option<Vec<String>> {
        let node = self.get(key)?;
        let Value::List(items) = &node.value else {
            self.wrong(key, node, "a list of lines", false);
            return None;
        };
        let mut lines = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match &item.value {
                Value::Text(text) if text.contains('\0') => {
                    let key = format!("{key}[{index}]");
                    self.error(&key, "it contains a zero byte (NUL); expected text without");
                }
                Value::Text(text) => lines.extend(text.lines().map(|l| l.trim_end().to_owned())),
                Value::Null => {}
                _ => self.wrong(&format!("{key}[{index}]"), item, "a line of text", false),
            }
        }
        lines.retain(|line| !line.is_empty());
        Some(lines)
    }

    /// The lines of `pg_hba` and `pg_ident`; none where the server would not start with them.
    pub(super) fn access_lines(&self, key: &str) -> Option<Vec<String>> {
        let lines = self.lines(key)?;
        let fault = if key == "pg_hba" {
            hba::hba_fault(&lines)
        } else {
            hba::ident_fault(&lines)
        };
        let Some(fault) = fault else {
            return Some(lines);
        };
        self.error(key, fault);
        None
    }

    /// A map of plain values as texts, booleans as `on`/`off` if `on_off`, else `true`/`false`.
    pub(super) fn text_map(&self, key: &str, on_off: bool) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        let Some(Node {
            value: Value::Map(entries),
            ..
        }) = self.section(key).node
        else {
            return map;
        };
        for (name, node) in entries {
            match plain_text(&node.value, on_off) {
                Some(text) => drop(map.insert(name.clone(), text)),
                None if node.value == Value::Null => {}
                None => self.wrong(
                    &format!("{key}.{name}"),
                    node,
                    "text, a number or a boolean",
                    false,
                ),
            }
        }
        map
    }
}

/// `on`, `yes`, `1` and their like.
pub(super) fn as_bool(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        Value::Int(1) => Some(true),
        Value::Int(0) => Some(false),
        Value::Text(text) => match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Some(true),
            "off" | "false" | "no" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A scalar as PostgreSQL or a tag writes it.
pub(super) fn plain_text(value: &Value, on_off: bool) -> Option<String> {
    Some(match value {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(b) => match (on_off, b) {
            (true, true) => "on",
            (true, false) => "off",
            (false, true) => "true",
            (false, false) => "false",
        }
        .to_owned(),
        Value::Null | Value::List(_) | Value::Map(_) => return None,
    })
}

/// A value in words for a message, cut where it is long.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Bool(b) => format!("the boolean {b}"),
        Value::Int(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Text(text) if text.chars().count() > 60 => {
            let cut: String = text.chars().take(60).collect();
            format!("the text {cut:?}…")
        }
        Value::Text(text) => format!("the text {text:?}"),
        other => other.kind().to_owned(),
    }
}
