//! Which keys of a file are known, used, not yet used, or meant to be another.

use super::known::{self, Kind, Status};
use super::problem::Problem;
use super::raw::{Node, Value, join};
use super::section::{Section, as_bool, describe};
use std::collections::BTreeMap;

impl Section<'_> {
    /// Warns of everything below that is not known or not used, refuses what must be.
    pub(super) fn judge_keys(&self) {
        let Some(Node {
            value: Value::Map(entries),
            ..
        }) = self.node
        else {
            return;
        };
        let known = known::children(&self.table);
        for (name, node) in entries {
            let Some((_, kind, status)) = known.iter().find(|(known, ..)| known == name) else {
                if !self.is_named_method(name) && !self.describes_method(name, node) {
                    self.unknown(name, node, &known);
                }
                continue;
            };
            self.judge(name, node, *status);
            if *kind == Kind::Section && *status == Status::Used {
                let below = Section {
                    node: Some(node),
                    shown: self.path(name),
                    table: join(&self.table, name),
                    out: self.out,
                };
                below.judge_keys();
            }
        }
    }

    fn judge(&self, name: &str, node: &Node, status: Status) {
        if says_nothing(&node.value) {
            return;
        }
        let path = self.path(name);
        let problem = match status {
            Status::Used => return,
            Status::Ignored(why) => Problem::warning(path, format!("it has no effect: {why}")),
            Status::Later(why) => Problem::warning(
                path,
                format!("this version does not support it and goes on without: {why}"),
            ),
            Status::Refused(why) => {
                Problem::error(path, format!("this version does not support it: {why}"))
            }
        };
        self.out.push(problem.at(&node.place));
    }

    /// Tags may have any name; one that is nearly that of a known one is meant to be it.
    pub(super) fn judge_tags(&self) {
        let Some(Value::Map(entries)) = self.node.map(|node| &node.value) else {
            return;
        };
        for (name, node) in entries {
            let near = known::nearest(name, known::TAGS.into_iter());
            if let Some(near) = near.filter(|near| near != name) {
                let message = format!(
                    "no tag with a meaning, it is only published; did you mean {}?",
                    self.path(near)
                );
                self.out
                    .push(Problem::warning(self.path(name), message).at(&node.place));
            }
        }
    }

    /// Tags that are true or false become one of these texts, whichever spelling they have: who
    /// wrote `nofailover: 1` must not lead.
    pub(super) fn switch_tags(&self, tags: &mut BTreeMap<String, String>) {
        let Some(Value::Map(entries)) = self.node.map(|node| &node.value) else {
            return;
        };
        let switch = |(name, _): &&(String, Node)| known::SWITCHES.contains(&name.as_str());
        for (name, node) in entries.iter().filter(switch) {
            match as_bool(&node.value) {
                Some(on) => drop(tags.insert(name.clone(), on.to_string())),
                None if matches!(node.value, Value::Null | Value::List(_) | Value::Map(_)) => {}
                None => {
                    let found = describe(&node.value);
                    self.error(name, format!("found {found}; expected true or false"));
                }
            }
        }
    }

    /// A priority that is not a whole number counts as 1, and one below 0 as 0, as with Patroni:
    /// whoever wrote `failover_priority: none` to keep a member from leading did not.
    pub(super) fn judge_priorities(&self, tags: &BTreeMap<String, String>) {
        let given = |name| tags.get(name).map(|found| (name, found));
        for (name, found) in known::PRIORITIES.into_iter().filter_map(given) {
            let counts_as = match found.parse::<i64>() {
                Err(_) => 1,
                Ok(..0) => 0,
                Ok(0..) => continue,
            };
            let message = format!(
                "found {found}; expected a whole number, 0 for never; it counts as {counts_as}"
            );
            self.warn(name, message);
        }
    }

    fn unknown(&self, name: &str, node: &Node, known: &[(&'static str, Kind, Status)]) {
        let hint = known::nearest(name, known.iter().map(|(known, ..)| *known));
        // The very same name elsewhere is a better guess than a similar one here.
        let meant = self
            .elsewhere(name)
            .or_else(|| hint.map(|near| self.path(near)));
        let message = match meant {
            Some(meant) => format!("unknown key, it has no effect; did you mean {meant}?"),
            None => "unknown key, it has no effect".to_owned(),
        };
        self.out
            .push(Problem::warning(self.path(name), message).at(&node.place));
    }

    /// The same name under another section: written at the wrong depth.
    fn elsewhere(&self, name: &str) -> Option<String> {
        const PLACES: [&str; 6] = [
            "",
            "postgresql",
            "bootstrap.dcs",
            "kubernetes",
            "restapi",
            "bootstrap",
        ];
        let place = PLACES.iter().find(|place| {
            **place != self.table && known::children(place).iter().any(|(key, ..)| *key == name)
        })?;
        Some(join(place, name))
    }

    /// A map with a command under a name of the user's: a method that the dynamic configuration may
    /// name.
    pub(super) fn describes_method(&self, name: &str, node: &Node) -> bool {
        let known = known::children(&self.table);
        self.table == "postgresql"
            && node.get("command").is_some()
            && !known.iter().any(|(known, ..)| *known == name)
    }

    /// Patroni lets `postgresql.<method>` and `bootstrap.<method>` carry a method's own keys.
    fn is_named_method(&self, name: &str) -> bool {
        let key = match self.table.as_str() {
            "postgresql" => "create_replica_methods",
            "bootstrap" => "method",
            _ => return false,
        };
        match self.get(key).map(|node| &node.value) {
            Some(Value::Text(text)) => text == name,
            Some(Value::List(items)) => items
                .iter()
                .any(|item| item.value == Value::Text(name.to_owned())),
            _ => false,
        }
    }
}

/// The value is there but asks for nothing: the default written out.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Text(text) => matches!(text.as_str(), "" | "off" | "none"),
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        Value::Int(_) | Value::Float(_) | Value::Bool(true) => false,
    }
}
