//! The guardian on real PostgreSQL, every scenario in both situations: as an ordinary unprivileged
//! process and as PID 1 of a PID namespace (G6).
#![allow(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub
)]

#[path = "guardian/fake_agent.rs"]
mod fake_agent;
#[path = "guardian/harness.rs"]
mod harness;
#[path = "guardian/postgres.rs"]
mod postgres;

use fake_agent::Order;
use harness::{Situation, World, alive, all_pids, wait_for};
use pgwarden::guardian::protocol::{Notice, PostmasterExit, PostmasterSignal, Request, StopHow};
use pgwarden::guardian::{EXIT_LOCKED, GuardianSettings};
use pgwarden::sys::clock::boottime_ms;
use pgwarden::sys::fault;
use pgwarden::sys::process::{Signal, exit_now, signal};
use std::process::Stdio;

/// Long enough for everything a scenario does before its deadline is meant to pass.
const LONG_MS: u64 = 120_000;

/// The beginning of the guardians and agents that the scenarios start: this binary again, told by
/// its environment what to be. It runs before `main`, because libtest runs tests in threads, and a
/// guardian has one.
#[used]
// SAFETY: a section of pointers to functions that the C library calls before `main`, in the main
// thread, with no arguments that this one would read.
#[unsafe(link_section = ".init_array")]
static BEGINNING: extern "C" fn() = begin;

/// The end of the test process: what was made once for all scenarios goes.
#[used]
// SAFETY: as above, called once after `main`.
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = postgres::remove_template;

extern "C" fn begin() {
    let Ok(role) = std::env::var("PGWARDEN_TEST_ROLE") else {
        return;
    };
    if role == "agent" {
        fake_agent::run();
    }
    let data_dir = std::env::var("PGWARDEN_TEST_DATA_DIR").unwrap().into();
    let mut agent_env: Vec<_> = std::env::vars().collect();
    agent_env.retain(|(name, _)| name != "PGWARDEN_TEST_ROLE");
    agent_env.push(("PGWARDEN_TEST_ROLE".into(), "agent".into()));
    exit_now(pgwarden::guardian::run(GuardianSettings {
        data_dir,
        sweep_dirs: Vec::new(),
        agent_program: "/proc/self/exe".into(),
        agent_argv: vec!["agent".into()],
        agent_env,
        fatal_exit_codes: vec![78],
        ttl_ms: LONG_MS,
        heartbeat_replica_ms: 30_000,
        json_logs: false,
    }))
}

/// Each scenario becomes two tests, one per situation.
macro_rules! in_both_situations {
    ($($scenario:ident)*) => {
        mod plain {
            $(#[test] fn $scenario() {
                if let Some(world) = super::World::begin(super::Situation::Plain, stringify!($scenario)) {
                    super::$scenario(world);
                }
            })*
        }
        mod pid1 {
            $(#[test] fn $scenario() {
                if let Some(world) = super::World::begin(super::Situation::Pid1, stringify!($scenario)) {
                    super::$scenario(world);
                }
            })*
        }
    };
}

in_both_situations! {
    the_deadline_kills_busy_backends
    the_deadline_kills_while_the_agent_is_frozen
    the_deadline_kills_a_frozen_postmaster_and_frozen_backends
    a_passed_deadline_cannot_be_moved
    a_crashed_agent_is_replaced_and_postgres_adopted
    a_frozen_agent_is_killed_and_replaced
    orphans_of_the_old_agent_go_before_the_new_one_starts
    a_killed_postmaster_takes_its_busy_backends_along
    nothing_starts_unarmed_without_standby_signal
    a_replica_promoted_by_hand_is_killed
    an_ordered_stop_is_reported_and_ends_the_guardian
    a_fatal_exit_code_ends_the_guardian_and_postgres
    kill_all_on_request
    a_killed_guardian_takes_postgres_along
    guardian_and_agent_killed_at_once_are_swept_by_the_successor
    a_second_guardian_is_refused
}

/// After a deadline: the same agent, or, as PID 1, a new one; and the exit it was told of.
fn after_the_deadline(
    world: &World,
    mut agent: harness::Agent,
) -> (harness::Agent, PostmasterExit) {
    match world.situation {
        Situation::Plain => {
            let exit = agent.exited();
            (agent, exit)
        }
        Situation::Pid1 => {
            drop(agent);
            let mut next = world.agent();
            let exit = next.hello().last_exit.unwrap();
            (next, exit)
        }
    }
}

fn assert_nobody_at_work(world: &World) {
    let left = world.at_work();
    assert!(
        left.is_empty(),
        "after a verified stop these are left: {left:?}"
    );
}

fn assert_fenced(exit: &PostmasterExit, reason: &str) {
    let said = exit.fenced.clone().unwrap_or_default();
    assert!(said.contains(reason), "{exit:?}");
    assert!(exit.verified && !exit.ordered, "{exit:?}");
    assert_eq!(exit.signal, Some(9), "{exit:?}");
}

fn the_deadline_kills_busy_backends(mut world: World) {
    let mut agent = world.agent();
    world.start_primary(&mut agent, LONG_MS);
    world.keep_busy(20);
    let bystander = agent.order(&Order::Child).as_i64().unwrap() as i32;
    let bystander = world.host_pid(bystander);
    assert!(agent.deadline_in(100).get("Ok").is_some());
    let (mut agent, exit) = after_the_deadline(&world, agent);
    assert_nobody_at_work(&world);
    assert_fenced(&exit, "the deadline passed");
    assert_eq!(agent.deadline(), None, "only after the verified stop");
    // kill(-1) takes everything in the namespace; elsewhere the agent and its own are spared.
    assert_eq!(alive(bystander), world.situation == Situation::Plain);
    let measured = world
        .log()
        .lines()
        .rfind(|l| l.contains("signals_us"))
        .map(String::from);
    eprintln!(
        "K, {:?}, 20 busy backends: {}",
        world.situation,
        measured.unwrap_or_default()
    );
    // It can serve again under a new deadline.
    world.start_primary(&mut agent, LONG_MS);
    assert!(world.psql("SELECT count(*) > 100 FROM busy").unwrap() == "t");
}

fn the_deadline_kills_while_the_agent_is_frozen(mut world: World) {
    let mut agent = world.agent();
    world.start_primary(&mut agent, LONG_MS);
    world.keep_busy(4);
    assert!(agent.deadline_in(300).get("Ok").is_some());
    signal(agent.host_pid, Signal::SIGSTOP);
    wait_for("the fence", || world.at_work().is_empty().then_some(()));
    signal(agent.host_pid, Signal::SIGCONT);
    let (_agent, exit) = after_the_deadline(&world, agent);
    assert_fenced(&exit, "the deadline passed");
}

fn the_deadline_kills_a_frozen_postmaster_and_frozen_backends(mut world: World) {
    let mut agent = world.agent();
    let postmaster = world.start_primary(&mut agent, LONG_MS);
    world.keep_busy(4);
    for (number, pid) in world.at_work().into_iter().enumerate() {
        if pid == postmaster || number % 2 == 0 {
            signal(pid, Signal::SIGSTOP);
        }
    }
    assert!(agent.deadline_in(100).get("Ok").is_some());
    let (_agent, exit) = after_the_deadline(&world, agent);
    assert_nobody_at_work(&world);
    assert_fenced(&exit, "the deadline passed");
}

fn a_passed_deadline_cannot_be_moved(world: World) {
    let mut agent = world.agent();
    world.start_primary(&mut agent, LONG_MS);
    // A guardian that does not run cannot act: the word itself must refuse.
    signal(world.guardian_pid(), Signal::SIGSTOP);
    assert!(agent.deadline_in(50).get("Ok").is_some());
    let refused = wait_for("the deadline to pass", || {
        let moved = agent.deadline_in(LONG_MS - 1);
        if moved.get("Ok").is_some() {
            // It had not passed yet, and moving it was allowed: bring it back.
            assert!(agent.deadline_in(1).get("Ok").is_some() || agent.deadline().is_some());
            return None;
        }
        moved.get("Err").map(ToString::to_string)
    });
    assert!(refused.contains("Latched"), "{refused}");
    assert!(agent.deadline().is_some());
    signal(world.guardian_pid(), Signal::SIGCONT);
    let (mut agent, exit) = after_the_deadline(&world, agent);
    assert_fenced(&exit, "the deadline passed");
    assert_eq!(agent.deadline(), None);
    assert_nobody_at_work(&world);
}

fn a_crashed_agent_is_replaced_and_postgres_adopted(mut world: World) {
    let mut agent = world.agent();
    let first = agent.hello();
    assert_eq!(first.is_pid1, world.situation == Situation::Pid1);
    assert!(first.swept && first.postmaster.is_none() && first.deadline_ms.is_none());
    let postmaster = world.start_primary(&mut agent, LONG_MS);
    world.keep_busy(1);
    let deadline = agent.deadline();
    signal(agent.host_pid, Signal::SIGKILL);
    let mut next = world.agent();
    assert_adoptable(&world, &mut next, postmaster, deadline, &first.incarnation);
    // It is usable: the new agent reloads, moves the deadline and stops it.
    assert!(next.deadline_in(LONG_MS / 2).get("Ok").is_some());
    let loaded = world.psql("SELECT pg_conf_load_time()").unwrap();
    next.ask(Request::Signal {
        signal: PostmasterSignal::Hup,
    });
    wait_for("the reload", || {
        (world.psql("SELECT pg_conf_load_time()").ok()? != loaded).then_some(())
    });
    next.ask(Request::Stop { how: StopHow::Fast });
    let exit = next.exited();
    assert!(
        exit.ordered && exit.code == Some(0) && exit.fenced.is_none(),
        "{exit:?}"
    );
    assert_nobody_at_work(&world);
}

fn assert_adoptable(
    world: &World,
    agent: &mut harness::Agent,
    postmaster: i32,
    deadline: Option<u64>,
    incarnation: &str,
) {
    let hello = agent.hello();
    let running = hello.postmaster.unwrap();
    assert_eq!(world.host_pid(running.pid), postmaster);
    assert!(running.writable);
    assert_eq!(hello.deadline_ms, deadline, "the deadline stays");
    assert_eq!(agent.deadline(), deadline);
    assert_eq!(hello.incarnation, incarnation);
    assert_eq!(hello.agent_restarts, 1);
    assert!(hello.last_agent_end.unwrap().contains("signal 9"));
    assert_eq!(
        world.psql("SELECT 1").unwrap(),
        "1",
        "PostgreSQL went on serving"
    );
}

fn a_frozen_agent_is_killed_and_replaced(world: World) {
    let mut agent = world.agent();
    let incarnation = agent.hello().incarnation;
    // D / 4 is half a second; the deadline is far, so that only the heartbeat can act.
    let postmaster = world.start_primary(&mut agent, LONG_MS);
    let deadline = agent.deadline();
    agent.order(&Order::Ttl { ms: 2000 });
    signal(agent.host_pid, Signal::SIGSTOP);
    let mut next = world.agent();
    assert!(!alive(agent.host_pid));
    assert_adoptable(&world, &mut next, postmaster, deadline, &incarnation);
}

fn orphans_of_the_old_agent_go_before_the_new_one_starts(world: World) {
    let mut agent = world.agent();
    let postmaster = world.start_primary(&mut agent, LONG_MS);
    let child = agent.order(&Order::Child).as_i64().unwrap() as i32;
    let orphan = world.host_pid(child);
    assert!(alive(orphan));
    signal(agent.host_pid, Signal::SIGKILL);
    let _next = world.agent();
    assert!(
        !alive(orphan),
        "a new agent runs beside the helper of the old one"
    );
    assert!(alive(postmaster));
}

fn a_killed_postmaster_takes_its_busy_backends_along(mut world: World) {
    let mut agent = world.agent();
    let postmaster = world.start_primary(&mut agent, LONG_MS);
    world.keep_busy(4);
    signal(postmaster, Signal::SIGKILL);
    let exit = agent.exited();
    assert_nobody_at_work(&world);
    assert_eq!((exit.signal, exit.ordered), (Some(9), false), "{exit:?}");
    assert_eq!(exit.fenced, None, "nobody ordered it");
    assert_eq!(agent.deadline(), None, "a restart must be armed again");
    agent.ask(world.start_request(true));
    assert!(agent.refused().contains("no deadline is armed"));
}

fn nothing_starts_unarmed_without_standby_signal(world: World) {
    let mut agent = world.agent();
    agent.hello();
    agent.ask(world.start_request(true));
    assert!(agent.refused().contains("no deadline is armed"));
    agent.ask(world.start_request(false));
    assert!(agent.refused().contains("standby.signal is not there"));
    assert_nobody_at_work(&world);
    std::fs::write(world.data_dir().join("standby.signal"), "").unwrap();
    agent.ask(world.start_request(true));
    assert!(agent.refused().contains("no deadline is armed"));
    world.start(&mut agent, false);
    assert_eq!(world.psql("SELECT pg_is_in_recovery()").unwrap(), "t");
    agent.ask(world.start_request(false));
    assert!(agent.refused().contains("running already"));
}

fn a_replica_promoted_by_hand_is_killed(world: World) {
    let mut agent = world.agent();
    std::fs::write(world.data_dir().join("standby.signal"), "").unwrap();
    let postmaster = world.start(&mut agent, false);
    world.promote_by_hand(postmaster);
    let exit = agent.exited();
    assert_fenced(&exit, "left recovery while no deadline was armed");
    assert_nobody_at_work(&world);
    // Armed, the same promotion is allowed.
    std::fs::write(world.data_dir().join("standby.signal"), "").unwrap();
    let postmaster = world.start(&mut agent, false);
    agent.order(&Order::Ttl { ms: LONG_MS });
    assert!(agent.deadline_in(LONG_MS - 1).get("Ok").is_some());
    world.promote_by_hand(postmaster);
    wait_for("the promotion", || {
        (world.psql("SELECT pg_is_in_recovery()").ok()? == "f").then_some(())
    });
    world.psql("CREATE TABLE written (n int)").unwrap();
}

fn an_ordered_stop_is_reported_and_ends_the_guardian(mut world: World) {
    let mut agent = world.agent();
    world.start_primary(&mut agent, LONG_MS);
    signal(world.guardian_pid(), Signal::SIGHUP);
    agent.wait_signal("HUP");
    signal(world.guardian_pid(), Signal::SIGTERM);
    agent.wait_signal("TERM");
    assert!(
        !world.at_work().is_empty(),
        "the signal stops nothing by itself"
    );
    agent.ask(Request::Stop { how: StopHow::Fast });
    let exit = agent.exited();
    assert!(
        exit.ordered && exit.verified && exit.code == Some(0),
        "{exit:?}"
    );
    assert_nobody_at_work(&world);
    signal(agent.host_pid, Signal::SIGKILL);
    let mut next = world.agent();
    assert!(
        next.hello().terminating,
        "a new agent is told to go on with the stop"
    );
    next.send(&Order::Exit { code: 0 });
    assert_eq!(world.guardian_end(), Some(0));
}

fn a_fatal_exit_code_ends_the_guardian_and_postgres(mut world: World) {
    let mut agent = world.agent();
    world.start_primary(&mut agent, LONG_MS);
    agent.send(&Order::Exit { code: 78 });
    assert_eq!(world.guardian_end(), Some(78));
    assert_nobody_at_work(&world);
}

fn kill_all_on_request(mut world: World) {
    let mut agent = world.agent();
    agent.ask(Request::KillAll {
        reason: "nothing runs".into(),
    });
    let cleared = agent.notice("cleared", |notice| match notice {
        Notice::Cleared { reason } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(cleared, "nothing runs");
    world.start_primary(&mut agent, LONG_MS);
    world.keep_busy(2);
    agent.ask(Request::KillAll {
        reason: "the disk is dead".into(),
    });
    assert_fenced(&agent.exited(), "the disk is dead");
    assert_nobody_at_work(&world);
    assert_eq!(agent.deadline(), None);
    // An agent that leaves without a farewell is replaced, even with code 0.
    agent.send(&Order::Exit { code: 0 });
    let mut next = world.agent();
    next.ask(Request::Bye);
    next.send(&Order::Exit { code: 0 });
    assert_eq!(world.guardian_end(), Some(0));
}

fn a_killed_guardian_takes_postgres_along(mut world: World) {
    let mut agent = world.agent();
    let postmaster = world.start_primary(&mut agent, LONG_MS);
    world.keep_busy(4);
    // A frozen postmaster does not hear the signal of its parent's death: the agent must act.
    signal(postmaster, Signal::SIGSTOP);
    signal(world.guardian_pid(), Signal::SIGKILL);
    wait_for("the end of PostgreSQL", || {
        world.at_work().is_empty().then_some(())
    });
    wait_for("the agent's end", || (!alive(agent.host_pid)).then_some(()));
    world.guardian_end();
    world.start_guardian();
    let hello = world.agent().hello();
    assert!(hello.swept && hello.postmaster.is_none() && hello.deadline_ms.is_none());
}

fn guardian_and_agent_killed_at_once_are_swept_by_the_successor(mut world: World) {
    let mut agent = world.agent();
    let postmaster = world.start_primary(&mut agent, LONG_MS);
    world.keep_busy(4);
    // Frozen together, so that neither sees the other die; nobody is left to fence.
    signal(postmaster, Signal::SIGSTOP);
    let both = [world.guardian_pid(), agent.host_pid];
    assert!(both.into_iter().all(|pid| signal(pid, Signal::SIGSTOP)));
    // The death of PID 1 takes the agent along before we can.
    assert!(signal(both[0], Signal::SIGKILL));
    signal(both[1], Signal::SIGKILL);
    world.guardian_end();
    if world.situation == Situation::Plain {
        assert!(
            !world.at_work().is_empty(),
            "busy backends outlive both: that is why there is a sweep"
        );
    }
    world.start_guardian();
    let mut next = world.agent();
    assert_nobody_at_work(&world);
    assert!(next.hello().swept);
    world.start_primary(&mut next, LONG_MS);
}

fn a_second_guardian_is_refused(world: World) {
    let mut agent = world.agent();
    let postmaster = world.start_primary(&mut agent, LONG_MS);
    let second = world
        .guardian_command()
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(EXIT_LOCKED), "{said}");
    assert!(said.contains(".data.pgwarden.lock"), "{said}");
    assert!(alive(postmaster), "the second one must touch nothing");
    assert_eq!(world.psql("SELECT 1").unwrap(), "1");
    assert!(all_pids().any(|pid| pid == agent.host_pid));
}

/// The harness must see what a guardian without its rules would do.
mod faults {
    use super::*;

    #[test]
    fn without_the_kill_postgres_outlives_its_deadline() {
        let name = "without_the_kill";
        let fault = Some(fault::NO_KILL_ALL);
        let Some(world) = World::begin_with(Situation::Plain, name, fault) else {
            return;
        };
        let mut agent = world.agent();
        world.start_primary(&mut agent, LONG_MS);
        assert!(agent.deadline_in(50).get("Ok").is_some());
        let deadline = agent.deadline().unwrap();
        wait_for("a second after the deadline", || {
            (boottime_ms() > deadline + 1000).then_some(())
        });
        world
            .psql("CREATE TABLE written_after_the_deadline (n int)")
            .unwrap();
    }

    #[test]
    fn without_the_hung_kill_a_frozen_agent_stays() {
        let name = "without_the_hung_kill";
        let fault = Some(fault::NO_HUNG_KILL);
        let Some(world) = World::begin_with(Situation::Plain, name, fault) else {
            return;
        };
        let mut agent = world.agent();
        world.start_primary(&mut agent, LONG_MS);
        agent.order(&Order::Ttl { ms: 400 });
        signal(agent.host_pid, Signal::SIGSTOP);
        let frozen = boottime_ms();
        wait_for("ten times its patience", || {
            (boottime_ms() > frozen + 1000).then_some(())
        });
        assert!(alive(agent.host_pid));
    }
}
