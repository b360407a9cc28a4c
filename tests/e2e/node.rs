//! What happens to a node and not to its pods: a container's processes die, the API server goes
//! away. How to get there differs from cluster to cluster, so the environment says it.

use crate::release::Release;
use crate::run::{Outcome, ensure, run_with, shell, variable};

/// Kills the container's first process, and so the container (exit 137).
pub(crate) fn kill_container(release: &Release, pod: &str) -> Outcome<()> {
    let object = release.get(&format!("pod/{pod}"))?;
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    // Under either cgroup driver: systemd's slices have underscores.
    let pattern = format!("{uid}|{}", uid.replace('-', "_"));
    let script = format!(
        "for process in /proc/[0-9]*; do\n\
           grep -Eq '{pattern}' $process/cgroup 2>/dev/null || continue\n\
           grep -aq pgwarden $process/cmdline || continue\n\
           parent=$(awk '/^PPid:/ {{print $2}}' $process/status)\n\
           grep -Eq '{pattern}' /proc/$parent/cgroup 2>/dev/null && continue\n\
           kill -KILL ${{process#/proc/}} && echo killed\n\
         done\n"
    );
    let said = on_node(&script)?;
    ensure(said.contains("killed"), || {
        format!("no process of pod {uid} on the node; set E2E_NODE_SHELL to a shell there")
    })
}

/// Runs a script where the kubelet runs: `docker exec -i kind-control-plane sh`, for example.
pub(crate) fn on_node(script: &str) -> Outcome<String> {
    let shell = variable("E2E_NODE_SHELL").unwrap_or_else(|| "sh".to_owned());
    let words: Vec<&str> = shell.split_whitespace().collect();
    run_with(words[0], &words[1..], script)
}

/// Stops the API server, runs `meanwhile`, and starts it again whatever came of that.
pub(crate) fn without_api<T>(meanwhile: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let command = |name: &str| {
        variable(name).ok_or_else(|| format!("SKIPPED: {name} is not set; see deploy/README.md"))
    };
    let (stop, start) = (command("E2E_API_STOP")?, command("E2E_API_START")?);
    shell(&stop)?;
    let result = meanwhile();
    shell(&start)?;
    result
}
