//! Who may change something by address, and what every answer carries.

use crate::certificates::{Authority, Dir, wanted};
use crate::harness::{Harness, PATIENCE, Response, read_response, start_with, wall_s};
use crate::recorded::view;
use pgwarden::api::allowlist::{Allowlist, Entry};
use pgwarden::api::security::{Handle, Security, ServerTokens, Wanted};
use pgwarden::api::{Credentials, Limits};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

const DENIED: &str = "Access is denied";

async fn serve(wanted: Wanted) -> (Harness, Arc<Handle>) {
    let handle = Handle::new(Security::load(wanted, wall_s()).unwrap(), wall_s);
    let view = view("running", "leader");
    let server = start_with(view, Limits::default(), Arc::clone(&handle)).await;
    (server, handle)
}

fn listing(entries: Vec<Entry>, include_members: bool) -> Wanted {
    Wanted {
        allowlist: Allowlist {
            entries,
            include_members,
        },
        ..Wanted::default()
    }
}

fn network(last: u8, bits: u8) -> Entry {
    Entry::Network {
        address: Ipv4Addr::new(127, 0, 0, last).into(),
        bits,
    }
}

/// A request from another address of the loopback network, 127.0.0.`last`.
async fn from(last: u8, server: &Harness, method: &str, headers: &str) -> Response {
    // What a leader answers with 200, or judges by its body.
    let looking = matches!(method, "GET" | "HEAD" | "OPTIONS");
    let path = if looking { "/primary" } else { "/restart" };
    let exchange = async {
        let socket = TcpSocket::new_v4().unwrap();
        let own = (Ipv4Addr::new(127, 0, 0, last), 0);
        socket.bind(own.into()).unwrap();
        let mut stream = socket.connect(server.addr).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\
             Content-Length: 2\r\n\r\n[]"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        read_response(stream).await
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("an answer")
}

/// Whether a change is let through to the point where its body is judged.
async fn admitted(last: u8, server: &Harness) -> bool {
    let answer = from(last, server, "POST", "").await;
    match (answer.status, answer.body.as_str()) {
        (403, DENIED) => false,
        (400, _) => true,
        _ => unreachable!("{answer:?}"),
    }
}

#[tokio::test]
async fn addresses_and_networks_admit_changes() {
    let (server, handle) = serve(listing(vec![network(2, 32)], false)).await;
    assert!(admitted(2, &server).await);
    assert!(!admitted(3, &server).await);
    for method in ["POST", "PUT", "PATCH", "DELETE", "BREW"] {
        let answer = from(3, &server, method, "").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (403, DENIED),
            "{method}"
        );
    }
    // Whoever only looks is answered.
    for method in ["GET", "HEAD", "OPTIONS"] {
        assert_eq!(from(3, &server, method, "").await.status, 200, "{method}");
    }
    handle.reload(listing(vec![network(0, 30)], false)).unwrap();
    assert!(admitted(3, &server).await);
    assert!(!admitted(4, &server).await);
    handle.reload(listing(Vec::new(), false)).unwrap();
    assert!(admitted(4, &server).await, "without a list");
    server.stop().await;
}

#[tokio::test]
async fn the_address_counts_before_the_password() {
    let user = Credentials {
        username: "admin".to_owned(),
        password: "right".to_owned(),
    };
    let wanted = Wanted {
        credentials: Some(user.clone()),
        ..listing(vec![network(2, 32)], false)
    };
    let (server, _) = serve(wanted).await;
    let header = format!("Authorization: {}\r\n", user.header());
    for (last, headers, status) in [
        (3, "", 403),
        (3, header.as_str(), 403),
        (2, "", 401),
        (2, header.as_str(), 400),
    ] {
        let answer = from(last, &server, "POST", headers).await;
        assert_eq!(answer.status, status, "{last} {headers}: {answer:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_name_admits_what_it_is_resolved_to() {
    let names = |names: &[&str]| {
        let hosts = names.iter().map(|name| Entry::Host((*name).to_owned()));
        listing(hosts.collect(), false)
    };
    let (server, handle) = serve(names(&["no-such-host.invalid", "localhost"])).await;
    let resolved = async { while !admitted(1, &server).await {} };
    tokio::time::timeout(PATIENCE, resolved)
        .await
        .expect("localhost is resolved");
    assert!(!admitted(2, &server).await);
    // What is resolved stays so through a reload that names it again.
    handle.reload(names(&["localhost"])).unwrap();
    assert!(admitted(1, &server).await);
    handle.reload(names(&["no-such-host.invalid"])).unwrap();
    assert!(!admitted(1, &server).await);
    server.stop().await;
}

#[tokio::test]
async fn members_may_by_the_hosts_of_their_addresses() {
    let (server, _) = serve(listing(Vec::new(), true)).await;
    assert!(!admitted(7, &server).await);
    server.view.send_modify(|view| {
        let view = Arc::make_mut(view);
        let member = view.members.values_mut().next().unwrap();
        member.api_url = "https://127.0.0.7:8008/patroni".to_owned();
    });
    assert!(admitted(7, &server).await);
    assert!(!admitted(8, &server).await);
    server
        .view
        .send_modify(|view| Arc::make_mut(view).members.clear());
    assert!(!admitted(7, &server).await);
    server.stop().await;
}

#[tokio::test]
async fn answers_carry_the_headers_of_their_transport() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let base = |tokens| Wanted {
        http_headers: vec![pair("X-Frame-Options", "DENY"), pair("X-Both", "http")],
        https_headers: vec![
            pair("Strict-Transport-Security", "max-age=1"),
            pair("X-Both", "s"),
        ],
        server_tokens: tokens,
        ..Wanted::default()
    };
    let (server, handle) = serve(base(ServerTokens::Original)).await;
    let head = server.ask("GET", "/liveness").await.head;
    assert!(head.contains("x-frame-options: deny"), "{head}");
    assert!(head.contains("x-both: http"), "{head}");
    assert!(!head.contains("strict-transport-security"), "{head}");
    assert!(!head.contains("server:"), "{head}");
    // Refusals carry them as well.
    assert!(
        server
            .post("/restart", "[]")
            .await
            .head
            .contains("x-both: http")
    );
    for (tokens, line) in [
        (
            ServerTokens::Minimal,
            concat!("server: pgwarden/", env!("CARGO_PKG_VERSION")),
        ),
        (ServerTokens::ProductOnly, "server: pgwarden"),
    ] {
        handle.reload(base(tokens)).unwrap();
        let head = server.ask("GET", "/liveness").await.head;
        assert!(head.lines().any(|found| found == line), "{head}");
    }
    server.stop().await;

    let (dir, ours) = (Dir::new(), Authority::new());
    let tls = wanted(dir.put_pair("server", &ours.server(2020, 2090))).tls;
    let (server, _) = serve(Wanted {
        tls,
        ..base(ServerTokens::Original)
    })
    .await;
    let head = over_tls(
        &server,
        "GET /liveness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    let head = head.await.to_lowercase();
    assert!(
        head.contains("strict-transport-security: max-age=1"),
        "{head}"
    );
    assert!(
        head.contains("x-both: s\r\n") && !head.contains("x-both: http"),
        "{head}"
    );
    assert!(head.contains("x-frame-options: deny"), "{head}");
    server.stop().await;
}

async fn over_tls(server: &Harness, request: &str) -> String {
    use tokio::io::AsyncReadExt;
    let anybody = pgwarden::api::tls::client::Wanted {
        trust: pgwarden::api::tls::client::Trust::Anybody,
        pair: None,
    };
    let connector = tokio_rustls::TlsConnector::from(anybody.load(0).unwrap().config);
    let stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    text
}
