//! POST `/switchover` and `/failover`: reading the body, and every refusal that memory can decide.
//!
//! Codes, texts and their order are Patroni's, because operators and scripts match on them. One
//! deliberate difference: a misspelt key is refused (Patroni ignores it and does something else
//! than was meant).

use super::body;
use super::command::{Ask, Reply};
use super::view::View;
use super::when;
use crate::ha::model::{Member, Name};
use serde_json::{Map, Value};

/// Which of the two was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// POST `/switchover`.
    Switchover,
    /// POST `/failover`.
    Failover,
}

/// The body, understood but not yet judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Who shall stop leading.
    pub leader: Option<Name>,
    /// Who shall lead (`candidate`, or its old name `member`).
    pub candidate: Option<Name>,
    /// When.
    pub scheduled_at: Option<String>,
    /// A person knows that this holder of the lock, in maintenance mode or with a failsafe map, is
    /// dead.
    pub holder_is_dead: Option<Name>,
    /// A failover although acknowledged commits may be lost with it.
    pub accept_data_loss: bool,
}

const SAME: &str = "Switchover target and source are the same";
const KEYS: [&str; 6] = [
    "leader",
    "candidate",
    "member",
    "scheduled_at",
    "holder_is_dead",
    "accept_data_loss",
];

/// Read the body of a request.
pub fn parse(body: &[u8]) -> Result<Request, Reply> {
    let shape = "expected a JSON object such as {\"leader\": \"pg-0\", \"candidate\": \"pg-1\"}";
    let fields = body::object(body, shape)?;
    body::known_keys(&fields, &KEYS)?;
    let candidate = text(&fields, "candidate")?;
    let member = text(&fields, "member")?;
    Ok(Request {
        leader: text(&fields, "leader")?,
        candidate: candidate.or(member),
        scheduled_at: text(&fields, "scheduled_at")?,
        holder_is_dead: text(&fields, "holder_is_dead")?,
        accept_data_loss: body::flag(&fields, "accept_data_loss")?,
    })
}

/// A text field; operators send an empty one for "not given".
fn text(fields: &Map<String, Value>, key: &str) -> Result<Option<String>, Reply> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(value)) if value.is_empty() => Ok(None),
        Some(Value::String(value)) => Ok(Some(value.clone())),
        Some(other) => Err(Reply::new(
            400,
            format!("\"{key}\" must be a text, found {other}"),
        )),
    }
}

/// Judge a request by what is known: what shall be done, or the refusal. `wall_now_ms`:
/// milliseconds since 1970.
pub fn validate(
    verb: Verb,
    request: &Request,
    view: &View,
    wall_now_ms: u64,
) -> Result<Ask, Reply> {
    let refuse = |status, text: &str| Err(Reply::new(status, text));
    let Request {
        leader,
        candidate,
        scheduled_at,
        holder_is_dead,
        accept_data_loss,
    } = request;
    if let Some(holder) = holder_is_dead {
        let more = leader.is_some() || candidate.is_some() || scheduled_at.is_some();
        if more || verb == Verb::Switchover {
            let text = "\"holder_is_dead\" stands alone, in a POST to /failover: who leads next is \
                        decided by an election";
            return refuse(400, text);
        }
        return Ok(Ask::Vouch {
            holder: holder.clone(),
        });
    }
    // A failover that names the leader is a switchover, as in Patroni.
    let verb = if leader.is_some() {
        Verb::Switchover
    } else {
        verb
    };
    if *accept_data_loss && verb == Verb::Switchover {
        let text = "\"accept_data_loss\" is for a POST to /failover without a leader: a switchover \
                    loses nothing";
        return refuse(400, text);
    }
    if verb == Verb::Failover {
        if candidate.is_none() {
            return refuse(
                400,
                "Failover could be performed only to a specific candidate",
            );
        }
        if scheduled_at.is_some() {
            return refuse(400, "Failover can't be scheduled");
        }
    } else if leader.is_none() {
        return refuse(
            400,
            "Switchover could be performed only from a specific leader",
        );
    }
    if let (Some(leader), Some(at)) = (leader, scheduled_at) {
        return plan(leader, candidate.as_ref(), at, view, wall_now_ms);
    }
    if view.pause && candidate.is_none() {
        return refuse(
            400,
            "Switchover is possible only to a specific candidate in a paused state",
        );
    }
    if leader.is_some() && leader == candidate {
        return refuse(400, SAME);
    }
    match (leader, candidate) {
        (Some(leader), candidate) => {
            if view.leader.as_ref() != Some(leader) {
                return refuse(412, "leader name does not match");
            }
            check_candidates(Verb::Switchover, candidate.as_deref(), view)?;
            Ok(Ask::Switchover {
                leader: leader.clone(),
                candidate: candidate.clone(),
            })
        }
        (None, Some(candidate)) => {
            if view.leader.as_ref() == Some(candidate) {
                return refuse(412, &format!("candidate {candidate} is the leader already"));
            }
            check_candidates(Verb::Failover, Some(candidate), view)?;
            Ok(Ask::Failover {
                candidate: candidate.clone(),
                accept_data_loss: *accept_data_loss,
            })
        }
        (None, None) => refuse(
            400,
            "Failover could be performed only to a specific candidate",
        ),
    }
}

/// For later: how the cluster stands now says little about then.
fn plan(
    leader: &Name,
    candidate: Option<&Name>,
    at: &str,
    view: &View,
    wall_now_ms: u64,
) -> Result<Ask, Reply> {
    if view.pause {
        let text = "Can't schedule switchover in the paused state";
        return Err(Reply::new(400, text));
    }
    let at = when::parse(at, "switchover", wall_now_ms)?;
    if Some(leader) == candidate {
        return Err(Reply::new(400, SAME));
    }
    Ok(Ask::PlanSwitchover {
        leader: leader.clone(),
        candidate: candidate.cloned(),
        at,
    })
}

fn check_candidates(verb: Verb, candidate: Option<&str>, view: &View) -> Result<(), Reply> {
    let action = match verb {
        Verb::Switchover => "switchover",
        Verb::Failover => "failover",
    };
    let listed = |name: &str| view.sync_standbys.iter().any(|standby| standby == name);
    let impossible = |why: &str| Err(Reply::new(412, format!("{action} is not possible: {why}")));
    let others = || {
        view.members
            .iter()
            .filter(|(name, _)| view.leader.as_ref() != Some(*name))
    };
    let chosen: Vec<&Member> = if let Some(candidate) = candidate {
        if verb == Verb::Switchover && view.synchronous_mode && !listed(candidate) {
            return Err(Reply::new(
                412,
                "candidate name does not match with sync_standby",
            ));
        }
        match view.members.get(candidate) {
            Some(member) => vec![member],
            None => return Err(Reply::new(412, "candidate does not exists")),
        }
    } else if view.synchronous_mode {
        let standbys: Vec<_> = others()
            .filter(|(name, _)| listed(name))
            .map(|(_, member)| member)
            .collect();
        if standbys.is_empty() {
            return impossible("can not find sync_standby");
        }
        standbys
    } else {
        let members: Vec<_> = others().map(|(_, member)| member).collect();
        if members.is_empty() {
            return impossible("cluster does not have members except leader");
        }
        members
    };
    if chosen.iter().all(|member| member.nofailover()) {
        return impossible("no good candidates have been found");
    }
    Ok(())
}
