//! Past the API server's Service: to the addresses behind it, as `kubernetes.bypass_api_service`
//! asks.
//!
//! Where a node's rules for the Service lag behind, or its proxy hangs, every agent of that node
//! loses an API that is well. The addresses stand in the Endpoints `kubernetes` of the namespace
//! `default` (port `https`). Only where a connection goes changes: the name in the request and in
//! the certificate stays the Service's, so nothing is trusted that was not before.

use super::client::Dcs;
use super::error::DcsError;
use super::refusals::FORBIDDEN;
use super::request::Ask;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tower::{BoxError, Service};

/// Where they are listed.
const PATH: &str = "/api/v1/namespaces/default/endpoints/kubernetes";
/// Between two looks at them.
const REFRESH: Duration = Duration::from_secs(10);
/// No control plane has more servers; what is beyond is not tried.
const SERVERS_MAX: usize = 16;

/// The API servers' own addresses; none: the Service is used. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Servers {
    known: Arc<RwLock<Vec<SocketAddr>>>,
    /// The one that answered last.
    good: Arc<AtomicUsize>,
}

impl Servers {
    /// In the order to be tried: the one that answered last before the others.
    pub fn in_turn(&self) -> Vec<SocketAddr> {
        let mut servers = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let good = self.good.load(Ordering::Relaxed);
        if !servers.is_empty() {
            let turn = good % servers.len();
            servers.rotate_left(turn);
        }
        servers
    }

    fn answered(&self, server: SocketAddr) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = known.iter().position(|one| *one == server) {
            self.good.store(place, Ordering::Relaxed);
        }
    }

    /// Whether they are others than before.
    fn replace(&self, servers: Vec<SocketAddr>) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let differ = *known != servers;
        *known = servers;
        differ
    }
}

/// Makes connections to the servers in turn, and to the Service where none of them can be reached.
#[derive(Clone)]
pub(super) struct Direct {
    pub(super) http: HttpConnector,
    pub(super) servers: Servers,
    /// Shared out among the servers and the Service.
    pub(super) connect_max: Duration,
}

impl Service<Uri> for Direct {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(cx).map_err(BoxError::from)
    }

    fn call(&mut self, service: Uri) -> Self::Future {
        let Self {
            http,
            servers,
            connect_max,
        } = self.clone();
        async move {
            let turn = servers.in_turn();
            let shares = u32::try_from(turn.len())
                .unwrap_or(u32::MAX)
                .saturating_add(1);
            for server in turn {
                let Some(address) = instead(&service, server) else {
                    continue;
                };
                let attempt = once(http.clone(), address);
                match timeout(connect_max / shares, attempt).await {
                    Ok(Ok(stream)) => {
                        servers.answered(server);
                        return Ok(stream);
                    }
                    Ok(Err(error)) => tracing::debug!(%server, "not reached: {error}"),
                    Err(_) => tracing::debug!(%server, "not reached in time"),
                }
            }
            once(http, service).await
        }
        .boxed()
    }
}

async fn once(mut http: HttpConnector, address: Uri) -> Result<TokioIo<TcpStream>, BoxError> {
    std::future::poll_fn(|cx| http.poll_ready(cx)).await?;
    Ok(http.call(address).await?)
}

/// The same scheme at another address.
fn instead(service: &Uri, server: SocketAddr) -> Option<Uri> {
    Uri::builder()
        .scheme(service.scheme()?.clone())
        .authority(server.to_string())
        .path_and_query("/")
        .build()
        .ok()
}

/// The addresses of the ready servers, with the port that is called `https`.
fn addresses(endpoints: &Value) -> Vec<SocketAddr> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for subset in list(&endpoints["subsets"]) {
        let ports = list(&subset["ports"]);
        let Some(port) = ports
            .iter()
            .find(|port| port["name"] == "https")
            .and_then(|port| u16::try_from(port["port"].as_u64()?).ok())
        else {
            continue;
        };
        for address in list(&subset["addresses"]) {
            let ip = address["ip"]
                .as_str()
                .and_then(|ip| ip.parse::<IpAddr>().ok());
            found.extend(ip.map(|ip| SocketAddr::new(ip, port)));
        }
    }
    found.sort();
    found.dedup();
    found.truncate(SERVERS_MAX);
    found
}

/// Looks at the list again and again. Without the right to read it, the Service is used for good.
pub(super) async fn keep_up(dcs: Dcs, servers: Servers) {
    let ask = Ask::get("read the API servers' addresses", PATH);
    loop {
        match dcs.read_until(&ask, Instant::now() + dcs.call).await {
            Ok(endpoints) => {
                let found = addresses(&endpoints);
                if found.is_empty() {
                    tracing::debug!("no address of an API server is listed; the last ones stay");
                } else if servers.replace(found.clone()) {
                    tracing::info!(servers = ?found, "past the API server's Service");
                }
            }
            Err(DcsError::Refused {
                status: FORBIDDEN,
                why,
                ..
            }) => {
                servers.replace(Vec::new());
                tracing::warn!(
                    "kubernetes.bypass_api_service: the Endpoints \"kubernetes\" in the namespace \
                     \"default\" may not be read ({why}); the Service is used: give the right to \
                     get them, or set it to false"
                );
                return std::future::pending().await;
            }
            Err(error) => tracing::debug!(%error, "the last known API servers stay"),
        }
        sleep(REFRESH).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_ready_addresses_with_the_named_port_count() {
        let endpoints = json!({ "subsets": [
            { "addresses": [{ "ip": "10.0.0.2" }, { "ip": "10.0.0.1" }, { "ip": "what" }],
              "notReadyAddresses": [{ "ip": "10.0.0.3" }],
              "ports": [{ "name": "metrics", "port": 1 }, { "name": "https", "port": 6443 }] },
            { "addresses": [{ "ip": "10.0.0.9" }], "ports": [{ "name": "http", "port": 80 }] },
            { "addresses": [{ "ip": "fd00::1" }], "ports": [{ "name": "https", "port": 443 }] },
            "garbage",
        ]});
        let shown: Vec<_> = addresses(&endpoints)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["10.0.0.1:6443", "10.0.0.2:6443", "[fd00::1]:443"]);
        assert_eq!(addresses(&json!(null)), vec![]);
    }

    #[test]
    fn the_server_that_answered_last_is_tried_first() {
        let servers = Servers::default();
        assert_eq!(servers.in_turn(), vec![]);
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert!(servers.replace(vec![at(1), at(2), at(3)]));
        servers.answered(at(2));
        assert_eq!(servers.in_turn(), [at(2), at(3), at(1)]);
        assert!(!servers.replace(vec![at(1), at(2), at(3)]));
        assert!(servers.replace(vec![at(3)]));
        assert_eq!(servers.in_turn(), [at(3)]);
    }

    #[test]
    fn the_scheme_stays() {
        let service = Uri::from_static("https://10.96.0.1:443/");
        let server = SocketAddr::from(([192, 0, 2, 7], 6443));
        let uri = instead(&service, server).expect("an address");
        assert_eq!(uri.to_string(), "https://192.0.2.7:6443/");
    }
}
