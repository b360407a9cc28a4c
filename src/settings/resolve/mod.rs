//! Raw → resolved: one pass over the tree that reports everything and builds [`Settings`] only if
//! nothing was an error.

pub(super) mod hooks;
mod kubernetes;
mod options;
mod postgresql;
mod rest;

use super::dynamic;
use super::raw::{Node, Value};
use super::section::{Problems, Section, describe, plain_text};
use super::types::{Access, Bootstrap, Log, LogFile, LogFormat, LogLevel, Pgwarden, Settings};
use super::{BudgetOverrides, dynamic::Dynamic};
use std::path::PathBuf;

/// The environment, as a function so that tests need not change the process's own.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Builds the settings; `None` exactly if an error was reported.
pub(super) fn resolve(node: &Node, env: Env<'_>, out: &Problems) -> Option<Settings> {
    let root = Section::root(node, "", out);
    root.judge_keys();
    let scope = scope(&root);
    let name = name(&root, env);
    let pgwarden = pgwarden(&root.section("pgwarden"));
    let kubernetes = kubernetes::read(&root.section("kubernetes"), env, out);
    let pod_ip = kubernetes.as_ref().and_then(|k| k.pod_ip);
    let restapi = rest::restapi(&root.section("restapi"), pod_ip);
    let ctl = rest::ctl(&root.section("ctl"), restapi.as_ref());
    let postgresql = postgresql::read(&root.section("postgresql"), pod_ip, env);
    let bootstrap = bootstrap(&root.section("bootstrap"), &pgwarden.budgets);
    let mut tags = root.text_map("tags", false);
    root.section("tags").judge_tags();
    root.section("tags").switch_tags(&mut tags);
    root.section("tags").judge_priorities(&tags);
    let log = log(&root.section("log"));
    let mut settings = Settings {
        scope: scope?,
        name: name?,
        restapi: restapi?,
        ctl,
        kubernetes: kubernetes?,
        bootstrap,
        postgresql: postgresql?,
        tags,
        log,
        pgwarden,
    };
    kubernetes::default_port(&mut settings);
    (!out.has_errors()).then_some(settings)
}

/// What `ctl` needs to find members, and nothing else: a file of patronictl has no data directory.
/// What is wrong with a way to members that is not the only one is nobody's concern.
pub(super) fn access(node: &Node, env: Env<'_>, out: &Problems) -> Access {
    let root = Section::root(node, "", out);
    let silent = Problems::default();
    let aside = Section::root(node, "", &silent);
    let section = root.section("kubernetes");
    let kubernetes = section
        .present()
        .then(|| kubernetes::read(&section, env, out))
        .flatten();
    let pod_ip = kubernetes.as_ref().and_then(|k| k.pod_ip);
    let restapi = rest::restapi(&aside.section("restapi"), pod_ip);
    let own = rest::ctl(&root.section("ctl"), restapi.as_ref());
    let shared = || rest::authentication(&aside.section("restapi"));
    let scope = root
        .has("scope")
        .then(|| root.text("scope", "the cluster's name, as main"))
        .flatten();
    Access {
        scope,
        cafile: restapi
            .as_ref()
            .and_then(|restapi| restapi.tls.as_ref()?.cafile.clone()),
        https: restapi.as_ref().is_some_and(|rest| rest.tls.is_some()),
        connect_address: restapi.map(|restapi| restapi.connect_address),
        authentication: own.authentication.clone().or_else(shared),
        ctl: own,
        kubernetes,
    }
}

/// The scope names objects of Kubernetes and is a label's value.
fn scope(root: &Section<'_>) -> Option<String> {
    if !root.has("scope") {
        root.error(
            "scope",
            "it is missing; expected the cluster's name, as main",
        );
        return None;
    }
    let scope = root.text("scope", "the cluster's name, as main")?;
    if is_object_name(&scope) && scope.len() <= 63 {
        return Some(scope);
    }
    root.error(
        "scope",
        format!(
            "found {scope:?}; expected a name for Kubernetes objects: at most 63 lower-case \
             letters, digits, - and ., beginning and ending with a letter or digit"
        ),
    );
    None
}

/// The member's name is the pod's; the downward API gives it to pods that share one file.
fn name(root: &Section<'_>, env: Env<'_>) -> Option<String> {
    let name = match root.text("name", "the pod's name, as main-0") {
        Some(name) => name,
        None if root.has("name") => return None,
        None => match env("POD_NAME") {
            Some(name) if !name.is_empty() => name,
            _ => {
                let message = "it is missing; expected the pod's name, here or in the environment \
                               as POD_NAME (downward API, metadata.name)";
                root.error("name", message);
                return None;
            }
        },
    };
    if !is_object_name(&name) {
        let message = format!("found {name:?}; expected the name of the pod, as main-0");
        root.error("name", message);
        return None;
    }
    if name.len() > 63 {
        let message = "it has more than 63 characters, and PostgreSQL cuts names there: it cannot \
                       be told apart as a synchronous standby";
        root.error("name", message);
        return None;
    }
    Some(name)
}

/// A DNS subdomain as Kubernetes takes it for a name.
pub(super) fn is_object_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.len() <= 253
        && edge(name.chars().next())
        && edge(name.chars().next_back())
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

fn pgwarden(section: &Section<'_>) -> Pgwarden {
    let ms = |key: &str| {
        section
            .integer(key, 1, 3_600_000)
            .and_then(|ms| u64::try_from(ms).ok())
    };
    Pgwarden {
        budgets: BudgetOverrides {
            renew_ms: ms("renew_ms"),
            call_ms: ms("call_ms"),
            election_ms: ms("election_ms"),
            fast_stop_ms: ms("fast_stop_ms"),
            immediate_stop_ms: ms("immediate_stop_ms"),
            kill_ms: ms("kill_ms"),
            kill_budget_ms: ms("kill_budget_ms"),
        },
    }
}

fn bootstrap(section: &Section<'_>, overrides: &BudgetOverrides) -> Bootstrap {
    let post_init = hooks::command(section, "post_init");
    let dcs = section.section("dcs");
    let dcs_document = dcs
        .node()
        .map_or_else(|| serde_json::json!({}), Node::to_json);
    Bootstrap {
        dcs: dynamic::read(&dcs, &Dynamic::default(), overrides),
        dcs_document,
        initdb: options::read(section, "initdb", options::INITDB),
        pg_hba: section.access_lines("pg_hba").unwrap_or_default(),
        custom: hooks::custom_bootstrap(section),
        post_bootstrap: hooks::command(section, "post_bootstrap").or(post_init),
    }
}

fn log(section: &Section<'_>) -> Log {
    let expected = "one of CRITICAL, ERROR, WARNING, INFO, DEBUG, TRACE";
    let level = match section.text("level", expected) {
        None => LogLevel::Info,
        Some(text) => match text.to_ascii_uppercase().as_str() {
            "CRITICAL" | "FATAL" | "ERROR" => LogLevel::Error,
            "WARNING" | "WARN" => LogLevel::Warn,
            "INFO" => LogLevel::Info,
            "DEBUG" => LogLevel::Debug,
            "NOTSET" | "TRACE" => LogLevel::Trace,
            _ => {
                section.error("level", format!("found {text:?}; expected {expected}"));
                LogLevel::Info
            }
        },
    };
    let format = match section.text("type", "plain or json").as_deref() {
        None | Some("plain") => LogFormat::Plain,
        Some("json") => LogFormat::Json,
        Some(other) => {
            section.error("type", format!("found {other:?}; expected plain or json"));
            LogFormat::Plain
        }
    };
    Log {
        level,
        format,
        static_fields: section.text_map("static_fields", false),
        file: log_file(section),
    }
}

/// Patroni's defaults are 4 old files of 25 MB.
fn log_file(section: &Section<'_>) -> Option<LogFile> {
    let file = LogFile {
        mode: log_mode(section),
        kept: section
            .integer("file_num", 0, 1_000)
            .map_or(4, |n| n as u32),
        max_bytes: section
            .integer("file_size", 1, i64::MAX)
            .map_or(25_000_000, i64::cast_unsigned),
        dir: PathBuf::new(),
    };
    let dir = PathBuf::from(section.text("dir", "a path")?);
    Some(LogFile { dir, ..file })
}

fn log_mode(section: &Section<'_>) -> u32 {
    const USUAL: u32 = 0o644;
    let Some(node) = section.get("mode") else {
        return USUAL;
    };
    // A number has its base from YAML.
    let mode = match &node.value {
        Value::Int(mode) => u32::try_from(*mode).ok(),
        value => plain_text(value, false).and_then(|text| u32::from_str_radix(&text, 8).ok()),
    };
    mode.filter(|mode| *mode <= 0o777).unwrap_or_else(|| {
        let found = describe(&node.value);
        section.error(
            "mode",
            format!("found {found}; expected octal digits as \"0640\""),
        );
        USUAL
    })
}
