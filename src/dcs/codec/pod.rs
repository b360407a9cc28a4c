//! What a Pod object proves: the kubelet's word about a container (L5).
//!
//! Plain functions over [`PodFacts`], which a quorum read has filled. They refuse with words,
//! because a proof taken too easily is two writers.

use super::object::unix_ms;
use serde_json::Value;

/// The reason the kubelet gives when it lost sight of a container: no statement about its end.
const UNKNOWN_REASON: &str = "ContainerStatusUnknown";
/// How much later than the start of PID 1 the own status must be read.
const SETTLE_MS: u64 = 2_000;

/// What a container does or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Running since (milliseconds since 1970 of the node's clock).
    Running {
        /// When.
        started_at_unix_ms: Option<u64>,
    },
    /// Ended.
    Terminated {
        /// Which container ended: its id is its own, not the one of the running successor.
        container_id: String,
        /// Why, in the kubelet's word.
        reason: String,
        /// When it ended; `None`: the kubelet does not know.
        finished_at_unix_ms: Option<u64>,
    },
    /// Waiting, or nothing said.
    Other,
}

/// One entry of `containerStatuses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerFacts {
    /// The container's name in the pod.
    pub name: String,
    /// The id of the current container.
    pub container_id: String,
    /// `state`.
    pub state: ContainerState,
    /// `lastState`.
    pub last_state: ContainerState,
}

/// What is read of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The node it was bound to.
    pub node_name: String,
    /// Its addresses, the primary one first.
    pub ips: Vec<std::net::IpAddr>,
    /// `spec.hostPID`: its processes live in the node's namespace, a container's end is not theirs.
    pub host_pid: bool,
    /// `spec.shareProcessNamespace`: likewise.
    pub share_process_namespace: bool,
    /// The containers' states.
    pub containers: Vec<ContainerFacts>,
}

/// Why something is no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhyNot {
    /// The record carries no container id.
    #[error("no container id is recorded")]
    NothingRecorded,
    /// The pod of that name is another one.
    #[error("the pod has UID {found}, recorded is {recorded}")]
    OtherPod {
        /// The UID it has.
        found: String,
        /// The recorded one.
        recorded: String,
    },
    /// Processes may outlive their container.
    #[error("the pod uses {0}: its processes may outlive the container")]
    SharedProcesses(&'static str),
    /// No status speaks of the recorded container.
    #[error("no container status says that {0} is terminated")]
    NotTerminated(String),
    /// The kubelet lost sight of it.
    #[error("the kubelet does not know how the container ended ({0})")]
    KubeletUnsure(String),
    /// Which of several containers is ours is not known.
    #[error("the pod has {0} containers: name ours in the settings")]
    WhichContainer(usize),
    /// The own container is not shown as running.
    #[error("the own container is not shown as running")]
    NotRunning,
    /// The status may still be the predecessor's.
    #[error("the status may be the predecessor's: {0}")]
    Stale(&'static str),
}

/// Read a Pod object.
pub fn decode(pod: &Value) -> PodFacts {
    let (meta, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    let mut ips: Vec<_> = status["podIP"]
        .as_str()
        .and_then(|ip| ip.parse().ok())
        .into_iter()
        .collect();
    for entry in list(&status["podIPs"]) {
        if let Some(ip) = entry["ip"].as_str().and_then(|ip| ip.parse().ok())
            && !ips.contains(&ip)
        {
            ips.push(ip);
        }
    }
    PodFacts {
        name: text(&meta["name"]),
        uid: text(&meta["uid"]),
        node_name: text(&spec["nodeName"]),
        ips,
        host_pid: spec["hostPID"].as_bool().unwrap_or(false),
        share_process_namespace: spec["shareProcessNamespace"].as_bool().unwrap_or(false),
        containers: list(&status["containerStatuses"])
            .iter()
            .map(container)
            .collect(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn container(status: &Value) -> ContainerFacts {
    ContainerFacts {
        name: text(&status["name"]),
        container_id: text(&status["containerID"]),
        state: container_state(&status["state"]),
        last_state: container_state(&status["lastState"]),
    }
}

fn container_state(state: &Value) -> ContainerState {
    if let Some(ended) = state["terminated"].as_object() {
        let field = |key: &str| ended.get(key).map(text).unwrap_or_default();
        return ContainerState::Terminated {
            container_id: field("containerID"),
            reason: field("reason"),
            finished_at_unix_ms: known_ms(&field("finishedAt")),
        };
    }
    if state["running"].is_object() {
        let started_at_unix_ms = known_ms(&text(&state["running"]["startedAt"]));
        return ContainerState::Running { started_at_unix_ms };
    }
    ContainerState::Other
}

/// The year 1970 itself is the kubelet's "not known".
fn known_ms(text: &str) -> Option<u64> {
    unix_ms(text).filter(|ms| *ms > 0)
}

fn processes_end_with_container(pod: &PodFacts) -> Result<(), WhyNot> {
    if pod.host_pid {
        return Err(WhyNot::SharedProcesses("hostPID"));
    }
    if pod.share_process_namespace {
        return Err(WhyNot::SharedProcesses("shareProcessNamespace"));
    }
    Ok(())
}

/// The kubelet says that exactly this container of exactly this pod has ended: L5.
///
/// `pod` must come from a quorum read. A phase, a missing pod or a closed connection proves nothing
/// and has no way in here.
pub fn terminated_proof(pod: &PodFacts, pod_uid: &str, container_id: &str) -> Result<(), WhyNot> {
    if container_id.is_empty() {
        return Err(WhyNot::NothingRecorded);
    }
    if pod_uid.is_empty() || pod.uid != pod_uid {
        return Err(WhyNot::OtherPod {
            found: pod.uid.clone(),
            recorded: pod_uid.to_owned(),
        });
    }
    processes_end_with_container(pod)?;
    let states = pod
        .containers
        .iter()
        .flat_map(|c| [&c.state, &c.last_state]);
    for state in states {
        let ContainerState::Terminated {
            container_id: ended,
            reason,
            finished_at_unix_ms,
        } = state
        else {
            continue;
        };
        if ended != container_id {
            continue;
        }
        if reason == UNKNOWN_REASON || finished_at_unix_ms.is_none() {
            return Err(WhyNot::KubeletUnsure(reason.clone()));
        }
        return Ok(());
    }
    Err(WhyNot::NotTerminated(container_id.to_owned()))
}

/// The id of the own container, if the status is surely about this life of it: L5's entry
/// conditions.
///
/// `pid1_start_unix_ms` is the start of the container's PID 1 and `read_at_unix_ms` the moment
/// before the quorum read left, both on this node's wall clock.
pub fn container_id_to_record(
    pod: &PodFacts,
    container: Option<&str>,
    pid1_start_unix_ms: u64,
    read_at_unix_ms: u64,
) -> Result<String, WhyNot> {
    processes_end_with_container(pod)?;
    let own = match (container, pod.containers.as_slice()) {
        (Some(name), all) => all
            .iter()
            .find(|c| c.name == name)
            .ok_or(WhyNot::NotRunning)?,
        (None, [only]) => only,
        (None, all) => return Err(WhyNot::WhichContainer(all.len())),
    };
    let ContainerState::Running {
        started_at_unix_ms: Some(started_at),
    } = own.state
    else {
        return Err(WhyNot::NotRunning);
    };
    if own.container_id.is_empty() {
        return Err(WhyNot::NotRunning);
    }
    // startedAt is cut to seconds, hence the one more.
    if started_at.saturating_add(1_000) <= pid1_start_unix_ms {
        return Err(WhyNot::Stale("it shows a start before this PID 1's"));
    }
    if read_at_unix_ms < pid1_start_unix_ms.max(started_at).saturating_add(SETTLE_MS) {
        return Err(WhyNot::Stale("it was read within 2 s of the start"));
    }
    for state in pod.containers.iter().map(|c| &c.last_state) {
        if let ContainerState::Terminated { container_id, .. } = state
            && *container_id == own.container_id
        {
            return Err(WhyNot::Stale("its id is that of a terminated container"));
        }
    }
    Ok(own.container_id.clone())
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
