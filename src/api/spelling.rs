//! The nearest known word, for messages about a misspelt one.

/// The candidate with the fewest edits to `word`, if it is near enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let limit = word.chars().count().max(3) / 2;
    candidates
        .iter()
        .map(|candidate| (edits(&word.to_lowercase(), candidate), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["leader", "candidate", "member", "scheduled_at"];
        assert_eq!(nearest("canditate", &known), Some("candidate"));
        assert_eq!(nearest("Leader", &known), Some("leader"));
        assert_eq!(nearest("leadr", &known), Some("leader"));
        assert_eq!(nearest("schedule_at", &known), Some("scheduled_at"));
        assert_eq!(nearest("force", &known), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
