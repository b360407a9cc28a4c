//! How long files and functions may be.

use crate::scan::{Source, close_of, words};

/// Lines of a file of the program.
const FILE: usize = 400;
/// Lines of a file of tests: tables of cases are long and easy to read.
const TEST_FILE: usize = 500;
/// Lines of a function: the hard limit.
const FUNCTION: usize = 100;
/// Lines of a function that fit a screen: more is noted.
pub(crate) const SCREEN: usize = 70;
/// `main.rs` stays below.
const MAIN: usize = 30;

/// Files over the cap, against the exceptions.
pub(crate) fn file_lengths(files: &[Source], exceptions: &[(&str, usize)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        let cap = if file.path.starts_with("src/") {
            FILE
        } else {
            TEST_FILE
        };
        let lines = file.text.lines().count();
        let allowed = exceptions
            .iter()
            .find(|(path, _)| *path == file.path)
            .map(|(_, n)| *n);
        if let Some(what) = ratchet(lines, cap, allowed) {
            complaints.push(file.complain(lines, &what));
        }
    }
    for (path, _) in exceptions {
        if !files.iter().any(|file| file.path == *path) {
            complaints.push(format!(
                "{path} is an exception and not there; remove the entry"
            ));
        }
    }
    complaints
}

/// Functions over the cap, against the exceptions.
pub(crate) fn function_lengths(
    files: &[Source],
    exceptions: &[(&str, &str, usize)],
) -> Vec<String> {
    let over = functions_over(files, FUNCTION);
    let entry = |path: &str, name: &str| {
        exceptions
            .iter()
            .find(|(p, n, _)| *p == path && *n == name)
            .map(|(.., lines)| *lines)
    };
    let mut complaints: Vec<String> = over
        .iter()
        .filter_map(|(path, name, lines)| {
            let what = ratchet(*lines, FUNCTION, entry(path, name))?;
            Some(format!("{path}: fn {name}: {what}"))
        })
        .collect();
    for (path, name, _) in exceptions {
        if !over.iter().any(|(p, n, _)| p == path && n == name) {
            complaints.push(format!(
                "{path}: fn {name} needs no exception; remove the entry"
            ));
        }
    }
    complaints
}

/// What is wrong with a length, given the cap and the exception.
fn ratchet(lines: usize, cap: usize, allowed: Option<usize>) -> Option<String> {
    match allowed {
        None if lines > cap => Some(format!("{lines} lines, more than {cap}; split it")),
        Some(_) if lines <= cap => {
            Some(format!("{lines} lines, no exception is needed; remove it"))
        }
        Some(n) if lines > n => Some(format!("{lines} lines, more than its exception of {n}")),
        Some(n) if lines < n => Some(format!("{lines} lines; lower its exception of {n} to that")),
        _ => None,
    }
}

/// Every function longer than a number of lines: path, name, lines.
pub(crate) fn functions_over(files: &[Source], cap: usize) -> Vec<(String, String, usize)> {
    let mut found = Vec::new();
    for file in files {
        for (name, lines) in functions(&file.code) {
            if lines > cap {
                found.push((file.path.clone(), name, lines));
            }
        }
    }
    found
}

/// Every function with a body: its name, and its lines from `fn` to the closing brace.
fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let rest = code[at + 2..].trim_start();
        let name: String = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let Some(open) = body(code, at) else { continue };
        if !name.is_empty() {
            let end = close_of(code, open);
            found.push((name, code[at..end].matches('\n').count() + 1));
        }
    }
    found
}

/// Where the body of the function at `at` opens; none if it ends in a semicolon. A `;` inside the
/// brackets of an array type does not end it.
fn body(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (place, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(place),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// `main.rs` only parses and ends.
pub(crate) fn main_length(files: &[Source]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.path == "src/main.rs")
        .filter(|file| file.text.lines().count() >= MAIN)
        .map(|file| file.complain(MAIN, &format!("expected less than {MAIN} lines")))
        .collect()
}

#[test]
fn lengths_are_counted_and_exceptions_only_shrink() {
    let long = |path: &str, lines: usize| Source::new(path, &"x\n".repeat(lines));
    let check = |path: &str, lines, exceptions: &[(&str, usize)]| {
        file_lengths(&[long(path, lines)], exceptions).len()
    };
    assert_eq!(check("src/a.rs", 400, &[]), 0);
    assert_eq!(check("src/a.rs", 401, &[]), 1);
    assert_eq!(check("tests/a.rs", 500, &[]), 0);
    assert_eq!(check("tests/a.rs", 501, &[]), 1);
    assert_eq!(check("src/a.rs", 450, &[("src/a.rs", 450)]), 0);
    assert_eq!(check("src/a.rs", 451, &[("src/a.rs", 450)]), 1);
    assert_eq!(check("src/a.rs", 449, &[("src/a.rs", 450)]), 1);
    assert_eq!(check("src/a.rs", 400, &[("src/a.rs", 450)]), 1);
    assert_eq!(check("src/a.rs", 10, &[("src/b.rs", 450)]), 1);
    assert_eq!(main_length(&[long("src/main.rs", 30)]).len(), 1);
    assert_eq!(main_length(&[long("src/main.rs", 29)]).len(), 0);
}

#[test]
fn functions_are_found_and_measured() {
    let code = "trait T { fn a(&self); fn b(x: [u8; 2]) -> u8 {\n 1\n }\n}\n\
                type F = fn(u8) -> u8;\n\
                fn c<F: Fn(u8)>(f: F)\nwhere\n F: Send,\n{\n g(|| {\n });\n}\n";
    let found = functions(code);
    assert_eq!(found, [("b".to_owned(), 3), ("c".to_owned(), 7)]);

    let long = format!("fn long() {{\n{}}}\n", "x;\n".repeat(99));
    let file = [Source::new("src/a.rs", &long)];
    assert_eq!(function_lengths(&file, &[]).len(), 1);
    assert_eq!(
        function_lengths(&file, &[("src/a.rs", "long", 101)]).len(),
        0
    );
    assert_eq!(
        function_lengths(&file, &[("src/a.rs", "long", 100)]).len(),
        1
    );
    assert_eq!(
        function_lengths(&file, &[("src/a.rs", "long", 102)]).len(),
        1
    );
    assert_eq!(function_lengths(&[], &[("src/a.rs", "gone", 102)]).len(), 1);
}
