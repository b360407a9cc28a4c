//! `host:port` as Patroni's files write it: names, IPv4, bracketed IPv6, lists of hosts.

use serde::{Serialize, Serializer};
use std::fmt;

/// A host (without brackets) and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// The port, never 0 unless the text said 0.
    pub port: u16,
}

impl HostPort {
    /// The host stands for every address of the machine.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host.as_str(), "0.0.0.0" | "::" | "*" | "")
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Serialize for HostPort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Hosts and their common port, from `a,b:5432`, `[::1]:5432`, `::1` or `*`. The error says what
/// was wrong, without the name of the field.
pub fn parse_hosts(text: &str, default_port: Option<u16>) -> Result<(Vec<String>, u16), String> {
    let text = text.trim();
    let (hosts, port) = split_port(text)?;
    let port = match port {
        Some(port) => parse_port(port)?,
        None => {
            default_port.ok_or_else(|| format!("\"{text}\" has no port; expected host:port"))?
        }
    };
    let hosts: Vec<String> = hosts
        .split(',')
        .map(|host| unbracket(host.trim()))
        .collect();
    if let Some(bad) = hosts.iter().find(|host| !valid_host(host)) {
        return Err(format!(
            "\"{bad}\" is not a host name or address; expected host:port"
        ));
    }
    Ok((hosts, port))
}

/// One host and its port.
pub fn parse_host_port(text: &str, default_port: Option<u16>) -> Result<HostPort, String> {
    let (mut hosts, port) = parse_hosts(text, default_port)?;
    match (hosts.pop(), hosts.is_empty()) {
        (Some(host), true) => Ok(HostPort { host, port }),
        _ => Err(format!(
            "\"{text}\" names several hosts; expected one host:port"
        )),
    }
}

/// Where the port begins: after the last colon outside brackets, unless the text is a bare IPv6
/// address, which has several.
fn split_port(text: &str) -> Result<(&str, Option<&str>), String> {
    if text.is_empty() {
        return Err("it is empty; expected host:port".to_owned());
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok((text, None));
    }
    match text.rsplit_once(':') {
        Some((_, tail)) if tail.ends_with(']') => Ok((text, None)),
        Some((hosts, port)) => Ok((hosts, Some(port))),
        None => Ok((text, None)),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.trim().parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!(
            "\"{text}\" is not a port; expected a number from 1 to 65535"
        )),
    }
}

fn unbracket(host: &str) -> String {
    host.strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host)
        .to_owned()
}

fn valid_host(host: &str) -> bool {
    let bare = host.split('%').next().unwrap_or(host);
    host == "*" || bare.parse::<std::net::IpAddr>().is_ok() || is_host_name(host)
}

/// Labels of letters, digits, - and _. A number is none, though resolvers take it for an address.
fn is_host_name(host: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().copied().is_some_and(word)
            && bytes.last().copied().is_some_and(word)
            && bytes.iter().all(|b| word(*b) || *b == b'-')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or(name);
    name.len() <= 253 && name.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit())
}
