//! Scenarios in which PostgreSQL is killed, or must not start.

use super::LONG_MS;
use super::agent::Agent;
use super::fake_agent::Order;
use super::harness::{Situation, World, alive, as_postgres, wait_for};
use pgwarden::guardian::protocol::{Notice, PostmasterExit, Request};
use pgwarden::sys::process::{Signal, signal};
use std::path::Path;

/// After a deadline: the same agent, or, as PID 1, a new one; and the exit it was told of.
pub fn after_the_deadline(world: &World, mut agent: Agent) -> (Agent, PostmasterExit) {
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

pub fn assert_nobody_at_work(world: &World) {
    let left = world.at_work();
    assert!(
        left.is_empty(),
        "after a verified stop these are left: {left:?}"
    );
}

pub fn assert_fenced(exit: &PostmasterExit, reason: &str) {
    let said = exit.fenced.clone().unwrap_or_default();
    assert!(said.contains(reason), "{exit:?}");
    assert!(exit.verified && !exit.ordered, "{exit:?}");
    assert_eq!(exit.signal, Some(9), "{exit:?}");
}

pub fn the_deadline_kills_busy_backends(mut world: World) {
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

pub fn the_deadline_kills_while_the_agent_is_frozen(mut world: World) {
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

pub fn the_deadline_kills_a_frozen_postmaster_and_frozen_backends(mut world: World) {
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

pub fn a_passed_deadline_cannot_be_moved(world: World) {
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

pub fn a_killed_postmaster_takes_its_busy_backends_along(mut world: World) {
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

pub fn nothing_starts_unarmed_without_standby_signal(world: World) {
    let mut agent = world.agent();
    agent.hello();
    agent.ask(world.start_request(true));
    assert!(agent.refused().contains("no deadline is armed"));
    agent.ask(world.start_request(false));
    assert!(agent.refused().contains("standby.signal is not there"));
    // The child that looked for the file and refused may not have been reaped yet.
    wait_for("nobody to be at work", || {
        world.at_work().is_empty().then_some(())
    });
    std::fs::write(world.data_dir().join("standby.signal"), "").unwrap();
    let refused = wait_for("the refused start to be gone", || {
        agent.ask(world.start_request(true));
        let said = agent.refused();
        (!said.contains("running already")).then_some(said)
    });
    assert!(refused.contains("no deadline is armed"), "{refused}");
    world.start(&mut agent, false);
    assert_eq!(world.psql("SELECT pg_is_in_recovery()").unwrap(), "t");
    agent.ask(world.start_request(false));
    assert!(agent.refused().contains("running already"));
}

pub fn a_replica_promoted_by_hand_is_killed(world: World) {
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

pub fn kill_all_on_request(mut world: World) {
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

/// Without a descriptor the table of processes cannot be read: seeing nobody is no proof then.
pub fn a_table_that_cannot_be_read_verifies_nothing(mut world: World) {
    let mut agent = world.agent();
    world.start_primary(&mut agent, LONG_MS);
    world.keep_busy(2);
    let limit_files = |limit: &str| {
        let guardian = format!("--pid={}", world.guardian_pid());
        let mut command = as_postgres(Path::new("prlimit"));
        assert!(command.args([&guardian, limit]).status().unwrap().success());
    };
    // Fewer than it has open already: whatever it opens now is refused.
    limit_files("--nofile=6:");
    agent.ask(Request::KillAll {
        reason: "out of descriptors".into(),
    });
    let noticed = |log: String| log.contains("the postmaster ended").then_some(());
    wait_for("the postmaster's end", || noticed(world.log()));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(agent.deadline().is_some(), "busy backends live on");
    limit_files("--nofile=1024:");
    assert_fenced(&agent.exited(), "out of descriptors");
    assert_nobody_at_work(&world);
    assert_eq!(agent.deadline(), None);
}
