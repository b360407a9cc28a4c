//! Who may change something: by address, by certificate, by name and password, in Patroni's order.

use super::security::{Handle, Transport};
use super::view::View;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::net::IpAddr;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// From where.
    pub(super) ip: IpAddr,
    /// It showed a certificate, which the handshake found good.
    pub(super) certificate: bool,
    /// What the connection was begun under.
    pub(super) transport: Transport,
}

/// Why it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not from there.
    Address,
    /// Not without a certificate.
    Certificate,
    /// Not without a password.
    NoPassword,
    /// Not with this one.
    WrongPassword,
}

impl Refusal {
    pub(super) fn status(self) -> u16 {
        match self {
            Self::Address | Self::Certificate => 403,
            Self::NoPassword | Self::WrongPassword => 401,
        }
    }

    /// Patroni's words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Address => "Access is denied",
            Self::Certificate => "client certificate required",
            Self::NoPassword => "no auth header received",
            Self::WrongPassword => "not authenticated",
        }
    }
}

/// Whether this caller may change something.
pub(super) fn check(
    handle: &Handle,
    caller: &Caller,
    view: &View,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    let security = handle.current();
    let members = view.members.values().map(|member| member.api_url.as_str());
    if !security
        .allowlist()
        .admits(caller.ip, members, handle.names())
    {
        return Err(Refusal::Address);
    }
    if security.asks_certificate() && !caller.certificate {
        return Err(Refusal::Certificate);
    }
    let Some(credentials) = security.credentials() else {
        return Ok(());
    };
    match headers.get(AUTHORIZATION) {
        None => Err(Refusal::NoPassword),
        Some(header) if credentials.accepts(header.as_bytes()) => Ok(()),
        Some(_) => Err(Refusal::WrongPassword),
    }
}
