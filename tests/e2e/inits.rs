//! Who is PID 1 of the container: the guardian, another init before it, or the pod's own process in
//! a shared PID namespace. The guardian keeps its promises in all three.

use crate::OwnScenario;
use crate::accidents::World;
use crate::client::Client;
use crate::node::{self, Processes};
use crate::release::{PATIENCE_SECONDS, Release, image};
use crate::run::{Outcome, apply, ensure, run_from, variable, wait_for};
use serde_json::json;

/// Short, because each accident is about two of them.
const TTL_SECONDS: u64 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Guardian,
    Init,
    Pod,
}

impl First {
    fn name(self) -> &'static str {
        match self {
            Self::Guardian => "guardian",
            Self::Init => "tini",
            Self::Pod => "pod",
        }
    }

    /// The same image with another init in front, where that is what is asked for.
    fn image(self) -> Outcome<String> {
        match self {
            Self::Init => variable("E2E_INIT_IMAGE")
                .ok_or_else(|| "SKIPPED: E2E_INIT_IMAGE is not set; make e2e builds it".to_owned()),
            _ => Ok(image()),
        }
    }
}

pub(crate) fn scenarios() -> Vec<OwnScenario> {
    let mut all: Vec<OwnScenario> = Vec::new();
    for first in [First::Guardian, First::Init, First::Pod] {
        let name = first.name();
        all.push((
            format!("accidents_with_{name}_as_pid_1"),
            Box::new(move || accidents(first)),
        ));
        let scenarios = move || guardian_scenarios(first);
        all.push((
            format!("guardian_scenarios_with_{name}_as_pid_1"),
            Box::new(scenarios),
        ));
    }
    all.push((
        // Where commits wait for a standby, a second writer would hang and not be seen.
        "accidents_without_synchronous_mode".to_owned(),
        Box::new(|| {
            let release = Release::asynchronous("pgwarden-e2e-async", "async");
            suffers(First::Guardian, &release)
        }),
    ));
    all
}

/// What befalls the processes of the primary's pod; the words for the report.
type Accident = (&'static str, fn(&Release, &str, &Processes) -> Outcome<()>);

const ACCIDENTS: [Accident; 7] = [
    ("agent killed", |_, _, p| node::signal("KILL", &[p.agent])),
    ("agent frozen", |_, _, p| frozen(p.agent)),
    ("postmaster killed", |_, _, p| {
        node::signal("KILL", &[p.postmaster])
    }),
    ("postmaster frozen", |_, _, p| frozen(p.postmaster)),
    ("guardian killed", |_, _, p| {
        node::signal("KILL", &[p.guardian])
    }),
    ("guardian and agent killed", |_, _, p| {
        node::signal("KILL", &[p.agent, p.guardian])
    }),
    ("cut from the API", |release, pod, _| {
        node::cut_from_api(release, pod, 2 * TTL_SECONDS)
    }),
];

fn frozen(process: u32) -> Outcome<()> {
    node::signal("STOP", &[process])?;
    std::thread::sleep(std::time::Duration::from_secs(2 * TTL_SECONDS));
    // Whoever replaced it has killed it by now, and if nobody did it goes on.
    let _ = node::signal("CONT", &[process]);
    Ok(())
}

fn accidents(first: First) -> Outcome<String> {
    let name = format!("pgwarden-e2e-init-{}", first.name());
    suffers(first, &Release::new(&name, "init"))
}

fn suffers(first: First, release: &Release) -> Outcome<String> {
    release.end(3, suffered(first, release))
}

fn suffered(first: First, release: &Release) -> Outcome<String> {
    let image = first.image()?;
    let tag = format!(
        "image.tag={}",
        image.rsplit_once(':').map_or("", |(_, tag)| tag)
    );
    let ttl = format!("failover.ttl={TTL_SECONDS}");
    let shared = format!("shareProcessNamespace={}", first == First::Pod);
    release.install(&["--set-string", &tag, "--set", &ttl, "--set", &shared])?;
    release.healed(3)?;
    is_first(first, release)?;
    let world = World {
        release,
        client: Client::start(release)?,
    };
    let mut told = Vec::new();
    for (what, accident) in ACCIDENTS {
        let words = world
            .survives(3, 120, TTL_SECONDS, 1, || {
                let leader = release.leader()?;
                accident(release, &leader, &node::processes(release, &leader)?)
            })
            .map_err(|why| format!("{what}: {why}"))?;
        told.push(format!("{what}: {words}"));
    }
    Ok(told.join("\n        "))
}

/// Process 1 of the container is what this is about.
fn is_first(first: First, release: &Release) -> Outcome<()> {
    let read = ["cat", "/proc/1/cmdline"];
    let said = release.exec(&release.pod(0), &read)?.replace('\0', " ");
    let wanted = match first {
        First::Guardian => said.starts_with("/usr/local/bin/pgwarden"),
        First::Init => said.starts_with("/usr/local/bin/init"),
        First::Pod => said.contains("pause"),
    };
    ensure(wanted, || format!("process 1 is {said}"))
}

/// tests/guardian, in a container: with PID namespaces of its own where the pod may make them, as
/// an ordinary process below the pod's first one elsewhere.
fn guardian_scenarios(first: First) -> Outcome<String> {
    let program = variable("E2E_GUARDIAN_TESTS")
        .ok_or("SKIPPED: E2E_GUARDIAN_TESTS is not set; make e2e builds them")?;
    let release = Release::new(
        &format!("pgwarden-e2e-guardian-{}", first.name()),
        "guardian",
    );
    let outcome = in_container(first, &release, &program);
    release.remove();
    outcome
}

fn in_container(first: First, release: &Release, program: &str) -> Outcome<String> {
    let namespace = &release.namespace;
    // The namespaces of the scenarios as PID 1 need a privileged pod; the other two are restricted.
    if first == First::Guardian {
        crate::run::kubectl(&["create", "namespace", namespace])?;
    } else {
        release.make_namespace()?;
    }
    apply(&container(first, release)?)?;
    release.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/guardian",
        "--timeout=120s",
    ])?;
    let put = [
        "-n",
        namespace,
        "exec",
        "-i",
        "guardian",
        "--",
        "sh",
        "-c",
        "cat >/tmp/scenarios && chmod 755 /tmp/scenarios",
    ];
    run_from("kubectl", &put, program)?;
    let which = if first == First::Guardian {
        ""
    } else {
        "plain::"
    };
    let line = format!("cd /tmp && /tmp/scenarios --test-threads=2 {which} 2>&1");
    let said = release.exec("guardian", &["sh", "-c", &line])?;
    let result = said
        .lines()
        .find(|line| line.starts_with("test result: ok."));
    let result = result.ok_or_else(|| said.clone())?;
    ensure(!said.contains("SKIPPED"), || said.clone())?;
    wait_for(
        "the container's first process only",
        PATIENCE_SECONDS,
        || {
            // Not by name: where the first process reaps nobody, the dead keep theirs.
            let line = "for one in /proc/[0-9]*; do \
                        case $(readlink $one/exe) in */postgres) echo $one;; esac; done";
            let left = release.exec("guardian", &["sh", "-c", line])?;
            ensure(left.trim().is_empty(), || format!("left behind: {left}"))
        },
    )?;
    Ok(result.to_owned())
}

fn container(first: First, release: &Release) -> Outcome<serde_json::Value> {
    let sleep = ["sleep", "infinity"];
    let command: Vec<&str> = match first {
        First::Init => ["/usr/local/bin/init", "--"]
            .into_iter()
            .chain(sleep)
            .collect(),
        _ => sleep.to_vec(),
    };
    let security = if first == First::Guardian {
        json!({"privileged": true, "runAsUser": 0, "runAsGroup": 0})
    } else {
        json!({
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": true, "runAsUser": 999, "runAsGroup": 999,
            "seccompProfile": {"type": "RuntimeDefault"},
        })
    };
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "guardian", "namespace": release.namespace},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "shareProcessNamespace": first == First::Pod,
            "containers": [{
                "name": "guardian",
                "image": first.image()?,
                "imagePullPolicy": "Never",
                "command": command,
                "securityContext": security,
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }))
}
