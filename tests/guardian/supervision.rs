//! Scenarios in which the agent or the guardian ends, by itself or not.

use super::LONG_MS;
use super::agent::Agent;
use super::fake_agent::Order;
use super::fencing::assert_nobody_at_work;
use super::harness::{Situation, World, alive, all_pids, wait_for};
use pgwarden::guardian::EXIT_LOCKED;
use pgwarden::guardian::protocol::{PostmasterSignal, Request, StopHow};
use pgwarden::sys::process::{Signal, become_subreaper, signal};
use std::process::Stdio;

pub fn a_crashed_agent_is_replaced_and_postgres_adopted(mut world: World) {
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
    agent: &mut Agent,
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

pub fn a_frozen_agent_is_killed_and_replaced(world: World) {
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

pub fn orphans_of_the_old_agent_go_before_the_new_one_starts(world: World) {
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

pub fn an_ordered_stop_is_reported_and_ends_the_guardian(mut world: World) {
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

pub fn a_fatal_exit_code_ends_the_guardian_and_postgres(mut world: World) {
    let mut agent = world.agent();
    world.start_primary(&mut agent, LONG_MS);
    agent.send(&Order::Exit { code: 78 });
    assert_eq!(world.guardian_end(), Some(78));
    assert_nobody_at_work(&world);
}

pub fn a_killed_guardian_takes_postgres_along(mut world: World) {
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

pub fn guardian_and_agent_killed_at_once_are_swept_by_the_successor(mut world: World) {
    // Nobody reaps what the two leave: the dead postmaster keeps its number, as under a slow init.
    become_subreaper().unwrap();
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

pub fn a_second_guardian_is_refused(world: World) {
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
