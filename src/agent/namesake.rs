//! Another member of my name that runs: two configurations are one, or my Pod has been replaced.
//!
//! The lock would tell us apart in any case (L1). But both would publish under one name and have
//! one slot, so the newcomer does not even begin.

use crate::api::PeerStatus;
use crate::api::client::Client;
use crate::cli::{Exit, Failure};
use crate::dcs::Dcs;
use crate::ha::model::{Identity, Member};
use std::time::Duration;

/// How long the namesake may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Fails if the Pod of my name is another one than mine and an agent answers at its address.
pub(super) async fn refuse(
    dcs: &Dcs,
    peers: &Client,
    scope: &str,
    me: &Identity,
) -> Result<(), Failure> {
    let view = match dcs.read_shared().await {
        Ok(view) => view,
        Err(error) => {
            // Waiting for the API would keep a replica down; the lock knows its holder by UID.
            tracing::debug!(%error, "no look for a namesake");
            return Ok(());
        }
    };
    let Some(member) = view.shared.members.get(&me.name) else {
        return Ok(());
    };
    if member.pod_uid == me.pod_uid || member.api_url.is_empty() {
        return Ok(());
    }
    match peers.get_patroni(&member.api_url, PATIENCE).await {
        Ok(status) if is_namesake(&status, scope, me, member) => {
            let words = format!(
                "name: another member {:?} of {scope} runs at {} in pod {}, mine is {}; expected a \
                 name of its own for each member",
                me.name, member.api_url, member.pod_uid, me.pod_uid
            );
            Err(Failure::new(Exit::NameTaken, words))
        }
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::info!(%error, "a member of my name is published and does not answer");
            Ok(())
        }
    }
}

/// Whether who answered is the published member: at its address may be me by now, or anybody.
fn is_namesake(status: &PeerStatus, scope: &str, me: &Identity, member: &Member) -> bool {
    if status.name != me.name || status.scope != scope {
        return false;
    }
    // Without extras it is a Patroni, which I am not.
    status.pgwarden.as_ref().is_none_or(|extras| {
        // One that has just started may not know its UID yet.
        let published = extras.pod_uid.is_empty() || extras.pod_uid == member.pod_uid;
        published && extras.incarnation != me.incarnation
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::peer::PeerExtras;

    #[test]
    fn only_the_published_member_is_a_namesake() {
        let me = Identity {
            name: "pg-0".into(),
            pod_uid: "mine".into(),
            incarnation: "7".into(),
        };
        let member = Member {
            pod_uid: "other".into(),
            ..Member::default()
        };
        let says = |scope: &str, name: &str, extras: Option<(&str, &str)>| {
            let status = PeerStatus {
                scope: scope.into(),
                name: name.into(),
                pgwarden: extras.map(|(uid, incarnation)| PeerExtras {
                    pod_uid: uid.into(),
                    incarnation: incarnation.into(),
                    ..PeerExtras::default()
                }),
                ..PeerStatus::default()
            };
            is_namesake(&status, "main", &me, &member)
        };
        assert!(says("main", "pg-0", Some(("other", "8"))));
        assert!(says("main", "pg-0", Some(("", "8"))), "it is just starting");
        assert!(says("main", "pg-0", None), "a Patroni");
        // The earlier Pod had the address that I have now: I answer myself.
        assert!(!says("main", "pg-0", Some(("mine", "7"))));
        assert!(
            !says("main", "pg-0", Some(("", "7"))),
            "before I know my UID"
        );
        // Its address went to somebody else.
        assert!(!says("main", "pg-1", Some(("third", "8"))));
        assert!(!says("elsewhere", "pg-0", Some(("third", "8"))));
        assert!(!says("main", "pg-0", Some(("third", "8"))));
    }
}
