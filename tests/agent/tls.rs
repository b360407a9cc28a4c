//! A member with a certificate that goes bad: at its start it is refused, under a PostgreSQL that
//! runs nothing of the kind takes the database down.

use super::*;
use crate::certificates::{Authority, Dir};
use crate::kubectl::wait_for_line;
use k8s_openapi::api::coordination::v1::Lease;
use pgwarden::api::client::Client;

/// The configuration with the files of a certificate.
fn add_tls(config: &Path, dir: &Dir) -> u16 {
    let text = fs::read_to_string(config).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["restapi"]["certfile"] = json!(dir.path("server.crt"));
    value["restapi"]["keyfile"] = json!(dir.path("server.key"));
    fs::write(config, value.to_string()).unwrap();
    let listen = value["restapi"]["listen"].as_str().unwrap();
    listen.parse::<SocketAddr>().unwrap().port()
}

/// The guardian's child that is the agent.
pub(super) fn agent_of(guardian: u32) -> u32 {
    let is_agent = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let parent = format!("PPid:\t{guardian}\n");
        status.contains(&parent) && line.starts_with("pgwarden\0agent\0")
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().find(is_agent).expect("an agent")
}

pub(super) fn postmaster(home: &Home) -> String {
    let file = fs::read_to_string(home.0.join("member/data/postmaster.pid"));
    file.unwrap().lines().next().unwrap().to_owned()
}

async fn wait_for_https(client: &Client, port: u16) {
    let url = format!("https://127.0.0.1:{port}/primary");
    let until = Instant::now() + DEADLINE;
    loop {
        let answer = client.get(&url, Duration::from_secs(2)).await;
        if answer.is_ok_and(|answer| answer.status == 200) {
            return;
        }
        assert!(Instant::now() < until, "{url} did not answer in time");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Until the lock was renewed so often.
async fn wait_for_renewals(api: &Handle, count: usize) {
    let leases: kube::Api<Lease> = kube::Api::namespaced(api.client("admin").unwrap(), "default");
    let until = Instant::now() + DEADLINE;
    let mut seen = Vec::new();
    while seen.len() <= count {
        let lease = leases.get("solo").await.unwrap();
        let renewed = lease.spec.and_then(|spec| spec.renew_time);
        if seen.last() != Some(&renewed) {
            seen.push(renewed);
        }
        assert!(Instant::now() < until, "not renewed: {seen:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused_at_a_start() {
    if !has_postgres() {
        return;
    }
    let (home, dir, ours) = (Home::new("no-tls"), Dir::new(), Authority::new());
    dir.put_pair("server", &ours.server(2020, 2090));
    dir.put("server.key", &ours.server(2020, 2090).key);
    let config = home.config(|c| {
        c["restapi"]["listen"] = json!(format!("127.0.0.1:{}", free_port()));
    });
    add_tls(&config, &dir);
    let (code, said) = run(&home, &config);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("restapi.keyfile: the private key in"),
        "{said}"
    );
    assert!(!home.0.join("member/data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_goes_bad_takes_no_database_down() {
    if !has_postgres() {
        return;
    }
    let (home, dir, ours) = (Home::new("tls"), Dir::new(), Authority::new());
    let good = ours.server(2020, 2090);
    dir.put_pair("server", &good);
    let api = api_with_pod(ANYWHERE, "uid-1").await;
    let config = config_with(&home, &api);
    let port = add_tls(&config, &dir);
    let client = ours.believer(&dir, None);
    let (member, at) = logging_member(&home, &config);
    wait_for_https(&client, port).await;
    let before = postmaster(&home);

    dir.put("server.crt", "garbage");
    let said = wait_for_line(&at, "the REST API goes on with what it had").await;
    assert!(said.contains("restapi.certfile: "), "{said}");
    wait_for_https(&client, port).await;

    // The one that knew the good certificate dies; its successor has only the bad one.
    let agent = agent_of(member.0.id()).to_string();
    let killed = Command::new("kill").args(["-KILL", &agent]).status();
    assert!(killed.unwrap().success());
    wait_for_line(&at, "the REST API answers nobody until this is repaired").await;
    // Longer than the lease: 6 s, renewed every 2 s or oftener.
    wait_for_renewals(&api, 5).await;
    assert_eq!(postmaster(&home), before);
    dir.put_pair("server", &good);
    wait_for_https(&client, port).await;
    assert_eq!(postmaster(&home), before);
    drop(member);
    api.stop().await;
}
