//! What happens to a node and not to its pods: a container's processes die, the API server goes
//! away. How to get there differs from cluster to cluster, so the environment says it.

use crate::release::Release;
use crate::run::{Outcome, kubectl, run_with, shell, variable};

/// The processes of a member, by their numbers on the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Processes {
    pub(crate) guardian: u32,
    pub(crate) agent: u32,
    pub(crate) postmaster: u32,
}

/// Kills the container's first process, and so the container (exit 137).
pub(crate) fn kill_container(release: &Release, pod: &str) -> Outcome<()> {
    signal("KILL", &[processes(release, pod)?.guardian])
}

/// Who is who in a pod: the guardian runs the program below something else, the agent runs it below
/// the guardian, the postmaster runs another below the guardian.
pub(crate) fn processes(release: &Release, pod: &str) -> Outcome<Processes> {
    let object = release.get(&format!("pod/{pod}"))?;
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    // Under either cgroup driver: systemd's slices have underscores.
    let pattern = format!("{uid}|{}", uid.replace('-', "_"));
    let script = format!(
        "for process in /proc/[0-9]*; do\n\
           grep -Eq '{pattern}' $process/cgroup 2>/dev/null || continue\n\
           program=$(readlink $process/exe) || continue\n\
           parent=$(awk '/^PPid:/ {{print $2}}' $process/status 2>/dev/null) || continue\n\
           echo ${{process#/proc/}} $parent ${{program##*/}}\n\
         done\n"
    );
    let said = on_node(&script)?;
    let all: Vec<(u32, u32, &str)> = said.lines().filter_map(process).collect();
    let programs = all.iter().filter(|(_, _, program)| *program == "pgwarden");
    let programs: Vec<u32> = programs.map(|(number, _, _)| *number).collect();
    let parent_of = |number: &u32| all.iter().find(|p| p.0 == *number).map_or(0, |p| p.1);
    // Those that `kubectl exec` starts have no child that runs the program.
    let agent = programs
        .iter()
        .find(|number| programs.contains(&parent_of(number)));
    let guardian = agent.map(parent_of);
    let below = |p: &&(u32, u32, &str)| Some(p.1) == guardian && p.2 == "postgres";
    match (guardian, agent, all.iter().find(below)) {
        (Some(guardian), Some(&agent), Some(postmaster)) => Ok(Processes {
            guardian,
            agent,
            postmaster: postmaster.0,
        }),
        _ => Err(format!(
            "no member in pod {uid} on the node, only {said:?}; E2E_NODE_SHELL is to be a shell there"
        )),
    }
}

fn process(line: &str) -> Option<(u32, u32, &str)> {
    let mut words = line.split_whitespace();
    let (number, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((number, parent, words.next()?))
}

pub(crate) fn signal(name: &str, processes: &[u32]) -> Outcome<()> {
    let numbers: Vec<_> = processes.iter().map(u32::to_string).collect();
    on_node(&format!("kill -{name} {}\n", numbers.join(" "))).map(drop)
}

/// For so long nothing leads from the pod to the API server: neither its Service nor itself.
pub(crate) fn cut_from_api(release: &Release, pod: &str, seconds: u64) -> Outcome<()> {
    let guardian = processes(release, pod)?.guardian;
    let service = kubectl(&[
        "get",
        "service/kubernetes",
        "-o",
        "jsonpath={.spec.clusterIP}",
    ])?;
    // In the pod's own network; a container that restarts meanwhile stays in it.
    on_node(&format!(
        "exec 9</proc/{guardian}/ns/net\n\
         nsenter --net=/proc/self/fd/9 ip route add blackhole {service}/32 || exit\n\
         sleep {seconds}\n\
         nsenter --net=/proc/self/fd/9 ip route del blackhole {service}/32\n"
    ))
    .map(drop)
}

/// Whether packets of the pod to this address are dropped without a word.
pub(crate) fn blackhole(release: &Release, pod: &str, address: &str, drops: bool) -> Outcome<()> {
    let guardian = processes(release, pod)?.guardian;
    let verb = if drops { "add" } else { "del" };
    let line =
        format!("nsenter --net=/proc/{guardian}/ns/net ip route {verb} blackhole {address}/32\n");
    on_node(&line).map(drop)
}

/// Something happens on the node while its kubelet stands still, for so long in all.
pub(crate) fn without_kubelet(seconds: u64, meanwhile: &str) -> Outcome<()> {
    on_node(&format!(
        "kubelet=$(pgrep -x kubelet) || {{ echo no kubelet here >&2; exit 1; }}\n\
         trap 'kill -CONT $kubelet' EXIT\n\
         kill -STOP $kubelet && {meanwhile} && sleep {seconds}\n"
    ))
    .map(drop)
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
