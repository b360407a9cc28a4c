//! Accidents that other supervisors of PostgreSQL and of Kubernetes have had: each happens here
//! again when the rule that forbids it is switched off. That nothing happens with the rule is what
//! every seed shows.
//!
//! Names: `patroni`, `cnpg`, `kubernetes` and `cilium` with the number of the report in that
//! project.

use crate::world::{Bug, Faults};
use crate::{is_caught, is_caught_in, is_caught_under, run};
use pgwarden::ha::state::Sabotage;

/// A question by somebody else refreshed the version between the decision and the write, and a
/// candidate overwrote a valid lock (L2).
#[test]
fn patroni_3718_a_version_refreshed_after_the_decision() {
    is_caught(Bug::VersionOfNow);
}

/// The watchdog was given up while the backends were still alive (G1).
#[test]
fn patroni_3639_the_fence_is_given_up_before_postgres_is_gone() {
    is_caught_under(Faults::DiesStopping, Bug::DisarmedEarly);
}

/// Who was cut off was only asked to go, and its sessions went on (G1).
#[test]
fn cnpg_11280_an_isolated_primary_that_nobody_kills() {
    is_caught(Bug::GuardianIdle);
}

/// PostgreSQL stood still under a healthy agent, whose lease was renewed for ever (G9).
#[test]
fn cnpg_11265_a_frozen_postgres_under_a_healthy_agent() {
    is_caught_under(Faults::Hung, Bug::SilenceIgnored);
}

/// The published set said more than PostgreSQL enforced, and a standby that lacked commits led.
#[test]
fn cnpg_1688_a_set_is_published_before_it_is_enforced() {
    let bug = Bug::Core(Sabotage::PublishedFirst);
    let synchronous = (2..).step_by(2);
    is_caught_in(synchronous.take(10_000), bug, |seed, bug| {
        run(seed, bug, false).0
    });
}

/// A primary went on alone before the record said that its standby no longer counts, and that
/// standby led.
#[test]
fn cnpg_8790_a_primary_goes_on_alone_while_the_record_still_names_its_standby() {
    let synchronous = (2..).step_by(2);
    is_caught_in(synchronous.take(10_000), Bug::SetStoredLate, |seed, bug| {
        run(seed, bug, false).0
    });
}

/// The disk under a primary was dead while its processes kept talking, and nobody was elected (G4).
#[test]
fn cnpg_10591_a_dead_disk_under_a_primary_that_still_answers() {
    is_caught_under(Faults::DeadDisk, Bug::Core(Sabotage::FencedAnswers));
}

/// What had to stop waited for a hook that hung, past the moment when another could lead (G1).
#[test]
fn cilium_42920_a_hook_that_hangs_holds_up_the_fence() {
    is_caught_under(Faults::HookHangs, Bug::HookHoldsFence);
}

/// A data directory that had been a primary's was started as it was, before the lease was held
/// (G4).
#[test]
fn cnpg_11356_a_primary_starts_without_the_lock() {
    is_caught(Bug::StartsUnlocked);
}

/// A call took a minute, and its late success counted from when it came (G1; CNPG 11350 too).
#[test]
fn kubernetes_44887_a_late_answer_counts_from_its_arrival() {
    let bug = Bug::Core(Sabotage::CreditFromAnswer);
    is_caught_under(Faults::LateAnswer, bug);
}
