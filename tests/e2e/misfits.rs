//! What a cluster is given and cannot use: a Secret or a StorageClass that is not there, a volume
//! without room, a program for another machine. The Events, the log where there is one, and
//! `pgwarden ctl list` of a member that runs say what to do; once that is done, nobody has to help.

use crate::node::on_node;
use crate::release::{Release, TTL_SECONDS};
use crate::run::{Outcome, apply, ensure, kubectl, run_with, variable, wait_for};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

type Scenario = fn() -> Outcome<String>;

/// Scenarios with releases of their own.
pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("missing_secret", missing_secret),
    ("unusable_storage_class", unusable_storage_class),
    ("wrong_architecture", wrong_architecture),
    ("full_volume", full_volume),
];

const NAME: &str = "misfit";
/// For the kubelet and the scheduler to say something, and to try again.
const SAID_SECONDS: u64 = 120;

/// A release in a namespace of its own; both are gone afterwards.
fn with_release(
    kind: &str,
    scenario: impl FnOnce(&Release) -> Outcome<String>,
    clean: impl FnOnce() -> Outcome<()>,
) -> Outcome<String> {
    let release = Release::new(&format!("pgwarden-e2e-misfit-{kind}"), NAME);
    let outcome = scenario(&release);
    if variable("E2E_KEEP").is_some() {
        return outcome;
    }
    release.remove();
    // What is on the node goes away whatever became of the scenario, whose own failure counts
    // first.
    let cleaned = clean();
    let gone = wait_for("the end of the namespace", 180, || {
        let left = kubectl(&["get", "namespace", &release.namespace, "--ignore-not-found"])?;
        ensure(left.trim().is_empty(), || left.clone())
    });
    let words = outcome?;
    cleaned.and(gone).map(|()| words)
}

fn has(text: &str, parts: &[&str], whose: &str) -> Outcome<()> {
    let missing = parts.iter().find(|part| !text.contains(**part));
    missing.map_or(Ok(()), |part| {
        Err(format!("{whose} does not say {part:?}: {text}"))
    })
}

/// Events about an object come to say all of these.
fn events_say(release: &Release, of: &str, parts: &[&str]) -> Outcome<()> {
    wait_for("the Events", SAID_SECONDS, || {
        has(&release.events(of)?, parts, &format!("no Event of {of}"))
    })
}

/// The line of `ctl list` about a member, asked of another (or the same), comes to say all of
/// these.
fn list_says(release: &Release, asked: u64, about: u64, parts: &[&str]) -> Outcome<String> {
    let (asked, about) = (release.pod(asked), release.pod(about));
    wait_for("ctl list to say it", SAID_SECONDS, || {
        let listed = release.ctl_list(&asked)?;
        let start = format!(" {about}: ");
        let line = listed.lines().find(|line| line.starts_with(&start));
        let line = line.ok_or_else(|| format!("no line about {about}: {listed}"))?;
        has(line, parts, "ctl list")?;
        Ok(line.trim().to_owned())
    })
}

fn list_says_nothing(release: &Release, asked: u64) -> Outcome<()> {
    let asked = release.pod(asked);
    wait_for("ctl list to be quiet", SAID_SECONDS, || {
        let listed = release.ctl_list(&asked)?;
        let quiet = !listed.lines().any(|line| line.starts_with(' '));
        ensure(quiet, || listed.clone())
    })
}

fn log_says(release: &Release, ordinal: u64, parts: &[&str]) -> Outcome<()> {
    let pod = release.pod(ordinal);
    wait_for("the log", SAID_SECONDS, || {
        has(&release.log(&pod), parts, &format!("the log of {pod}"))
    })
}

fn scale(release: &Release, members: u64) -> Outcome<()> {
    let (set, replicas) = (
        format!("statefulset/{NAME}"),
        format!("--replicas={members}"),
    );
    release.kubectl(&["scale", &set, &replicas]).map(drop)
}

fn missing_secret() -> Outcome<String> {
    with_release("secret", secret, || Ok(()))
}

fn secret(release: &Release) -> Outcome<String> {
    let reason = ["secret \"mine\" not found"];
    let make = || {
        let keys = [
            "superuser-password",
            "replication-password",
            "restapi-password",
        ];
        let data: serde_json::Map<String, Value> = keys
            .map(|key| (key.to_owned(), json!("not a secret")))
            .into_iter()
            .collect();
        apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": data,
            "metadata": {"name": "mine", "namespace": release.namespace},
        }))
    };
    release.install(&["--set", "replicas=2,auth.existingSecret=mine"])?;
    events_say(release, &release.pod(0), &reason)?;
    make()?;
    release.healed(2)?;
    release.kubectl(&["delete", "secret", "mine"])?;
    let leader = release.leader()?;
    let replica = release.replica_but(&leader)?;
    release.kubectl(&["delete", "pod", &replica])?;
    events_say(release, &replica, &reason)?;
    let ordinal = |pod: &str| u64::from(pod == release.pod(1));
    let parts = [
        "CreateContainerConfigError",
        reason[0],
        "make the Secret or ConfigMap",
    ];
    let line = list_says(release, ordinal(&leader), ordinal(&replica), &parts)?;
    make()?;
    release.healed(2)?;
    list_says_nothing(release, ordinal(&leader))?;
    Ok(format!("{line:?}; healed once it was there"))
}

const CLASS: &str = "pgwarden-e2e-misfit";

fn unusable_storage_class() -> Outcome<String> {
    let clean = || {
        let class = ["delete", "storageclass", CLASS, "--ignore-not-found"];
        kubectl(&class).map(drop)
    };
    with_release("class", storage_class, clean)
}

fn storage_class(release: &Release) -> Outcome<String> {
    release.install(&["--set", "replicas=1"])?;
    release.healed(1)?;
    // As if the whole set had it: the controller takes a claim that is there.
    apply(&json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": format!("data-{NAME}-1"), "namespace": release.namespace},
        "spec": {"storageClassName": CLASS, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}},
    }))?;
    scale(release, 2)?;
    events_say(release, &release.pod(1), &["FailedScheduling"])?;
    let missing = format!("\"{CLASS}\" not found");
    events_say(release, &format!("data-{NAME}-1"), &[&missing])?;
    let parts = ["Unschedulable", "kubectl describe pvc", "StorageClass"];
    let line = list_says(release, 0, 1, &parts)?;
    apply(&default_class()?)?;
    release.healed(2)?;
    list_says_nothing(release, 0)?;
    Ok(format!("{line:?}; healed once the class was there"))
}

/// The cluster's default class under our name.
fn default_class() -> Outcome<Value> {
    let all = crate::run::json(&kubectl(&["get", "storageclasses", "-o", "json"])?)?;
    let default = "storageclass.kubernetes.io/is-default-class";
    let found = all["items"].as_array().and_then(|all| {
        let is_default = |class: &&Value| class["metadata"]["annotations"][default] == "true";
        all.iter().find(is_default).cloned()
    });
    let mut class = found.ok_or("SKIPPED: the cluster has no default StorageClass")?;
    class["metadata"] = json!({ "name": CLASS });
    Ok(class)
}

fn wrong_architecture() -> Outcome<String> {
    with_release("arch", architecture, || Ok(()))
}

/// A program for a machine that this one is not, in the place of ours.
fn architecture(release: &Release) -> Outcome<String> {
    release.install(&["--set", "replicas=2"])?;
    release.healed(2)?;
    let program = ["create", "configmap", "foreign", "--dry-run=client"];
    let manifest = run_with(
        "bash",
        &[
            "-c",
            &format!(
                "printf '{}' >\"$0\" && kubectl {} -o json --from-file=program=\"$0\"; \
                 code=$?; rm -f \"$0\"; exit $code",
                foreign_program(),
                program.join(" ")
            ),
            &format!("/tmp/pgwarden-e2e-misfit-{}", std::process::id()),
        ],
        "",
    )?;
    let mut manifest = crate::run::json(&manifest)?;
    manifest["metadata"]["namespace"] = json!(release.namespace);
    apply(&manifest)?;
    let volume = "extraVolumes[0].name=foreign,extraVolumes[0].configMap.name=foreign,\
                  extraVolumes[0].configMap.defaultMode=365";
    let mount = "extraVolumeMounts[0].name=foreign,extraVolumeMounts[0].subPath=program,\
                 extraVolumeMounts[0].mountPath=/usr/local/bin/pgwarden";
    release.upgrade(&["--set", volume, "--set", mount])?;
    let format_error = ["exec format error"];
    let line = list_says(
        release,
        0,
        1,
        &["exec format error", "another architecture than the node"],
    )?;
    let (events, log) = (
        release.events(&release.pod(1))?,
        release.log(&release.pod(1)),
    );
    has(&(events + &log), &format_error, "neither Event nor log")?;
    // The update goes no further, and the mended one begins with the pod that does not run.
    let none = [
        "--set-json",
        "extraVolumes=[]",
        "--set-json",
        "extraVolumeMounts=[]",
    ];
    release.upgrade(&none)?;
    release.healed(2)?;
    list_says_nothing(release, 0)?;
    Ok(format!("{line:?}; the other went on; healed once mended"))
}

/// The header of an ELF program, as the escapes of printf: of AArch64, or where that is what runs
/// here, of x86-64.
fn foreign_program() -> String {
    let machine = if cfg!(target_arch = "aarch64") {
        0x3e
    } else {
        0xb7
    };
    let mut header = [0_u8; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (header[16], header[18], header[20]) = (2, machine, 1);
    (header[52], header[54]) = (64, 56);
    header.map(|byte| format!("\\x{byte:02x}")).concat()
}

/// Where the node keeps the volumes of [`full_volume`], and their size.
const PLACE: &str = "/var/tmp/pgwarden-e2e-misfit";
const SIZE_MIB: u64 = 300;
const STATIC_CLASS: &str = "pgwarden-e2e-misfit-static";

fn full_volume() -> Outcome<String> {
    let clean = || {
        for ordinal in 0..2 {
            let volume = format!("{STATIC_CLASS}-{ordinal}");
            kubectl(&[
                "delete",
                "pv",
                &volume,
                "--ignore-not-found",
                "--wait=false",
            ])?;
        }
        // The kubelet may still hold it for a moment.
        wait_for("the volumes to be free", 60, || {
            on_node(&format!(
                "for mount in {PLACE}/0 {PLACE}/1; do\n\
                   ! mountpoint -q $mount || umount $mount || exit\n\
                 done\n\
                 rm -rf --one-file-system {PLACE}\n"
            ))
            .map(drop)
        })
    };
    with_release("full", full, clean)
}

fn full(release: &Release) -> Outcome<String> {
    for ordinal in 0..2 {
        make_volume(release, ordinal)?;
        fill(ordinal, 20)?;
    }
    let values =
        format!("replicas=1,persistence.storageClass={STATIC_CLASS},persistence.size={SIZE_MIB}Mi");
    release.install(&["--set", &values])?;
    let pod = release.pod(0);
    let no_room = ["No space left on device", "grow its claim"];
    events_say(release, &pod, &["BootstrapFailed", no_room[0], no_room[1]])?;
    log_says(release, 0, &["Initdb failed", no_room[0], no_room[1]])?;
    let new = list_says(
        release,
        0,
        0,
        &["a new cluster failed", no_room[0], no_room[1]],
    )?;
    empty(0)?;
    release.healed(1)?;
    let copy = full_replica(release)?;
    let lead = full_primary(release)?;
    Ok(format!("{new:?}; {copy:?}; {lead}"))
}

/// The copy of the leader does not fit; the leader is undisturbed.
fn full_replica(release: &Release) -> Outcome<String> {
    let epoch = release.epoch()?;
    scale(release, 2)?;
    let pod = release.pod(1);
    let no_room = ["No space left on device", "grow its claim"];
    events_say(release, &pod, &["CloneFailed", no_room[0], no_room[1]])?;
    log_says(release, 1, &["Clone failed", no_room[0], no_room[1]])?;
    let line = list_says(
        release,
        0,
        1,
        &["the copy of the leader failed", no_room[0], no_room[1]],
    )?;
    empty(1)?;
    release.healed(2)?;
    list_says_nothing(release, 0)?;
    ensure(release.epoch()? == epoch, || {
        "the leader changed".to_owned()
    })?;
    Ok(line)
}

/// Full is not dead: the primary stays while it serves. Once it panics for lack of a WAL segment
/// and cannot start, the other leads and keeps the lead.
fn full_primary(release: &Release) -> Outcome<String> {
    let (pod, epoch) = (release.pod(0), release.epoch()?);
    release.sql(
        &pod,
        "CREATE TABLE kept(n int); INSERT INTO kept VALUES (1)",
    )?;
    fill(0, 8)?;
    events_say(release, &pod, &["VolumeFull", "grow its claim"])?;
    log_says(release, 0, &["is full: less than 16 MiB left"])?;
    let line = list_says(
        release,
        1,
        0,
        &["is full: less than 16 MiB left", "grow its claim"],
    )?;
    stays(release, epoch, "a full primary that serves")?;
    // WAL alone, more than what is left of its segments and of the room: no table grows first.
    let write = "SELECT pg_logical_emit_message(false, 'e2e', repeat('x', 1000000)) IS NULL \
                 FROM generate_series(1, 200)";
    let refused = release.sql(&pod, write).err().unwrap_or_default();
    wait_for("the other to lead", 180, || {
        let leader = release.leader()?;
        ensure(leader == release.pod(1), || {
            format!("{leader} leads; the insert ended with {refused:?}")
        })?;
        let rows = release.sql(&leader, "SELECT n FROM kept LIMIT 1")?;
        ensure(rows == "1", || format!("the rows are {rows:?}"))?;
        release
            .sql(&leader, "INSERT INTO kept VALUES (3)")
            .map(drop)
    })?;
    let after = release.epoch()?;
    stays(release, after, "the new leader")?;
    list_says(release, 1, 0, &["is full", "grow its claim"])?;
    empty(0)?;
    release.healed(2)?;
    list_says_nothing(release, 1)?;
    ensure(release.epoch()? == after, || "it went back".to_owned())?;
    Ok(format!(
        "{line:?}; it stayed for {} s, led on by the other once it could not start, healed as a \
         replica once it had room",
        2 * TTL_SECONDS
    ))
}

/// No election for two TTLs.
fn stays(release: &Release, epoch: u64, who: &str) -> Outcome<()> {
    let end = Instant::now() + Duration::from_secs(2 * TTL_SECONDS);
    while Instant::now() < end {
        let now = release.epoch()?;
        ensure(now == epoch, || {
            format!("{who}: epoch {epoch} was followed by {now}")
        })?;
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// A file system of its own on the node, and a volume that only one claim may bind.
fn make_volume(release: &Release, ordinal: u64) -> Outcome<()> {
    on_node(&format!(
        "set -e\n\
         mkdir -p {PLACE}/{ordinal}\n\
         mountpoint -q {PLACE}/{ordinal} && exit\n\
         truncate -s {SIZE_MIB}M {PLACE}/{ordinal}.image\n\
         mkfs.ext4 -q -F -m 0 {PLACE}/{ordinal}.image\n\
         mount -o loop {PLACE}/{ordinal}.image {PLACE}/{ordinal}\n\
         chmod 0777 {PLACE}/{ordinal}\n"
    ))
    .map_err(|why| format!("SKIPPED: no loop mount on the node: {why}"))?;
    apply(&json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": format!("{STATIC_CLASS}-{ordinal}")},
        "spec": {
            "capacity": {"storage": format!("{SIZE_MIB}Mi")},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STATIC_CLASS,
            "claimRef": {"namespace": release.namespace, "name": format!("data-{NAME}-{ordinal}")},
            "hostPath": {"path": format!("{PLACE}/{ordinal}"), "type": "Directory"},
        },
    }))
    .map(drop)
}

/// Something else takes the room, all but so many MiB.
fn fill(ordinal: u64, left_mib: u64) -> Outcome<()> {
    on_node(&format!(
        "set -e\n\
         free=$(df -m {PLACE}/{ordinal} | awk 'NR == 2 {{print $4}}')\n\
         fallocate -l $((free - {left_mib}))M {PLACE}/{ordinal}/ballast\n\
         sync -f {PLACE}/{ordinal}\n"
    ))
    .map(drop)
}

fn empty(ordinal: u64) -> Outcome<()> {
    on_node(&format!("rm -f {PLACE}/{ordinal}/ballast\n")).map(drop)
}
