//! The end of a journal, where the whole of it is too much for one answer.

/// The last whole lines that fit.
pub(super) fn tail(lines: &str, max_bytes: usize) -> &str {
    let Some(excess) = lines
        .len()
        .checked_sub(max_bytes)
        .filter(|excess| *excess > 0)
    else {
        return lines;
    };
    // The line that `excess` falls into is cut, and so is all before it.
    let end = lines.as_bytes()[excess - 1..]
        .iter()
        .position(|byte| *byte == b'\n');
    end.map_or("", |end| &lines[excess + end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_whole_lines() {
        let lines = "one\ntwo\n\u{4f60}\n";
        for (max, wanted) in [
            (99, lines),
            (12, lines),
            (11, &lines[4..]),
            (8, &lines[4..]),
        ] {
            assert_eq!(tail(lines, max), wanted, "{max}");
        }
        for (max, wanted) in [(7, &lines[8..]), (4, &lines[8..]), (3, ""), (0, "")] {
            assert_eq!(tail(lines, max), wanted, "{max}");
        }
    }
}
