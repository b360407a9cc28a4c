//! `restapi.ciphers`: OpenSSL's list of ciphers, as far as rustls has them.
//!
//! rustls has nine suites, all of them with forward secrecy and authenticated encryption, so most of
//! what such lists are written for (to keep weak ciphers out) is the case whatever they say.

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, SupportedCipherSuite};

/// A suite of TLS 1.2: OpenSSL's name, and the words by which a list may choose it.
struct Known {
    suite: CipherSuite,
    name: &'static str,
    words: [&'static str; 3],
}

const fn known(suite: CipherSuite, name: &'static str, words: [&'static str; 3]) -> Known {
    Known { suite, name, words }
}

const TLS12: [Known; 6] = [
    known(
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        ["ECDSA", "AES256", "SHA384"],
    ),
    known(
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384",
        ["RSA", "AES256", "SHA384"],
    ),
    known(
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        ["ECDSA", "CHACHA20", "SHA256"],
    ),
    known(
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305",
        ["RSA", "CHACHA20", "SHA256"],
    ),
    known(
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        ["ECDSA", "AES128", "SHA256"],
    ),
    known(
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256",
        ["RSA", "AES128", "SHA256"],
    ),
];

/// The suites of TLS 1.3 by their only names.
const TLS13: [(CipherSuite, &str); 3] = [
    (
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        "TLS_AES_256_GCM_SHA384",
    ),
    (
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS_CHACHA20_POLY1305_SHA256",
    ),
    (
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        "TLS_AES_128_GCM_SHA256",
    ),
];

/// What a list chose.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// In the list's order.
    suites: Vec<CipherSuite>,
    /// What it asks for that is not there.
    pub(super) unknown: Vec<String>,
}

impl Choice {
    /// Leave the provider only these.
    pub(super) fn apply(&self, provider: &mut CryptoProvider) {
        let all = std::mem::take(&mut provider.cipher_suites);
        let find = |suite: &CipherSuite| all.iter().find(|one| one.suite() == *suite).copied();
        provider.cipher_suites = self
            .suites
            .iter()
            .filter_map(find)
            .collect::<Vec<SupportedCipherSuite>>();
    }
}

/// Read a list. As in OpenSSL it is about TLS 1.2; the suites of 1.3 stay unless it names some.
pub(super) fn choose(list: &str) -> Result<Choice, String> {
    let (mut chosen, mut banned) = (Vec::<CipherSuite>::new(), Vec::new());
    let (mut newer, mut unknown) = (Vec::new(), Vec::new());
    let items = list.split([':', ',', ' ', ';']);
    for item in items.filter(|item| !item.is_empty() && !item.starts_with('@')) {
        if let Some((suite, _)) = TLS13.iter().find(|(_, name)| *name == item) {
            newer.push(*suite);
            continue;
        }
        let (sign, word) = match item.split_at_checked(1) {
            Some((sign @ ("!" | "-" | "+"), word)) => (sign, word),
            _ => ("", item),
        };
        let found = matching(word);
        match sign {
            "!" => {
                chosen.retain(|suite| !found.contains(suite));
                banned.extend(found);
            }
            "-" => chosen.retain(|suite| !found.contains(suite)),
            "+" => {
                let (behind, front) = chosen.iter().partition(|suite| found.contains(suite));
                chosen = front;
                chosen.extend::<Vec<_>>(behind);
            }
            _ if found.is_empty() => unknown.push(item.to_owned()),
            _ => {
                for suite in found {
                    if !chosen.contains(&suite) && !banned.contains(&suite) {
                        chosen.push(suite);
                    }
                }
            }
        }
    }
    if chosen.is_empty() && newer.is_empty() {
        let names: Vec<_> = TLS12.iter().map(|known| known.name).collect();
        return Err(format!(
            "{list:?} names no cipher that is available; expected some of {}, or HIGH for all",
            names.join(":")
        ));
    }
    if newer.is_empty() {
        newer.extend(TLS13.iter().map(|(suite, _)| *suite));
    }
    newer.extend(chosen);
    Ok(Choice {
        suites: newer,
        unknown,
    })
}

/// The suites of TLS 1.2 that a name, a word or words joined by + stand for.
fn matching(item: &str) -> Vec<CipherSuite> {
    let fits =
        |known: &&Known| known.name == item || item.split('+').all(|word| describes(word, known));
    TLS12.iter().filter(fits).map(|known| known.suite).collect()
}

fn describes(word: &str, known: &Known) -> bool {
    match word {
        "ALL" | "DEFAULT" | "HIGH" => true,
        "ECDH" | "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" | "TLSv1.2" | "AEAD" => true,
        "AES" | "AESGCM" => known.words[1].starts_with("AES"),
        "aRSA" => known.words[0] == "RSA",
        "aECDSA" => known.words[0] == "ECDSA",
        // In OpenSSL RSA alone means that the key is exchanged by it, which rustls never does.
        "RSA" => false,
        other => known.words.contains(&other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<&'static str> {
        let suites = choose(list).unwrap().suites;
        let name = |suite: &CipherSuite| {
            let newer = TLS13.iter().find(|(one, _)| one == suite);
            let older = TLS12.iter().find(|known| known.suite == *suite);
            newer
                .map(|(_, name)| *name)
                .or(older.map(|known| known.name))
                .unwrap()
        };
        suites.iter().map(name).collect()
    }

    #[test]
    fn every_suite_of_the_provider_has_a_name_here() {
        let mut provider = super::super::provider();
        let all = provider.cipher_suites.len();
        choose("HIGH").unwrap().apply(&mut provider);
        assert_eq!(provider.cipher_suites.len(), all);
    }

    #[test]
    fn a_pasted_quotation_mark_is_a_wrong_name_and_no_end() {
        for list in ["\u{201c}HIGH\u{201d}", "\u{a0}", "!\u{201c}"] {
            assert!(choose(list).is_err(), "{list}");
        }
    }

    #[test]
    fn lists_are_read_as_openssl_reads_them() {
        assert_eq!(
            names("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305")[3..],
            [
                "ECDHE-RSA-AES128-GCM-SHA256",
                "ECDHE-ECDSA-CHACHA20-POLY1305"
            ]
        );
        assert_eq!(
            names("ECDHE+AESGCM+aRSA:!AES128:!aNULL:@STRENGTH")[3..],
            ["ECDHE-RSA-AES256-GCM-SHA384"]
        );
        assert_eq!(names("HIGH:-AES:!MD5:+aRSA")[3..].len(), 2);
        assert_eq!(names("HIGH:-AES:+ECDSA")[3], "ECDHE-RSA-CHACHA20-POLY1305");
        assert_eq!(
            names("TLS_AES_128_GCM_SHA256:ECDHE-RSA-AES128-GCM-SHA256"),
            ["TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"]
        );
        let choice = choose("ECDHE-RSA-AES128-GCM-SHA256:DES-CBC3-SHA:AES256-SHA").unwrap();
        assert_eq!(choice.unknown, ["DES-CBC3-SHA", "AES256-SHA"]);
    }

    #[test]
    fn a_list_without_one_of_them_is_refused() {
        for list in ["DES-CBC3-SHA", "HIGH:!ALL", "", "RSA"] {
            let error = choose(list).unwrap_err();
            assert!(error.contains("ECDHE-RSA-AES128-GCM-SHA256"), "{error}");
        }
    }
}
