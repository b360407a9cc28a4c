//! Whom a screen asks: the one that answered last, and when that one is away the next one. Members
//! that an answer names are asked too, so a screen outlives the member it was opened with.

use crate::api::client::Client;
use crate::cli::cluster::Cluster;
use crate::cli::ctl::{Remote, base_of, decode};
use std::time::Duration;

/// How long one member is waited for: the next one may know.
const PATIENCE: Duration = Duration::from_secs(2);

/// An answer.
pub(super) struct Answer {
    /// What it says.
    pub(super) cluster: Cluster,
    /// Who said it: its name, or its address.
    pub(super) who: String,
    /// Who did not answer before, and why.
    pub(super) missed: Vec<String>,
}

/// The addresses in the order they are asked, and what is known of them.
pub(super) struct Asker {
    client: Client,
    given: Vec<String>,
    /// Of the last answer.
    told: Vec<String>,
    last: Option<Known>,
}

/// Who answered last.
#[derive(Clone)]
struct Known {
    base: String,
    name: String,
    system_id: Option<String>,
}

impl Asker {
    /// At least one address.
    pub(super) fn new(remote: &Remote) -> Self {
        Self {
            client: remote.client().clone(),
            given: remote.urls().to_vec(),
            told: Vec::new(),
            last: None,
        }
    }

    /// The first answer; or why nobody gives one.
    pub(super) async fn ask(&mut self) -> Result<Answer, Vec<String>> {
        let mut missed = Vec::new();
        for base in self.order() {
            match self.ask_one(&base).await {
                Ok((cluster, who)) => {
                    let addresses = cluster.members.iter();
                    self.told = addresses.filter_map(|row| base_of(&row.api_url)).collect();
                    return Ok(Answer {
                        cluster,
                        who,
                        missed,
                    });
                }
                Err(why) => missed.push(why),
            }
        }
        Err(missed)
    }

    fn order(&self) -> Vec<String> {
        let last = self.last.iter().map(|known| &known.base);
        let mut order: Vec<String> = Vec::new();
        for base in last.chain(&self.given).chain(&self.told) {
            if !order.contains(base) {
                order.push(base.clone());
            }
        }
        order
    }

    async fn ask_one(&mut self, base: &str) -> Result<(Cluster, String), String> {
        let url = format!("{base}/cluster");
        let answer = self.client.get_json(&url, PATIENCE).await;
        let body = match answer {
            Ok((200, body)) => body,
            Ok((status, _)) => return Err(format!("{base} answered {status}")),
            Err(error) => return Err(error.to_string()),
        };
        let known = match self.last.take().filter(|known| known.base == base) {
            // Until it is known: a cluster that is being made has no identifier yet.
            Some(known) if known.system_id.is_some() => known,
            _ => {
                let status = self.client.get_patroni(base, PATIENCE).await;
                let name = status.as_ref().map_or("", |status| &status.name);
                Known {
                    base: base.to_owned(),
                    name: if name.is_empty() { base } else { name }.to_owned(),
                    system_id: status.ok().and_then(|status| status.system_id),
                }
            }
        };
        let cluster =
            decode(&body, known.system_id.clone()).map_err(|error| format!("{base}: {error}"))?;
        let name = known.name.clone();
        self.last = Some(known);
        Ok((cluster, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_asked_first_and_nobody_twice() {
        let urls = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let asker = Asker {
            client: Client::default(),
            given: urls(&["http://a", "http://b"]),
            told: urls(&["http://b", "http://c"]),
            last: Some(Known {
                base: "http://b".to_owned(),
                name: "b".to_owned(),
                system_id: None,
            }),
        };
        assert_eq!(asker.order(), ["http://b", "http://a", "http://c"]);
    }
}
