//! Parameters that PostgreSQL refuses reach no file: the last good value stays, and it is said.

use super::Context;
use crate::postgres::{Postgres, parameters};
use crate::settings::{SyncMode, durability};
use std::collections::BTreeMap;

/// The topics of standing complaints.
const REFUSED: &str = "PostgreSQL's parameters";
const RISKS: &str = "acknowledged commits may be lost";

type Values = BTreeMap<String, String>;

/// What was asked last, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Checked {
    asked: Option<Values>,
    good: Values,
}

impl Context {
    /// PostgreSQL as it is configured now, with parameters that this PostgreSQL takes.
    pub(super) async fn checked_postgres(&self) -> Postgres {
        let mut pg = self.postgres();
        let mut checked = self.checked.lock().await;
        if checked.asked.as_ref() != Some(&pg.parameters) {
            match parameters::refused(&self.installation, &pg.parameters).await {
                Ok(refused) => {
                    let told = checked.take(pg.parameters.clone(), &refused);
                    for words in &told {
                        tracing::error!("{words}");
                    }
                    self.complaints.keep(REFUSED, &told);
                }
                Err(error) => {
                    // Asked again the next time. What was good once is good enough until then.
                    if checked.asked.is_none() {
                        tracing::warn!(%error, "the parameters cannot be checked; used as they are");
                        return pg;
                    }
                    tracing::warn!(%error, "the parameters cannot be checked; the last good ones stay");
                }
            }
        }
        pg.parameters.clone_from(&checked.good);
        self.tell_of_risks(&pg.parameters);
        pg
    }

    fn tell_of_risks(&self, parameters: &Values) {
        let dynamic = self.dynamic.read();
        let synchronous = dynamic.is_ok_and(|d| d.synchronous_mode != SyncMode::Off);
        let risks = durability::risks(parameters, synchronous);
        if risks.is_empty() {
            return self.complaints.settle(RISKS);
        }
        let words = risks
            .into_iter()
            .map(|(name, why)| format!("{name}: {why}"));
        self.complaints
            .say(RISKS, words.collect::<Vec<_>>().join("; "));
    }
}

/// What PostgreSQL says of a parameter, in a sentence.
pub(super) fn refusal(name: &str, value: &str, why: &str) -> String {
    format!("postgresql.parameters.{name}: found {value:?}, which PostgreSQL refuses: {why}")
}

impl Checked {
    /// Keep what is good; a sentence for each that is not.
    fn take(&mut self, asked: Values, refused: &Values) -> Vec<String> {
        let mut good = asked.clone();
        let mut told = Vec::new();
        for (name, why) in refused {
            let value = good.remove(name).unwrap_or_default();
            let instead = match self.good.get(name) {
                Some(kept) => format!("{kept:?} stays in use"),
                None => "it is left out".to_owned(),
            };
            told.push(format!("{}; {instead}", refusal(name, &value, why)));
            if let Some(kept) = self.good.get(name) {
                good.insert(name.clone(), kept.clone());
            }
        }
        self.good = good;
        self.asked = Some(asked);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn the_last_good_value_stays_and_one_that_never_was_good_is_left_out() {
        let mut checked = Checked::default();
        let first = values(&[("work_mem", "8MB"), ("fsync", "maybe")]);
        let told = checked.take(first, &values(&[("fsync", "not a boolean")]));
        let words = "postgresql.parameters.fsync: found \"maybe\", which PostgreSQL refuses: \
                     not a boolean; it is left out";
        assert_eq!(told, [words]);
        assert_eq!(checked.good, values(&[("work_mem", "8MB")]));
        let second = values(&[("work_mem", "banana")]);
        let told = checked.take(second.clone(), &values(&[("work_mem", "no number")]));
        assert!(told[0].ends_with("no number; \"8MB\" stays in use"));
        assert_eq!(checked.good, values(&[("work_mem", "8MB")]));
        assert_eq!(checked.asked, Some(second));
        assert!(
            checked
                .take(values(&[("work_mem", "1MB")]), &Values::new())
                .is_empty()
        );
        assert_eq!(checked.good, values(&[("work_mem", "1MB")]));
    }
}
