//! The rules of the house that no compiler checks, checked. Each rule is a function from files to
//! complaints; each has samples that it must and must not complain of.
//!
//! The lists of exceptions are ratchets: an entry names the size a file or function has today. It
//! may only shrink, and an entry that is no longer needed must go.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/limits.rs"]
mod limits;
#[path = "tidy/scan.rs"]
mod scan;
#[path = "tidy/words.rs"]
mod words;

use scan::{Source, sources, texts};

/// Files longer than the cap, with the length they have: (path, lines).
const LONG_FILES: &[(&str, usize)] = &[];

/// Comments wider than the cap, in all files together. It may only shrink.
const WIDE_COMMENTS: usize = 31;

/// Functions longer than the cap, with the length they have: (path, name, lines).
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

fn each(rule: fn(&Source) -> Vec<String>) {
    none(sources().iter().flat_map(rule).collect());
}

#[test]
fn modules_import_only_what_stands_below_them() {
    each(layers::imports);
}

#[test]
fn the_core_is_pure() {
    each(layers::purity);
}

#[test]
fn crates_with_one_home_stay_there() {
    each(layers::homes);
}

#[test]
fn files_are_short() {
    none(limits::file_lengths(&sources(), LONG_FILES));
}

#[test]
fn functions_fit_a_screen() {
    let files = sources();
    for (path, name, lines) in limits::functions_over(&files, limits::SCREEN) {
        eprintln!(
            "note: {path}: {name} has {lines} lines, more than {}",
            limits::SCREEN
        );
    }
    none(limits::function_lengths(&files, LONG_FUNCTIONS));
}

#[test]
fn main_is_a_door_and_no_room() {
    none(limits::main_length(&sources()));
}

#[test]
fn lines_have_no_tabs_and_no_loose_ends() {
    each(words::blanks);
}

#[test]
fn comments_are_narrow() {
    let wide: Vec<String> = sources().iter().flat_map(words::wide).collect();
    let found = wide.len();
    assert!(
        found <= WIDE_COMMENTS,
        "{found} wide comments, not {WIDE_COMMENTS}:\n{}",
        wide.join("\n")
    );
    if found < WIDE_COMMENTS {
        eprintln!("note: {found} wide comments are left: lower WIDE_COMMENTS to that");
    }
}

#[test]
fn what_is_left_to_do_names_its_issue() {
    each(words::promises);
}

#[test]
fn modules_say_why_they_exist() {
    each(words::opening);
}

#[test]
fn queues_have_bounds() {
    each(words::unbounded);
}

#[test]
fn nothing_names_a_machine_or_a_registry() {
    none(texts().iter().flat_map(words::places).collect());
}

/// A guarantee without a test is a hope.
#[test]
fn every_guarantee_names_a_test_that_exists() {
    let document = std::fs::read_to_string("docs/guarantees.md").expect("the guarantees");
    let mut named = 0;
    let mut missing = Vec::new();
    for text in document.split('`') {
        let Some((file, test)) = text.split_once(".rs::") else {
            continue;
        };
        named += 1;
        let source = std::fs::read_to_string(format!("tests/{file}.rs")).unwrap_or_default();
        if !source.contains(&format!("fn {test}(")) {
            missing.push(format!("docs/guarantees.md: no test {file}.rs::{test}"));
        }
    }
    assert!(named > 30, "only {named} tests are named");
    none(missing);
}

/// The runbook of the migration and the rig that goes through it have the same steps.
#[test]
fn the_runbook_and_its_rig_have_the_same_steps() {
    use std::collections::BTreeSet;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let between = |text: &str, before: &str, after: char| -> BTreeSet<String> {
        let found = text.split(before).skip(1);
        found
            .filter_map(|rest| Some(rest.split_once(after)?.0.to_owned()))
            .collect()
    };
    let written = between(&read("docs/migration.md"), ", step `", '`');
    let done = between(&read("tests/migration/rolling.py"), "\n@step(\"", '"');
    assert!(done.len() > 3, "only {done:?}");
    assert_eq!(written, done, "left: docs/migration.md, right: the rig");
}
