//! Each rule of the Role is needed, and missed in words: a release without one breaks a promise,
//! its log names the right that is missing, and it heals once the right is given.

use crate::OwnScenario;
use crate::release::Release;
use crate::run::{Outcome, apply, ensure, holds_for, run, run_with, variable, wait_for};
use serde_json::{Value, json};

/// The right that names a rule: its resource and its first verb.
type Right = (&'static str, &'static str);
/// What does not work without it, in words once it was seen.
type Broken = fn(&Release) -> Outcome<String>;

const RULES: [(Right, Broken); 12] = [
    (("leases", "get"), nobody_leads),
    (("leases", "create"), nobody_leads),
    (("configmaps", "list"), nobody_leads),
    (("configmaps", "patch"), the_set_stays),
    (("pods", "list"), no_standby_is_chosen),
    (("pods", "get"), no_standby_is_chosen),
    (("endpointslices", "get"), the_service_leads_nowhere),
    (("endpointslices", "create"), the_service_leads_nowhere),
    (("services", "get"), a_selector_is_not_noticed),
    (("endpoints", "get"), a_lock_in_endpoints_is_not_noticed),
    (("configmaps", "get"), a_lock_in_a_configmap_is_not_noticed),
    (("events", "create"), nothing_is_told),
];

const AT_START: [Right; 3] = [
    ("services", "get"),
    ("endpoints", "get"),
    ("configmaps", "get"),
];

/// A scenario for each rule, and one that there is one for each.
pub(crate) fn scenarios() -> Vec<OwnScenario> {
    let mut all: Vec<OwnScenario> = Vec::new();
    all.push(("every_rule_is_tried".to_owned(), Box::new(every_rule)));
    for (right, broken) in RULES {
        let (resource, verb) = right;
        let scenario = move || without(right, broken);
        all.push((format!("without_{verb}_{resource}"), Box::new(scenario)));
    }
    all
}

fn every_rule() -> Outcome<String> {
    let rules = rules(&role(&Release::new("default", "role"))?);
    let known: Vec<_> = rules.iter().map(right_of).collect();
    let tried: Vec<_> = RULES
        .iter()
        .map(|((resource, verb), _)| (*resource, *verb))
        .collect();
    let tried: Vec<_> = tried
        .iter()
        .map(|(r, v)| ((*r).to_owned(), (*v).to_owned()))
        .collect();
    ensure(known == tried, || {
        format!("the Role has {known:?}, tried are {tried:?}")
    })?;
    Ok(format!("{} rules", tried.len()))
}

fn without(right: Right, broken: Broken) -> Outcome<String> {
    let (resource, verb) = right;
    let release = Release::new(&format!("pgwarden-e2e-role-{verb}-{resource}"), "role");
    release.end(2, lacking(&release, right, broken))
}

fn lacking(release: &Release, right: Right, broken: Broken) -> Outcome<String> {
    let whole = role(release)?;
    let mut less = whole.clone();
    for object in &mut less {
        if let Some(Value::Array(rules)) = object.get_mut("rules") {
            rules.retain(|rule| right_of(rule) != (right.0.to_owned(), right.1.to_owned()));
        }
    }
    release.make_namespace()?;
    give(&less)?;
    release.install(&["--set", "rbac.create=false", "--set", "replicas=2"])?;
    let broken = broken(release)?;
    let said = wait_for("a line of the log", 90, || complaint(release, right))?;
    if right.0 != "events" {
        wait_for("an Event", 90, || told(release, right))?;
    }
    // What is looked at when a member starts has been tried with the right by now.
    if !AT_START.contains(&right) {
        wait_for("ctl list to say it", 90, || listed(release))?;
    }
    give(&whole)?;
    release.healed(2)?;
    Ok(format!(
        "{broken}; said: {said}; healed with the right back"
    ))
}

fn give(role: &[Value]) -> Outcome<()> {
    role.iter().try_for_each(|object| apply(object).map(drop))
}

/// The Role and its binding, as the chart makes them.
fn role(release: &Release) -> Outcome<Vec<Value>> {
    let helm = variable("HELM").unwrap_or_else(|| "helm".to_owned());
    let text = run(
        &helm,
        &[
            "template",
            &release.name,
            "deploy/chart",
            "--namespace",
            &release.namespace,
            "--show-only",
            "templates/role.yaml",
        ],
    )?;
    let dry = ["create", "--dry-run=client", "-o", "json", "-f", "-"];
    let said = run_with("kubectl", &dry, &text)?;
    let objects = serde_json::Deserializer::from_str(&said).into_iter::<Value>();
    let objects: Result<Vec<_>, _> = objects.collect();
    let objects = objects.map_err(|error| format!("{error} in {said}"))?;
    Ok(objects.into_iter().flat_map(items).collect())
}

/// kubectl prints one object after the other, or a List.
fn items(mut object: Value) -> Vec<Value> {
    match object.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => vec![object],
    }
}

fn rules(role: &[Value]) -> Vec<Value> {
    let rules = role.iter().filter_map(|object| object["rules"].as_array());
    rules.flatten().cloned().collect()
}

fn right_of(rule: &Value) -> (String, String) {
    let first = |list: &Value| list[0].as_str().unwrap_or_default().to_owned();
    (first(&rule["resources"]), first(&rule["verbs"]))
}

/// The line of a member's log that says which right it misses, and where to look for it.
fn complaint(release: &Release, (resource, _): Right) -> Outcome<String> {
    let logs: Vec<_> = (0..2).map(|n| release.log(&release.pod(n))).collect();
    let logs: Vec<_> = logs.iter().map(|log| log.replace("\\\"", "\"")).collect();
    let lines = logs.iter().flat_map(|log| log.lines());
    let refused =
        |line: &&str| line.contains("cannot ") && line.contains(&format!("\"{resource}\""));
    let mut about = lines.filter(refused);
    let found = about
        .next()
        .ok_or(format!("no word about {resource} in the logs"))?;
    Ok(found.trim().to_owned())
}

/// The Event that names the right.
fn told(release: &Release, (resource, _): Right) -> Outcome<()> {
    let events = [0, 1].map(|n| release.events(&release.pod(n)));
    let events = events.into_iter().collect::<Outcome<String>>()?;
    let names = |line: &str| line.contains("cannot ") && line.contains(&format!("\"{resource}\""));
    ensure(events.lines().any(names), || events.clone())
}

/// A member's line below `ctl list`.
fn listed(release: &Release) -> Outcome<()> {
    let ask = |n| release.ctl_list(&release.pod(n));
    let said = ask(0)? + &ask(1)?;
    ensure(said.contains("forbidden"), || said.clone())
}

fn nobody_leads(release: &Release) -> Outcome<String> {
    complained(release)?;
    holds_for("nobody leads", 20, || {
        let ready = ready(release)?;
        ensure(release.leader().is_err() && ready == 0, || {
            format!("{:?} leads, {ready} ready", release.leader())
        })
    })?;
    Ok("nobody leads, no pod is ready".to_owned())
}

/// Whatever it is, the agents have noticed it by now.
fn complained(release: &Release) -> Outcome<()> {
    wait_for("a refusal in the logs", 120, || {
        Release::make_volumes_writable()?;
        let logs: String = (0..2).map(|n| release.log(&release.pod(n))).collect();
        ensure(logs.contains("(403)") || logs.contains("forbidden"), || {
            logs.clone()
        })
    })
}

fn ready(release: &Release) -> Outcome<usize> {
    let pods = release.get("pods")?;
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    let ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions.is_some_and(|all| {
            all.iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True")
        })
    };
    Ok(pods.iter().filter(ready).count())
}

fn the_set_stays(release: &Release) -> Outcome<String> {
    complained(release)?;
    holds_for("no standby", 20, || {
        let set = release.sync_standby().unwrap_or_default();
        ensure(set.is_empty(), || format!("{set} is published"))
    })?;
    Ok("no synchronous standby is published".to_owned())
}

fn no_standby_is_chosen(release: &Release) -> Outcome<String> {
    the_set_stays(release)
}

fn the_service_leads_nowhere(release: &Release) -> Outcome<String> {
    complained(release)?;
    wait_for("a leader", 120, || release.leader())?;
    holds_for("no way to the leader", 20, || {
        let slices = release.get("endpointslices")?;
        let items = slices["items"].as_array().cloned().unwrap_or_default();
        let ours = |slice: &&Value| {
            let name = slice["metadata"]["name"].as_str().unwrap_or_default();
            name.starts_with(&format!("{}-pgwarden-", release.name))
        };
        let mut led = items
            .iter()
            .filter(ours)
            .filter(|s| !s["endpoints"][0].is_null());
        ensure(led.next().is_none(), || {
            "the Service leads somewhere".to_owned()
        })
    })?;
    Ok("the leader Service leads nowhere".to_owned())
}

fn a_selector_is_not_noticed(release: &Release) -> Outcome<String> {
    let service = format!("service/{}", release.name);
    let patch = |selector: Value| {
        let body = json!({"spec": {"selector": selector}}).to_string();
        release.kubectl(&["patch", &service, "-p", &body]).map(drop)
    };
    unnoticed(
        release,
        "a selector of the leader Service",
        || patch(json!({"application": "somebody"})),
        || patch(Value::Null),
    )
}

fn a_lock_in_endpoints_is_not_noticed(release: &Release) -> Outcome<String> {
    foreign_lock(release, "Endpoints", &release.name)
}

fn a_lock_in_a_configmap_is_not_noticed(release: &Release) -> Outcome<String> {
    foreign_lock(release, "ConfigMap", &format!("{}-leader", release.name))
}

fn foreign_lock(release: &Release, kind: &str, name: &str) -> Outcome<String> {
    let object = json!({
        "apiVersion": "v1", "kind": kind,
        "metadata": {
            "name": name, "namespace": release.namespace,
            "annotations": {"leader": "somebody"},
        },
    });
    unnoticed(
        release,
        &format!("Patroni's lock in {kind} {name}"),
        || apply(&object).map(drop),
        || release.kubectl(&["delete", kind, name]).map(drop),
    )
}

/// Something is wrong, and a member that starts runs all the same; one with the right would not.
fn unnoticed(
    release: &Release,
    what: &str,
    spoil: impl FnOnce() -> Outcome<()>,
    mend: impl FnOnce() -> Outcome<()>,
) -> Outcome<String> {
    release.healed(2)?;
    spoil()?;
    let replica = release.replica()?;
    release.kubectl(&["delete", "pod", &replica])?;
    release.healed(2)?;
    // The other way round: the same member, with every right.
    give(&role(release)?)?;
    release.kubectl(&["delete", "pod", &replica])?;
    let refused = wait_for("a refusal to start", 60, || {
        let log = release.log(&replica);
        let line = log
            .lines()
            .find(|line| line.contains("selector") || line.contains("somebody"));
        line.map(str::to_owned).ok_or(log.clone())
    })?;
    mend()?;
    Ok(format!(
        "{what} was not noticed, and is with the right: {}",
        refused.trim()
    ))
}

fn nothing_is_told(release: &Release) -> Outcome<String> {
    release.healed(2)?;
    let leader = release.leader()?;
    let events = release.events(&leader)?;
    ensure(!events.contains("Elected"), || events.clone())?;
    Ok("no Event tells of the election".to_owned())
}
