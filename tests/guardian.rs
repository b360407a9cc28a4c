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

#[path = "guardian/agent.rs"]
mod agent;
#[path = "guardian/fake_agent.rs"]
mod fake_agent;
#[path = "guardian/fencing.rs"]
mod fencing;
#[path = "guardian/harness.rs"]
mod harness;
#[path = "guardian/postgres.rs"]
mod postgres;
#[path = "guardian/supervision.rs"]
mod supervision;

use fake_agent::Order;
use harness::{Situation, World, alive, wait_for};
use pgwarden::guardian::GuardianSettings;
use pgwarden::sys::clock::boottime_ms;
use pgwarden::sys::fault;
use pgwarden::sys::process::{Signal, exit_now, signal};

/// Long enough for everything a scenario does before its deadline is meant to pass.
pub const LONG_MS: u64 = 120_000;

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
    ($($module:ident: $($scenario:ident)*;)*) => {
        mod plain {
            $($(#[test] fn $scenario() {
                if let Some(world) = super::World::begin(super::Situation::Plain, stringify!($scenario)) {
                    super::$module::$scenario(world);
                }
            })*)*
        }
        mod pid1 {
            $($(#[test] fn $scenario() {
                if let Some(world) = super::World::begin(super::Situation::Pid1, stringify!($scenario)) {
                    super::$module::$scenario(world);
                }
            })*)*
        }
    };
}

in_both_situations! {
    fencing:
        the_deadline_kills_busy_backends
        the_deadline_kills_while_the_agent_is_frozen
        the_deadline_kills_a_frozen_postmaster_and_frozen_backends
        a_passed_deadline_cannot_be_moved
        a_killed_postmaster_takes_its_busy_backends_along
        nothing_starts_unarmed_without_standby_signal
        a_replica_promoted_by_hand_is_killed
        kill_all_on_request
        a_table_that_cannot_be_read_verifies_nothing
    ;
    supervision:
        a_crashed_agent_is_replaced_and_postgres_adopted
        a_frozen_agent_is_killed_and_replaced
        orphans_of_the_old_agent_go_before_the_new_one_starts
        an_ordered_stop_is_reported_and_ends_the_guardian
        a_fatal_exit_code_ends_the_guardian_and_postgres
        a_killed_guardian_takes_postgres_along
        guardian_and_agent_killed_at_once_are_swept_by_the_successor
        a_second_guardian_is_refused
    ;
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
