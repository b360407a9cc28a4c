//! `restapi` and `ctl`.

use crate::settings::address::{HostPort, parse_host_port};
use crate::settings::section::Section;
use crate::settings::types::{BasicAuth, Ctl, RestApi};
use std::net::IpAddr;

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
        listen: listen?,
        connect_address: connect_address?,
        authentication,
    })
}

pub(super) fn ctl(section: &Section<'_>, restapi: Option<&RestApi>) -> Ctl {
    let own = authentication(section);
    Ctl {
        authentication: own.or_else(|| restapi.and_then(|r| r.authentication.clone())),
    }
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

fn authentication(section: &Section<'_>) -> Option<BasicAuth> {
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
