//! Pods that come and go by plan: updates and scaling.

use crate::accidents::World;
use crate::release::TTL_SECONDS;
use crate::run::{Outcome, ensure, wait_for};

/// A rolling update with the leader at `ordinal`: so many handovers at most.
fn roll(world: &World<'_>, ordinal: u64, handovers_max: u64, change: &[&str]) -> Outcome<String> {
    lead_with(world, ordinal)?;
    let (epoch, began) = (world.release.epoch()?, world.client.now()?);
    world.release.upgrade(change)?;
    let set = format!("statefulset/{}", world.release.name);
    world
        .release
        .kubectl(&["rollout", "status", &set, "--timeout=300s"])?;
    world.release.healed(3)?;
    let handovers = world.release.epoch()? - epoch;
    let seen = world.client.since(began)?;
    let audit = world.client.audit()?;
    ensure(handovers <= handovers_max, || {
        format!("{handovers} handovers; at most {handovers_max} are promised")
    })?;
    Ok(format!(
        "{handovers} handovers with member {ordinal} leading; longest gap {} ms at a TTL of \
         {TTL_SECONDS} s, with one retry {} ms and {} failed transactions; {audit}",
        seen.gap_ms, seen.gap_patient_ms, seen.failed_twice
    ))
}

fn lead_with(world: &World<'_>, ordinal: u64) -> Outcome<()> {
    let wanted = world.release.pod(ordinal);
    wait_for("the leader to be chosen", 120, || {
        let leader = world.release.leader()?;
        if leader == wanted {
            return Ok(());
        }
        world.release.healed(3)?;
        // In synchronous mode only the synchronous standby may follow: by way of another, perhaps.
        let mut switch = vec!["pgwarden", "ctl", "switchover", "--force"];
        if world.release.sync_standby()? == wanted {
            switch.extend(["--candidate", &wanted]);
        }
        world.release.exec(&leader, &switch)?;
        Err(format!("{leader} led"))
    })?;
    world.release.healed(3)
}

pub(crate) fn update_led_by_the_first(world: &World<'_>) -> Outcome<String> {
    roll(world, 0, 1, &["--set", "podAnnotations.e2e=one"])
}

pub(crate) fn update_led_by_the_last(world: &World<'_>) -> Outcome<String> {
    roll(world, 2, 2, &["--set", "podAnnotations.e2e=two"])
}

/// The image's other name stands for its next version.
pub(crate) fn rolled_image(world: &World<'_>) -> Outcome<String> {
    let next = crate::run::variable("E2E_NEXT_IMAGE")
        .ok_or("SKIPPED: E2E_NEXT_IMAGE is not set; make e2e sets it")?;
    let (_, tag) = next.rsplit_once(':').ok_or("E2E_NEXT_IMAGE has no tag")?;
    roll(world, 1, 2, &["--set-string", &format!("image.tag={tag}")])
}

/// 3 → 5 → 1 → 3, the primary scaled away among them.
pub(crate) fn scaled(world: &World<'_>) -> Outcome<String> {
    let began = world.client.now()?;
    let mut steps = Vec::new();
    lead_with(world, 2)?;
    for members in [5_usize, 1, 3] {
        let epoch = world.release.epoch()?;
        let before = world.client.now()?;
        let set = format!("statefulset/{}", world.release.name);
        let replicas = format!("--replicas={members}");
        world.release.kubectl(&["scale", &set, &replicas])?;
        wait_for("the pods", 240, || {
            let pods = world.release.get("pods")?;
            let all = pods["items"].as_array().map_or(0, Vec::len) - 1;
            ensure(all == members, || format!("{all} pods"))
        })?;
        world.release.healed(members)?;
        let seen = world.client.since(before)?;
        let elections = world.release.epoch()? - epoch;
        steps.push(format!(
            "to {members}: gap {} ms, {elections} handovers",
            seen.gap_ms
        ));
    }
    let leader = world.release.leader()?;
    wait_for("no slot of a member that is gone", 120, || {
        let slots = world
            .release
            .sql(&leader, "SELECT slot_name FROM pg_replication_slots")?;
        ensure(slots.lines().count() == 2, || format!("slots: {slots:?}"))
    })?;
    let seen = world.client.since(began)?;
    let audit = world.client.audit()?;
    Ok(format!(
        "{}; in all {} failed transactions with one retry; {audit}",
        steps.join("; "),
        seen.failed_twice
    ))
}
