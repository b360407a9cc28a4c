//! The settings: what the file says ([raw], a tree with line numbers) is resolved into what the
//! program uses ([`Settings`], which cannot be wrong).
//!
//! ```text
//! path ── source ──> bytes ── yaml ──> raw::Node ── resolve ──> Settings
//!                                          └──── every Problem, with path and line
//! ```
//!
//! The file is Patroni's. A key that Patroni does not know either is a warning with the nearest
//! known name; one that this version does not support is a warning if going on without it is safe,
//! else an error. All problems of a file are found in one pass. `yaml` alone knows the YAML crate,
//! `known` is the one table of keys. No password is ever part of a message or of a `Debug` output.

pub mod address;
mod allow;
pub mod budgets;
pub mod durability;
pub mod dynamic;
pub mod effective;
pub mod embedded;
mod environment;
pub mod hba;
pub mod hooks;
mod judge;
mod known;
pub mod live;
pub mod machine;
mod problem;
mod raw;
mod resolve;
mod rest;
pub mod secret;
mod section;
pub mod show;
mod slots;
mod source;
mod standby;
mod synchronous;
mod types;
mod units;
mod yaml;

pub use allow::AllowEntry;
pub use budgets::{BudgetError, BudgetOverrides, Budgets};
pub use dynamic::{Dynamic, SyncMode};
pub use effective::Effective;
pub use hooks::{Command, CustomBootstrap, Hooks, Method, ReplicaMethod};
pub use live::Live;
pub use problem::{Problem, Severity};
pub use rest::{Ctl, KeyPair, RestApi, RestTls, ServerTokens, VerifyClient};
pub use secret::Secret;
pub use standby::StandbyCluster;
pub use types::*;

use raw::Node;
use section::Problems;
use std::path::Path;

/// The outcome of reading a configuration: the settings, unless one of the problems is an error.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the program uses; `None` exactly if `problems` holds an error.
    pub settings: Option<Settings>,
    /// Everything found, errors first.
    pub problems: Vec<Problem>,
}

/// Reads a configuration file, or a directory of `*.yml` and `*.yaml` files merged in the order of
/// their names. `env` answers for `POD_NAME`, `POD_NAMESPACE`, `POD_IP`, `POD_UID` (the downward
/// API, where the file has no value), for `HOME`, and for Patroni's variables
/// (`PATRONI_SUPERUSER_PASSWORD`, …), which win over the file.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Loaded {
    let problems = Problems::default();
    finish(source::read(path, &problems), env, problems)
}

/// The variable that holds a whole configuration.
const WHOLE: &str = "PATRONI_CONFIGURATION";

/// Reads what is named; without a path, the YAML in `PATRONI_CONFIGURATION`, beside which Patroni's
/// other variables count for nothing.
pub fn load_given(path: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Loaded {
    if let Some(path) = path {
        return load(path, env);
    }
    let text = env(WHOLE).unwrap_or_default();
    from_text("environment PATRONI_CONFIGURATION", &text, &|name| {
        env(name).filter(|_| !name.starts_with("PATRONI_"))
    })
}

/// Whether the environment holds a whole configuration.
pub fn is_in_environment(env: &dyn Fn(&str) -> Option<String>) -> bool {
    env(WHOLE).is_some_and(|text| !text.trim().is_empty())
}

/// What `ctl` needs of a configuration, which may be patronictl's own and have little else: of the
/// file, or of the environment where none is named. The error has a line for each problem.
pub fn access(path: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Result<Access, String> {
    let problems = Problems::default();
    let whole = path.is_none() && is_in_environment(env);
    let mut node = match path {
        Some(path) => source::read(path, &problems),
        None if whole => {
            let text = env(WHOLE).unwrap_or_default();
            source::document(WHOLE, text.as_bytes(), &problems)
        }
        None => Some(Node::bare(raw::Value::Map(Vec::new()))),
    };
    if let Some(node) = node.as_mut().filter(|_| !whole) {
        environment::overlay(node, env, &problems);
    }
    let access = node.map(|node| resolve::access(&node, env, &problems));
    match access {
        Some(access) if !problems.has_errors() => Ok(access),
        _ => {
            let lines: Vec<String> = problems
                .into_sorted()
                .iter()
                .filter(|problem| problem.is_error())
                .map(ToString::to_string)
                .collect();
            Err(lines.join("\n"))
        }
    }
}

/// The same for a text; `name` stands for the file's in messages.
pub fn from_text(name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Loaded {
    let problems = Problems::default();
    let node = source::document(name, text.as_bytes(), &problems);
    finish(node, env, problems)
}

/// YAML as JSON, for documents that people type. The error is one line.
pub fn yaml_to_json(text: &str) -> Result<serde_json::Value, String> {
    yaml::to_json(text)
}

/// JSON as YAML, for people. An error says what YAML cannot carry.
pub fn json_to_yaml(document: &serde_json::Value) -> Result<String, String> {
    yaml::from_json(document)
}

/// The environment of this process.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn finish(node: Option<Node>, env: resolve::Env<'_>, problems: Problems) -> Loaded {
    let settings = node.and_then(|mut node| {
        environment::overlay(&mut node, env, &problems);
        resolve::resolve(&node, env, &problems)
    });
    let settings = settings.filter(|_| !problems.has_errors());
    Loaded {
        settings,
        problems: problems.into_sorted(),
    }
}
