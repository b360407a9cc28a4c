//! One member as users start it: bad input at the door, an API server that is not there yet, a
//! second agent on the same data directory.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::print_stderr, clippy::unwrap_used)]

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use pgwarden::playground::kube_api::{Handle, KubeApi, Options};
use serde_json::{Value, json};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

// Those of the API's own tests; not all of them are needed here.
#[path = "agent/bootstrap.rs"]
mod bootstrap;
#[allow(dead_code)]
#[path = "api/certificates.rs"]
mod certificates;
#[path = "agent/dynamic.rs"]
mod dynamic;
#[path = "agent/guards.rs"]
mod guards;
#[path = "agent/hooks.rs"]
mod hooks;
#[path = "agent/kubectl.rs"]
mod kubectl;
#[path = "agent/methods.rs"]
mod methods;
#[path = "agent/nuisances.rs"]
mod nuisances;
#[path = "agent/parameters.rs"]
mod parameters;
#[path = "agent/pause.rs"]
mod pause;
#[path = "agent/reloading.rs"]
mod reloading;
#[path = "agent/sockets.rs"]
mod sockets;
#[path = "agent/standby.rs"]
mod standby;
#[path = "agent/stderr.rs"]
mod stderr;
#[path = "agent/stopped.rs"]
mod stopped;
#[path = "agent/tls.rs"]
mod tls;

const BIN_DIR: &str = "/usr/lib/postgresql/15/bin";
const DEADLINE: Duration = Duration::from_secs(90);

/// A directory of a test, removed at its end, owned by the user that runs PostgreSQL.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pgw-agent-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("member")).unwrap();
        Self(path)
    }

    fn hand_over(&self) {
        if is_root() {
            let owner = Command::new("chown")
                .args(["-R", "postgres:postgres"])
                .arg(&self.0)
                .status();
            assert!(owner.unwrap().success());
        }
    }

    fn config(&self, change: impl FnOnce(&mut Value)) -> PathBuf {
        let at = |name: &str| self.0.join(name).display().to_string();
        let mut config = json!({
            "scope": "solo",
            "name": "solo-0",
            "restapi": {"listen": "127.0.0.1:1", "connect_address": "127.0.0.1:1"},
            "kubernetes": {
                "namespace": "default", "labels": {"application": "pgwarden"}, "lock": "lease",
                "kubeconfig": at("kubeconfig"), "pod_uid": "uid-1", "pod_ip": "127.0.0.1",
            },
            "bootstrap": {"dcs": {"ttl": 6}, "initdb": ["data-checksums"]},
            "postgresql": {
                "listen": "127.0.0.1:1", "connect_address": "127.0.0.1:1",
                "data_dir": at("member/data"), "bin_dir": BIN_DIR, "pgpass": at("member/pgpass"),
                "parameters": {"unix_socket_directories": at("member"), "shared_buffers": "16MB"},
                "authentication": {
                    "superuser": {"username": "postgres", "password": "s"},
                    "replication": {"username": "replicator", "password": "r"},
                },
            },
        });
        change(&mut config);
        // JSON is YAML.
        let path = self.0.join("pgwarden.yml");
        fs::write(&path, config.to_string()).unwrap();
        self.hand_over();
        path
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether the server that these tests run is here; says so if not.
fn has_postgres() -> bool {
    let found = Path::new(BIN_DIR).join("postgres").is_file();
    if !found {
        eprintln!("SKIPPED: no PostgreSQL in {BIN_DIR}");
    }
    found
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// The program as the user that runs PostgreSQL; a copy, since a build may lie where only root
/// reads.
fn agent(home: &Home, config: &Path) -> Command {
    let program = home.0.join("pgwarden");
    if !program.exists() {
        // By another process: a fork of a test beside this one would keep a copy of ours open, and
        // a program that is open for writing cannot be run.
        let mut cp = Command::new("cp");
        cp.arg(env!("CARGO_BIN_EXE_pgwarden")).arg(&program);
        assert!(cp.status().unwrap().success());
    }
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
            .arg(program);
        command
    } else {
        Command::new(program)
    };
    command.arg("agent").arg(config).stdin(Stdio::null());
    command
}

fn run(home: &Home, config: &Path) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = agent(home, config).output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

fn kubeconfig(server: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": format!("http://{server}")}}],
        "users": [{"name": "u", "user": {"token": "solo-0"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    })
    .to_string()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A running member; it is told to end, and if it does not, killed.
struct Member(Child);

impl Drop for Member {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            if self.0.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn status(port: u16, path: &str) -> Option<u16> {
    let url = format!("http://127.0.0.1:{port}{path}");
    let answer = pgwarden::api::client::get(&url, Duration::from_secs(2)).await;
    answer.ok().map(|answer| answer.status)
}

async fn wait_for(what: &str, port: u16, path: &str, wanted: u16) {
    let until = Instant::now() + DEADLINE;
    while status(port, path).await != Some(wanted) {
        assert!(
            Instant::now() < until,
            "{what}: {path} did not answer {wanted} in time"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn create<K>(api: &Handle, object: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let objects: kube::Api<K> = kube::Api::namespaced(api.client("admin").unwrap(), "default");
    let object = serde_json::from_value(object).unwrap();
    let parameters = kube::api::PostParams::default();
    objects.create(&parameters, &object).await.unwrap();
}

/// Any free port.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An API server at this address that knows the member's Pod, with this UID.
async fn api_with_pod(listen: SocketAddr, uid: &str) -> Handle {
    let options = Options {
        listen,
        allow_loopback: true,
        ..Options::default()
    };
    let api = KubeApi::start(options).await.unwrap();
    let pod = json!({
        "metadata": {
            "name": "solo-0",
            "labels": {"application": "pgwarden", "cluster-name": "solo"},
        },
        "spec": {"containers": [{"name": "postgres", "image": "postgres"}]},
    });
    create::<Pod>(&api, pod).await;
    api.edit("pods", "default", "solo-0", |pod| {
        pod["metadata"]["uid"] = json!(uid);
    });
    api
}

/// A member with free ports on this API server, and where its log goes.
fn logging_member(home: &Home, config: &Path) -> (Member, PathBuf) {
    let at = home.0.join("log");
    let log = fs::File::create(&at).unwrap();
    let mut command = agent(home, config);
    command.stderr(log.try_clone().unwrap()).stdout(log);
    (Member(command.spawn().unwrap()), at)
}

/// A configuration with free ports and this API server.
fn config_with(home: &Home, api: &Handle) -> PathBuf {
    let server = api.address().to_string();
    fs::write(home.0.join("kubeconfig"), kubeconfig(&server)).unwrap();
    let (rest, sql) = (free_port(), free_port());
    home.config(|c| {
        for key in ["listen", "connect_address"] {
            c["restapi"][key] = json!(format!("127.0.0.1:{rest}"));
            c["postgresql"][key] = json!(format!("127.0.0.1:{sql}"));
        }
    })
}

/// Where a configuration has its REST API and its server.
fn ports(config: &Path) -> (u16, u16) {
    let text: Value = serde_json::from_str(&fs::read_to_string(config).unwrap()).unwrap();
    let port = |section: &str| -> u16 {
        let listen = text[section]["listen"].as_str().unwrap();
        listen.rsplit(':').next().unwrap().parse().unwrap()
    };
    (port("restapi"), port("postgresql"))
}

type Change = fn(&mut Value);

#[test]
fn a_configuration_that_cannot_be_used_ends_with_its_code_and_names_the_field() {
    let home = Home::new("bad");
    let cases: [(&str, Change); 5] = [
        ("scope", |c| {
            drop(c.as_object_mut().unwrap().remove("scope"));
        }),
        ("name", |c| drop(c.as_object_mut().unwrap().remove("name"))),
        ("postgresql.data_dir", |c| {
            drop(c["postgresql"].as_object_mut().unwrap().remove("data_dir"));
        }),
        ("bootstrap.dcs.ttl", |c| {
            c["bootstrap"]["dcs"]["ttl"] = json!(3);
        }),
        ("kubernetes", |c| {
            c["kubernetes"]["use_endpoints"] = json!(true);
        }),
    ];
    for (field, change) in cases {
        let (code, said) = run(&home, &home.config(change));
        assert_eq!(code, Some(78), "{field}: {said}");
        assert!(said.contains(field), "{field}: {said}");
        assert!(
            !home.0.join("member/data").exists(),
            "{field}: nothing is touched"
        );
    }
}

#[test]
fn root_is_refused_before_anything_is_made() {
    if !is_root() {
        return eprintln!("SKIPPED: only root can start the agent as root");
    }
    let home = Home::new("root");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgwarden"));
    command.arg("agent").arg(home.config(|_| ()));
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(77), "{said}");
    assert!(
        said.contains("root") && said.contains("runAsUser"),
        "{said}"
    );
    let made = fs::read_dir(home.0.join("member")).unwrap().count();
    assert_eq!(made, 0, "nothing is touched");
}

#[test]
fn programs_that_cannot_be_used_end_the_agent_with_the_field() {
    let home = Home::new("bindir");
    let empty = home.0.join("no-programs");
    fs::create_dir_all(&empty).unwrap();
    let config = home.config(|c| {
        c["postgresql"]["bin_dir"] = json!(empty);
        c["restapi"]["listen"] = json!(format!("127.0.0.1:{}", free_port()));
    });
    let (code, said) = run(&home, &config);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("error: postgresql.bin_dir: /"), "{said}");
    assert!(
        !said.contains("does not serve"),
        "it ended by itself: {said}"
    );
}

#[test]
fn an_address_in_use_ends_the_member_and_is_said_once() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("port");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = home.config(|c| c["restapi"]["listen"] = json!(address));
    let (code, said) = run(&home, &config);
    assert_eq!(code, Some(73), "{said}");
    assert!(said.contains("restapi.listen"), "{said}");
    assert_eq!(said.matches("Address already in use").count(), 1, "{said}");
    assert!(!home.0.join("member/data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_answer_while_the_own_pod_cannot_be_read() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("no-pod");
    let (api, rest, sql) = (free_port(), free_port(), free_port());
    fs::write(
        home.0.join("kubeconfig"),
        kubeconfig(&format!("127.0.0.1:{api}")),
    )
    .unwrap();
    let config = home.config(|c| {
        for key in ["pod_uid", "pod_ip"] {
            drop(c["kubernetes"].as_object_mut().unwrap().remove(key));
        }
        for key in ["listen", "connect_address"] {
            c["restapi"][key] = json!(format!("127.0.0.1:{rest}"));
            c["postgresql"][key] = json!(format!("127.0.0.1:{sql}"));
        }
    });
    let log = fs::File::create(home.0.join("log")).unwrap();
    let member = agent(&home, &config).stderr(log).spawn();
    let _member = Member(member.unwrap());
    wait_for("without its pod", rest, "/patroni", 200).await;
    // Longer than any patience of the liveness check: the waiting itself is a sign of life.
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert_eq!(status(rest, "/liveness").await, Some(200));
    assert_eq!(status(rest, "/primary").await, Some(503));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_not_there_is_waited_for_while_probes_answer() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("late-api");
    let (api, rest, sql) = (free_port(), free_port(), free_port());
    let address: SocketAddr = ([127, 0, 0, 1], api).into();
    let at = home.0.join("kubeconfig");
    fs::write(at, kubeconfig(&address.to_string())).unwrap();
    let config = home.config(|c| {
        for key in ["listen", "connect_address"] {
            c["restapi"][key] = json!(format!("127.0.0.1:{rest}"));
            c["postgresql"][key] = json!(format!("127.0.0.1:{sql}"));
        }
    });
    let log = fs::File::create(home.0.join("log")).unwrap();
    let member = agent(&home, &config)
        .stderr(log.try_clone().unwrap())
        .stdout(log)
        .spawn();
    let member = Member(member.unwrap());
    wait_for("without an API", rest, "/patroni", 200).await;
    assert_eq!(status(rest, "/liveness").await, Some(200));
    assert_eq!(status(rest, "/primary").await, Some(503));
    assert_eq!(status(rest, "/readiness").await, Some(503));

    // A second agent on the same data directory is refused, and the first goes on.
    let (code, said) = run(&home, &config);
    assert_eq!(code, Some(100), "{said}");
    assert!(said.contains(".data.pgwarden.lock"), "{said}");

    let api = api_with_pod(address, "uid-1").await;
    wait_for("with the API", rest, "/primary", 200).await;
    assert_eq!(status(rest, "/readiness").await, Some(200));
    drop(member);
    let said = fs::read_to_string(home.0.join("log")).unwrap();
    assert!(
        said.contains("the lock could not be read"),
        "it says what it waits for: {said}"
    );
    assert!(
        !said.contains("does not serve"),
        "it was told to end: {said}"
    );
    assert!(api.object("leases", "default", "solo").is_some());
    api.stop().await;
}

/// Answers every request with this JSON, as the agent of another Pod would.
async fn answer_always(body: String) -> SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_name_is_taken_ends_before_it_touches_anything() {
    if !has_postgres() {
        return;
    }
    let home = Home::new("namesake");
    let api = api_with_pod(ANYWHERE, "uid-2").await;
    let other = answer_always(
        json!({
            "state": "running", "role": "replica",
            "patroni": {"version": "1", "scope": "solo", "name": "solo-0"},
            "pgwarden": {"pod_uid": "uid-2", "incarnation": "other", "epoch": null},
        })
        .to_string(),
    )
    .await;
    api.edit("pods", "default", "solo-0", |pod| {
        let status = json!({"api_url": format!("http://{other}/patroni"), "state": "running"});
        pod["metadata"]["annotations"] = json!({"status": status.to_string()});
    });
    let config = config_with(&home, &api);
    let (code, said) = tokio::task::block_in_place(|| run(&home, &config));
    assert_eq!(code, Some(103), "{said}");
    assert!(said.contains("in pod uid-2, mine is uid-1"), "{said}");
    assert!(!home.0.join("member/data").exists(), "nothing is touched");
    api.stop().await;
}
