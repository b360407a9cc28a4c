//! What people and their tools do to the objects while the cluster runs: delete them, empty them,
//! write nonsense into them, lower the TTL behind the holder's back.

use super::kubelet::Kubelet;
use super::member::Member;
use super::sql::Connection;
use crate::api::client;
use crate::dcs::Dialect;
use crate::dcs::codec::lease::{self, IDENTITY};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// How long a deleted configuration may be missing.
const BACK_WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// A TTL that no holder could keep.
const TOO_SHORT_S: u64 = 1;

/// Lowers the TTL in the lock: in the field alone, as `kubectl edit` would, or so that the
/// holder's annotation agrees.
pub(super) async fn lower_the_ttl(kubelet: &Kubelet, agreeing: bool) -> anyhow::Result<()> {
    let mut change = lease::change(
        kubelet.dialect(),
        &json!({"leaseDurationSeconds": TOO_SHORT_S}),
    );
    if agreeing {
        let lock = kubelet.lock().await?;
        let note = lock["metadata"]["annotations"][IDENTITY].as_str();
        let mut note: Value = serde_json::from_str(note.unwrap_or_default())
            .with_context(|| format!("read the annotation {IDENTITY}"))?;
        note["ttlMs"] = json!(TOO_SHORT_S * 1_000);
        change["metadata"]["annotations"][IDENTITY] = json!(note.to_string());
    }
    kubelet.change_lock(&change).await
}

/// Writes nonsense into every field of the lock that takes any, or empties it.
pub(super) async fn damage_the_lock(kubelet: &Kubelet, empty: bool) -> anyhow::Result<()> {
    let change = if empty {
        let spec = (kubelet.dialect() == Dialect::Lease).then_some(json!({"spec": null}));
        let mut change = spec.unwrap_or_else(|| json!({}));
        change["metadata"] = json!({"annotations": null});
        change
    } else {
        let mut change = lease::change(
            kubelet.dialect(),
            &json!({
                "holderIdentity": "nobody, or somebody; \" \\ \n",
                "acquireTime": "1970-01-01T00:00:00.000000Z",
                "renewTime": "2999-12-31T23:59:59.999999Z",
                "leaseDurationSeconds": i32::MAX,
                "leaseTransitions": 0,
            }),
        );
        change["metadata"]["annotations"][IDENTITY] = json!("}\u{0}{ \u{fffd}");
        change
    };
    kubelet.change_lock(&change).await
}

/// Deletes the lock.
pub(super) async fn delete_the_lock(kubelet: &Kubelet) -> anyhow::Result<()> {
    kubelet.delete(&kubelet.lock_uri()).await
}

/// Deletes the object with the cluster's configuration and identity.
pub(super) async fn delete_the_config(kubelet: &Kubelet) -> anyhow::Result<()> {
    kubelet.delete(&kubelet.config_uri()).await
}

/// Waits until the configuration is there again, with the cluster's identity in it: without it the
/// cluster would be taken for a new one when all members are lost.
pub(super) async fn until_config_is_back(kubelet: &Kubelet) -> anyhow::Result<()> {
    let begun = Instant::now();
    let uri = kubelet.config_uri();
    loop {
        let read = kubelet.read(&uri).await;
        let notes = read.map(|config| config["metadata"]["annotations"].clone());
        match notes {
            Ok(notes) if notes["initialize"].is_string() && notes["config"].is_string() => {
                return Ok(());
            }
            Ok(notes) if begun.elapsed() > BACK_WITHIN => bail!("the config is back as {notes}"),
            Err(error) if begun.elapsed() > BACK_WITHIN => {
                return Err(error.context("the config is not back"));
            }
            _ => sleep(PAUSE).await,
        }
    }
}

/// Stores a larger `max_connections` and restarts the primary alone with it: its standbys replay
/// nothing from there on, until they are started with as much.
pub(super) async fn raise_a_parameter(api_url: &str, round: u32) -> anyhow::Result<()> {
    let wanted = 60 + 10 * round;
    let change = json!({"postgresql": {"parameters": {"max_connections": wanted}}});
    let url = format!("{api_url}/config");
    let answer = client::send_json("PATCH", &url, &change, None, BACK_WITHIN).await?;
    ensure(answer.status == 200, &answer)?;
    let begun = Instant::now();
    loop {
        let (_, status) = client::get_json(&format!("{api_url}/patroni"), BACK_WITHIN).await?;
        if status["pending_restart"] == true {
            break;
        }
        if begun.elapsed() > BACK_WITHIN {
            bail!("the primary does not say that it waits for a restart: {status}");
        }
        sleep(PAUSE).await;
    }
    let url = format!("{api_url}/restart");
    let answer = client::post_json(&url, &json!({}), None, BACK_WITHIN).await?;
    ensure(answer.status == 200, &answer)?;
    // Odd rounds: the standbys have heard of it and stand still; even ones: they were started anew.
    let heard = if round.is_multiple_of(2) { 5_000 } else { 300 };
    sleep(Duration::from_millis(heard)).await;
    Ok(())
}

fn ensure(good: bool, answer: &client::Answer) -> anyhow::Result<()> {
    if !good {
        bail!("answered with {}: {}", answer.status, answer.text());
    }
    Ok(())
}

/// The replicas' password is changed in the database and nowhere else, and changed back: they are
/// locked out for that long. Who cannot log in is no reason to copy anything anew.
pub(super) async fn change_the_password(
    members: &[Arc<Member>],
    primary: usize,
    time: Duration,
) -> anyhow::Result<()> {
    let leader = &members[primary];
    let place = |member: &Arc<Member>| {
        let found = std::fs::metadata(member.data_dir());
        found.map(|meta| meta.ino()).context("look at the data")
    };
    let before: Vec<u64> = members.iter().map(place).collect::<Result<_, _>>()?;
    set_password(leader, "of another day").await?;
    sleep(time).await;
    let streams = "SELECT count(*) FROM pg_stat_replication";
    let counted = match Connection::open(leader, "exercise").await {
        Some(connection) => connection.row(streams).await,
        None => None,
    };
    let still: i64 = counted.context("count the streams")?.get(0);
    set_password(leader, &leader.password).await?;
    if still > 0 {
        bail!("{still} replicas stream with the wrong password");
    }
    let after: Vec<u64> = members.iter().map(place).collect::<Result<_, _>>()?;
    if after != before {
        bail!("a member that was locked out was copied anew");
    }
    Ok(())
}

/// And ends the streams that came in with the one of before. No standby need confirm it.
async fn set_password(leader: &Member, password: &str) -> anyhow::Result<()> {
    let connection = Connection::open(leader, "exercise").await;
    let connection = connection.context("connect")?;
    let change = format!(
        "SET synchronous_commit = local; ALTER ROLE replicator PASSWORD '{password}'; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_replication"
    );
    let done = timeout(BACK_WITHIN, connection.client.batch_execute(&change));
    done.await?.context("change the password")
}
