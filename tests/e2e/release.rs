//! One release of the chart, and what the cluster says about it.

use crate::run::{Outcome, ensure, json, kubectl, run, shell, variable, wait_for};
use serde_json::Value;

/// D of every release here, in seconds, unless a scenario says otherwise: the chart's default.
pub(crate) const TTL_SECONDS: u64 = 15;
/// For clones, elections and pulled-up pods on a small machine.
pub(crate) const PATIENCE_SECONDS: u64 = 240;

#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// No acknowledged row may be lost; else the primary's last ones may.
    pub(crate) synchronous: bool,
}

/// A member as `pgwarden ctl list` shows it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) state: String,
    pub(crate) timeline: u64,
}

impl Release {
    /// The namespace is this run's own: what another run has there, or has left, is not in the way.
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: format!("{namespace}-{}", std::process::id()),
            name: name.to_owned(),
            synchronous: true,
        }
    }

    /// One that does not wait for a standby.
    pub(crate) fn asynchronous(namespace: &str, name: &str) -> Self {
        Self {
            synchronous: false,
            ..Self::new(namespace, name)
        }
    }

    /// Makes the namespace, and installs.
    pub(crate) fn install(&self, settings: &[&str]) -> Outcome<()> {
        self.make_namespace()?;
        self.helm("install", settings)
    }

    /// Under the strictest pod security there is.
    pub(crate) fn make_namespace(&self) -> Outcome<()> {
        let namespace = self.namespace.as_str();
        if kubectl(&["get", "namespace", namespace]).is_err() {
            kubectl(&["create", "namespace", namespace])?;
            let level = "pod-security.kubernetes.io/enforce=restricted";
            kubectl(&["label", "namespace", namespace, level])?;
        }
        Ok(())
    }

    pub(crate) fn upgrade(&self, settings: &[&str]) -> Outcome<()> {
        let mut all = vec!["--reuse-values"];
        all.extend(settings);
        self.helm("upgrade", &all)
    }

    fn helm(&self, verb: &str, settings: &[&str]) -> Outcome<()> {
        let image = image();
        let (repository, tag) = image.rsplit_once(':').unwrap_or((&image, "latest"));
        let repository = format!("image.repository={repository}");
        let mode = if self.synchronous { "on" } else { "off" };
        let mode = format!("failover.synchronousMode={mode}");
        let tag = format!("image.tag={tag}");
        let mut arguments = vec![verb, self.name.as_str(), "deploy/chart", "-n"];
        arguments.push(self.namespace.as_str());
        if verb == "install" {
            arguments.extend(["--set", &repository, "--set-string", &tag]);
            arguments.extend(["--set-string", &mode]);
            // Loaded, not pulled; and small enough for several side by side.
            for small in [
                "image.pullPolicy=Never",
                "persistence.size=1Gi",
                "resources.requests.cpu=20m",
                "resources.requests.memory=64Mi",
                "postgresql.parameters.shared_buffers=32MB",
                "agentConfig.bootstrap.dcs.member_slots_ttl=5",
            ] {
                arguments.extend(["--set", small]);
            }
        }
        arguments.extend(settings);
        let helm = variable("HELM").unwrap_or_else(|| "helm".to_owned());
        run(&helm, &arguments).map(drop)
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Outcome<String> {
        let mut all = vec!["-n", self.namespace.as_str()];
        all.extend(arguments);
        kubectl(&all)
    }

    pub(crate) fn get(&self, what: &str) -> Outcome<Value> {
        json(&self.kubectl(&["get", what, "-o", "json"])?)
    }

    /// Runs a program in a pod's container.
    pub(crate) fn exec(&self, pod: &str, program: &[&str]) -> Outcome<String> {
        let mut all = vec!["exec", pod, "--"];
        all.extend(program);
        self.kubectl(&all)
    }

    pub(crate) fn sql(&self, pod: &str, statement: &str) -> Outcome<String> {
        let psql = ["psql", "-h", "/run/postgresql", "-U", "postgres", "-XqAtc"];
        let mut all = psql.to_vec();
        all.push(statement);
        Ok(self.exec(pod, &all)?.trim().to_owned())
    }

    pub(crate) fn pod(&self, ordinal: u64) -> String {
        format!("{}-{ordinal}", self.name)
    }

    fn lease(&self) -> Outcome<Value> {
        Ok(self.get(&format!("lease/{}", self.name))?["spec"].take())
    }

    /// Who holds the lock.
    pub(crate) fn leader(&self) -> Outcome<String> {
        let lease = self.lease()?;
        let holder = lease["holderIdentity"].as_str().unwrap_or_default();
        ensure(!holder.is_empty(), || "nobody holds the lock".to_owned())?;
        Ok(holder.to_owned())
    }

    pub(crate) fn epoch(&self) -> Outcome<u64> {
        let lease = self.lease()?;
        lease["leaseTransitions"]
            .as_u64()
            .ok_or_else(|| format!("no transitions in {lease}"))
    }

    /// `pgwarden ctl list`, asked of the first pod that answers.
    pub(crate) fn list(&self) -> Outcome<Vec<Listed>> {
        let mut last = String::from("no pods");
        for ordinal in 0..5 {
            let ctl = ["pgwarden", "ctl", "list", "-f", "json"];
            match self.exec(&self.pod(ordinal), &ctl) {
                Ok(said) => return listed(&json(&said)?),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    /// So many members: one leads, the others stream on its timeline, every pod is ready.
    pub(crate) fn healed(&self, members: usize) -> Outcome<()> {
        wait_for("a healthy cluster", PATIENCE_SECONDS, || {
            self.is_healed(members)
        })
    }

    /// Where fsGroup does not make new volumes writable.
    pub(crate) fn make_volumes_writable() -> Outcome<()> {
        variable("E2E_VOLUMES_READY").map_or(Ok(()), |line| shell(&line).map(drop))
    }

    fn is_healed(&self, members: usize) -> Outcome<()> {
        Self::make_volumes_writable()?;
        let set = self.get(&format!("statefulset/{}", self.name))?;
        let ready = set["status"]["readyReplicas"].as_u64().unwrap_or(0) as usize;
        let updated = set["status"]["currentRevision"] == set["status"]["updateRevision"];
        ensure(ready == members && updated, || {
            format!("{ready} of {members} ready, update complete: {updated}")
        })?;
        let list = self.list()?;
        let leader = self.leader()?;
        let led = list.iter().find(|m| m.name == leader);
        let timeline = led.map_or(0, |m| m.timeline);
        let well = |m: &Listed| {
            let role = if m.name == leader {
                m.role == "leader"
            } else {
                m.role != "leader"
            };
            let state = if m.name == leader {
                "running"
            } else {
                "streaming"
            };
            role && m.state == state && m.timeline == timeline
        };
        ensure(list.len() == members && list.iter().all(well), || {
            format!("{leader} holds the lock; {list:?}")
        })?;
        if members > 1 && self.synchronous {
            ensure(!self.sync_standby()?.is_empty(), || {
                "no synchronous standby is published".to_owned()
            })?;
        }
        Ok(())
    }

    /// A member that does not lead.
    pub(crate) fn replica(&self) -> Outcome<String> {
        self.replica_but(&self.leader()?)
    }

    pub(crate) fn replica_but(&self, leader: &str) -> Outcome<String> {
        let found = self.list()?.into_iter().find(|m| m.name != leader);
        found.map(|m| m.name).ok_or_else(|| "no replica".to_owned())
    }

    /// The published synchronous standby; empty: none.
    pub(crate) fn sync_standby(&self) -> Outcome<String> {
        let sync = self.get(&format!("configmap/{}-sync", self.name))?;
        let standby = &sync["metadata"]["annotations"]["sync_standby"];
        Ok(standby.as_str().unwrap_or_default().to_owned())
    }

    /// What the pod's container printed, its life before the last restart included.
    pub(crate) fn log(&self, pod: &str) -> String {
        let before = self
            .kubectl(&["logs", pod, "--previous"])
            .unwrap_or_default();
        before + &self.kubectl(&["logs", pod]).unwrap_or_default()
    }

    /// The reasons and messages of the Events about a pod or another object.
    pub(crate) fn events(&self, of: &str) -> Outcome<String> {
        self.events_where(|about| about["name"] == of)
    }

    /// The same of exactly this one.
    pub(crate) fn events_of_uid(&self, uid: &Value) -> Outcome<String> {
        self.events_where(|about| about["uid"] == *uid)
    }

    fn events_where(&self, wanted: impl Fn(&Value) -> bool) -> Outcome<String> {
        let all = self.get("events")?;
        let items = all["items"].as_array().cloned().unwrap_or_default();
        let about = items
            .iter()
            .filter(|event| wanted(&event["involvedObject"]));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let lines =
            about.map(|event| format!("{}: {}", text(&event["reason"]), text(&event["message"])));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// `pgwarden ctl list` as this pod prints it.
    pub(crate) fn ctl_list(&self, pod: &str) -> Outcome<String> {
        self.exec(pod, &["pgwarden", "ctl", "list"])
    }

    /// Removes it, and if it failed shows what so many members printed.
    pub(crate) fn end<T>(&self, members: u64, outcome: Outcome<T>) -> Outcome<T> {
        if let Err(why) = &outcome {
            self.show_logs(members, why);
        }
        self.remove();
        outcome
    }

    /// For a failure: what its members printed.
    pub(crate) fn show_logs(&self, members: u64, why: &str) {
        for ordinal in 0..members {
            let pod = self.pod(ordinal);
            println!("--- {pod} ({why})\n{}", self.log(&pod));
        }
    }

    /// Removes everything, volumes and namespace included.
    pub(crate) fn remove(&self) {
        let _ = kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

/// The image under test.
pub(crate) fn image() -> String {
    variable("E2E_IMAGE").unwrap_or_else(|| "localhost/pgwarden:15".to_owned())
}

fn listed(answer: &Value) -> Outcome<Vec<Listed>> {
    let rows = answer
        .as_array()
        .ok_or_else(|| format!("no list: {answer}"))?;
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_lowercase();
    let member = |row: &Value| Listed {
        name: text(row, "Member"),
        role: text(row, "Role"),
        state: text(row, "State"),
        timeline: row["TL"].as_u64().unwrap_or(0),
    };
    Ok(rows.iter().map(member).collect())
}
