//! The cluster on the stage: the API, the members and their keepers, set up and torn down together.

use super::keeper::Keeper;
use super::kube_api::{Fault, Handle, KubeApi, Options, Rule, RuleId};
use super::kubelet::Kubelet;
use super::member::{Member, NAMESPACE};
use super::proxy::Proxy;
use super::stage::{self, Stage};
use super::{Plan, processes, say};
use crate::cli::args::Synchronous;
use crate::postgres::version::{Installation, MAJOR_MAX, MAJOR_MIN};
use crate::sys::host::random_incarnation;
use anyhow::{Context, anyhow, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;

/// A name that stands in the certificate of every API server.
const SERVER_NAME: &str = "kubernetes.default.svc";

/// Everything that runs.
pub(super) struct Cluster {
    /// The directory.
    pub(super) stage: Arc<Stage>,
    /// The API past every fault, with the kubelet's pen.
    pub(super) kubelet: Kubelet,
    /// The members, by number.
    pub(super) keepers: Vec<Keeper>,
    /// Which PostgreSQL.
    pub(super) installation: Installation,
    /// The lease's time to live.
    pub(super) ttl_s: u64,
    /// How long the API is gone where it goes.
    pub(super) outage: Duration,
    /// Synchronous replication.
    pub(super) sync: Synchronous,
    /// The end of a container is reported.
    pub(super) terminated: bool,
    network: Network,
}

/// What stands between the members and the API server, and can be cut.
enum Network {
    Embedded {
        api: Handle,
        cuts: Mutex<Vec<(usize, RuleId)>>,
        names: Vec<String>,
    },
    Real {
        proxies: Vec<Proxy>,
    },
}

impl Cluster {
    /// Makes the stage and starts the members.
    pub(super) async fn set_up(plan: &Plan, serving: &Runtime) -> anyhow::Result<Self> {
        let installation = find_postgresql(plan.bin_dir.as_deref()).await?;
        let stage = Arc::new(Stage::set_up()?);
        match Self::furnish(plan, serving, Arc::clone(&stage), installation).await {
            Ok(cluster) => Ok(cluster),
            Err(error) => {
                stage.remove(false)?;
                Err(error)
            }
        }
    }

    async fn furnish(
        plan: &Plan,
        serving: &Runtime,
        stage: Arc<Stage>,
        installation: Installation,
    ) -> anyhow::Result<Self> {
        let names: Vec<String> = (0..plan.members)
            .map(|number| format!("pg-{number}"))
            .collect();
        let api = Api::open(plan, serving).await?;
        let kubelet = Kubelet::new(api.client().await?, plan.dialect, plan.terminated);
        let ips = &plan.addresses[..plan.members];
        let ports = stage::free_ports(&[ips, ips].concat())?;
        let password = random_incarnation().context("choose a password")?;
        kubelet.create_service(ports[0]).await?;
        let (mut members, mut proxies) = (Vec::new(), Vec::new());
        for (number, name) in names.iter().enumerate() {
            let member = Member {
                number,
                name: name.clone(),
                dir: stage.directory(name)?,
                ip: ips[number],
                pg_port: ports[number],
                api_port: ports[plan.members + number],
                pod_uid: kubelet.create_pod(name).await?,
                password: password.clone(),
            };
            let kubeconfig = match &api {
                Api::Embedded(handle) => handle.kubeconfig(name, NAMESPACE),
                Api::Real { kubeconfig, server } => {
                    let proxy = Proxy::start(member.ip, *server).await?;
                    let text = through(kubeconfig.clone(), proxy.address)?;
                    proxies.push(proxy);
                    text
                }
            };
            member.write_files(&stage, plan, &installation.bin_dir, &kubeconfig)?;
            members.push(Arc::new(member));
        }
        let network = match api {
            Api::Embedded(api) => Network::Embedded {
                api,
                cuts: Mutex::default(),
                names,
            },
            Api::Real { .. } => Network::Real { proxies },
        };
        let keep = |member| Keeper::start(member, Arc::clone(&stage), kubelet.clone());
        Ok(Self {
            keepers: members.into_iter().map(keep).collect(),
            stage,
            kubelet,
            installation,
            ttl_s: plan.ttl_s,
            outage: plan.outage,
            sync: plan.sync,
            terminated: plan.terminated,
            network,
        })
    }

    /// The members, by number.
    pub(super) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.keepers.iter().map(|keeper| &keeper.member)
    }

    /// Cuts a member off from the API server, or heals that.
    pub(super) fn set_cut(&self, number: usize, cut: bool) {
        match &self.network {
            Network::Real { proxies } => proxies[number].set_cut(cut),
            Network::Embedded { api, cuts, names } => {
                let mut cuts = cuts.lock().unwrap_or_else(PoisonError::into_inner);
                if cut {
                    let rule = Rule::new(Fault::Cut { reset: false }).client(&names[number]);
                    cuts.push((number, api.inject(rule)));
                } else {
                    cuts.retain(|(who, rule)| {
                        if *who == number {
                            api.clear(*rule);
                        }
                        *who != number
                    });
                }
            }
        }
    }

    /// Stops the members, ends what is left and removes the directory; says how many processes
    /// could not be ended.
    pub(super) async fn tear_down(&mut self, keep_logs: bool) -> usize {
        for number in 0..self.keepers.len() {
            self.set_cut(number, false);
            self.keepers[number].end();
        }
        for keeper in &mut self.keepers {
            keeper.ended().await;
        }
        processes::end_all(&self.stage.dir);
        match self.stage.remove(keep_logs) {
            Ok(None) => {}
            // Nobody is left to tell if even this cannot be written.
            Ok(Some(kept)) => drop(say(&format!("logs and journals are in {}", kept.display()))),
            Err(error) => drop(say(&format!("{error:#}"))),
        }
        processes::in_dir(&self.stage.dir).len()
    }
}

/// The API server, before the members have their way to it.
enum Api {
    Embedded(Handle),
    Real {
        kubeconfig: Box<Kubeconfig>,
        server: SocketAddr,
    },
}

impl Api {
    async fn open(plan: &Plan, serving: &Runtime) -> anyhow::Result<Self> {
        let Some(path) = &plan.kubeconfig else {
            let options = Options {
                allow_loopback: true,
                ..Options::default()
            };
            let started = serving.spawn(KubeApi::start(options)).await?;
            return Ok(Self::Embedded(started.context("start the embedded API")?));
        };
        let kubeconfig = Kubeconfig::read_from(path).context("read the kubeconfig")?;
        let cluster = kubeconfig
            .clusters
            .first()
            .and_then(|named| named.cluster.as_ref());
        let url = cluster
            .and_then(|cluster| cluster.server.as_deref())
            .unwrap_or_default();
        let authority = url
            .strip_prefix("https://")
            .unwrap_or(url)
            .trim_end_matches('/');
        let server = authority.parse().map_err(|_| {
            anyhow!("--kubeconfig: found the server {url:?}; expected https://ADDRESS:PORT")
        })?;
        Ok(Self::Real {
            kubeconfig: Box::new(kubeconfig),
            server,
        })
    }

    async fn client(&self) -> anyhow::Result<kube::Client> {
        match self {
            Self::Embedded(handle) => Ok(handle.client("playground")?),
            Self::Real { kubeconfig, .. } => {
                let options = KubeConfigOptions::default();
                let loading =
                    kube::Config::from_custom_kubeconfig(Kubeconfig::clone(kubeconfig), &options);
                Ok(kube::Client::try_from(loading.await?)?)
            }
        }
    }
}

/// A kubeconfig whose server is the proxy, and whose certificate is still the server's.
fn through(mut kubeconfig: Box<Kubeconfig>, proxy: SocketAddr) -> anyhow::Result<String> {
    for named in &mut kubeconfig.clusters {
        if let Some(cluster) = &mut named.cluster {
            cluster.server = Some(format!("https://{proxy}"));
            cluster.tls_server_name = Some(SERVER_NAME.to_owned());
        }
    }
    // JSON is YAML.
    Ok(serde_json::to_string_pretty(&kubeconfig)?)
}

/// The given installation, or the newest supported one.
async fn find_postgresql(bin_dir: Option<&Path>) -> anyhow::Result<Installation> {
    let deadline = Duration::from_secs(30);
    if let Some(bin_dir) = bin_dir {
        return Ok(Installation::find(bin_dir, deadline).await?);
    }
    for major in (MAJOR_MIN..=MAJOR_MAX).rev() {
        let bin_dir = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
        if bin_dir.exists() {
            return Ok(Installation::find(&bin_dir, deadline).await?);
        }
    }
    bail!("no PostgreSQL {MAJOR_MIN} to {MAJOR_MAX} under /usr/lib/postgresql; give --bin-dir")
}
