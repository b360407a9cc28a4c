//! An entry of `restapi.allowlist`: an address, a network or a host name.

use serde::{Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowEntry {
    /// An address, or all that begin with the same bits.
    Network {
        /// The address.
        address: IpAddr,
        /// How many bits count.
        bits: u8,
    },
    /// A host name, in lower case.
    Host(String),
}

impl fmt::Display for AllowEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { address, bits } if *bits == width(*address) => write!(f, "{address}"),
            Self::Network { address, bits } => write!(f, "{address}/{bits}"),
            Self::Host(name) => f.write_str(name),
        }
    }
}

impl Serialize for AllowEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl AllowEntry {
    /// Read an address, a CIDR or a host name. The error says what was wrong and what would be
    /// right, without the name of the field.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            Err(format!(
                "found {text:?}, {why}; expected an address, a network as 10.0.0.0/8, or a host name"
            ))
        };
        if let Ok(address) = text.parse::<IpAddr>() {
            let address = address.to_canonical();
            let bits = width(address);
            return Ok(Self::Network { address, bits });
        }
        if let Some((address, bits)) = text.split_once('/') {
            let Ok(address) = address.parse::<IpAddr>() else {
                return wrong("whose part before the / is no address");
            };
            let most = width(address);
            let digits = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
            return match bits.parse::<u8>() {
                Ok(bits) if digits && bits <= most => Ok(Self::Network { address, bits }),
                _ => wrong(&format!(
                    "whose part after the / is no number from 0 to {most}"
                )),
            };
        }
        let label = |label: &str| {
            let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !label.is_empty() && label.len() <= 63 && label.bytes().all(inner)
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        let last = name.rsplit('.').next().unwrap_or(name);
        let number = last.bytes().all(|byte| byte.is_ascii_digit());
        if name.len() > 253 || number || !name.split('.').all(label) {
            return wrong("which is none of the three");
        }
        Ok(Self::Host(name.to_ascii_lowercase()))
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_none_of_the_three_is_named() {
        for text in [
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
            "::/129",
            "host/8",
            "10.0.0.256",
            "a b",
            "",
            "a..b",
        ] {
            let error = AllowEntry::parse(text).unwrap_err();
            assert!(error.contains("expected an address"), "{text}: {error}");
        }
    }

    #[test]
    fn the_three_are_read_and_written() {
        for text in [
            "10.0.0.7",
            "10.0.0.0/8",
            "2001:db8::/32",
            "::1",
            "localhost",
            "pg-0.pg.default.svc",
            "a_b.example",
        ] {
            assert_eq!(AllowEntry::parse(text).unwrap().to_string(), text);
        }
        let dot = AllowEntry::parse("PG-0.pg.").unwrap();
        assert_eq!(dot, AllowEntry::Host("pg-0.pg".to_owned()));
    }
}
