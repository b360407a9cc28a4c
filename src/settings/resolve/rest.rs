//! `restapi` and `ctl`.

use crate::settings::address::{HostPort, parse_host_port};
use crate::settings::allow::AllowEntry;
use crate::settings::raw::Value;
use crate::settings::rest::{Ctl, KeyPair, RestApi, RestTls, ServerTokens, VerifyClient};
use crate::settings::section::Section;
use crate::settings::types::BasicAuth;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// Patroni's conventional port.
const PORT: u16 = 8008;

pub(super) fn restapi(section: &Section<'_>, pod_ip: Option<IpAddr>) -> Option<RestApi> {
    let listen = match section.text("listen", "host:port, as 0.0.0.0:8008") {
        None if section.has("listen") => None,
        None => Some(HostPort {
            host: "0.0.0.0".to_owned(),
            port: PORT,
        }),
        Some(text) => match parse_host_port(&text, Some(PORT)) {
            // Not a name the system's resolver knows.
            Ok(mut at) => {
                if at.host == "*" {
                    "::".clone_into(&mut at.host);
                }
                Some(at)
            }
            Err(e) => {
                section.error("listen", e);
                None
            }
        },
    };
    let connect_address = connect_address(section, listen.as_ref(), pod_ip);
    let authentication = authentication(section);
    Some(RestApi {
        tls: tls(section),
        allowlist: allowlist(section),
        allowlist_include_members: section
            .boolean("allowlist_include_members")
            .unwrap_or(false),
        http_extra_headers: headers(section, "http_extra_headers"),
        https_extra_headers: headers(section, "https_extra_headers"),
        request_queue_size: section
            .integer("request_queue_size", 1, 65_535)
            .and_then(|size| u32::try_from(size).ok()),
        server_tokens: server_tokens(section),
        listen: listen?,
        connect_address: connect_address?,
        authentication,
    })
}

pub(super) fn ctl(section: &Section<'_>, restapi: Option<&RestApi>) -> Ctl {
    let own = authentication(section);
    let tls = restapi.and_then(|restapi| restapi.tls.as_ref());
    let pair = pair(section);
    if let Some(tls) = tls
        && tls.verify_client == VerifyClient::Required
        && pair.is_none()
    {
        let message = "it is missing, and restapi.verify_client is required: members and pgwarden \
                       ctl cannot ask one another; expected a certificate for clients";
        section.warn("certfile", message);
    }
    Ctl {
        authentication: own.or_else(|| restapi.and_then(|r| r.authentication.clone())),
        insecure: section.boolean("insecure").unwrap_or(false),
        cacert: file(section, "cacert"),
        pair,
    }
}

fn file(section: &Section<'_>, key: &str) -> Option<PathBuf> {
    optional_text(section, key, "the path of a PEM file").map(Into::into)
}

fn optional_text(section: &Section<'_>, key: &str, expected: &str) -> Option<String> {
    if says_nothing(section, key) {
        return None;
    }
    section.text(key, expected)
}

/// An empty text is as good as none, as Patroni has it.
fn says_nothing(section: &Section<'_>, key: &str) -> bool {
    match section.get(key).map(|node| &node.value) {
        None | Some(Value::Null) => true,
        Some(Value::Text(text)) => text.is_empty(),
        Some(_) => false,
    }
}

/// `certfile`, `keyfile` and `keyfile_password`, which mean the same in both sections.
fn pair(section: &Section<'_>) -> Option<KeyPair> {
    let keyfile = file(section, "keyfile");
    let keyfile_password = if says_nothing(section, "keyfile_password") {
        None
    } else {
        section.secret("keyfile_password")
    };
    let Some(certfile) = file(section, "certfile") else {
        let others = [
            ("keyfile", keyfile.is_some()),
            ("keyfile_password", keyfile_password.is_some()),
        ];
        for (key, _) in others.into_iter().filter(|(_, set)| *set) {
            section.warn(key, "it has no effect without certfile");
        }
        return None;
    };
    Some(KeyPair {
        certfile,
        keyfile,
        keyfile_password,
    })
}

fn tls(section: &Section<'_>) -> Option<RestTls> {
    let verify_client = verify_client(section);
    let cafile = file(section, "cafile");
    let ciphers = optional_text(section, "ciphers", "a list as ECDHE+AESGCM:ECDHE+CHACHA20");
    let asks = verify_client != VerifyClient::None;
    let Some(pair) = pair(section) else {
        if asks {
            let message = "certificates of clients cannot be asked for without TLS; expected \
                           certfile and keyfile beside it";
            section.error("verify_client", message);
        }
        if ciphers.is_some() {
            section.warn("ciphers", "it has no effect without certfile");
        }
        return None;
    };
    if asks && cafile.is_none() {
        let message = "it is missing, and verify_client asks for certificates; expected a PEM file \
                       of the authorities that sign those of clients";
        section.error("cafile", message);
    }
    Some(RestTls {
        pair,
        cafile,
        ciphers,
        verify_client,
    })
}

fn verify_client(section: &Section<'_>) -> VerifyClient {
    let key = "verify_client";
    let expected = "none, optional or required";
    match optional_text(section, key, expected).as_deref() {
        None | Some("none") => VerifyClient::None,
        Some("optional") => VerifyClient::Optional,
        Some("required") => VerifyClient::Required,
        Some(other) => {
            section.error(key, format!("found {other:?}; expected {expected}"));
            VerifyClient::None
        }
    }
}

fn server_tokens(section: &Section<'_>) -> ServerTokens {
    let key = "server_tokens";
    let expected = "original, minimal or productonly";
    let text = optional_text(section, key, expected);
    match text.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("original") => ServerTokens::Original,
        Some("minimal") => ServerTokens::Minimal,
        Some("productonly") => ServerTokens::ProductOnly,
        Some(_) => {
            let found = text.unwrap_or_default();
            section.warn(
                key,
                format!("found {found:?}; expected {expected}; original is used"),
            );
            ServerTokens::Original
        }
    }
}

/// A list, or a text with commas, as an environment has it.
fn allowlist(section: &Section<'_>) -> Vec<AllowEntry> {
    let key = "allowlist";
    let lines = match section.get(key).map(|node| &node.value) {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Text(text)) => {
            // A list in brackets and quotes is what a person puts into a variable.
            let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
            bare.split(',').map(str::to_owned).collect()
        }
        Some(_) => section.lines(key).unwrap_or_default(),
    };
    let entry = |line: &String| match AllowEntry::parse(line.trim().trim_matches(['"', '\''])) {
        Ok(entry) => Some(entry),
        Err(message) => {
            section.error(key, message);
            None
        }
    };
    let said = |line: &&String| !line.trim().is_empty();
    lines.iter().filter(said).filter_map(entry).collect()
}

fn headers(section: &Section<'_>, key: &str) -> BTreeMap<String, String> {
    if says_nothing(section, key) {
        return BTreeMap::new();
    }
    section.text_map(key, false)
}

/// How others reach a listener: as said, else by the pod's address, else as it listens.
pub(super) fn connect_address(
    section: &Section<'_>,
    listen: Option<&HostPort>,
    pod_ip: Option<IpAddr>,
) -> Option<HostPort> {
    let key = "connect_address";
    let wildcard = |found: &HostPort| {
        format!(
            "{found} is not an address others can connect to; expected the pod's own, as \
             10.0.0.7:{}, or kubernetes.pod_ip or POD_IP in the environment",
            found.port
        )
    };
    if let Some(text) = section.text(key, "host:port, as 10.0.0.7:5432") {
        return match parse_host_port(&text, listen.map(|at| at.port)) {
            Ok(at) if at.is_wildcard() => {
                section.error(key, wildcard(&at));
                None
            }
            Ok(at) => Some(at),
            Err(e) => {
                section.error(key, e);
                None
            }
        };
    }
    if section.has(key) {
        return None;
    }
    let listen = listen?;
    match pod_ip {
        Some(ip) => Some(HostPort {
            host: ip.to_string(),
            port: listen.port,
        }),
        None if !listen.is_wildcard() => Some(listen.clone()),
        None => {
            section.error(key, format!("it is missing, and {}", wildcard(listen)));
            None
        }
    }
}

/// Where a proxy before the server listens.
pub(super) fn proxy_address(section: &Section<'_>, listen: Option<&HostPort>) -> Option<HostPort> {
    let key = "proxy_address";
    let text = section.text(key, "host:port, as 10.0.0.7:6432")?;
    let why = match parse_host_port(&text, listen.map(|at| at.port)) {
        Ok(at) if at.is_wildcard() => {
            format!("{at} is not an address others can connect to; expected the proxy's own")
        }
        Ok(at) => return Some(at),
        Err(error) => error,
    };
    section.error(key, why);
    None
}

pub(super) fn authentication(section: &Section<'_>) -> Option<BasicAuth> {
    let auth = section.section("authentication");
    if !auth.present() {
        return None;
    }
    let username = auth.text("username", "a user's name");
    let password = auth.secret("password");
    for (key, missing) in [
        ("username", !auth.has("username")),
        ("password", !auth.has("password")),
    ] {
        if missing {
            auth.error(
                key,
                "it is missing; expected username and password, or neither",
            );
        }
    }
    if let Some(name) = username.as_ref().filter(|name| name.contains(':')) {
        auth.error(
            "username",
            format!("found {name:?}; a user name of HTTP has no colon"),
        );
    }
    Some(BasicAuth {
        username: username?,
        password: password?,
    })
}
