//! Certificates and rules that change under a running server: what is broken never replaces what
//! works.

use crate::certificates::{Authority, Dir, Issued, wanted};
use crate::harness::{Harness, PATIENCE, start_with, wall_s};
use crate::recorded::view;
use pgwarden::api::client::Client;
use pgwarden::api::security::{Handle, Security, Wanted};
use pgwarden::api::{Credentials, Limits};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server with a certificate of this authority, and the way to replace it.
async fn serve(dir: &Dir, issued: &Issued, look_ms: u64) -> (Harness, Arc<Handle>) {
    let wanted = wanted(dir.put_pair("server", issued));
    let handle = Handle::new(Security::load(wanted, wall_s()).unwrap(), wall_s);
    let limits = Limits {
        look_ms,
        ..Limits::default()
    };
    let server = start_with(view("running", "leader"), limits, Arc::clone(&handle)).await;
    (server, handle)
}

/// Nobody looks by himself in a test that says when.
const NEVER: u64 = 3_600_000;

async fn believes(client: &Client, server: &Harness) -> bool {
    let url = format!("https://{}/primary", server.addr);
    let answer = client.get(&url, PATIENCE).await;
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Ask until the certificate is another one.
async fn until_believed(client: &Client, server: &Harness) {
    let asking = async { while !believes(client, server).await {} };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .expect("the certificate is replaced");
}

#[tokio::test]
async fn what_is_broken_never_replaces_what_works() {
    let (dir, old, new) = (Dir::new(), Authority::new(), Authority::new());
    let good = old.server(2020, 2090);
    let (server, handle) = serve(&dir, &good, NEVER).await;
    let (of_old, of_new) = (old.believer(&dir, None), new.believer(&dir, None));
    let next = dir.path("server.crt").display().to_string();
    let broken = [
        (
            new.server(2000, 2001),
            "restapi.certfile",
            "ended at 2001-01-01T00:00:00Z",
        ),
        (
            new.server(2080, 2090),
            "restapi.certfile",
            "not valid before 2080-01-01T00:00:00Z",
        ),
        (
            Issued {
                certificate: new.server(2020, 2090).certificate,
                key: good.key.clone(),
            },
            "restapi.keyfile",
            "does not belong to the certificate",
        ),
        (
            Issued {
                certificate: "garbage".to_owned(),
                key: good.key.clone(),
            },
            "restapi.certfile",
            "holds no CERTIFICATE",
        ),
        (
            Issued {
                certificate: good.certificate.clone(),
                key: String::new(),
            },
            "restapi.keyfile",
            "holds no PRIVATE KEY",
        ),
    ];
    for (issued, key, word) in broken {
        let pair = dir.put_pair("server", &issued);
        // A request to reload and a look at the files are of one mind.
        for error in [
            handle.reload(wanted(pair)).unwrap_err(),
            handle.renew().unwrap_err(),
        ] {
            assert_eq!(error.key(), key, "{error}");
            let words = error.to_string();
            assert!(words.contains(word), "{words}");
            assert!(words.contains("/server."), "{words}");
            assert!(believes(&of_old, &server).await, "after {words}");
        }
    }
    std::fs::remove_file(dir.path("server.crt")).unwrap();
    let error = handle.renew().unwrap_err().to_string();
    assert!(error.contains(&next), "{error}");
    assert!(believes(&of_old, &server).await);
    let pair = dir.put_pair("server", &new.server(2020, 2090));
    assert!(handle.reload(wanted(pair)).unwrap().is_empty());
    assert!(believes(&of_new, &server).await);
    assert!(!believes(&of_old, &server).await);
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_renewed_in_place_is_used_without_a_word() {
    let (dir, old, new) = (Dir::new(), Authority::new(), Authority::new());
    let (server, handle) = serve(&dir, &old.server(2020, 2090), 20).await;
    let (of_old, of_new) = (old.believer(&dir, None), new.believer(&dir, None));
    assert!(believes(&of_old, &server).await);
    let before = handle.current();
    dir.put_pair("server", &new.server(2020, 2090));
    until_believed(&of_new, &server).await;
    let after = handle.current();
    assert!(!Arc::ptr_eq(&before, &after));
    // The same content under other names of files and inodes is the same.
    assert_eq!(handle.renew(), Ok(None));
    server.stop().await;
}

#[tokio::test]
async fn the_same_outdated_certificate_does_not_keep_other_changes_out() {
    let (dir, ours) = (Dir::new(), Authority::new());
    let ended = ours.server(2000, 2001);
    let (server, handle) = serve(&dir, &ended, NEVER).await;
    assert_eq!(handle.current().warnings()[0].key, "restapi.certfile");
    let changed = Wanted {
        credentials: Some(Credentials {
            username: "admin".to_owned(),
            password: "secret".to_owned(),
        }),
        ..wanted(dir.put_pair("server", &ended))
    };
    assert_eq!(handle.reload(changed.clone()).unwrap().len(), 1);
    // A client's certificate that is broken is new, and keeps everything as it was.
    let mut broken = changed;
    broken.credentials = None;
    broken.peers.pair = Some(dir.put_pair("peer", &ours.client()));
    dir.put("peer.key", &ended.key);
    let present = handle.current();
    let error = handle.reload(broken).unwrap_err();
    assert_eq!(error.key(), "ctl.keyfile", "{error}");
    assert!(Arc::ptr_eq(&present, &handle.current()));
    server.stop().await;
}

#[tokio::test]
async fn nobody_is_answered_until_the_certificate_is_repaired() {
    let (dir, ours) = (Dir::new(), Authority::new());
    let good = ours.server(2020, 2090);
    let pair = dir.put_pair("server", &good);
    dir.put("server.crt", "garbage");
    assert!(Security::load(wanted(pair.clone()), wall_s()).is_err());
    let handle = Handle::new(Security::closed(wanted(pair)), wall_s);
    let limits = Limits {
        look_ms: 20,
        ..Limits::default()
    };
    let server = start_with(view("running", "leader"), limits, handle).await;
    let client = ours.believer(&dir, None);
    assert!(!believes(&client, &server).await);
    // Not over plain HTTP either.
    assert_eq!(server.ask("GET", "/primary").await.status, 0);
    dir.put_pair("server", &good);
    until_believed(&client, &server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_connection_of_the_former_certificate_ends_with_its_next_answer() {
    let (dir, old, new) = (Dir::new(), Authority::new(), Authority::new());
    let (server, handle) = serve(&dir, &old.server(2020, 2090), NEVER).await;
    let anybody = pgwarden::api::tls::client::Wanted {
        trust: pgwarden::api::tls::client::Trust::Anybody,
        pair: None,
    };
    let config = anybody.load(0).unwrap().config;
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let mut stream = connector.connect(name, stream).await.unwrap();
    let request = b"GET /liveness HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(!String::from_utf8(head).unwrap().contains("close"));
    handle
        .reload(wanted(dir.put_pair("server", &new.server(2020, 2090))))
        .unwrap();
    stream.write_all(request).await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it is kept open");
    let rest = String::from_utf8(rest).unwrap().to_lowercase();
    assert!(rest.starts_with("http/1.1 200"), "{rest}");
    assert!(rest.contains("connection: close"), "{rest}");
    server.stop().await;
}
