//! The simulator: the real `ha::step` of three members over a simulated cluster.
//!
//! Everything around the core is modelled: the Kubernetes store with its latencies, lost answers
//! and late writes; clocks that drift by the allowed rate; guardians; PostgreSQL's write-ahead log
//! as a list of records; streaming; clients. A run is a function of its seed.
//!
//! - one seed again, with its trace:
//!   `PGWARDEN_SEED=17 cargo test --test simulation one_seed -- --nocapture`
//! - more seeds: `PGWARDEN_SEEDS=20000 cargo test --test simulation seeds -- --nocapture`

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::panic, clippy::print_stdout)]

mod act;
mod api;
mod directed;
mod effects;
mod failsafe;
mod faults;
mod guardian;
mod historic;
mod hooks;
mod life;
mod maintenance;
mod network;
mod node;
mod oracle;
mod rng;
mod server;
mod slots;
mod votes;
mod wal;
mod world;

use pgwarden::ha::state::Sabotage;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use world::{Bug, Failure, Faults, Options, Story, World};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many seeds `make test` runs at least, for each mode of replication.
const SEEDS: u64 = 10_000;
/// How many of one kind of faults alone.
const DIRECTED_SEEDS: u64 = 50;
/// The seeds within which a bug put in on purpose must be found.
const SABOTAGE_SEEDS: u64 = 20_000;

/// The seeds in which most bugs are looked for: three members, one synchronous standby, no commands
/// of the user's, no slots of others. There is less in them that happens instead.
fn plain(number: u64) -> u64 {
    number / 16 * 128 + number % 16
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seed: u64, bug: Bug, trace: bool) -> (Result<(), Failure>, u64) {
    // Even seeds replicate synchronously.
    let options = Options {
        seed,
        synchronous: seed.is_multiple_of(2),
        // And each in both kinds of dialect.
        route_in_lock: seed % 4 >= 2,
        failsafe: seed % 8 >= 4,
        faults: Faults::Mixed,
        bug,
        story: if trace { Story::Printed } else { Story::Untold },
    };
    tell(options)
}

/// Runs it, and what fails once more for its story.
fn tell(options: Options) -> (Result<(), Failure>, u64) {
    let mut world = World::new(options);
    let result = world.run();
    if result.is_ok() || options.story != Story::Untold {
        return (result, world.now);
    }
    let story = Story::Kept;
    tell(Options { story, ..options })
}

/// Containers that are frozen whole, in synchronous mode.
fn run_frozen(seed: u64, bug: Bug) -> Result<(), Failure> {
    run_under(Faults::Frozen, seed, bug)
}

/// Nothing but these faults.
fn run_under(faults: Faults, seed: u64, bug: Bug) -> Result<(), Failure> {
    let trace = from_env("PGWARDEN_TRACE").is_some();
    let options = Options {
        seed,
        synchronous: faults == Faults::Frozen || seed.is_multiple_of(2),
        route_in_lock: seed % 4 >= 2,
        failsafe: false,
        faults,
        bug,
        story: if trace { Story::Printed } else { Story::Untold },
    };
    tell(options).0
}

fn report(seed: u64, failure: &Failure) -> String {
    format!(
        "seed {seed} broke \"{}\" at {} ms: {}\nreplay: PGWARDEN_SEED={seed} cargo test --test \
         simulation one_seed -- --nocapture\n{}",
        failure.invariant, failure.at, failure.words, failure.trace
    )
}

#[test]
fn seeds() {
    let count = from_env("PGWARDEN_SEEDS").unwrap_or(SEEDS);
    let first = from_env("PGWARDEN_FIRST_SEED").unwrap_or(1);
    let (started, next) = (Instant::now(), AtomicU64::new(first));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || -> Result<u64, String> {
        let mut simulated_ms = 0;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return Ok(simulated_ms);
            }
            let (result, ms) = run(seed, Bug::None, false);
            simulated_ms += ms;
            if let Err(failure) = result {
                // The others have nothing left to do.
                next.store(first + count, Ordering::Relaxed);
                return Err(report(seed, &failure));
            }
        }
    };
    let simulated: Result<u64, String> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = running.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended.map(|ms| ms.expect("a run ends")).sum()
    });
    let simulated_ms = simulated.unwrap_or_else(|broken| panic!("{broken}"));
    let hours = simulated_ms as f64 / 3_600_000.0;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "seeds {first}..{}: {hours:.1} simulated hours in {seconds:.1} s, {:.2} hours per second",
        first + count,
        hours / seconds
    );
}

/// G10: with synchronous replication nothing acknowledged is lost, not even by a container that
/// stood still beyond its deadline and goes on.
#[test]
fn frozen_containers() {
    let count = from_env("PGWARDEN_SEEDS").unwrap_or(SEEDS) / 20;
    for seed in 1..=count {
        if let Err(failure) = run_frozen(seed, Bug::None) {
            panic!("{}", report(seed, &failure));
        }
    }
}

#[test]
fn one_frozen_seed() {
    let Some(seed) = from_env("PGWARDEN_FROZEN_SEED") else {
        return;
    };
    let bug = std::env::var("PGWARDEN_BUG").map_or(Bug::None, |name| Bug::parse(&name));
    if let Err(failure) = run_frozen(seed, bug) {
        panic!("{}", report(seed, &failure));
    }
}

#[test]
fn one_seed() {
    let Some(seed) = from_env("PGWARDEN_SEED") else {
        return;
    };
    let bug = std::env::var("PGWARDEN_BUG").map_or(Bug::None, |name| Bug::parse(&name));
    let (result, _) = run(seed, bug, true);
    if let Err(failure) = result {
        panic!("{}", report(seed, &failure));
    }
    println!("seed {seed} holds every invariant");
}

/// A harness is trusted only after it caught bugs put in on purpose.
fn is_caught(bug: Bug) {
    let seeds = (1..=SABOTAGE_SEEDS).map(plain);
    let seeds = seeds.filter(|seed| !seed.is_multiple_of(3));
    is_caught_in(seeds, bug, |seed, bug| run(seed, bug, false).0);
}

/// A scenario in which the bug shows itself soon, and which holds without it.
fn is_caught_under(faults: Faults, bug: Bug) {
    for seed in 1..=DIRECTED_SEEDS {
        if let Err(failure) = run_under(faults, seed, Bug::None) {
            panic!("{faults:?}: {}", report(seed, &failure));
        }
    }
    is_caught_in(1..=SABOTAGE_SEEDS, bug, |seed, bug| {
        run_under(faults, seed, bug)
    });
}

fn is_caught_in(
    seeds: impl Iterator<Item = u64>,
    bug: Bug,
    run: impl Fn(u64, Bug) -> Result<(), Failure>,
) {
    for seed in seeds {
        if let Err(failure) = run(seed, bug) {
            println!(
                "{bug:?} is seen by seed {seed}: {} ({})",
                failure.invariant, failure.words
            );
            return;
        }
    }
    panic!("{bug:?} was not seen within {SABOTAGE_SEEDS} seeds: the simulator is blind to it");
}

#[test]
fn compare_and_swap_off_is_caught() {
    is_caught(Bug::CompareAndSwapOff);
}

#[test]
fn identity_off_is_caught() {
    is_caught(Bug::Core(Sabotage::IdentityOff));
}

#[test]
fn age_by_a_peers_wall_clock_is_caught() {
    is_caught(Bug::WallClockAge);
}

#[test]
fn absence_taken_for_release_is_caught() {
    is_caught_under(Faults::LockLost, Bug::Core(Sabotage::AbsenceIsRelease));
}

#[test]
fn an_absent_set_that_admits_everybody_is_caught() {
    is_caught(Bug::Core(Sabotage::AbsentSetAdmits));
}

#[test]
fn a_release_that_admits_everybody_is_caught() {
    is_caught(Bug::Core(Sabotage::ReleaseAdmits));
}

#[test]
fn a_mark_that_grows_old_is_caught() {
    is_caught(Bug::Core(Sabotage::MarkIgnored));
}

#[test]
fn a_deadline_suspended_before_the_mark_is_acknowledged_is_caught() {
    is_caught_under(Faults::BriefPause, Bug::Core(Sabotage::SuspendedEarly));
}

#[test]
fn a_mark_removed_before_the_deadline_runs_is_caught() {
    is_caught_under(Faults::HastyResume, Bug::Core(Sabotage::MarkRemovedFirst));
}

#[test]
fn a_promise_that_is_forgotten_is_caught() {
    is_caught(Bug::Core(Sabotage::PromiseForgotten));
}

#[test]
fn a_member_outside_the_map_that_races_is_caught() {
    is_caught(Bug::Core(Sabotage::MapIgnored));
}

#[test]
fn a_candidate_of_a_quorum_without_votes_is_caught() {
    let bug = Bug::Core(Sabotage::VotesIgnored);
    is_caught_in(1..=SABOTAGE_SEEDS, bug, |seed, bug| run(seed, bug, false).0);
}

#[test]
fn a_voter_that_goes_on_receiving_is_caught() {
    let bug = Bug::Core(Sabotage::VoterGoesOn);
    is_caught_in(1..=SABOTAGE_SEEDS, bug, run_frozen);
}

#[test]
fn a_creator_that_is_not_known_again_is_caught() {
    is_caught_under(Faults::CreatorDies, Bug::Core(Sabotage::CreatorForgotten));
}

#[test]
fn a_listed_member_with_another_copy_is_caught() {
    is_caught_under(Faults::WipedStandby, Bug::Core(Sabotage::NameSuffices));
}

#[test]
fn timeline_check_off_is_caught() {
    is_caught(Bug::Core(Sabotage::TimelineCheckOff));
}
