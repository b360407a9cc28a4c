//! `slots` and `ignore_slots` of the dynamic configuration.
//!
//! Patroni has had two other names for `slots`, which count before it, and takes a slot of which
//! nothing is said (`{}`, `0`) for a physical one.

use super::dynamic::Dynamic;
use super::problem::Problem;
use super::raw::{Node, Value, join};
use super::section::{Section, as_bool, describe};
use crate::ha::slots::{ClusterType, Permanent, SlotKind, SlotPattern};
use std::collections::BTreeMap;

/// The names of `slots`, the one that counts first.
const NAMES: [&str; 3] = ["permanent_replication_slots", "permanent_slots", "slots"];

/// Permanent slots by name.
pub(super) type Slots = BTreeMap<String, Permanent>;

/// PostgreSQL's rule for the name of a slot.
pub(super) fn is_slot_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=63).contains(&name.len()) && name.chars().all(fits)
}

/// It says nothing: no slots there, a physical one as an entry.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Int(0) => true,
        Value::Map(entries) => entries.is_empty(),
        Value::Text(text) => text.is_empty(),
        other => as_bool(other) == Some(false),
    }
}

/// `slots`; what is wrong keeps the slot in force under that name.
pub(super) fn permanent(section: &Section<'_>, kept: &Slots) -> Slots {
    let given = NAMES.iter().find_map(|name| {
        let node = section.get(name)?;
        (!is_empty(&node.value)).then_some((*name, node))
    });
    let Some((key, node)) = given else {
        return Slots::new();
    };
    let Value::Map(entries) = &node.value else {
        let found = describe(&node.value);
        section.error(
            key,
            format!("found {found}; expected a map of slots by name"),
        );
        return kept.clone();
    };
    let mut slots = Slots::new();
    for (name, entry) in entries.iter().filter(|(_, e)| e.value != Value::Null) {
        let reader = Entry {
            section,
            path: join(&section.path(key), name),
            node: entry,
        };
        if !is_slot_name(name) {
            let words = "it is not the name of a slot; expected 1 to 63 small letters, digits, \
                         underscores";
            reader.error("", entry, words);
            continue;
        }
        if let Some(slot) = reader.slot().or_else(|| kept.get(name).cloned()) {
            slots.insert(name.clone(), slot);
        }
    }
    slots
}

/// `ignore_slots`; an entry that is wrong might protect less than is meant, so the list stays.
pub(super) fn ignored(section: &Section<'_>, kept: &[SlotPattern]) -> Vec<SlotPattern> {
    const KEY: &str = "ignore_slots";
    let Some(node) = section.get(KEY) else {
        return Vec::new();
    };
    let Value::List(entries) = &node.value else {
        let found = describe(&node.value);
        section.error(KEY, format!("found {found}; expected a list of maps"));
        return kept.to_vec();
    };
    let read = entries.iter().enumerate().map(|(number, entry)| {
        let reader = Entry {
            section,
            path: format!("{}[{number}]", section.path(KEY)),
            node: entry,
        };
        reader.pattern()
    });
    let read: Vec<Option<SlotPattern>> = read.collect();
    let whole: Option<Vec<SlotPattern>> = read.into_iter().collect();
    whole.unwrap_or_else(|| kept.to_vec())
}

/// What the rest of the configuration keeps from being made.
pub(super) fn warn(section: &Section<'_>, dynamic: &Dynamic) {
    let Some(key) = NAMES.into_iter().find(|name| section.has(name)) else {
        return;
    };
    let wal_level = dynamic
        .parameters
        .get("wal_level")
        .map_or("", String::as_str);
    if !dynamic.slots.is_empty() && !dynamic.use_slots {
        let words = "they are not made: postgresql.use_slots is false";
        section.warn(key, words);
    } else if dynamic.has_logical_slots() && wal_level != "logical" {
        let words = "logical ones cannot be made: expected postgresql.parameters.wal_level: \
                     logical";
        section.warn(key, words);
    }
}

/// One slot, or one pattern.
struct Entry<'a> {
    section: &'a Section<'a>,
    path: String,
    node: &'a Node,
}

impl Entry<'_> {
    fn error(&self, key: &str, at: &Node, words: impl Into<String>) {
        let path = if key.is_empty() {
            self.path.clone()
        } else {
            join(&self.path, key)
        };
        self.section
            .out
            .push(Problem::error(path, words).at(&at.place));
    }

    fn wrong(&self, key: &str, at: &Node, expected: &str) {
        let found = describe(&at.value);
        self.error(key, at, format!("found {found}; expected {expected}"));
    }

    /// Keys that mean nothing here.
    fn judge_keys(&self, known: &[&str]) {
        let Value::Map(entries) = &self.node.value else {
            return;
        };
        for (key, node) in entries
            .iter()
            .filter(|(key, _)| !known.contains(&key.as_str()))
        {
            let words = format!(
                "unknown key, it has no effect; known are {}",
                known.join(", ")
            );
            let problem = Problem::warning(join(&self.path, key), words);
            self.section.out.push(problem.at(&node.place));
        }
    }

    /// A text under a key; an error is told, and counts as such.
    fn text(&self, key: &str, expected: &str) -> Result<Option<String>, ()> {
        match self.node.get(key) {
            None => Ok(None),
            Some(node) => match &node.value {
                Value::Text(text) if !text.is_empty() && !text.contains('\0') => {
                    Ok(Some(text.clone()))
                }
                Value::Int(number) => Ok(Some(number.to_string())),
                _ => {
                    self.wrong(key, node, expected);
                    Err(())
                }
            },
        }
    }

    /// Whether `type` says logical.
    fn logical(&self) -> Result<Option<bool>, ()> {
        let expected = "physical or logical";
        match self.text("type", expected)?.as_deref() {
            None => Ok(None),
            Some("physical") => Ok(Some(false)),
            Some("logical") => Ok(Some(true)),
            Some(_) => {
                self.wrong("type", self.node.get("type").unwrap_or(self.node), expected);
                Err(())
            }
        }
    }

    fn slot(&self) -> Option<Permanent> {
        if is_empty(&self.node.value) {
            return Some(Permanent {
                kind: SlotKind::Physical,
                cluster_type: None,
            });
        }
        let Value::Map(_) = &self.node.value else {
            self.wrong("", self.node, "a map, as {type: physical}");
            return None;
        };
        self.judge_keys(&["type", "database", "plugin", "cluster_type"]);
        let logical = self.logical().ok()?;
        let database = self.text("database", "the name of a database").ok()?;
        let plugin = self.text("plugin", "the name of an output plugin").ok()?;
        // As in Patroni: both together say what it is.
        let logical = logical.unwrap_or(database.is_some() && plugin.is_some());
        let kind = match (logical, database, plugin) {
            (false, ..) => SlotKind::Physical,
            (true, Some(database), Some(plugin)) => SlotKind::Logical { database, plugin },
            (true, None, _) => {
                let words = "a logical slot without it; expected the name of a database";
                self.error("database", self.node, words);
                return None;
            }
            (true, _, None) => {
                let words = "a logical slot without it; expected an output plugin, as pgoutput";
                self.error("plugin", self.node, words);
                return None;
            }
        };
        let cluster_type = self.cluster_type(logical)?;
        Some(Permanent { kind, cluster_type })
    }

    #[expect(clippy::option_option, reason = "an error, nothing said, a type")]
    fn cluster_type(&self, logical: bool) -> Option<Option<ClusterType>> {
        let expected = "primary or standby";
        let said = self.text("cluster_type", expected).ok()?;
        match said.as_deref() {
            None => Some(None),
            // Patroni passes it over there: logical slots are made on a primary alone.
            Some(_) if logical => Some(None),
            Some("primary") => Some(Some(ClusterType::Primary)),
            Some("standby") => Some(Some(ClusterType::Standby)),
            Some(_) => {
                let at = self.node.get("cluster_type").unwrap_or(self.node);
                self.wrong("cluster_type", at, expected);
                None
            }
        }
    }

    fn pattern(&self) -> Option<SlotPattern> {
        const KEYS: [&str; 4] = ["name", "type", "database", "plugin"];
        let Value::Map(_) = &self.node.value else {
            self.wrong("", self.node, "a map, as {name: a, type: physical}");
            return None;
        };
        let mut keys = KEYS.iter();
        self.judge_keys(&KEYS);
        if !keys.any(|key| self.node.get(key).is_some()) {
            let words = "it says nothing; expected one of name, type, database, plugin";
            self.error("", self.node, words);
            return None;
        }
        Some(SlotPattern {
            name: self.text("name", "the name of a slot").ok()?,
            logical: self.logical().ok()?,
            database: self.text("database", "the name of a database").ok()?,
            plugin: self.text("plugin", "the name of an output plugin").ok()?,
        })
    }
}
