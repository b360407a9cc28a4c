//! What befalls a running cluster, and what its applications see of it.

use crate::client::Client;
use crate::node;
use crate::release::{Release, TTL_SECONDS};
use crate::run::{Outcome, ensure, kubectl, wait_for};
use std::time::Duration;

/// A cluster with applications that write to it all the time.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) release: &'a Release,
    pub(crate) client: Client<'a>,
}

impl World<'_> {
    /// Something happens; then writes go on, the cluster heals after so many elections at most, and
    /// nothing acknowledged is gone.
    pub(crate) fn survives(
        &self,
        members: usize,
        within_seconds: u64,
        ttl_seconds: u64,
        elections_max: u64,
        accident: impl FnOnce() -> Outcome<()>,
    ) -> Outcome<String> {
        let epoch = self.release.epoch()?;
        let began = self.client.now()?;
        accident()?;
        let over = self.client.now()?;
        self.client.writes_again(over, within_seconds)?;
        self.release.healed(members)?;
        let seen = self.client.since(began)?;
        let elections = self.release.epoch()? - epoch;
        ensure(elections <= elections_max, || {
            format!("{elections} elections, at most {elections_max} are needed")
        })?;
        let audit = self.client.audit()?;
        Ok(format!(
            "longest gap {} ms at a TTL of {ttl_seconds} s, {elections} new leaders; {audit}",
            seen.gap_ms
        ))
    }
}

pub(crate) fn deleted_pod(world: &World<'_>) -> Outcome<String> {
    world.survives(3, 60, TTL_SECONDS, 1, || {
        let leader = world.release.leader()?;
        world.release.kubectl(&["delete", "pod", &leader]).map(drop)
    })
}

/// Another one leads as soon as the kubelet has told that the container ended (L5).
pub(crate) fn killed_container(world: &World<'_>) -> Outcome<String> {
    let words = world.survives(3, 60, TTL_SECONDS, 1, || {
        let leader = world.release.leader()?;
        node::kill_container(world.release, &leader)?;
        wait_for("the kubelet's word", 60, || {
            let pod = world.release.get(&format!("pod/{leader}"))?;
            let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
            ensure(last["exitCode"] == 137, || format!("{last}"))
        })
    })?;
    elected(world, "proof: ").map(|why| format!("{why}; {words}"))
}

/// The same while the kubelet stands still and tells nobody: the lease has to end first.
pub(crate) fn killed_container_unproven(world: &World<'_>) -> Outcome<String> {
    let words = world.survives(3, 90, TTL_SECONDS, 1, || {
        let leader = world.release.leader()?;
        let guardian = node::processes(world.release, &leader)?.guardian;
        node::without_kubelet(TTL_SECONDS + 10, &format!("kill -KILL {guardian}"))
    })?;
    elected(world, "did not change for").map(|why| format!("{why}; {words}"))
}

/// Why the leader took the lock: its Event says so, and it is this.
fn elected(world: &World<'_>, wanted: &str) -> Outcome<String> {
    let release = world.release;
    let epoch = format!("epoch {}: ", release.epoch()?);
    wait_for("the Event of the election", 30, || {
        let events = release.events(&release.leader()?)?;
        let why = events.lines().find_map(|line| line.split_once(&epoch));
        let (_, why) = why.ok_or_else(|| format!("no {epoch}in {events}"))?;
        ensure(why.contains(wanted), || format!("{why}, not {wanted}"))?;
        Ok(why.split(';').next().unwrap_or(why).to_owned())
    })
}

/// The Pod object is gone before the kubelet has told of its container's end; its successor may
/// come at once on the same volume.
pub(crate) fn vanished_pod(world: &World<'_>) -> Outcome<String> {
    world.survives(3, 90, TTL_SECONDS, 1, || {
        let leader = world.release.leader()?;
        node::kill_container(world.release, &leader)?;
        let now = ["delete", "pod", &leader, "--grace-period=0", "--force"];
        world.release.kubectl(&now).map(drop)
    })
}

pub(crate) fn evicted_pod(world: &World<'_>) -> Outcome<String> {
    world.survives(3, 60, TTL_SECONDS, 1, || {
        let leader = world.release.leader()?;
        evict(world.release, &leader)?;
        // The budget allows one at a time: another one is refused while this one is away.
        let other = world.release.replica_but(&leader)?;
        let refused = evict(world.release, &other);
        let words = refused.err().unwrap_or_default();
        ensure(words.contains("disruption budget"), || {
            format!("a second eviction at the same time was not refused: {words}")
        })
    })
}

fn evict(release: &Release, pod: &str) -> Outcome<()> {
    let namespace = &release.namespace;
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
    let body = serde_json::json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace},
    });
    let arguments = ["create", "--raw", &path, "-f", "-"];
    crate::run::run_with("kubectl", &arguments, &body.to_string()).map(drop)
}

/// The agent's process stands still for two TTLs; the guardian does not wait that long.
pub(crate) fn frozen_agent(world: &World<'_>) -> Outcome<String> {
    world.survives(3, 60, TTL_SECONDS, 0, || {
        let leader = world.release.leader()?;
        // The one whose parent, the guardian, runs the same program.
        let freeze = "is() { [ \"$(readlink /proc/$1/exe)\" = /usr/local/bin/pgwarden ]; }; \
                      for process in /proc/[0-9]*; do process=${process#/proc/}; \
                        parent=$(awk '/^PPid:/ {print $2}' /proc/$process/status 2>/dev/null); \
                        is $process && is ${parent:-0} && kill -STOP $process && echo frozen; \
                      done; true";
        let said = world.release.exec(&leader, &["bash", "-c", freeze])?;
        ensure(said.contains("frozen"), || {
            format!("no agent in {leader}: {said}")
        })?;
        std::thread::sleep(Duration::from_secs(2 * TTL_SECONDS));
        Ok(())
    })
}

/// Without failsafe a primary that cannot renew stops in time; it comes back by itself.
pub(crate) fn silent_api(world: &World<'_>) -> Outcome<String> {
    world.survives(3, 120, TTL_SECONDS, 2, || {
        node::without_api(|| {
            std::thread::sleep(Duration::from_mins(1));
            Ok(())
        })?;
        wait_for("the API server", 120, || {
            kubectl(&["get", "--raw", "/readyz"]).map(drop)
        })
    })
}

pub(crate) fn emptied_volume(world: &World<'_>) -> Outcome<String> {
    world.survives(3, 60, TTL_SECONDS, 0, || {
        let replica = world.release.replica()?;
        let wipe = "rm -rf /var/lib/postgresql/data/pgroot";
        world.release.exec(&replica, &["bash", "-c", wipe])?;
        world.release.kubectl(&["delete", "pod", &replica])?;
        // Of the new pod: the one before was a copy as well.
        wait_for("the clone", 120, || {
            let pod = world.release.get(&format!("pod/{replica}"))?;
            let events = world.release.events_of_uid(&pod["metadata"]["uid"])?;
            ensure(events.contains("Cloned"), || events.clone())
        })
    })
}
