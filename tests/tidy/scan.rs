//! Finds the files and tells code from comments and texts.

use std::fs;
use std::path::{Path, PathBuf};

/// One file: its path from the root of the repository, its text, and the text with comments and
/// literals blanked out (lines and columns stay where they are).
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code: blank(text),
        }
    }

    /// The line (from 1) of a place in `code` or `text`.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// A complaint at a line.
    pub(crate) fn complain(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// The root: the package, or the directory named by `TIDY_ROOT`.
fn root() -> PathBuf {
    std::env::var_os("TIDY_ROOT")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// All Rust files under `src` and `tests`.
pub(crate) fn sources() -> Vec<Source> {
    let root = root();
    let mut files = Vec::new();
    for top in ["src", "tests", "benches", "build.rs"] {
        collect(
            &root,
            &root.join(top),
            &|name| has_ending(name, "rs"),
            &mut files,
        );
    }
    assert!(files.len() > 3, "no sources under {}", root.display());
    files
        .iter()
        .map(|(path, text)| Source::new(path, text))
        .collect()
}

/// All texts of the repository: path and content.
pub(crate) fn texts() -> Vec<(String, String)> {
    const ENDINGS: [&str; 14] = [
        "rs", "toml", "lock", "md", "yml", "yaml", "json", "sh", "go", "mod", "sum", "tpl", "html",
        "txt",
    ];
    let root = root();
    let mut files = Vec::new();
    let wanted = |name: &str| {
        ENDINGS.iter().any(|ending| has_ending(name, ending))
            || matches!(name, "Makefile" | "Dockerfile" | "run" | "LICENSE")
    };
    collect(&root, &root, &wanted, &mut files);
    files
}

fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(ending))
}

fn collect(
    root: &Path,
    path: &Path,
    wanted: &dyn Fn(&str) -> bool,
    found: &mut Vec<(String, String)>,
) {
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or("")
        .to_owned();
    if path.is_dir() {
        if matches!(name.as_str(), "target" | ".git" | "node_modules") {
            return;
        }
        let mut below: Vec<PathBuf> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        below.sort();
        for path in below {
            collect(root, &path, wanted, found);
        }
    } else if path.is_file()
        && wanted(&name)
        && let Ok(text) = fs::read_to_string(path)
    {
        let path = path.strip_prefix(root).unwrap().display().to_string();
        found.push((path, text));
    }
}

/// Comments and the insides of literals become blanks, so that only code is left.
pub(crate) fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (end, keep) = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => (line_end(bytes, at), 0),
            b'/' if bytes.get(at + 1) == Some(&b'*') => (comment_end(bytes, at), 0),
            b'"' => (text_end(bytes, at), 1),
            b'r' if !in_word(bytes, at) => match raw_text_end(bytes, at) {
                Some(end) => (end, 1),
                None => (at + 1, 1),
            },
            b'\'' => (char_end(bytes, at), 1),
            _ => (at + 1, 1),
        };
        if end > at + 1 {
            let last = if keep == 1 { end - 1 } else { end };
            for byte in &mut out[at + keep..last] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at = end;
    }
    String::from_utf8(out).unwrap()
}

/// The byte continues a word: `r` of `for`, but not of `br"…"`.
fn in_word(bytes: &[u8], at: usize) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match at.checked_sub(1).map(|before| bytes[before]) {
        Some(b'b' | b'c') => at >= 2 && word(bytes[at - 2]),
        Some(before) => word(before),
        None => false,
    }
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|b| *b == b'\n')
        .map_or(bytes.len(), |n| at + n)
}

fn comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (b'/', b'*') => {
                depth += 1;
                at += 2;
            }
            (b'*', b'/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

fn text_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_text_end(bytes: &[u8], from: usize) -> Option<usize> {
    let hashes = bytes[from + 1..].iter().take_while(|b| **b == b'#').count();
    if bytes.get(from + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = from + 2 + hashes;
    let found = bytes[body..]
        .windows(close.len())
        .position(|window| window == close);
    Some(found.map_or(bytes.len(), |n| body + n + close.len()))
}

/// A character literal, or one byte where the quote begins a lifetime.
fn char_end(bytes: &[u8], from: usize) -> usize {
    match bytes.get(from + 1) {
        Some(b'\\') => {
            let rest = &bytes[(from + 3).min(bytes.len())..];
            rest.iter()
                .position(|b| *b == b'\'')
                .map_or(bytes.len(), |n| from + 3 + n + 1)
        }
        Some(first) => {
            let width = match first {
                0xF0.. => 4,
                0xE0.. => 3,
                0xC0.. => 2,
                _ => 1,
            };
            let close = from + 1 + width;
            if bytes.get(close) == Some(&b'\'') {
                close + 1
            } else {
                from + 1
            }
        }
        None => bytes.len(),
    }
}

/// Every place where a word stands for itself.
pub(crate) fn words(code: &str, word: &str) -> Vec<usize> {
    let part = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let bytes = code.as_bytes();
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| {
            let before = at.checked_sub(1).and_then(|before| bytes.get(before));
            !part(before) && !part(bytes.get(at + word.len()))
        })
        .collect()
}

/// The place after the brace that closes the one at `open`.
pub(crate) fn close_of(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

#[test]
fn comments_and_literals_are_no_code() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("x(\"b \\\" // c\") // d", "x(\"           \")     "),
        ("r#\"a \" b\"# c", "r         # c"),
        ("br\"a\" c", "br  \" c"),
        ("for\"a\"", "for\" \""),
        ("f('\"', \"x\")", "f(' ', \" \")"),
        ("&'a str // b", "&'a str     "),
        ("'\\'' + '\\u{1F}' + 'é'", "'  ' + '      ' + '  '"),
        ("\"two\nlines\"", "\"   \n     \""),
        ("/* open", "       "),
    ] {
        let found = blank(text);
        assert_eq!(found.len(), text.len(), "{text:?} changed its length");
        let cut = |s: &str| s.replace(' ', "");
        assert_eq!(cut(&found), cut(code), "{text:?} became {found:?}");
    }
    assert_eq!(words("unsafe_code; unsafe {}; xunsafe", "unsafe"), [13]);
    assert_eq!(close_of("a { b { c } d } e", 2), 15);
}
