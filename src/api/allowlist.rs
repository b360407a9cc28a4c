//! Who may change something, by address: `restapi.allowlist` and the members themselves.
//!
//! Names are resolved apart from requests ([`Names`]): a resolver that hangs delays nobody, and one
//! that fails leaves what it said last.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::RwLock;
use std::time::Duration;

/// The longest one name may take.
const RESOLVE: Duration = Duration::from_secs(5);
/// More names are not resolved: each costs a question to the resolver again and again.
const NAMES_MAX: usize = 256;

/// One entry of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// All addresses that begin with the same bits.
    Network {
        /// The address.
        address: IpAddr,
        /// How many bits count.
        bits: u8,
    },
    /// A host name, in lower case.
    Host(String),
}

impl Entry {
    /// This address alone.
    fn address(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        Self::Network { address, bits }
    }

    fn admits(&self, caller: IpAddr, names: &Names) -> bool {
        match self {
            Self::Network { address, bits } => same_network(*address, *bits, caller),
            Self::Host(name) => names.stands_for(name, caller),
        }
    }
}

fn same_network(network: IpAddr, bits: u8, caller: IpAddr) -> bool {
    let apart = match (network, caller) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a) ^ u32::from(b))) << 96,
        (IpAddr::V6(a), IpAddr::V6(b)) => u128::from(a) ^ u128::from(b),
        _ => return false,
    };
    apart.leading_zeros() >= u32::from(bits)
}

/// The list as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowlist {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The members may too, by the hosts of their `api_url`.
    pub include_members: bool,
}

impl Allowlist {
    /// Whether this caller may change something. Without a list everybody may.
    pub(super) fn admits<'a>(
        &self,
        caller: IpAddr,
        members: impl Iterator<Item = &'a str>,
        names: &Names,
    ) -> bool {
        if self.entries.is_empty() && !self.include_members {
            return true;
        }
        let caller = caller.to_canonical();
        self.entries.iter().any(|entry| entry.admits(caller, names))
            || (self.include_members
                && members
                    .filter_map(member)
                    .any(|entry| entry.admits(caller, names)))
    }

    /// The host names that have to be resolved for it.
    pub(super) fn names<'a>(&self, members: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        let own = self.entries.iter().cloned();
        let members = members.filter_map(member).filter(|_| self.include_members);
        let host = |entry| match entry {
            Entry::Host(name) => Some(name),
            Entry::Network { .. } => None,
        };
        own.chain(members)
            .filter_map(host)
            .take(NAMES_MAX)
            .collect()
    }
}

/// The host of an `api_url`.
fn member(api_url: &str) -> Option<Entry> {
    let uri: http::Uri = api_url.parse().ok()?;
    let host = uri.host()?;
    let bare = host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']'));
    Some(match bare.unwrap_or(host).parse() {
        Ok(address) => Entry::address(address),
        Err(_) => Entry::Host(host.to_ascii_lowercase()),
    })
}

/// What names stand for, as the resolver said last.
#[derive(Debug, Default)]
pub struct Names(RwLock<BTreeMap<String, Vec<IpAddr>>>);

impl Names {
    fn stands_for(&self, name: &str, caller: IpAddr) -> bool {
        let known = self.0.read();
        known.is_ok_and(|known| known.get(name).is_some_and(|all| all.contains(&caller)))
    }

    /// Ask the resolver for these, one after the other, and forget all others.
    pub(super) async fn resolve(&self, names: &BTreeSet<String>) {
        if let Ok(mut known) = self.0.write() {
            known.retain(|name, _| names.contains(name));
        }
        for name in names {
            let lookup = tokio::net::lookup_host((name.as_str(), 0));
            let found = match tokio::time::timeout(RESOLVE, lookup).await {
                Ok(Ok(found)) => found.map(|at| at.ip().to_canonical()).collect::<Vec<_>>(),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "restapi.allowlist: {name} is not resolved");
                    continue;
                }
                Err(_) => {
                    tracing::debug!("restapi.allowlist: {name} is not resolved in time");
                    continue;
                }
            };
            if let Ok(mut known) = self.0.write() {
                known.insert(name.clone(), found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Entry {
        let (address, bits) = text.split_once('/').unwrap();
        Entry::Network {
            address: address.parse().unwrap(),
            bits: bits.parse().unwrap(),
        }
    }

    fn admits(entries: &[Entry], caller: &str) -> bool {
        let list = Allowlist {
            entries: entries.to_vec(),
            include_members: false,
        };
        let caller = caller.parse().unwrap();
        list.admits(caller, std::iter::empty(), &Names::default())
    }

    #[test]
    fn addresses_and_networks_admit_what_is_in_them() {
        assert!(admits(&[], "192.0.2.1"), "no list");
        let one = [Entry::address("192.0.2.1".parse().unwrap())];
        assert!(admits(&one, "192.0.2.1"));
        assert!(!admits(&one, "192.0.2.2"));
        assert!(admits(&one, "::ffff:192.0.2.1"), "a mapped one");
        for (list, caller, admitted) in [
            // The bits behind the length do not count, as in Patroni.
            ("10.1.2.3/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
        ] {
            assert_eq!(
                admits(&[network(list)], caller),
                admitted,
                "{list} {caller}"
            );
        }
        let name = Entry::Host("db.example.org".to_owned());
        assert!(!admits(&[name], "192.0.2.1"), "not resolved");
    }

    #[test]
    fn the_hosts_of_members_are_read_from_their_addresses() {
        let list = Allowlist {
            entries: Vec::new(),
            include_members: true,
        };
        let urls = [
            "https://[2001:db8::7]:8008/patroni",
            "http://10.0.0.7:8008/patroni",
            "?",
        ];
        let members = || urls.into_iter();
        let names = Names::default();
        for (caller, admitted) in [
            ("10.0.0.7", true),
            ("2001:db8::7", true),
            ("10.0.0.8", false),
        ] {
            let caller = caller.parse().unwrap();
            assert_eq!(list.admits(caller, members(), &names), admitted, "{caller}");
        }
    }
}
