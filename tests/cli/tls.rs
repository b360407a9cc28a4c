//! `ctl` over HTTPS: whom it believes, by its words and by the configuration.

use crate::certificates::{Authority, Dir, asking};
use crate::harness::{Harness, PATIENCE, start_with, wall_s};
use crate::program::{program, run};
use crate::recorded::view;
use pgwarden::api::Limits;
use pgwarden::api::security::{Handle, Security};
use pgwarden::api::tls::server::VerifyClient;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};

/// A member that asks whoever changes something for a certificate of this authority.
async fn serve(dir: &Dir, ours: &Authority) -> Harness {
    let pair = dir.put_pair("server", &ours.server(2020, 2090));
    let cafile = dir.put("clients.crt", &ours.certificate);
    let wanted = asking(pair, &cafile, VerifyClient::Optional);
    let handle = Handle::new(Security::load(wanted, wall_s()).unwrap(), wall_s);
    start_with(view("running", "leader"), Limits::default(), handle).await
}

#[tokio::test]
async fn a_member_is_believed_by_its_authority_or_by_order() {
    let (dir, ours, other) = (Dir::new(), Authority::new(), Authority::new());
    let server = serve(&dir, &ours).await;
    let api = format!("--api=https://{}", server.addr);
    let file = |name: &str, authority: &Authority| {
        let path = dir.put(name, &authority.certificate);
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (file("right.crt", &ours), file("wrong.crt", &other));
    for believing in [&["-k"][..], &["--insecure"], &["--cacert", &right]] {
        let args = [&["ctl", "list", &api][..], believing].concat();
        let ended = run(&args).await;
        assert_eq!(ended.code, 0, "{believing:?}: {ended:?}");
        assert!(ended.out.starts_with("+ Cluster: bench"), "{ended:?}");
    }
    for doubting in [&[][..], &["--cacert", &wrong]] {
        let args = [&["ctl", "list", &api][..], doubting].concat();
        let ended = run(&args).await;
        assert_eq!(ended.code, 69, "{doubting:?}: {ended:?}");
        assert!(ended.err.contains("no TLS connection"), "{ended:?}");
    }
    let ended = run(&["ctl", "list", &api, "--cacert", "/nonexistent"]).await;
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.err.contains("--cacert: /nonexistent"), "{ended:?}");
    let ended = run(&["explain", &api, "-k"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    // What renews itself asks as whoever asks once.
    let mut watching = program(&["ctl", "list", &api, "-k", "-w", "1"]);
    let mut child = watching.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let shown = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("Cluster: bench") {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(PATIENCE, shown).await.unwrap());
    child.kill().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn the_configuration_says_whom_to_believe_and_what_to_show() {
    let (dir, ours) = (Dir::new(), Authority::new());
    let server = serve(&dir, &ours).await;
    dir.put_pair("client", &ours.client());
    let at = |name: &str| dir.path(name).display().to_string();
    let config = |ctl: &str| {
        let text = format!(
            "scope: bench\nname: pg-2\nkubernetes: {{lock: lease, namespace: a}}\n\
             restapi: {{connect_address: '{}', certfile: {}, keyfile: {}, cafile: {}, \
             verify_client: optional}}\nctl: {{{ctl}}}\n\
             postgresql:\n  connect_address: 127.0.0.1:5432\n  data_dir: /x/data\n  \
             authentication: {{replication: {{password: a}}, superuser: {{password: b}}}}\n",
            server.addr,
            at("server.crt"),
            at("server.key"),
            at("clients.crt"),
        );
        dir.put("member.yml", &text).to_str().unwrap().to_owned()
    };
    let change = |config: String| async move {
        let args = ["ctl", "switchover", "--leader", "pg-9", "--force", "-c"];
        run(&[&args[..], &[&config]].concat()).await
    };
    // restapi.cafile signs the members here, so it counts where ctl.cacert is missing.
    let ended = change(config("")).await;
    assert_eq!(ended.code, 104, "{ended:?}");
    assert!(
        ended.err.contains("client certificate required"),
        "{ended:?}"
    );
    let shown = format!(
        "certfile: {}, keyfile: {}",
        at("client.crt"),
        at("client.key")
    );
    let ended = change(config(&shown)).await;
    assert!(
        ended.err.contains("leader name does not match"),
        "{ended:?}"
    );
    let doubt = dir.put("other.crt", &Authority::new().certificate);
    let doubt = format!("cacert: {}", doubt.display());
    let ended = change(config(&doubt)).await;
    assert_eq!(ended.code, 69, "{ended:?}");
    let ended = change(config(&format!("{doubt}, insecure: true"))).await;
    assert!(
        ended.err.contains("client certificate required"),
        "{ended:?}"
    );
    server.stop().await;
}
