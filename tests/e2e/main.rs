//! Real pods: the chart on a real kubelet, with applications that write all the time.
//!
//! `make e2e` builds the image, makes it known to the cluster of KUBECONFIG and runs this; what it
//! reads from the environment is listed in deploy/README.md. Without E2E_IMAGE nothing runs.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod accidents;
mod client;
mod inits;
mod misfits;
mod network;
mod node;
mod release;
mod role;
mod rollout;
mod run;
mod versions;

use accidents::World;
use client::Client;
use release::{PATIENCE_SECONDS, Release};
use run::{Outcome, ensure, variable, wait_for};
use std::process::ExitCode;
use std::time::Instant;

type Scenario = fn(&World<'_>) -> Outcome<String>;

/// In the order they run in; the first ones are the smoke of `.ci/run`.
const SCENARIOS: [(&str, bool, Scenario); 14] = [
    ("services_lead_where_they_say", true, services),
    ("deleted_pod", true, accidents::deleted_pod),
    ("killed_container", true, accidents::killed_container),
    (
        "rolling_update_led_by_the_first",
        true,
        rollout::update_led_by_the_first,
    ),
    (
        "rolling_update_led_by_the_last",
        false,
        rollout::update_led_by_the_last,
    ),
    (
        "killed_container_without_proof",
        false,
        accidents::killed_container_unproven,
    ),
    ("vanished_pod", false, accidents::vanished_pod),
    ("evicted_pod", false, accidents::evicted_pod),
    ("frozen_agent", false, accidents::frozen_agent),
    ("emptied_volume", false, accidents::emptied_volume),
    ("lost_packets", false, network::lost_packets),
    ("selected_pods", false, network::selected_pods),
    ("rolled_image", false, rollout::rolled_image),
    ("scaled", false, rollout::scaled),
];
/// Last of all: it concerns everything else on the cluster as well.
const SILENT_API: (&str, Scenario) = ("silent_api", accidents::silent_api);

/// What became of the scenarios.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Tally {
    fn note(&mut self, name: &str, began: Instant, outcome: Outcome<String>) {
        let seconds = began.elapsed().as_secs();
        match outcome {
            Ok(words) => {
                self.passed += 1;
                println!("ok      {name} ({seconds} s): {words}");
            }
            Err(why) if why.starts_with("SKIPPED") => {
                self.skipped += 1;
                println!("{why} ({name})");
            }
            Err(why) => {
                self.failed += 1;
                println!("FAILED  {name} ({seconds} s): {why}");
            }
        }
    }
}

fn main() -> ExitCode {
    if variable("E2E_IMAGE").is_none() {
        println!("SKIPPED: real pods; make e2e runs them on the cluster of KUBECONFIG");
        return ExitCode::SUCCESS;
    }
    let mut tally = Tally::default();
    let plan = Plan::from_environment();
    let main = Release::new("pgwarden-e2e", "main");
    let other = Release::new("pgwarden-e2e-other", "main");
    if plan.needs_main() {
        let began = Instant::now();
        match install(&main, plan.whole.then_some(&other)) {
            Ok((words, before)) => {
                tally.note("installed", began, Ok(words));
                scenarios(
                    &main,
                    before.map(|before| (&other, before)),
                    &plan,
                    &mut tally,
                );
            }
            Err(why) => tally.note("installed", began, Err(why)),
        }
        if tally.failed > 0 {
            for pod in 0..5 {
                let pod = main.pod(pod);
                println!("--- {pod}\n{}", main.log(&pod));
            }
        }
        if variable("E2E_KEEP").is_none() {
            main.remove();
            other.remove();
        }
    } else {
        plan.run(own_releases(), &mut tally);
    }
    let Tally {
        passed,
        failed,
        skipped,
    } = tally;
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    ExitCode::from(u8::from(failed > 0))
}

/// What is to be run.
struct Plan {
    whole: bool,
    only: Option<Vec<String>>,
}

impl Plan {
    fn from_environment() -> Self {
        let names = |list: String| list.split(',').map(str::to_owned).collect();
        Self {
            whole: variable("E2E_WHOLE").is_some(),
            only: variable("E2E_ONLY").map(names),
        }
    }

    fn wants(&self, name: &str, smoke: bool) -> bool {
        match &self.only {
            Some(names) => names.iter().any(|wanted| wanted == name),
            None => smoke || self.whole,
        }
    }

    /// Unless only scenarios with releases of their own are named.
    fn needs_main(&self) -> bool {
        let mut of_main = SCENARIOS
            .iter()
            .map(|(name, _, _)| *name)
            .chain([SILENT_API.0]);
        self.only.is_none() || of_main.any(|name| self.wants(name, false))
    }

    fn run(&self, own: Vec<OwnScenario>, tally: &mut Tally) {
        for (name, scenario) in own {
            if self.wants(&name, false) {
                let began = Instant::now();
                tally.note(&name, began, scenario());
            }
        }
    }
}

/// One that installs what it needs and removes it again.
pub(crate) type OwnScenario = (String, Box<dyn Fn() -> Outcome<String>>);

fn own_releases() -> Vec<OwnScenario> {
    let mut all = inits::scenarios();
    all.extend(versions::scenarios());
    all.extend(role::scenarios());
    for (name, scenario) in misfits::SCENARIOS {
        all.push(((*name).to_owned(), Box::new(*scenario)));
    }
    all
}

fn scenarios(main: &Release, other: Option<(&Release, Standing)>, plan: &Plan, tally: &mut Tally) {
    let began = Instant::now();
    let client = match Client::start(main) {
        Ok(client) => client,
        Err(why) => return tally.note("applications", began, Err(why)),
    };
    let world = World {
        release: main,
        client,
    };
    for (name, smoke, scenario) in SCENARIOS {
        if plan.wants(name, smoke) {
            let began = Instant::now();
            tally.note(name, began, scenario(&world));
        }
    }
    plan.run(own_releases(), tally);
    if let Some((other, before)) = other {
        let outcome = undisturbed(other, &before);
        tally.note("undisturbed_release", Instant::now(), outcome);
    }
    let (name, scenario) = SILENT_API;
    if plan.wants(name, false) {
        let began = Instant::now();
        tally.note(name, began, scenario(&world));
    }
}

/// Facts of a release that nothing elsewhere may change.
type Standing = (String, u64, String);

fn install(main: &Release, other: Option<&Release>) -> Outcome<(String, Option<Standing>)> {
    let began = Instant::now();
    main.install(&[])?;
    main.healed(3)?;
    let words = format!("three members ready after {} s", began.elapsed().as_secs());
    let Some(other) = other else {
        return Ok((words, None));
    };
    other.install(&["--set", "replicas=2"])?;
    other.healed(2)?;
    Ok((words, Some(standing(other)?)))
}

fn standing(release: &Release) -> Outcome<Standing> {
    let pods = release.get("pods")?;
    let items = pods["items"].as_array().cloned().unwrap_or_default();
    let restarts = items.iter().map(|pod| {
        let status = &pod["status"]["containerStatuses"][0];
        format!("{} {} ", pod["metadata"]["uid"], status["restartCount"])
    });
    Ok((release.leader()?, release.epoch()?, restarts.collect()))
}

fn undisturbed(other: &Release, before: &Standing) -> Outcome<String> {
    let after = standing(other)?;
    ensure(after == *before, || format!("was {before:?}, is {after:?}"))?;
    other.healed(2)?;
    Ok(format!(
        "{} leads epoch {} as before, no restart",
        after.0, after.1
    ))
}

/// psql through both Services: the leader is writable, the replicas are not.
fn services(world: &World<'_>) -> Outcome<String> {
    let name = &world.release.name;
    let ask = |host: &str| {
        let line = format!("psql -h {host} -U postgres -XqAtc 'SELECT pg_is_in_recovery()'");
        world.release.exec("client", &["bash", "-c", &line])
    };
    wait_for("both Services", PATIENCE_SECONDS, || {
        let (leader, replica) = (ask(name)?, ask(&format!("{name}-repl"))?);
        ensure((leader.trim(), replica.trim()) == ("f", "t"), || {
            format!("in recovery: leader {leader}, replica {replica}")
        })
    })?;
    Ok("the leader's is writable, the replicas' is in recovery".to_owned())
}
