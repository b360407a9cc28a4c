//! What a text must not say.

use crate::scan::{Source, words};

const WIDTH: usize = 100;

/// No tabs and no trailing blanks.
pub(crate) fn blanks(file: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        if line.contains('\t') {
            complaints.push(file.complain(index + 1, "a tab; expected blanks"));
        }
        if line.ends_with([' ', '\r']) {
            complaints.push(file.complain(index + 1, "a blank at the end of the line"));
        }
    }
    complaints
}

/// Comments over the width: rustfmt breaks the code, and a text is its author's. What cannot be
/// broken is left out: one long word (an address in a comment) and the row of a table.
pub(crate) fn wide(file: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let width = line.chars().count();
        let bare = line.trim_start().trim_start_matches(['/', '!', ' ']);
        let comment = line.trim_start().starts_with("//");
        let breakable = bare.split_whitespace().count() > 1 && !bare.starts_with('|');
        if comment && width > WIDTH && breakable {
            let what = format!("{width} characters; expected at most {WIDTH}");
            complaints.push(file.complain(index + 1, &what));
        }
    }
    complaints
}

/// A promise in a comment names the issue where it is kept: `#12` in the same line.
pub(crate) fn promises(file: &Source) -> Vec<String> {
    let marks = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["X", "XX"].concat(),
    ];
    let mut complaints = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let issue = line
            .split('#')
            .skip(1)
            .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if let Some(mark) = marks
            .iter()
            .find(|mark| !words(line, mark).is_empty() && !issue)
        {
            let what = format!("{mark} without an issue; expected its number, as #12");
            complaints.push(file.complain(index + 1, &what));
        }
    }
    complaints
}

/// A module of the program begins with why it exists.
pub(crate) fn opening(file: &Source) -> Vec<String> {
    let tests = file.path.ends_with("tests.rs");
    let needs = file.path.starts_with("src/") && file.path != "src/main.rs" && !tests;
    if needs && !file.text.starts_with("//! ") {
        return vec![file.complain(1, "expected //! and why the module exists")];
    }
    Vec::new()
}

/// Queues without a bound fill the memory when the other side stops.
pub(crate) fn unbounded(file: &Source) -> Vec<String> {
    if !file.path.starts_with("src/") {
        return Vec::new();
    }
    ["unbounded_channel", "unbounded"]
        .iter()
        .flat_map(|word| words(&file.code, word))
        .map(|at| file.complain(file.line(at), "a queue without a bound; give it one"))
        .collect()
}

/// Paths of somebody's machine, and registries other than the public one.
pub(crate) fn places((path, text): &(String, String)) -> Vec<String> {
    let join = |parts: [&str; 2]| parts.concat();
    let banned = [
        join(["/ro", "ot/"]),
        join(["/Us", "ers/"]),
        join(["/wo", "rk/"]),
        join([".cargo/", "registry/"]),
        join(["arti", "factory"]),
        join(["GOPROXY=", "http"]),
        join(["sparse+", "http"]),
        join(["replace-", "with"]),
    ];
    // Homes that belong to an image or to nobody.
    let homes = ["/home/postgres", "/home/me/", "/home/user/"];
    let home = join(["/ho", "me/"]);
    let mut complaints = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut left = line.to_owned();
        for known in homes {
            left = left.replace(known, "");
        }
        let mut found: Vec<&str> = banned
            .iter()
            .map(String::as_str)
            .filter(|word| left.contains(word))
            .collect();
        if left.contains(&home) {
            found.push(&home);
        }
        let foreign = path.ends_with("Cargo.lock")
            && line.starts_with("source = ")
            && !line.contains("registry+https://github.com/rust-lang/crates.io-index");
        if foreign {
            found.push("a source that is not crates.io");
        }
        complaints.extend(
            found
                .iter()
                .map(|what| format!("{path}:{}: {what}", index + 1)),
        );
    }
    complaints
}

#[test]
fn bad_lines_are_seen() {
    let check = |text: &str| blanks(&Source::new("src/a.rs", text)).len();
    assert_eq!(check("ok\n"), 0);
    assert_eq!(check("\tx\n"), 1);
    assert_eq!(check("x \n"), 1);
    let check = |text: &str| wide(&Source::new("src/a.rs", text)).len();
    assert_eq!(
        check(&format!("// {} {}\n", "x".repeat(50), "é".repeat(46))),
        0
    );
    assert_eq!(
        check(&format!("\"{} {}\"\n", "x".repeat(50), "x".repeat(50))),
        0
    );
    assert_eq!(
        check(&format!("// {} {}\n", "x".repeat(50), "x".repeat(50))),
        1
    );
    assert_eq!(check(&format!("/// https://{}\n", "x".repeat(150))), 0);
    assert_eq!(check(&format!("//! | {} | x |\n", "x".repeat(150))), 0);
}

#[test]
fn promises_without_an_issue_are_seen() {
    let mark = ["TO", "DO"].concat();
    let check = |text: String| promises(&Source::new("src/a.rs", &text)).len();
    assert_eq!(check(format!("// {mark}: later\n")), 1);
    assert_eq!(check(format!("// {mark}(#12): later\n")), 0);
    assert_eq!(check(format!("// {mark} see #x\n")), 1);
    assert_eq!(check(format!("// {mark}S and x{mark}\n")), 0);
}

#[test]
fn silent_modules_and_endless_queues_are_seen() {
    let check = |path: &str, text: &str| opening(&Source::new(path, text)).len();
    assert_eq!(check("src/a.rs", "use std::fmt;\n"), 1);
    assert_eq!(check("src/a.rs", "//! Why.\n"), 0);
    assert_eq!(check("src/main.rs", "fn main() {}\n"), 0);
    let check = |text: &str| unbounded(&Source::new("src/a.rs", text)).len();
    assert_eq!(check("let (a, b) = mpsc::unbounded_channel();"), 1);
    assert_eq!(
        check("// unbounded_channel\nlet (a, b) = mpsc::channel(8);"),
        0
    );
}

#[test]
fn machines_and_registries_are_seen() {
    let check = |path: &str, text: String| places(&(path.to_owned(), text)).len();
    assert_eq!(check("a.md", ["see /ro", "ot/x"].concat()), 1);
    assert_eq!(check("a.md", ["see /ho", "me/alice/x"].concat()), 1);
    assert_eq!(check("a.md", "see /home/postgres/pgdata".to_owned()), 0);
    assert_eq!(
        check(
            "Cargo.lock",
            "source = \"registry+https://example.org/i\"".to_owned()
        ),
        1
    );
    let public = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    assert_eq!(check("Cargo.lock", public.to_owned()), 0);
}
