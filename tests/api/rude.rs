//! Clients that are slow, many, large or gone; and the client of this program.

use crate::harness::{PATIENCE, read_response, start};
use crate::recorded::view;
use pgwarden::api::{Limits, bind, client};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_thousand_silent_connections_keep_no_probe_out() {
    // No deadline helps here, only the bound on connections.
    let limits = Limits {
        head_ms: 600_000,
        ..Limits::default()
    };
    let server = start(view("running", "leader"), limits, None).await;
    let mut silent = Vec::new();
    for n in 0..1000 {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        // Some say nothing, some never finish.
        if n % 2 == 0 {
            let _ = stream.write_all(b"GET /primary HTTP/1.1\r\nHos").await;
        }
        silent.push(stream);
        if n % 250 == 249 {
            assert_eq!(server.ask("GET", "/primary").await.status, 200, "after {n}");
        }
    }
    for _ in 0..100 {
        assert_eq!(server.ask("GET", "/liveness").await.status, 200);
    }
    // The oldest went for the newest.
    is_cut_off(&mut silent[0]).await;
    drop(silent);
    server.stop().await;
}

/// The server ends it, in time.
pub(crate) async fn is_cut_off(stream: &mut TcpStream) {
    let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1]))
        .await
        .expect("it is cut off");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn a_byte_at_a_time_is_cut_off() {
    let limits = Limits {
        head_ms: 200,
        body_ms: 200,
        ..Limits::default()
    };
    let server = start(view("running", "leader"), limits, None).await;
    let head = "GET /primary HTTP/1.1\r\nHost: x\r\nX-Slow: ".to_owned();
    let slow_head = drip(server.addr, head + &"y".repeat(10_000));
    let body = "POST /switchover HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n".to_owned();
    let slow_body = async {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        read_response(stream).await
    };
    let probe = async {
        for _ in 0..20 {
            assert_eq!(server.ask("GET", "/primary").await.status, 200);
        }
    };
    let all = async { tokio::join!(slow_head, slow_body, probe) };
    let (sent, answer, ()) = tokio::time::timeout(PATIENCE, all)
        .await
        .expect("both are cut off");
    assert!(sent < 10_000, "the whole head was taken");
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (408, "the body did not arrive in time")
    );
    server.stop().await;
}

/// Send a byte at a time until the server has had enough; how many it took.
async fn drip(addr: std::net::SocketAddr, text: String) -> usize {
    let (mut read, mut write) = TcpStream::connect(addr).await.unwrap().into_split();
    let mut nothing = [0; 256];
    for (sent, byte) in text.bytes().enumerate() {
        let ended = tokio::select! {
            end = read.read(&mut nothing) => matches!(end, Ok(0) | Err(_)),
            () = tokio::time::sleep(Duration::from_millis(5)) => false,
        };
        if ended || write.write_all(&[byte]).await.is_err() {
            return sent;
        }
    }
    text.len()
}

#[tokio::test]
async fn large_bodies_are_refused_unread() {
    let mut server = start(view("running", "leader"), Limits::default(), None).await;
    let announced = server
        .raw("POST /failover HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n")
        .await;
    assert_eq!(announced.status, 413);
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    let head = "POST /failover HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = server.raw(&format!("{head}{}", chunk.repeat(5))).await;
    assert_eq!(chunked.status, 413);
    let small = "POST /failover HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                 Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n";
    let small = server.raw(small).await;
    assert_eq!(small.status, 400);
    assert!(
        small.body.starts_with("the body is not a JSON object"),
        "{small:?}"
    );
    let header = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "y".repeat(40_000)
    );
    assert_eq!(server.raw(&header).await.status, 431);
    assert_eq!(server.raw("nonsense\r\n\r\n").await.status, 400);
    assert!(server.commands.try_recv().is_err());
    server.stop().await;
}

#[tokio::test]
async fn connections_are_kept_and_the_server_stops_with_them_open() {
    let server = start(view("running", "leader"), Limits::default(), None).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    for _ in 0..3 {
        stream
            .write_all(b"GET /liveness HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 200"));
    }
    let addr = server.addr;
    server.stop().await;
    assert!(
        TcpStream::connect(addr).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_used_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = bind(&address, None).await.unwrap_err().to_string();
    assert!(
        error.starts_with("restapi.listen: cannot listen on"),
        "{error}"
    );
    assert!(error.contains(&address), "{error}");
}

#[tokio::test]
async fn the_journal_is_read_in_part_or_whole() {
    let server = start(view("running", "leader"), Limits::default(), None).await;
    assert_eq!(
        server.ask("GET", "/explain?last=2").await.body,
        "{\"n\":2}\n{\"n\":3}\n"
    );
    assert_eq!(server.ask("GET", "/explain").await.body.lines().count(), 3);
    assert_eq!(server.ask("GET", "/explain?last=x").await.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn peers_are_asked_with_a_deadline() {
    let server = start(view("running", "leader"), Limits::default(), None).await;
    let soon = Duration::from_millis(200);
    for suffix in ["", "/", "/patroni"] {
        let url = format!("http://{}{suffix}", server.addr);
        let peer = client::get_patroni(&url, PATIENCE).await.unwrap();
        assert_eq!(peer.name, "pg-2");
        assert_eq!(peer.pgwarden.unwrap().epoch, Some(7));
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let error = client::get_patroni(&url, soon).await.unwrap_err();
    assert!(
        matches!(
            error,
            client::Error::Deadline {
                deadline_ms: 200,
                ..
            }
        ),
        "{error}"
    );
    drop(silent);
    let error = client::get_patroni(&url, PATIENCE).await.unwrap_err();
    assert!(matches!(error, client::Error::Connect { .. }), "{error}");
    for url in [
        "pg-0:8008",
        "https://pg-0:8008",
        "ftp://pg-0:21",
        "",
        "http://",
    ] {
        let error = client::get_patroni(url, soon).await.unwrap_err();
        assert!(matches!(error, client::Error::Url { .. }), "{url}: {error}");
    }
    let body = serde_json::json!({"leader": "pg-9"});
    let url = format!("http://{}/switchover", server.addr);
    let answer = client::post_json(&url, &body, None, PATIENCE)
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (412, "leader name does not match")
    );
    server.stop().await;
}
