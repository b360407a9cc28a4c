//! The dynamic configuration: changed when people ask, and kept beside the data for the day when
//! the stored one is lost.
//!
//! A change is judged before it is stored: a key of a wrong type, one that would break a promise, a
//! parameter that this PostgreSQL refuses. What was wrong before is not held against it.

use super::Context;
use super::server::blocking;
use crate::agent::wiring;
use crate::api::{ConfigChange, Reply};
use crate::ha::lock::Outcome;
use crate::ha::model::{Member, Name};
use crate::ha::slots::{Permanent, slot_name};
use crate::postgres::parameters;
use crate::settings::hba::{self, Visitor};
use crate::settings::{Dynamic, Settings, effective};
use crate::sys::durable;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Patroni's name for the copy in the data directory.
const COPY: &str = "patroni.dynamic.json";
/// Other writers of an object are waited out this often.
pub(super) const TRIES: usize = 5;

type Document = Map<String, Value>;
type Members = BTreeMap<Name, Member>;

pub(super) async fn run_change(
    context: Arc<Context>,
    change: ConfigChange,
    members: Members,
    reply: oneshot::Sender<Reply>,
) {
    let answer = changed(&context, &change, &members).await;
    tracing::info!("a change of the dynamic configuration: {}", answer.status);
    // Who asked may have gone.
    let _ = reply.send(answer);
}

async fn changed(context: &Context, change: &ConfigChange, members: &Members) -> Reply {
    for _ in 0..TRIES {
        let (raw, version) = match context.dcs.read_config().await {
            Ok(stored) => stored,
            Err(error) => return Reply::new(503, error.to_string()),
        };
        let stored = raw.as_deref().and_then(document);
        let Some(next) = change.apply(stored.as_ref()) else {
            let why = if raw.is_some() {
                "the stored dynamic configuration is no JSON object; PUT a whole one"
            } else {
                "no dynamic configuration is stored yet; PUT one, or wait"
            };
            return Reply::new(503, why);
        };
        if stored.as_ref() == Some(&next) {
            return Reply::json(200, Value::Object(next).to_string());
        }
        match refusal(context, members, stored.as_ref(), &next).await {
            Ok(None) => {}
            Ok(Some(why)) => return Reply::new(400, why),
            Err(why) => return Reply::new(503, why),
        }
        let next = Value::Object(next);
        match context.dcs.write_config(&next, version.as_deref()).await {
            Outcome::Done(_) => return Reply::json(200, next.to_string()),
            Outcome::Conflict => {}
            Outcome::Refused { status, why, .. } => {
                return Reply::new(502, format!("the API refused it ({status}): {why}"));
            }
            Outcome::Unknown { why } => {
                let text = format!("it may have been stored, look at GET /config: {why}");
                return Reply::new(503, text);
            }
        }
    }
    Reply::new(409, "others keep changing the object; try again")
}

fn document(raw: &str) -> Option<Document> {
    match serde_json::from_str(raw) {
        Ok(Value::Object(document)) => Some(document),
        _ => None,
    }
}

/// Why the document cannot be stored, where the one before did not have the same fault. An error:
/// it could not be judged.
async fn refusal(
    context: &Context,
    members: &Members,
    before: Option<&Document>,
    next: &Document,
) -> Result<Option<String>, String> {
    let in_force = context
        .dynamic
        .read()
        .map(|d| d.clone())
        .unwrap_or_default();
    let read = |document: &Document| {
        let text = Value::Object(document.clone()).to_string();
        let (dynamic, problems) = Dynamic::parse(&text, &in_force, &context.settings());
        let told = effective::disobeyed(&dynamic, problems);
        (dynamic, told)
    };
    let (old, known) = before.map(read).unwrap_or_default();
    let (new, found) = read(next);
    let mut news: Vec<String> = found
        .into_iter()
        .filter(|words| !known.contains(words))
        .collect();
    news.extend(shut_out(context, &old, &new));
    news.extend(follows_itself(members, &old, &new));
    news.extend(takes_a_members_slot(members, &old, &new));
    news.extend(refused_parameters(context, &old, &new).await?);
    Ok((!news.is_empty()).then(|| news.join("; ")))
}

/// Lines that keep the replicas out: they would stream until their connections end.
fn shut_out(context: &Context, old: &Dynamic, new: &Dynamic) -> Option<String> {
    let settings = context.settings();
    let user = &settings.postgresql.authentication.replication.username;
    let replicas = Visitor {
        local: false,
        database: "replication",
        user,
    };
    let shuts_out = |dynamic: &Dynamic| {
        let lines = dynamic.pg_hba.as_ref();
        lines.is_some_and(|lines| !hba::lets_in(lines, replicas))
    };
    let newly = shuts_out(new) && !shuts_out(old);
    newly.then(|| {
        format!(
            "postgresql.pg_hba: no line lets replicas in, which connect to \"replication\" as \
             {user}; expected one, as \"host replication {user} all scram-sha-256\""
        )
    })
}

/// A standby cluster of itself would stop its primary and never see another.
fn follows_itself(members: &Members, old: &Dynamic, new: &Dynamic) -> Option<String> {
    let remote = new.standby_cluster.as_ref()?;
    let hosts = remote
        .host
        .as_ref()
        .filter(|_| old.standby_cluster != new.standby_cluster)?;
    let mut members = members.iter();
    let own = members.find(|(_, member)| member.listens_at(hosts, remote.port));
    own.map(|(name, _)| {
        format!(
            "standby_cluster: host and port are those of {name}, a member of this very cluster: \
             name the primary of another one"
        )
    })
}

/// Members stream through slots with names of their own; a logical one in such a place would leave
/// one of the two without.
fn takes_a_members_slot(members: &Members, old: &Dynamic, new: &Dynamic) -> Option<String> {
    let logical = |(name, slot): &(&String, &Permanent)| {
        slot.kind.is_logical() && old.slots.get(*name) != Some(*slot)
    };
    let mut added = new.slots.iter().filter(logical);
    added.find_map(|(slot, _)| {
        let (member, _) = members.iter().find(|(name, _)| slot_name(name) == *slot)?;
        Some(format!(
            "slots.{slot}: a logical slot with the name of that of the member {member}; expected \
             another name"
        ))
    })
}

/// Asked of PostgreSQL itself, as with the file.
async fn refused_parameters(
    context: &Context,
    old: &Dynamic,
    new: &Dynamic,
) -> Result<Vec<String>, String> {
    let effective = |dynamic: &Dynamic| {
        wiring::postgres(&context.settings(), dynamic, &context.installation).parameters
    };
    let (before, after) = (effective(old), effective(new));
    if before == after {
        return Ok(Vec::new());
    }
    let refused = parameters::refused(&context.installation, &after)
        .await
        .map_err(|error| format!("PostgreSQL could not be asked about the parameters: {error}"))?;
    let changed: BTreeMap<_, _> = after
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(value))
        .collect();
    let refused = refused.into_iter();
    let refused = refused.filter(|(name, _)| changed.contains_key(name));
    let mut told: Vec<_> = refused
        .map(|(name, why)| {
            let value = after.get(&name).map_or("", String::as_str);
            super::parameters::refusal(&name, value, &why)
        })
        .collect();
    if changed.keys().any(|name| name.starts_with("ssl")) {
        let data_dir = context.settings().postgresql.data_dir.clone();
        let missing = blocking(move || Ok(parameters::missing_files(&data_dir, &after))).await?;
        let missing = missing.into_iter();
        told.extend(missing.map(|(name, why)| format!("postgresql.parameters.{name}: {why}")));
    }
    Ok(told)
}

/// Where the copy is.
pub fn copy_in(data_dir: &Path) -> PathBuf {
    data_dir.join(COPY)
}

/// The copy, if there is a good one.
pub fn read_copy(data_dir: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(copy_in(data_dir)).ok()?;
    document(&text).map(Value::Object)
}

/// What a value that is wrong falls back to: the one in force, or, for an agent that has seen none
/// yet, the last one that the agent before it obeyed.
pub fn fallback(in_force: &Dynamic, settings: &Settings) -> Dynamic {
    if in_force.stored {
        return in_force.clone();
    }
    let copy = read_copy(&settings.postgresql.data_dir);
    let parse = |copy: Value| Dynamic::parse(&copy.to_string(), in_force, settings).0;
    copy.map_or_else(|| in_force.clone(), parse)
}

/// Keep the copy beside the files that are being written anyway; losing it loses nothing in force.
pub(super) fn keep_copy(data_dir: &Path, document: &Value) {
    if document.is_null() || read_copy(data_dir).as_ref() == Some(document) {
        return;
    }
    let path = copy_in(data_dir);
    if let Err(error) = durable::write_atomic(&path, document.to_string().as_bytes(), 0o600) {
        tracing::warn!(%error, "{} was not written", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_copy_is_read_back_and_a_damaged_one_is_none() {
        let dir = std::env::temp_dir().join(format!("pgw-copy-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("a directory");
        assert_eq!(read_copy(&dir), None);
        keep_copy(&dir, &json!({ "ttl": 20 }));
        assert_eq!(read_copy(&dir), Some(json!({ "ttl": 20 })));
        std::fs::write(copy_in(&dir), "[1]").expect("it is writable");
        assert_eq!(read_copy(&dir), None);
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }
}
