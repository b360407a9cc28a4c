//! Who may import whom: the table of `src/lib.rs`.

use crate::scan::{Source, close_of, words};

/// A module and what of the crate it may name besides itself; `None`: everything.
const LAYERS: [(&str, Option<&[&str]>); 11] = [
    ("agent", None),
    ("runner", None),
    ("playground", None),
    ("cli", Some(&["api", "settings", "ha", "sys"])),
    ("settings", Some(&["ha", "sys"])),
    ("api", Some(&["ha", "sys"])),
    ("dcs", Some(&["ha", "sys"])),
    ("postgres", Some(&["ha", "sys"])),
    ("guardian", Some(&["ha", "sys"])),
    ("sys", Some(&[])),
    ("ha", Some(&[])),
];

/// The segments of the module a file under `src` defines: `src/dcs/mod.rs` is `dcs`.
fn module(path: &str) -> Option<Vec<&str>> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let mut segments: Vec<&str> = inside.split('/').collect();
    if segments.last() == Some(&"mod") {
        segments.pop();
    }
    let is_root = matches!(segments.as_slice(), ["lib" | "main"]);
    (!is_root).then_some(segments)
}

/// Imports against the table.
pub(crate) fn imports(file: &Source) -> Vec<String> {
    let Some(module) = module(&file.path) else {
        return Vec::new();
    };
    let area = module[0];
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == area) else {
        let what = format!("{area} is not in the table of layers; add it there and in src/lib.rs");
        return vec![file.complain(1, &what)];
    };
    let Some(allowed) = allowed else {
        return Vec::new();
    };
    let mut named = from_crate(&file.code);
    named.extend(from_super(&file.code, module.len()));
    named.sort();
    named
        .into_iter()
        .filter(|(_, name)| name != area && !allowed.contains(&name.as_str()))
        .filter(|(_, name)| name.chars().next().is_some_and(char::is_lowercase))
        .map(|(at, name)| {
            let may = if allowed.is_empty() {
                "nothing".to_owned()
            } else {
                allowed.join(", ")
            };
            let what = format!("{area} names crate::{name}; it may import {may} of the crate");
            file.complain(file.line(at), &what)
        })
        .collect()
}

/// What follows `crate::`, one name or a group in braces.
fn from_crate(code: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for at in words(code, "crate") {
        if let Some(rest) = code[at + 5..].trim_start().strip_prefix("::") {
            let start = code.len() - rest.len();
            named.extend(heads(code, start).into_iter().map(|name| (at, name)));
        }
    }
    named
}

/// What a chain of `super::` names where it reaches the root of the crate; modules written inside
/// the file need one more.
fn from_super(code: &str, depth: usize) -> Vec<(usize, String)> {
    let inline = inline_modules(code);
    let mut named = Vec::new();
    for at in words(code, "super") {
        if code[..at].trim_end().ends_with("super::") {
            continue;
        }
        let mut rest = &code[at..];
        let mut count = 0;
        while let Some(after) = rest.strip_prefix("super") {
            let Some(after) = after.trim_start().strip_prefix("::") else {
                break;
            };
            rest = after.trim_start();
            count += 1;
        }
        let deeper = inline
            .iter()
            .filter(|(from, to)| (*from..*to).contains(&at))
            .count();
        if count >= depth + deeper {
            let start = code.len() - rest.len();
            named.extend(heads(code, start).into_iter().map(|name| (at, name)));
        }
    }
    named
}

/// The first names of a path: `a` of `a::b`, `a` and `c` of `{a::b, c}`.
fn heads(code: &str, start: usize) -> Vec<String> {
    let word = |text: &str| -> String {
        let text = text.trim_start();
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let rest = code[start..].trim_start();
    if !rest.starts_with('{') {
        return vec![word(rest)]
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect();
    }
    let open = code.len() - rest.len();
    let group = &code[open + 1..close_of(code, open) - 1];
    let (mut names, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(word(&group[from..at]));
                from = at + 1;
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The spans of `mod name { … }`.
fn inline_modules(code: &str) -> Vec<(usize, usize)> {
    words(code, "mod")
        .into_iter()
        .filter_map(|at| {
            let rest = code[at + 3..].trim_start();
            let name = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
            let body = rest[name..].trim_start();
            let open = code.len() - body.len();
            body.starts_with('{').then(|| (open, close_of(code, open)))
        })
        .collect()
}

/// `ha` reads no clock, touches nothing outside, and its maps have an order.
pub(crate) fn purity(file: &Source) -> Vec<String> {
    // A value that is shared and never changed is a value: `std::sync::Arc` is none of these.
    const IMPURE: [&str; 21] = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "std::time",
        "std::io",
        "Mutex",
        "RwLock",
        "Condvar",
        "OnceLock",
        "mpsc",
        "atomic",
        "Instant",
        "SystemTime",
        "HashMap",
        "HashSet",
        "tokio",
        "tracing",
        "await",
        "async",
    ];
    if module(&file.path).is_none_or(|module| module[0] != "ha") {
        return Vec::new();
    }
    let complaint = |word: &str, at| {
        file.complain(
            file.line(at),
            &format!("{word} has no place in the pure core"),
        )
    };
    IMPURE
        .iter()
        .flat_map(|word| {
            words(&file.code, word)
                .into_iter()
                .map(move |at| (*word, at))
        })
        .map(|(word, at)| complaint(word, at))
        .collect()
}

/// A word, what may use it, and why.
const HOMES: [(&str, &str, &str); 5] = [
    ("nix", "src/sys/", "system calls have one home"),
    ("libc", "src/sys/", "system calls have one home"),
    ("unsafe", "src/sys/", "unsafe code has one home"),
    (
        "backoff",
        "src/dcs/retry.rs",
        "the crate is unmaintained and must be easy to replace",
    ),
    (
        "serde_saphyr",
        "src/settings/yaml.rs",
        "the YAML crate must be easy to replace",
    ),
];

/// Crates and keywords that only one place may use. A path (`nix::…`) or an import counts, a name
/// that happens to be the same does not.
pub(crate) fn homes(file: &Source) -> Vec<String> {
    if !file.path.starts_with("src/") {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (word, home, why) in HOMES {
        if file.path.starts_with(home) {
            continue;
        }
        for at in words(&file.code, word) {
            let before = file.code[..at].trim_end();
            let after = file.code[at + word.len()..].trim_start();
            let imported = before.ends_with("use") || before.ends_with("extern crate");
            let rooted = before.strip_suffix("::").is_none_or(|path| {
                !path.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '>')
            });
            if word == "unsafe" || imported || (after.starts_with("::") && rooted) {
                let what = format!("{word} belongs into {home}: {why}");
                complaints.push(file.complain(file.line(at), &what));
            }
        }
    }
    complaints
}

#[test]
fn forbidden_imports_are_seen() {
    for (path, text) in [
        ("src/ha/step.rs", "use crate::dcs::Lease;"),
        ("src/ha/mod.rs", "fn f() { crate::sys::now() }"),
        (
            "src/dcs/lease.rs",
            "use crate::{ha::model, postgres::{self, hba}};",
        ),
        ("src/dcs/lease.rs", "use crate :: { ha, api };"),
        (
            "src/dcs/lease.rs",
            "pub(in crate::dcs) fn f(x: &crate::guardian::G) {}",
        ),
        ("src/dcs/lease.rs", "use super::super::api;"),
        ("src/dcs/mod.rs", "use super::api;"),
        ("src/dcs/mod.rs", "mod tests { use super::super::api; }"),
        (
            "src/settings/resolve/mod.rs",
            "use super::super::{sys, cli::exit};",
        ),
        ("src/cli/mod.rs", "use crate::dcs;"),
        ("src/sys/mod.rs", "use crate::ha::model::Ms;"),
        ("src/attic/mod.rs", ""),
    ] {
        assert_eq!(imports(&Source::new(path, text)).len(), 1, "{path}: {text}");
    }
}

#[test]
fn allowed_imports_pass() {
    for (path, text) in [
        (
            "src/ha/step.rs",
            "use crate::ha::model::Ms; use super::model;",
        ),
        (
            "src/dcs/lease.rs",
            "use crate::{ha, sys::clock}; use super::codec;",
        ),
        (
            "src/dcs/mod.rs",
            "mod tests { use super::*; use super::lease; }",
        ),
        ("src/dcs/lease.rs", "mod tests { use super::super::codec; }"),
        (
            "src/dcs/mod.rs",
            "// use crate::api;\nconst A: &str = \"crate::api\";",
        ),
        ("src/dcs/mod.rs", "pub(crate) fn f() {}"),
        ("src/agent.rs", "use crate::{dcs, api, guardian};"),
        ("src/lib.rs", "pub mod api;"),
        ("src/main.rs", "use pgwarden::cli;"),
        ("tests/x.rs", "use crate::anything;"),
    ] {
        let found = imports(&Source::new(path, text));
        assert!(found.is_empty(), "{path}: {text}: {found:?}");
    }
}

#[test]
fn strangers_in_the_core_and_away_from_home_are_seen() {
    for text in [
        "use std::time::Instant;",
        "async fn f() {}",
        "let x: HashMap<u8, u8>;",
    ] {
        assert!(
            !purity(&Source::new("src/ha/step.rs", text)).is_empty(),
            "{text}"
        );
        assert!(
            purity(&Source::new("src/dcs/lease.rs", text)).is_empty(),
            "{text}"
        );
    }
    for (path, text, count) in [
        ("src/dcs/lease.rs", "use nix::unistd;", 1),
        ("src/dcs/lease.rs", "use nix as n;", 1),
        ("src/dcs/lease.rs", "fn f() { ::nix::unistd::getpid(); }", 1),
        ("src/dcs/lease.rs", "unsafe { f() }", 1),
        ("src/dcs/lease.rs", "use backoff::ExponentialBackoff;", 1),
        (
            "src/dcs/lease.rs",
            "use super::backoff; let backoff = 1; f(backoff);",
            0,
        ),
        ("src/dcs/retry.rs", "use backoff::ExponentialBackoff;", 0),
        ("src/settings/mod.rs", "serde_saphyr::from_str(x)", 1),
        ("src/settings/yaml.rs", "serde_saphyr::from_str(x)", 0),
        ("src/sys/mod.rs", "use nix::unistd; unsafe { f() }", 0),
        ("src/sys/mod.rs", "#![allow(unsafe_code)]", 0),
        (
            "src/api/mod.rs",
            "// nix::unistd\nlet unix = \"nix::x\";",
            0,
        ),
    ] {
        let found = homes(&Source::new(path, text));
        assert_eq!(found.len(), count, "{path}: {text}: {found:?}");
    }
}
