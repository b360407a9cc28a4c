//! What the others see of this member: the pod's status annotation and its role label.
//!
//! News leaves at once; positions alone change with every commit and leave every two R.

use super::Context;
use super::effects::ms;
use crate::ha::lock::Outcome;
use crate::ha::model::{Member, Ms};
use crate::ha::state::State;
use crate::postgres::probe::Facts;
use crate::settings::{LockDialect, Settings};
use std::sync::Arc;
use tokio::sync::watch;

const OWN_POD: &str = "the own Pod does not show this member's role and status";

/// The pod's role label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RoleLabel {
    /// Set, or without a value removed.
    Is(Option<String>),
    /// Left alone: where the label is the route (L7), the holder of the lock writes it with the
    /// route.
    Routes,
}

impl Default for RoleLabel {
    fn default() -> Self {
        Self::Is(None)
    }
}

/// What is to be published.
#[derive(Clone, Debug, Default)]
pub(super) struct Publication {
    member: Member,
    label: RoleLabel,
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
    ) -> bool {
        let base = Member {
            trouble,
            pending_restart: facts.map(|facts| facts.pending.clone()).unwrap_or_default(),
            ..base(&context.settings)
        };
        let member = state.public_member(&base);
        let kubernetes = &context.settings.kubernetes;
        let by_label = kubernetes.lock == LockDialect::ConfigMap;
        let role = match member.role.as_str() {
            "primary" if state.lease.held.is_some() => Some(kubernetes.leader_label_value.clone()),
            "replica" if member.state == "running" => Some(kubernetes.follower_label_value.clone()),
            _ => None,
        };
        let label = if by_label && state.lease.held.is_some() {
            RoleLabel::Routes
        } else {
            RoleLabel::Is(role)
        };
        let changed = member != self.member || label != self.label;
        *self = Self {
            member,
            label,
            renew_ms: state.budgets.renew_ms,
        };
        changed
    }

    fn without_positions(&self) -> (Member, RoleLabel) {
        let bare = Member {
            lsn: None,
            receive_lsn: None,
            replay_lsn: None,
            ..self.member.clone()
        };
        (bare, self.label.clone())
    }
}

/// The parts of a member that do not change while it runs.
fn base(settings: &Settings) -> Member {
    let address = &settings.postgresql.connect_address;
    Member {
        host: address.host.clone(),
        port: address.port,
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

async fn publish(context: &Context, what: &Publication) -> bool {
    let member = context.dcs.publish_member(&what.member).await;
    let role = match &what.label {
        RoleLabel::Is(role) => context.dcs.set_role(role.as_deref()).await,
        RoleLabel::Routes => Outcome::Done(false),
    };
    for outcome in [member, role] {
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
