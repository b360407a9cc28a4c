//! What befalls the ways between members, and from clients to them, while every process is well.

use crate::accidents::World;
use crate::node;
use crate::release::{Release, TTL_SECONDS};
use crate::run::{Outcome, ensure, wait_for};
use serde_json::{Value, json};

/// Packets between the leader and its synchronous standby are dropped: no connection is closed, and
/// the server goes on showing the standby as streaming.
pub(crate) fn lost_packets(world: &World<'_>) -> Outcome<String> {
    let release = world.release;
    let (leader, standby) = (release.leader()?, release.sync_standby()?);
    let words = world.survives(3, 60, TTL_SECONDS, 0, || {
        let address = release.get(&format!("pod/{standby}"))?;
        let address = address["status"]["podIP"].as_str().unwrap_or_default();
        node::blackhole(release, &leader, address, true)?;
        let again = world
            .client
            .now()
            .and_then(|now| world.client.writes_again(now, 45));
        node::blackhole(release, &leader, address, false)?;
        again.map(drop)
    })?;
    let log = release.log(&leader);
    ensure(log.contains("has not answered for too long"), || {
        format!("{leader} does not say why it gave {standby} up")
    })?;
    Ok(words)
}

/// A hand gives the leader Service a selector and takes it back: it is said, and so is what stays.
pub(crate) fn selected_pods(world: &World<'_>) -> Outcome<String> {
    let release = world.release;
    world.survives(3, 60, TTL_SECONDS, 0, || {
        let pod = release.get(&format!("pod/{}", release.pod(0)))?;
        let labels = &pod["metadata"]["labels"];
        let name = "app.kubernetes.io/instance";
        select(release, json!({ name: labels[name] }))?;
        listed(release, &["has the selector", "remove spec.selector"])?;
        select(release, Value::Null)?;
        listed(release, &["EndpointSlice", "delete it"])?;
        // As `ctl list` says.
        let endpoints = format!("endpoints/{}", release.name);
        release.kubectl(&["delete", &endpoints, "--ignore-not-found"])?;
        remove_strays(release)?;
        wait_for("ctl list to be quiet", 90, || {
            let said = list(release)?;
            ensure(!said.contains("EndpointSlice"), || said.clone())
        })
    })
}

fn select(release: &Release, selector: Value) -> Outcome<()> {
    let service = format!("service/{}", release.name);
    let body = json!({"spec": {"selector": selector}}).to_string();
    release.kubectl(&["patch", &service, "-p", &body]).map(drop)
}

fn list(release: &Release) -> Outcome<String> {
    release.ctl_list(&release.leader()?)
}

fn listed(release: &Release, parts: &[&str]) -> Outcome<()> {
    wait_for("ctl list to say it", 90, || {
        let said = list(release)?;
        ensure(parts.iter().all(|part| said.contains(part)), || {
            said.clone()
        })
    })
}

fn remove_strays(release: &Release) -> Outcome<()> {
    let selected = format!("kubernetes.io/service-name={}", release.name);
    let slices = release.kubectl(&["get", "endpointslices", "-l", &selected, "-o", "name"])?;
    let ours = format!("/{}-pgwarden-", release.name);
    for slice in slices.lines().filter(|slice| !slice.contains(&ours)) {
        release.kubectl(&["delete", slice, "--ignore-not-found"])?;
    }
    Ok(())
}
