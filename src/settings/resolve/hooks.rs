//! Commands of the user's, and the methods that have keys of their own.

use crate::settings::durability;
use crate::settings::hooks::{Command, CustomBootstrap, Hooks, Method, ReplicaMethod};
use crate::settings::raw::{Node, Value, join};
use crate::settings::section::{Section, as_bool, describe, plain_text};
use std::collections::BTreeMap;

const COMMAND: &str = "a command, as /etc/pgwarden/notify --to 'the dba'";
/// Patroni's callbacks.
const CALLBACKS: [&str; 5] = [
    "on_reload",
    "on_restart",
    "on_role_change",
    "on_start",
    "on_stop",
];
/// The method that is built in, of cloning and of bootstrap.
const BASEBACKUP: &str = "basebackup";
const INITDB: &str = "initdb";

/// A command under this key.
pub(super) fn command(section: &Section<'_>, key: &str) -> Option<Command> {
    let text = section.text(key, COMMAND)?;
    match Command::parse(&text) {
        Ok(command) => Some(command),
        Err(why) => {
            section.error(key, format!("{why}; expected {COMMAND}"));
            None
        }
    }
}

pub(super) fn read(section: &Section<'_>) -> Hooks {
    let callbacks = section.section("callbacks");
    let callbacks = CALLBACKS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), command(&callbacks, name)?)));
    Hooks {
        callbacks: callbacks.collect(),
        pre_promote: command(section, "pre_promote"),
        before_stop: command(section, "before_stop"),
    }
}

/// The methods of `create_replica_methods` in their order, and all that are described.
pub(super) fn methods(section: &Section<'_>) -> (Vec<ReplicaMethod>, BTreeMap<String, Method>) {
    let newer = section.lines("create_replica_methods");
    let names = newer.or_else(|| section.lines("create_replica_method"));
    let names = names.filter(|names| !names.is_empty());
    let names = names.unwrap_or_else(|| vec![BASEBACKUP.to_owned()]);
    let mut described = BTreeMap::new();
    if let Some(Value::Map(entries)) = section.node().map(|node| &node.value) {
        for (name, node) in entries {
            let listed = names.contains(name) && name != BASEBACKUP;
            if (listed || section.describes_method(name, node))
                && let Some(method) = method(section, name, &[])
            {
                described.insert(name.clone(), method);
            }
        }
    }
    let own = |name: &String| {
        let known = described.get(name).cloned();
        ReplicaMethod::Own(known.unwrap_or_else(|| Method::bare(name)))
    };
    let order = names.iter().map(|name| match name.as_str() {
        BASEBACKUP => ReplicaMethod::Basebackup,
        _ => own(name),
    });
    (order.collect(), described)
}

/// `bootstrap.method`, where it is not initdb.
pub(super) fn custom_bootstrap(section: &Section<'_>) -> Option<CustomBootstrap> {
    const OWN: [&str; 2] = ["keep_existing_recovery_conf", "recovery_conf"];
    let name = section.text("method", "initdb, or the name of a method below bootstrap")?;
    if name == INITDB {
        return None;
    }
    let Some(node) = section.node().and_then(|node| node.get(&name)) else {
        let message = format!(
            "found {name:?}, and there is no {}; expected it with the key command, or initdb",
            section.path(&name)
        );
        section.error("method", message);
        return None;
    };
    let method = method(section, &name, &OWN)?;
    if node.get("command").is_none() {
        section.error(
            &join(&name, "command"),
            format!("it is missing; expected {COMMAND}"),
        );
    }
    let keeps = flag(section, &name, node, OWN[0]);
    let recovery_conf = node
        .get(OWN[1])
        .map(|conf| recovery(section, &join(&name, OWN[1]), conf));
    if keeps && recovery_conf.is_some() {
        let message = "keep_existing_recovery_conf keeps the command's own; expected one of both";
        section.error(&join(&name, OWN[1]), message);
    }
    Some(CustomBootstrap {
        method,
        keep_existing_recovery_conf: keeps,
        recovery_conf,
    })
}

/// Settings of a recovery as texts.
fn recovery(section: &Section<'_>, key: &str, node: &Node) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let Value::Map(entries) = &node.value else {
        let found = describe(&node.value);
        section.error(key, format!("found {found}; expected a map of settings"));
        return settings;
    };
    for (name, node) in entries {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        match plain_text(&node.value, true) {
            Some(text) if name.chars().all(word) && !text.contains(['\n', '\r', '\0']) => {
                settings.insert(name.to_ascii_lowercase(), text);
            }
            None if node.value == Value::Null => {}
            _ => section.error(
                &join(key, name),
                "it is no setting of one line; expected as recovery_target_time: '2026-11-28 03:00+00'",
            ),
        }
    }
    settings
}

/// `recovery_conf` of `postgresql`, here or in the dynamic configuration.
pub(in crate::settings) fn recovery_conf(section: &Section<'_>) -> BTreeMap<String, String> {
    const MEANT: [&str; 4] = [
        "archive_cleanup_command",
        "recovery_end_command",
        "recovery_min_apply_delay",
        "restore_command",
    ];
    // What every replica does anyway.
    const AGREED: [(&str, &str); 2] = [
        ("standby_mode", "on"),
        ("recovery_target_timeline", "latest"),
    ];
    let Some(node) = section.get("recovery_conf") else {
        return BTreeMap::new();
    };
    let mut settings = recovery(section, "recovery_conf", node);
    settings.retain(|name, value| {
        let meant = MEANT.contains(&name.as_str());
        if !meant && !AGREED.contains(&(name.as_str(), value.as_str())) {
            let why = if durability::is_recovery_target(name) {
                durability::NO_TARGET
            } else {
                "pgwarden sets it itself, or it is no setting of recovery"
            };
            section.warn("recovery_conf", format!("{name} has no effect: {why}"));
        }
        meant
    });
    settings
}

fn flag(section: &Section<'_>, name: &str, node: &Node, key: &str) -> bool {
    let Some(value) = node.get(key).map(|node| &node.value) else {
        return false;
    };
    as_bool(value).unwrap_or_else(|| {
        let found = describe(value);
        let message = format!("found {found}; expected true or false");
        section.error(&join(name, key), message);
        false
    })
}

/// A method's own keys; `beside`: those that are read elsewhere.
fn method(section: &Section<'_>, name: &str, beside: &[&str]) -> Option<Method> {
    let node = section.node()?.get(name)?;
    let Value::Map(entries) = &node.value else {
        let found = describe(&node.value);
        section.error(
            name,
            format!("found {found}; expected a map with the key command"),
        );
        return None;
    };
    let mut method = Method::bare(name);
    for (key, node) in entries {
        let path = join(name, key);
        match key.as_str() {
            "command" => match plain_text(&node.value, false).map(|text| Command::parse(&text)) {
                Some(Ok(command)) => method.command = command,
                Some(Err(why)) => section.error(&path, format!("{why}; expected {COMMAND}")),
                None => section.error(&path, format!("expected {COMMAND}")),
            },
            "no_params" | "no_leader" | "keep_data" => {}
            other if beside.contains(&other) => {}
            other => match argument(other, &node.value) {
                Ok(argument) => method.arguments.extend(argument),
                Err(why) => section.error(&path, why),
            },
        }
    }
    method.no_params = flag(section, name, node, "no_params");
    method.no_leader = flag(section, name, node, "no_leader");
    method.keep_data = flag(section, name, node, "keep_data");
    if method.no_params && !method.arguments.is_empty() {
        let message = "with no_params the command gets no arguments: its other keys have no effect";
        section.warn(&join(name, "no_params"), message);
        method.arguments.clear();
    }
    Some(method)
}

/// `--key=value`, with booleans as Patroni writes them.
fn argument(key: &str, value: &Value) -> Result<Option<String>, String> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => plain_text(other, false)
            .ok_or_else(|| format!("found {}; expected a text or a number", describe(other)))?,
    };
    if text.contains('\0') || key.contains(['\0', '=']) {
        return Err("it cannot be an argument of a command".to_owned());
    }
    Ok(Some(format!("--{key}={text}")))
}

impl Method {
    /// A program of this name, with the arguments that every method gets.
    pub fn bare(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            command: Command::program(name),
            no_params: false,
            no_leader: false,
            keep_data: false,
            arguments: Vec::new(),
        }
    }
}
