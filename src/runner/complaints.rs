//! What goes wrong again and again is said once, until its words change or it went well.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What was said last, by topic.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<BTreeMap<&'static str, String>>);

impl Complaints {
    /// Warns, unless these words were said last about the topic.
    pub(super) fn say(&self, topic: &'static str, words: String) {
        if self.is_new(topic, &words) {
            tracing::warn!("{topic}: {words}");
        }
    }

    /// These stand, or where there are none, it is settled; without a word in the log, which has
    /// them already.
    pub(super) fn keep(&self, topic: &'static str, told: &[String]) {
        if told.is_empty() {
            self.settle(topic);
        } else {
            self.is_new(topic, &told.join("; "));
        }
    }

    fn is_new(&self, topic: &'static str, words: &str) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(topic, words.to_owned()).as_deref() != Some(words)
    }

    /// Those that stand, in a sentence each.
    pub(super) fn standing(&self) -> Option<String> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let each = said
            .iter()
            .map(|(topic, words)| format!("{topic}: {words}"));
        let all: Vec<String> = each.collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// It went well: the next complaint is news again.
    pub(super) fn settle(&self, topic: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.remove(topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_are_said_once_until_it_went_well() {
        let complaints = Complaints::default();
        assert!(complaints.is_new("pod", "403"));
        assert!(!complaints.is_new("pod", "403"));
        assert!(complaints.is_new("pod", "404") && complaints.is_new("proof", "404"));
        let all = "pod: 404; proof: 404".to_owned();
        assert_eq!(complaints.standing(), Some(all));
        complaints.settle("pod");
        assert!(complaints.is_new("pod", "404"));
    }
}
