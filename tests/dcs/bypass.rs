//! Past the API server's Service: the addresses behind it serve when the Service does not.

use super::support::{PATIENCE, claim, rules};
use pgwarden::dcs::{
    ApiAccess, Dcs, DcsError, DcsNames, DcsOptions, Servers, WatchOptions, connect_to,
};
use pgwarden::ha::lock::{LockWrite, Outcome};
use pgwarden::playground::kube_api::{Fault, Handle, KubeApi, Options, Rule, Verb};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const CALL_MS: u64 = 3000;

/// What a Service is to a client: an address that leads to another.
struct Service {
    address: SocketAddr,
    // Dropped, everything that went through it ends.
    _forwarding: JoinSet<()>,
}

impl Service {
    async fn before(api: &Handle) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its own");
        let behind = api.address();
        let mut forwarding = JoinSet::new();
        forwarding.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                open.spawn(async move {
                    let mut server = TcpStream::connect(behind).await.expect("the API");
                    // Whoever closes first has had enough.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self {
            address,
            _forwarding: forwarding,
        }
    }
}

/// One whose own address may stand in Endpoints.
async fn api() -> Handle {
    let options = Options {
        allow_loopback: true,
        ..Options::default()
    };
    KubeApi::start(options).await.expect("a free loopback port")
}

async fn through(service: &Service, servers: Option<Servers>) -> Dcs {
    let access = ApiAccess::Url {
        url: format!("http://{}", service.address),
        token: Some("pg-0".to_owned()),
        token_file: None,
    };
    let way = servers.clone().unwrap_or_default();
    let client = connect_to(&access, CALL_MS, way).await.expect("an address");
    let options = DcsOptions {
        call_ms: CALL_MS,
        resolve: Arc::new(rules),
        initial_config: json!({ "ttl": 30 }),
        servers,
    };
    Dcs::new(
        client,
        DcsNames::new("demo", "db", "pg-0", "uid-of-pg-0"),
        options,
    )
    .expect("good names")
}

async fn list_servers(api: &Handle, addresses: &[SocketAddr]) {
    let subsets: Vec<Value> = addresses
        .iter()
        .map(|at| {
            json!({ "addresses": [{ "ip": at.ip().to_string() }],
                    "ports": [{ "name": "https", "port": at.port() }] })
        })
        .collect();
    let endpoints = json!({ "apiVersion": "v1", "kind": "Endpoints",
        "metadata": { "name": "kubernetes" }, "subsets": subsets });
    let request = http::Request::post("/api/v1/namespaces/default/endpoints")
        .header("content-type", "application/json")
        .body(endpoints.to_string().into_bytes())
        .expect("a request");
    let client = api.client("admin").expect("a client");
    client.request::<Value>(request).await.expect("it is good");
}

fn watch_options() -> WatchOptions {
    WatchOptions {
        renew_ms: 1000,
        queue: 16,
    }
}

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_lock_is_kept_while_the_service_is_gone_and_a_listed_server_is_dead() {
    let api = api().await;
    let dead = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = dead.local_addr().expect("its own");
    drop(dead);
    list_servers(&api, &[nobody, api.address()]).await;
    let service = Service::before(&api).await;
    let servers = Servers::default();
    let (past, plain) = (
        through(&service, Some(servers.clone())).await,
        through(&service, None).await,
    );
    let watching = past.watch(watch_options());
    until("the addresses are known", || servers.in_turn().len() == 2).await;
    assert!(plain.read_lock().await.is_ok());

    drop(service);
    let refused = plain.read_lock().await;
    assert!(
        matches!(refused, Err(DcsError::Unavailable { .. })),
        "{refused:?}"
    );
    let lock = LockWrite::Acquire(claim("pg-0", 1, 1));
    let written = past.write_lock(&lock, None).await;
    assert!(matches!(written, Outcome::Done(_)), "{written:?}");
    assert_eq!(servers.in_turn()[0], api.address(), "the one that answers");
    drop(watching);
}

#[tokio::test]
async fn without_the_right_to_read_the_list_the_service_is_used_and_asked_no_more() {
    let api = api().await;
    list_servers(&api, &[api.address()]).await;
    let forbidden = Rule::new(Fault::Answer {
        code: 403,
        retry_after_s: None,
    });
    let rule = api.inject(forbidden.resource("endpoints").verbs(&[Verb::Get]));
    let service = Service::before(&api).await;
    let servers = Servers::default();
    let past = through(&service, Some(servers.clone())).await;
    let mut watching = past.watch(watch_options());
    until("it was refused", || api.fired(rule) > 0).await;
    timeout(PATIENCE, watching.seen.recv())
        .await
        .expect("the watch goes on");
    assert!(past.read_lock().await.is_ok());
    assert_eq!(servers.in_turn(), vec![]);
    assert!(watching.tasks.try_join_next().is_none(), "no task ended");
}
