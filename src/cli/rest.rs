//! What a configuration says of the REST API, in the API's own words: for `check`, for `ctl`, and
//! for the agent.

use crate::api::Credentials;
use crate::api::allowlist::{Allowlist, Entry};
use crate::api::security::{ServerTokens, Wanted};
use crate::api::tls::client::{self, Trust};
use crate::api::tls::{Pair, server};
use crate::settings::{self, AllowEntry, BasicAuth, Ctl, KeyPair, Settings};
use std::path::PathBuf;

/// Who may call a member with these settings.
///
/// Members do not doubt one another's certificates, as Patroni's do not: they are asked by their
/// pods' addresses, which certificates do not carry, what they answer in a race is a hint that the
/// lock does not depend on, and an expired certificate must not cost the race its answers.
pub fn security(settings: &Settings) -> Wanted {
    let restapi = &settings.restapi;
    let entry = |entry: &AllowEntry| match entry.clone() {
        AllowEntry::Network { address, bits } => Entry::Network { address, bits },
        AllowEntry::Host(name) => Entry::Host(name),
    };
    let owned = |(name, value): (&String, &String)| (name.clone(), value.clone());
    Wanted {
        credentials: restapi.authentication.as_ref().map(credentials),
        allowlist: Allowlist {
            entries: restapi.allowlist.iter().map(entry).collect(),
            include_members: restapi.allowlist_include_members,
        },
        tls: restapi.tls.as_ref().map(|tls| server::Wanted {
            pair: pair(&tls.pair),
            cafile: tls.cafile.clone(),
            ciphers: tls.ciphers.clone(),
            verify_client: match tls.verify_client {
                settings::VerifyClient::None => server::VerifyClient::None,
                settings::VerifyClient::Optional => server::VerifyClient::Optional,
                settings::VerifyClient::Required => server::VerifyClient::Required,
            },
        }),
        peers: client::Wanted {
            trust: Trust::Anybody,
            pair: settings.ctl.pair.as_ref().map(pair),
        },
        http_headers: restapi.http_extra_headers.iter().map(owned).collect(),
        https_headers: restapi.https_extra_headers.iter().map(owned).collect(),
        server_tokens: match restapi.server_tokens {
            settings::ServerTokens::Original => ServerTokens::Original,
            settings::ServerTokens::Minimal => ServerTokens::Minimal,
            settings::ServerTokens::ProductOnly => ServerTokens::ProductOnly,
        },
    }
}

/// How `ctl` asks members as this configuration says: it believes what its authorities signed, else
/// those (`cafile`) that the REST API asks its own callers for.
pub fn asking(ctl: &Ctl, cafile: Option<PathBuf>) -> client::Wanted {
    let own = ctl.cacert.clone().map(|path| ("ctl.cacert", path));
    let file = own.or(cafile.map(|path| ("restapi.cafile", path)));
    client::Wanted {
        trust: match file {
            _ if ctl.insecure => Trust::Anybody,
            Some((key, path)) => Trust::File { key, path },
            None => Trust::System,
        },
        pair: ctl.pair.as_ref().map(pair),
    }
}

/// A user of the API.
pub fn credentials(auth: &BasicAuth) -> Credentials {
    Credentials {
        username: auth.username.clone(),
        password: auth.password.expose().to_owned(),
    }
}

fn pair(pair: &KeyPair) -> Pair {
    let password = pair.keyfile_password.as_ref();
    Pair {
        certfile: pair.certfile.clone(),
        keyfile: pair.keyfile.clone(),
        password: password.map(|password| password.expose().to_owned()),
    }
}
