//! HTTPS: handshakes good and bad, clients with certificates and without, silent ones.

use crate::certificates::{Authority, Dir, PASSWORD, asking, recorded_key, wanted};
use crate::harness::{Harness, PATIENCE, start_with, wall_s};
use crate::recorded::view;
use crate::rude::is_cut_off;
use pgwarden::api::client::{Client, Error};
use pgwarden::api::security::{self, Handle, Security, Wanted};
use pgwarden::api::tls::client::{self, Trust};
use pgwarden::api::tls::server::VerifyClient;
use pgwarden::api::{Credentials, Limits, client as plain};
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

async fn serve(wanted: Wanted, limits: Limits) -> Harness {
    let security = Security::load(wanted, wall_s()).unwrap();
    start_with(
        view("running", "leader"),
        limits,
        Handle::new(security, wall_s),
    )
    .await
}

fn url(server: &Harness, path: &str) -> String {
    format!("https://{}{path}", server.addr)
}

async fn status(client: &Client, server: &Harness) -> Result<u16, Error> {
    let answer = client.get(&url(server, "/primary"), PATIENCE).await?;
    Ok(answer.status)
}

/// The status and body of a change that no cluster agrees to.
async fn change(
    client: &Client,
    server: &Harness,
    who: Option<&Credentials>,
) -> Result<(u16, String), Error> {
    let body = json!({"leader": "pg-9"});
    let url = url(server, "/switchover");
    let answer = client.send_json("POST", &url, &body, who, PATIENCE).await?;
    Ok((answer.status, answer.text()))
}

const AGREED: &str = "leader name does not match";

#[tokio::test]
async fn https_is_spoken_and_only_believed_authorities_are_believed() {
    let (dir, ours, other) = (Dir::new(), Authority::new(), Authority::new());
    let pair = dir.put_pair("server", &ours.server(2020, 2090));
    let server = serve(wanted(pair), Limits::default()).await;
    let believer = ours.believer(&dir, None);
    assert_eq!(status(&believer, &server).await.unwrap(), 200);
    let peer = believer.get_patroni(&url(&server, ""), PATIENCE).await;
    assert_eq!(peer.unwrap().name, "pg-2");
    let stranger = other.believer(&dir, None);
    let error = status(&stranger, &server).await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error}");
    let anybody = client::Wanted {
        trust: Trust::Anybody,
        pair: None,
    };
    let insecure = Client::with_tls(&anybody.load(0).unwrap().config);
    assert_eq!(status(&insecure, &server).await.unwrap(), 200);
    // The name counts too: the certificate is for 127.0.0.1.
    let by_name = format!("https://localhost:{}/primary", server.addr.port());
    let error = believer.get(&by_name, PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
    // Whoever speaks plain HTTP there gets no answer, and without TLS https is an error.
    assert_ne!(server.ask("GET", "/primary").await.status, 200);
    let error = plain::get(&url(&server, "/"), PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::Url { .. }), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_is_required_of_everybody() {
    let (dir, ours, other) = (Dir::new(), Authority::new(), Authority::new());
    let pair = dir.put_pair("server", &ours.server(2020, 2090));
    let cafile = dir.put("clients.crt", &ours.certificate);
    let wanted = asking(pair, &cafile, VerifyClient::Required);
    let server = serve(wanted, Limits::default()).await;
    let error = status(&ours.believer(&dir, None), &server).await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error}");
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    let foreign = dir.put_pair("foreign", &other.client());
    let error = status(&ours.believer(&dir, Some(foreign)), &server).await;
    assert!(matches!(error, Err(Error::Tls { .. })), "{error:?}");
    let own = dir.put_pair("client", &ours.client());
    let client = ours.believer(&dir, Some(own));
    assert_eq!(status(&client, &server).await.unwrap(), 200);
    let answer = change(&client, &server, None).await.unwrap();
    assert_eq!(answer, (412, AGREED.to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn an_optional_certificate_is_needed_for_changes() {
    let (dir, ours) = (Dir::new(), Authority::new());
    let pair = dir.put_pair("server", &ours.server(2020, 2090));
    let cafile = dir.put("clients.crt", &ours.certificate);
    let admin = Credentials {
        username: "admin".to_owned(),
        password: "right".to_owned(),
    };
    let wanted = Wanted {
        credentials: Some(admin.clone()),
        ..asking(pair, &cafile, VerifyClient::Optional)
    };
    let server = serve(wanted, Limits::default()).await;
    let bare = ours.believer(&dir, None);
    assert_eq!(status(&bare, &server).await.unwrap(), 200);
    // The certificate is asked for before the password.
    for who in [None, Some(&admin)] {
        let answer = change(&bare, &server, who).await.unwrap();
        assert_eq!(answer, (403, "client certificate required".to_owned()));
    }
    let own = dir.put_pair("client", &ours.client());
    let client = ours.believer(&dir, Some(own));
    let answer = change(&client, &server, None).await.unwrap();
    assert_eq!(answer, (401, "no auth header received".to_owned()));
    let answer = change(&client, &server, Some(&admin)).await.unwrap();
    assert_eq!(answer, (412, AGREED.to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn a_thousand_silent_tls_clients_keep_no_probe_out() {
    let (dir, ours) = (Dir::new(), Authority::new());
    let pair = dir.put_pair("server", &ours.server(2020, 2090));
    // No deadline helps here, only the bound on connections.
    let limits = Limits {
        handshake_ms: 600_000,
        ..Limits::default()
    };
    let server = serve(wanted(pair), limits).await;
    let prober = ours.believer(&dir, None);
    let mut silent = Vec::new();
    for n in 0..1000 {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        // Some say nothing, some begin a handshake record of 512 bytes and never end it.
        if n % 2 == 0 {
            let _ = stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0]).await;
        }
        silent.push(stream);
        if n % 250 == 249 {
            assert_eq!(status(&prober, &server).await.unwrap(), 200, "after {n}");
        }
    }
    for _ in 0..50 {
        assert_eq!(status(&prober, &server).await.unwrap(), 200);
    }
    // The oldest went for the newest.
    is_cut_off(&mut silent[0]).await;
    drop(silent);
    server.stop().await;
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let (dir, ours) = (Dir::new(), Authority::new());
    let pair = dir.put_pair("server", &ours.server(2020, 2090));
    let limits = Limits {
        handshake_ms: 100,
        head_ms: 600_000,
        ..Limits::default()
    };
    let server = serve(wanted(pair), limits).await;
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    is_cut_off(&mut silent).await;
    server.stop().await;
}

#[tokio::test]
async fn the_server_stops_under_an_unfinished_handshake() {
    let (dir, ours) = (Dir::new(), Authority::new());
    let pair = dir.put_pair("server", &ours.server(2020, 2090));
    let limits = Limits {
        handshake_ms: 600_000,
        drain_ms: 600_000,
        ..Limits::default()
    };
    let server = serve(wanted(pair), limits).await;
    let silent = TcpStream::connect(server.addr).await.unwrap();
    // It is served once a later connection is.
    let prober = ours.believer(&dir, None);
    assert_eq!(status(&prober, &server).await.unwrap(), 200);
    server.stop().await;
    drop(silent);
}

#[test]
fn an_encrypted_key_needs_its_password() {
    let (dir, ours) = (Dir::new(), Authority::new());
    let key = rcgen::KeyPair::from_pem(&recorded_key(0)).unwrap();
    let issued = ours.sign(&key, 2020, 2090);
    let load = |number: usize, password: Option<&str>| {
        let mut pair = dir.put_pair("server", &issued);
        pair.keyfile = Some(dir.put("server.key", &recorded_key(number)));
        pair.password = password.map(str::to_owned);
        Security::load(wanted(pair), wall_s()).map(drop)
    };
    load(0, None).unwrap();
    load(1, Some(PASSWORD)).unwrap();
    let file = dir.path("server.key").display().to_string();
    for (number, password, word) in [
        (1, None, "no password is set"),
        (1, Some("wrong"), "the password is wrong"),
        (2, Some(PASSWORD), "older form of encryption"),
        (3, Some(PASSWORD), "not supported; expected PBES2 with AES"),
    ] {
        let error = load(number, password).unwrap_err();
        assert_eq!(error.key(), "restapi.keyfile_password", "{error}");
        let error = error.to_string();
        assert!(error.contains(word) && error.contains(&file), "{error}");
        assert!(
            !error.contains(PASSWORD) || word.contains(PASSWORD),
            "{error}"
        );
    }
}

#[test]
fn every_finding_names_its_key_and_file() {
    let (dir, ours, other) = (Dir::new(), Authority::new(), Authority::new());
    let good = dir.put_pair("good", &ours.server(2020, 2090));
    let stranger = dir.put_pair("stranger", &other.server(2020, 2090));
    let ended = dir.put_pair("ended", &ours.server(2000, 2001));
    let garbage = dir.put(
        "garbage",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    );
    let empty = dir.put("empty", "no PEM at all\n");
    let nothing = dir.path("nothing");
    let with = |certfile, keyfile| {
        let mut pair = good.clone();
        (pair.certfile, pair.keyfile) = (certfile, Some(keyfile));
        wanted(pair)
    };
    let (crt, key) = (&good.certfile, good.keyfile.as_ref().unwrap());
    let mut ciphers = wanted(good.clone());
    ciphers.tls.as_mut().unwrap().ciphers = Some("DES-CBC3-SHA".to_owned());
    let mut header = wanted(good.clone());
    header.http_headers = vec![("Content-Length".to_owned(), "7".to_owned())];
    let mut peers = wanted(good.clone());
    peers.peers.pair = Some(stranger.clone());
    peers.peers.pair.as_mut().unwrap().certfile = crt.clone();
    for (wanted, error, key, word) in [
        (
            with(nothing.clone(), key.clone()),
            true,
            "restapi.certfile",
            "cannot be read",
        ),
        (
            with(dir.path(""), key.clone()),
            true,
            "restapi.certfile",
            "it is not a file",
        ),
        (
            with(garbage.clone(), key.clone()),
            true,
            "restapi.certfile",
            "is no PEM file",
        ),
        (
            with(empty.clone(), key.clone()),
            true,
            "restapi.certfile",
            "holds no CERTIFICATE",
        ),
        (
            with(crt.clone(), nothing.clone()),
            true,
            "restapi.keyfile",
            "cannot be read",
        ),
        (
            with(crt.clone(), crt.clone()),
            true,
            "restapi.keyfile",
            "holds no PRIVATE KEY",
        ),
        (
            with(crt.clone(), stranger.keyfile.clone().unwrap()),
            true,
            "restapi.keyfile",
            "does not belong to the certificate",
        ),
        (
            wanted(ended),
            false,
            "restapi.certfile",
            "ended at 2001-01-01T00:00:00Z",
        ),
        (
            asking(good.clone(), &empty, VerifyClient::Optional),
            true,
            "restapi.cafile",
            "holds no CERTIFICATE",
        ),
        (
            ciphers,
            true,
            "restapi.ciphers",
            "names no cipher that is available",
        ),
        (
            header,
            true,
            "restapi.http_extra_headers.Content-Length",
            "how the answer is sent",
        ),
        (peers, true, "ctl.keyfile", "does not belong"),
    ] {
        let found = security::inspect(&wanted, wall_s());
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        assert_eq!((found[0].0, found[0].1.as_str()), (error, key), "{found:?}");
        assert!(found[0].2.contains(word), "{found:?}");
    }
}

#[test]
fn what_is_in_order_is_not_mentioned() {
    let (dir, ours) = (Dir::new(), Authority::new());
    let good = dir.put_pair("good", &ours.server(2020, 2090));
    let cafile = dir.put("clients.crt", &ours.certificate);
    let fine = asking(good, &cafile, VerifyClient::Required);
    assert_eq!(security::inspect(&fine, wall_s()), []);
}

#[tokio::test]
async fn a_short_queue_is_short() {
    let full = pgwarden::api::bind("127.0.0.1:0", Some(1)).await.unwrap();
    let addr = full.local_addr().unwrap();
    let mut queued = Vec::new();
    // Linux keeps one more than it is asked to.
    for _ in 0..2 {
        queued.push(TcpStream::connect(addr).await.unwrap());
    }
    let more = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(addr)).await;
    assert!(more.is_err(), "{more:?}");
}
