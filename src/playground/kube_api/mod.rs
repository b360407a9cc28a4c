//! A Kubernetes API in memory: real enough for `kube::Client`, and able to fail in every way a real
//! one can.
//!
//! The playground runs on it, and tests use it as the fault-injecting double of a cluster. It
//! serves Leases, Endpoints, EndpointSlices, ConfigMaps, Secrets, Pods, Services and Events over
//! plain HTTP on loopback. A caller is known by its bearer token. `tests/kube_api.rs` runs the same
//! checks against it and against a real kube-apiserver, so that the two cannot drift apart.
//!
//! Left out on purpose: namespaces as objects (any name is good), authorisation (inject 403
//! instead), server-side apply (415), dry runs, managedFields, and controllers.

mod addresses;
mod admin;
mod answers;
mod defaults;
mod deletion;
mod faults;
mod kinds;
mod names;
mod patch;
mod requests;
mod resources;
mod routes;
mod rules;
mod selector;
mod server;
mod status;
mod store;
mod strategic;
mod validate;
mod verbs;
mod watch;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch as latest;
use tokio::task::JoinHandle;

pub use faults::{Injected, RuleId};
use resources::Resource;
pub use rules::{Fault, Rule, Verb};
use server::Shared;
use store::Key;
pub use store::Snapshot;

/// How the server is to behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 finds a free one.
    pub listen: SocketAddr,
    /// Accept loopback addresses in Endpoints and EndpointSlices, which a real cluster refuses.
    pub allow_loopback: bool,
    /// How many changes a watch may lie behind before it is told 410.
    pub log_limit: usize,
    /// How often a watch that asked for bookmarks gets one.
    pub bookmark_interval: Duration,
    /// The objects to start with, as `Handle::stop` returned them.
    pub state: Option<Snapshot>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            allow_loopback: false,
            log_limit: 4096,
            bookmark_interval: Duration::from_secs(10),
            state: None,
        }
    }
}

/// The embedded Kubernetes API.
#[derive(Debug)]
pub struct KubeApi;

impl KubeApi {
    /// Starts serving in the current tokio runtime.
    pub async fn start(mut options: Options) -> io::Result<Handle> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let state = options
            .state
            .take()
            .unwrap_or_else(Snapshot::of_a_new_cluster);
        let shared = Arc::new(Shared::new(options, state));
        let (stop, stopped) = latest::channel(false);
        let task = tokio::spawn(server::serve(listener, Arc::clone(&shared), stopped));
        Ok(Handle {
            address,
            shared,
            stop,
            task: Some(task),
        })
    }
}

/// The running server. Dropping it ends the server and every connection.
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: latest::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.abort_requests();
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Where it is and how to reach it.
impl Handle {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig file's text whose user is known here as `client`.
    pub fn kubeconfig(&self, client: &str, namespace: &str) -> String {
        let url = self.url();
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: embedded\n\
             clusters: [{{name: embedded, cluster: {{server: \"{url}\"}}}}]\n\
             users: [{{name: {client}, user: {{token: \"{client}\"}}}}]\n\
             contexts: [{{name: embedded, context: {{cluster: embedded, user: {client}, \
             namespace: {namespace}}}}}]\n"
        )
    }

    /// The configuration of a client known here as `client`.
    pub fn config(&self, client: &str) -> kube::Config {
        let url = self
            .url()
            .parse()
            .expect("a socket address makes a valid URL");
        let mut config = kube::Config::new(url);
        config.auth_info.token = Some(client.to_owned().into());
        // Else kube::Client asks again by itself after 429, 503 and 504, and hides what was
        // answered.
        config.default_retry = false;
        config
    }

    /// A client known here as `client`.
    pub fn client(&self, client: &str) -> Result<kube::Client, kube::Error> {
        kube::Client::try_from(self.config(client))
    }

    /// Ends the server and all its connections; what it returns starts the next one.
    pub async fn stop(mut self) -> Snapshot {
        self.stop.send_replace(true);
        self.shared.abort_requests();
        if let Some(task) = self.task.take() {
            // The only error is that it was aborted, which is as good.
            drop(task.await);
        }
        self.snapshot()
    }
}

/// Faults.
impl Handle {
    /// Puts a rule in force.
    pub fn inject(&self, rule: Rule) -> RuleId {
        self.shared.faults.inject(rule)
    }

    /// Removes a rule.
    pub fn clear(&self, id: RuleId) {
        self.shared.faults.clear(Some(id));
    }

    /// Removes every rule.
    pub fn clear_faults(&self) {
        self.shared.faults.clear(None);
    }

    /// The rules in force.
    pub fn faults(&self) -> Vec<Injected> {
        self.shared.faults.list()
    }

    /// How many calls a rule in force has hit.
    pub fn fired(&self, id: RuleId) -> u64 {
        self.faults()
            .iter()
            .find(|it| it.id == id)
            .map_or(0, |it| it.fired)
    }

    /// How many calls of this verb on this kind a client has made, whatever became of them.
    pub fn calls(&self, client: &str, verb: Verb, plural: &str) -> u64 {
        let calls = self.shared.faults.calls();
        let of_kind = |kind: &str| plural == kind;
        calls
            .iter()
            .filter(|((who, what, kind), _)| who == client && *what == verb && of_kind(kind))
            .map(|(_, count)| count)
            .sum()
    }

    /// The store as it is now.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.store().now.clone()
    }

    /// Keeps the store's present under a name, for [`Fault::Stale`].
    pub fn save_snapshot(&self, name: &str) {
        self.shared.faults.save_snapshot(name, self.snapshot());
    }

    /// Puts a snapshot back: content and resourceVersion go backwards, open watches end.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.shared.restore(snapshot);
    }

    /// Forgets the past: every older resourceVersion is answered with 410, open watches too if
    /// behind.
    pub fn compact(&self) {
        self.shared.store().compact();
        self.shared.announce();
    }
}

/// The objects, past every rule and fault. Kinds are named by their plural.
impl Handle {
    /// The store's resourceVersion.
    pub fn revision(&self) -> u64 {
        self.shared.store().now.revision
    }

    /// An object as stored.
    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = key(plural, namespace, name)?;
        self.shared.store().get(&key).map(|it| Value::clone(it))
    }

    /// All objects of a kind in a namespace, by name.
    pub fn objects(&self, plural: &str, namespace: &str) -> Vec<Value> {
        let Some(resource) = Resource::by_plural(plural) else {
            return Vec::new();
        };
        let store = self.shared.store();
        let found = store.now.of_kind(resource.plural, Some(namespace));
        found.map(|it| Value::clone(it)).collect()
    }

    /// Changes an object without validation, under a new resourceVersion; false if it does not
    /// exist.
    pub fn edit(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> bool {
        let Some(key) = key(plural, namespace, name) else {
            return false;
        };
        let mut store = self.shared.store();
        let Some(mut object) = store.get(&key).map(|it| Value::clone(it)) else {
            return false;
        };
        change(&mut object);
        store.put(key, object);
        drop(store);
        self.shared.announce();
        true
    }

    /// Removes an object at once, whatever its finalizers; false if it does not exist.
    pub fn remove(&self, plural: &str, namespace: &str, name: &str) -> bool {
        let Some(key) = key(plural, namespace, name) else {
            return false;
        };
        let removed = self.shared.store().remove(&key).is_some();
        self.shared.announce();
        removed
    }
}

fn key(plural: &str, namespace: &str, name: &str) -> Option<Key> {
    let plural = Resource::by_plural(plural)?.plural;
    Some(Key {
        plural,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}
