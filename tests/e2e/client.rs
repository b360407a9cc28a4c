//! The applications: a pod whose processes write through the leader Service and, to see a second
//! writer, to every member directly; and the audit of what they were told.

use crate::release::{Release, image};
use crate::run::{Outcome, apply, ensure, wait_for};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const POD: &str = "client";
const MEMBERS: u64 = 5;
/// What README.md tells applications to use.
const KEEPALIVES: &str = "connect_timeout=2 keepalives_idle=2 keepalives_interval=1 \
                          keepalives_count=3 tcp_user_timeout=3000";
/// Between two statements, and how long the patient application waits before it tries again.
const PAUSE_MS: &str = "10";
const RETRY_MS: &str = "1000";

/// One statement of a client.
#[derive(Clone, Debug)]
struct Try {
    began: f64,
    ended: f64,
    acknowledged: bool,
    number: u64,
    timeline: u64,
}

/// What the clients saw since a moment.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The longest time between two acknowledgements of the impatient writer.
    pub(crate) gap_ms: u64,
    pub(crate) acknowledged: usize,
    /// Statements of the patient writer that failed twice.
    pub(crate) failed_twice: usize,
    pub(crate) gap_patient_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Client<'a> {
    release: &'a Release,
}

impl<'a> Client<'a> {
    /// Makes the tables and starts writing.
    pub(crate) fn start(release: &'a Release) -> Outcome<Self> {
        let leader = release.leader()?;
        release.sql(
            &leader,
            "CREATE TABLE impatient(n bigint PRIMARY KEY); \
             CREATE TABLE patient(n bigint PRIMARY KEY); \
             CREATE TABLE direct(member text, n bigint, timeline int)",
        )?;
        apply(&json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": POD, "namespace": release.namespace},
            "data": {"client.sh": include_str!("client.sh"), "start.sh": start(release)},
        }))?;
        apply(&pod(release))?;
        release.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "pod/client",
            "--timeout=120s",
        ])?;
        let client = Self { release };
        wait_for("the first rows", 60, || {
            let seen = client.since(0.0)?;
            ensure(seen.acknowledged > 20, || format!("{seen:?}"))
        })?;
        Ok(client)
    }

    fn exec(&self, line: &str) -> Outcome<String> {
        self.release.exec(POD, &["bash", "-c", line])
    }

    /// Now, on the clients' clock.
    pub(crate) fn now(&self) -> Outcome<f64> {
        number(self.exec("echo $EPOCHREALTIME")?.trim())
    }

    fn tries(&self, file: &str) -> Outcome<Vec<Try>> {
        let text = self.exec(&format!("cat /tmp/{file} 2>/dev/null || true"))?;
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(parse).collect()
    }

    /// What happened since then.
    pub(crate) fn since(&self, moment: f64) -> Outcome<Seen> {
        let impatient = self.tries("impatient")?;
        let patient = self.tries("patient")?;
        let recent = |tries: &[Try]| -> Vec<Try> {
            tries
                .iter()
                .filter(|t| t.ended >= moment)
                .cloned()
                .collect()
        };
        let (impatient, patient) = (recent(&impatient), recent(&patient));
        Ok(Seen {
            gap_ms: longest_gap_ms(&impatient),
            acknowledged: impatient.iter().filter(|t| t.acknowledged).count(),
            failed_twice: patient.iter().filter(|t| !t.acknowledged).count(),
            gap_patient_ms: longest_gap_ms(&patient),
        })
    }

    /// Waits until a statement that began after `moment` is acknowledged; what was seen since.
    pub(crate) fn writes_again(&self, moment: f64, seconds: u64) -> Outcome<Seen> {
        wait_for("an acknowledged write", seconds, || {
            let tries = self.tries("impatient")?;
            let again = tries.iter().filter(|t| t.acknowledged && t.began > moment);
            ensure(again.count() > 10, || "no write is acknowledged".to_owned())
        })?;
        self.since(moment)
    }

    /// Every acknowledged row is there where that was promised, and at no time two members
    /// acknowledged.
    pub(crate) fn audit(&self) -> Outcome<String> {
        let (mut rows, mut lost) = (0, 0);
        for table in ["impatient", "patient"] {
            let tries = self.tries(table)?;
            let leader = self.release.leader()?;
            let stored = self
                .release
                .sql(&leader, &format!("SELECT n FROM {table}"))?;
            let stored: std::collections::BTreeSet<u64> =
                stored.lines().filter_map(|n| n.parse().ok()).collect();
            let acknowledged: Vec<_> = tries.iter().filter(|t| t.acknowledged).collect();
            let missing: Vec<_> = acknowledged
                .iter()
                .map(|t| t.number)
                .filter(|n| !stored.contains(n))
                .collect();
            lost += missing.len();
            ensure(missing.is_empty() || !self.release.synchronous, || {
                format!(
                    "{} acknowledged rows of {table} are missing: {missing:?}",
                    missing.len()
                )
            })?;
            rows += acknowledged.len();
        }
        let direct = self.one_writer()?;
        Ok(format!(
            "{rows} rows acknowledged through the Service, {lost} missing; {direct} directly, never two writers"
        ))
    }

    /// The failure is an acknowledgement by the old primary of a statement sent after the first
    /// acknowledgement by the new one.
    fn one_writer(&self) -> Outcome<usize> {
        let mut acknowledged: Vec<(String, Try)> = Vec::new();
        for ordinal in 0..MEMBERS {
            let member = self.release.pod(ordinal);
            let tries = self.tries(&member)?.into_iter().filter(|t| t.acknowledged);
            acknowledged.extend(tries.map(|t| (member.clone(), t)));
        }
        let mut first: BTreeMap<u64, (f64, String)> = BTreeMap::new();
        for (member, done) in &acknowledged {
            let entry = first
                .entry(done.timeline)
                .or_insert((done.ended, member.clone()));
            if done.ended < entry.0 {
                *entry = (done.ended, member.clone());
            }
        }
        for (member, done) in &acknowledged {
            let newer = first.range(done.timeline + 1..).next();
            if let Some((timeline, (at, by))) = newer
                && done.began > *at
            {
                return Err(format!(
                    "two writers: {member} acknowledged on timeline {} what was sent at {}, \
                     and {by} had acknowledged on {timeline} at {at}",
                    done.timeline, done.began
                ));
            }
        }
        Ok(acknowledged.len())
    }
}

fn start(release: &Release) -> String {
    let Release {
        namespace, name, ..
    } = release;
    let base = format!("user=postgres dbname=postgres {KEEPALIVES}");
    let service = format!("host={name}.{namespace} target_session_attrs=read-write {base}");
    let insert = |table: &str| {
        format!(
            "INSERT INTO {table} VALUES (NUMBER) ON CONFLICT (n) DO UPDATE SET n = excluded.n \
             RETURNING 'ack', n, ''"
        )
    };
    let mut script = String::from("#!/bin/bash\n");
    let mut line = |file: &str, conninfo: &str, statement: &str, pause: &str, retry: &str| {
        let _ = writeln!(
            script,
            "/scripts/client.sh /tmp/{file} \"{conninfo}\" \"{statement};\" {pause} {retry} &"
        );
    };
    line("impatient", &service, &insert("impatient"), PAUSE_MS, "0");
    line("patient", &service, &insert("patient"), PAUSE_MS, RETRY_MS);
    for ordinal in 0..MEMBERS {
        let member = release.pod(ordinal);
        let host = format!("host={member}.{name}-pods.{namespace} {base}");
        let timeline = "('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int";
        let statement = format!(
            "INSERT INTO direct VALUES ('{member}', NUMBER, {timeline}) RETURNING 'ack', n, timeline"
        );
        line(&member, &host, &statement, "50", "0");
    }
    script.push_str("wait\n");
    script
}

fn pod(release: &Release) -> serde_json::Value {
    let secret = format!("{}-passwords", release.name);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD, "namespace": release.namespace},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 999, "runAsGroup": 999,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "client",
                "image": image(),
                "imagePullPolicy": "Never",
                "command": ["bash", "/scripts/start.sh"],
                "env": [{"name": "PGPASSWORD", "valueFrom": {
                    "secretKeyRef": {"name": secret, "key": "superuser-password"}}}],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "scripts", "mountPath": "/scripts"},
                    {"name": "tmp", "mountPath": "/tmp"},
                ],
            }],
            "volumes": [
                {"name": "scripts", "configMap": {"name": POD, "defaultMode": 0o555}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    })
}

fn number(text: &str) -> Outcome<f64> {
    text.parse().map_err(|_| format!("{text:?} is no time"))
}

/// A line of client.sh.
fn parse(line: &str) -> Outcome<Try> {
    let mut words = line.splitn(5, ' ');
    let mut word = || words.next().unwrap_or_default();
    let (began, ended) = (number(word())?, number(word())?);
    let acknowledged = word() == "ok";
    let number = word()
        .parse()
        .map_err(|_| format!("no number in {line:?}"))?;
    let reply = word();
    let timeline = reply.rsplit('|').next().and_then(|t| t.trim().parse().ok());
    Ok(Try {
        began,
        ended,
        acknowledged,
        number,
        timeline: timeline.unwrap_or(0),
    })
}

fn longest_gap_ms(tries: &[Try]) -> u64 {
    let ends = tries.iter().filter(|t| t.acknowledged).map(|t| t.ended);
    let ends: Vec<f64> = ends.collect();
    let gaps = ends.windows(2).map(|pair| (pair[1] - pair[0]) * 1000.0);
    gaps.fold(0.0, f64::max) as u64
}
