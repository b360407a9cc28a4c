//! What the others see of this member: the pod's status annotation and its role label.
//!
//! News leaves at once; positions alone change with every commit and leave every two R.

use super::Context;
use super::effects::ms;
use crate::ha::lock::Outcome;
use crate::ha::model::{Member, Ms};
use crate::ha::state::State;
use crate::postgres::probe::Facts;
use crate::settings::{Kubernetes, LockDialect, Settings};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const OWN_POD: &str = "the own Pod does not show this member's role and status";

/// Nothing waits for the last word: the Pod goes, or its next agent speaks.
const FAREWELL: Duration = Duration::from_secs(1);

/// Labels of the own Pod; without a value: removed, not listed: left alone.
type Labels = BTreeMap<String, Option<String>>;

/// What is to be published.
#[derive(Clone, Debug, Default)]
pub(super) struct Publication {
    member: Member,
    labels: Labels,
    renew_ms: Ms,
}

impl Publication {
    /// Take over the state; true when something changed.
    pub(super) fn update(
        &mut self,
        context: &Context,
        state: &State,
        facts: Option<&Facts>,
        trouble: String,
        scheduled_restart: Option<serde_json::Value>,
    ) -> bool {
        let settings = context.settings();
        let base = Member {
            trouble,
            scheduled_restart,
            pending_restart: facts.map(|facts| facts.pending.clone()).unwrap_or_default(),
            ..base(&settings)
        };
        let member = state.public_member(&base);
        let labels = labels(&settings.kubernetes, &member, state.lease.held.is_some());
        let changed = member != self.member || labels != self.labels;
        *self = Self {
            member,
            labels,
            renew_ms: state.budgets.renew_ms,
        };
        changed
    }

    fn without_positions(&self) -> (Member, Labels) {
        let bare = Member {
            lsn: None,
            receive_lsn: None,
            replay_lsn: None,
            ..self.member.clone()
        };
        (bare, self.labels.clone())
    }
}

/// Where the role's label is the route (L7), the holder of the lock writes it with the route.
fn labels(kubernetes: &Kubernetes, member: &Member, holds: bool) -> Labels {
    let standby_leads = holds && member.role == "standby_leader";
    let leads = standby_leads || (holds && member.role == "primary");
    let follows = member.role == "replica" && member.state == "running";
    let role = match (leads, follows) {
        (true, _) if standby_leads => Some(&kubernetes.standby_leader_label_value),
        (true, _) => Some(&kubernetes.leader_label_value),
        (false, true) => Some(&kubernetes.follower_label_value),
        (false, false) => None,
    };
    let mut labels = Labels::new();
    if kubernetes.lock != LockDialect::ConfigMap || !holds {
        labels.insert(kubernetes.role_label.clone(), role.cloned());
    }
    if let Some(key) = &kubernetes.tmp_role_label {
        labels.insert(key.clone(), role.map(|_| member.role.clone()));
    }
    let made = matches!(
        member.state.as_str(),
        "initializing new cluster" | "creating replica"
    );
    let others = kubernetes.bootstrap_labels.iter();
    labels.extend(others.map(|(key, value)| (key.clone(), made.then(|| value.clone()))));
    labels
}

/// The parts of a member that do not change while it runs.
fn base(settings: &Settings) -> Member {
    let address = &settings.postgresql.connect_address;
    Member {
        host: address.host.clone(),
        port: address.port,
        proxy: settings
            .postgresql
            .proxy_address
            .as_ref()
            .map(|proxy| (proxy.host.clone(), proxy.port)),
        api_url: settings.restapi.api_url(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tags: settings.tags.clone(),
        ..Member::default()
    }
}

pub(super) async fn run(context: Arc<Context>, mut publications: watch::Receiver<Publication>) {
    let mut due = false;
    loop {
        if !due && publications.changed().await.is_err() {
            return;
        }
        let sent = publications.borrow_and_update().clone();
        due = false;
        if sent.member.pod_uid.is_empty() {
            continue;
        }
        if !publish(&context, &sent).await {
            tokio::time::sleep(ms(500)).await;
            due = true;
            continue;
        }
        let until = tokio::time::Instant::now() + ms(2 * sent.renew_ms);
        // Until the next positions are due, only news goes out.
        while !due {
            match tokio::time::timeout_at(until, publications.changed()).await {
                Ok(Ok(())) => {
                    let current = publications.borrow_and_update();
                    due = current.without_positions() != sent.without_positions();
                }
                Ok(Err(_)) => return,
                Err(_) => break,
            }
        }
        due |= publications.borrow().member != sent.member;
    }
}

/// The last word of a member whose server was stopped in order: it runs no more, and nothing leads
/// to it. Who reads the Pod would take it for running as long as the Pod is there.
pub(super) async fn farewell(context: &Context, state: &State) {
    let mut last = Publication::default();
    last.update(context, state, None, String::new(), None);
    (last.member, _) = last.without_positions();
    (last.member.timeline, last.member.replication_state) = (None, None);
    if tokio::time::timeout(FAREWELL, publish(context, &last)).await != Ok(true) {
        tracing::debug!("the Pod does not show that the member has stopped");
    }
}

async fn publish(context: &Context, what: &Publication) -> bool {
    let member = context.dcs.publish_member(&what.member).await;
    let labels = context.dcs.set_labels(&what.labels).await;
    for outcome in [member, labels] {
        match outcome {
            Outcome::Done(_) => {}
            Outcome::Refused { why, .. } => {
                context.complaints.say(OWN_POD, why);
                return false;
            }
            Outcome::Conflict | Outcome::Unknown { .. } => {
                tracing::debug!("the member's status was not published: {outcome:?}");
                return false;
            }
        }
    }
    context.complaints.settle(OWN_POD);
    true
}
