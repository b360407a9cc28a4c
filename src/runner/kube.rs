//! The effects that talk to the Kubernetes API and to peers.

use super::Context;
use super::effects::ms;
use crate::dcs::codec::pod::terminated_proof;
use crate::dcs::{DcsError, SharedPart};
use crate::ha::event::{Event, PeerStatus};
use crate::ha::lock::{LockWrite, Mapped, Outcome, Place, Proof, ProofKind};
use crate::ha::model::{Identity, Lsn, Ms, Name};
use crate::ha::shared::SharedWrite;
use std::sync::Arc;
use std::time::Duration;

pub(super) async fn run_read_lock(context: Arc<Context>, call_ms: Ms) {
    let event = match context.dcs.with_deadline(call_ms).read_lock().await {
        Ok(lock) => Event::LockSeen { lock, quorum: true },
        Err(error) => Event::LockReadFailed {
            why: error.to_string(),
        },
    };
    context.tell(event).await;
}

pub(super) async fn run_write_lock(
    context: Arc<Context>,
    call_ms: Ms,
    nonce: u64,
    expect: Option<String>,
    write: LockWrite,
) {
    let dcs = context.dcs.with_deadline(call_ms);
    let outcome = dcs.write_lock(&write, expect.as_deref()).await;
    context.tell(Event::LockWritten { nonce, outcome }).await;
}

pub(super) async fn run_read_shared(context: Arc<Context>, call_ms: Ms) {
    match context.dcs.with_deadline(call_ms).read_shared().await {
        Ok(view) => {
            context
                .tell(Event::SharedSeen {
                    shared: view.shared.into(),
                    quorum: true,
                })
                .await;
        }
        Err(error) => tracing::debug!(%error, "the shared objects could not be read"),
    }
}

pub(super) async fn run_write_shared(context: Arc<Context>, call_ms: Ms, what: SharedWrite) {
    let answer = context.dcs.with_deadline(call_ms).write_shared(&what).await;
    let outcome = answer.and_then(|part| {
        let version = match part {
            SharedPart::Config(record) => record.resource_version,
            SharedPart::Sync(record) => record.resource_version,
            SharedPart::Failover(record) => record.resource_version,
        };
        version.map_or_else(
            || Outcome::Unknown {
                why: "the answer has no resourceVersion".into(),
            },
            Outcome::Done,
        )
    });
    context.tell(Event::SharedWritten { what, outcome }).await;
}

const ROUTE: &str = "the leader Service does not lead to me, its route was not written";
const OTHER_WAYS: &str = "clients of the leader Service may reach another";
const NO_PROOF: &str = "no proof can be had that a leader is dead, its lease has to end";

impl Context {
    /// Who leads looks for no proof, and who does not has no route.
    pub(super) fn settle_of_role(&self, leads: bool) {
        let past: &[&str] = if leads {
            &[NO_PROOF]
        } else {
            &[ROUTE, OTHER_WAYS]
        };
        for topic in past {
            self.complaints.settle(topic);
        }
    }
}

/// L5: the kubelet's word about the recorded container of the recorded pod, by quorum read.
pub(super) async fn run_seek_proof(
    context: Arc<Context>,
    fields: String,
    holder: Identity,
    place: Place,
) {
    match context.dcs.read_pod(&holder.name).await {
        Ok(pod) => match terminated_proof(&pod, &holder.pod_uid, &place.container_id) {
            Ok(()) => {
                let proof = Proof {
                    fields,
                    kind: ProofKind::Terminated,
                };
                context.tell(Event::ProofFound(proof)).await;
            }
            Err(why) => tracing::debug!("no proof that {holder} is dead: {why}"),
        },
        Err(error @ DcsError::Refused { .. }) => {
            context.complaints.say(NO_PROOF, error.to_string());
        }
        Err(error) => tracing::debug!(%error, "the holder's pod could not be read"),
    }
}

pub(super) async fn run_ask_peer(
    context: Arc<Context>,
    call_ms: Ms,
    round: u64,
    name: Name,
    url: String,
) {
    let status = candidate(&context, &name, &url, ms(call_ms)).await;
    context
        .tell(Event::PeerAnswered {
            round,
            name,
            status,
        })
        .await;
}

/// What the member of this name says of itself there; `None`: nothing, or another answers.
pub(super) async fn candidate(
    context: &Context,
    name: &str,
    url: &str,
    limit: Duration,
) -> Option<PeerStatus> {
    let security = context.security.current();
    match security.peers().get_patroni(url, limit).await {
        Ok(status) if status.name == name => as_candidate(&status),
        Ok(status) => {
            tracing::warn!("{url} should be {name} and answers as {}", status.name);
            None
        }
        Err(error) => {
            tracing::debug!(%error, "{name} does not answer");
            None
        }
    }
}

pub(super) async fn run_ask_promise(
    context: Arc<Context>,
    call_ms: Ms,
    round: u64,
    (name, mapped): (Name, Mapped),
    request: Arc<crate::api::failsafe::Request>,
) {
    let security = context.security.current();
    let credentials = security.credentials();
    let asked = security
        .peers()
        .ask_promise(&name, &mapped, &request, credentials, ms(call_ms));
    let refused = asked.await.err();
    context
        .tell(Event::Promised {
            round,
            name,
            refused,
        })
        .await;
}

pub(super) async fn run_ask_vote(
    context: Arc<Context>,
    call_ms: Ms,
    round: u64,
    (name, url): (Name, String),
    request: Arc<crate::api::vote::Request>,
) {
    let security = context.security.current();
    let credentials = security.credentials();
    let asked = security
        .peers()
        .ask_vote(&name, &url, &request, credentials, ms(call_ms));
    let vote = asked.await;
    context.tell(Event::Voted { round, name, vote }).await;
}

/// Our own peers say exactly what the race asks; of a Patroni it is read from its status.
fn as_candidate(status: &crate::api::PeerStatus) -> Option<PeerStatus> {
    if let Some(extras) = &status.pgwarden {
        return extras.race.clone();
    }
    Some(PeerStatus {
        primary: !status.in_recovery(),
        timeline: status.timeline.unwrap_or(0),
        lsn: status.lsn().unwrap_or(Lsn(0)),
        eligible: !status.nofailover() && !status.watchdog_failed,
        patroni: true,
    })
}

/// L7: only after promotion; the codec refuses to replace a higher epoch.
pub(super) async fn run_publish_route(context: Arc<Context>, epoch: u64) {
    match context.dcs.publish_route(epoch, Some(&context.route)).await {
        Outcome::Done(changed) => {
            context.complaints.settle(ROUTE);
            if changed {
                tracing::info!(epoch, "the Service points at me");
            }
            look_for_other_ways(&context).await;
        }
        Outcome::Conflict => {
            let words = "a later leader has written it";
            context.complaints.say(ROUTE, words.to_owned());
        }
        Outcome::Refused { status, why, .. } => {
            context
                .complaints
                .say(ROUTE, format!("refused ({status}): {why}"));
        }
        Outcome::Unknown { why } => context.complaints.say(ROUTE, why),
    }
}

/// L7: nothing but the route may lead there; what does is a person's to remove.
async fn look_for_other_ways(context: &Context) {
    match context.dcs.other_ways().await {
        Ok(ways) if ways.is_empty() => context.complaints.settle(OTHER_WAYS),
        Ok(ways) => context.complaints.say(OTHER_WAYS, ways.join("; ")),
        Err(error) => tracing::debug!(%error, "the Service's other ways were not looked at"),
    }
}
