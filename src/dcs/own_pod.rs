//! The own Pod: the member's status and its role label.
//!
//! Sent only when the content differs from what the Pod has, as the watch or the last answer showed
//! it. Every PATCH carries the Pod's UID, so that a namesake's Pod is refused by the server, not
//! relabelled.

use super::calls::WithoutValue;
use super::client::Dcs;
use super::codec::member::{self, SlimPod};
use super::codec::object::{Meta, Notes};
use super::request::Ask;
use crate::ha::lock::Outcome;
use crate::ha::model::Member;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::PoisonError;
use tokio::time::Instant;

/// What the own Pod was last seen to carry.
#[derive(Debug, Default)]
pub(super) struct OwnPod {
    seen: Option<Meta>,
}

impl Dcs {
    /// Publish the member; `Done(false)`: it was published already.
    pub async fn publish_member(&self, member: &Member) -> Outcome<bool> {
        let notes = member::notes(member);
        if self.own_pod_has(|meta| {
            notes
                .iter()
                .all(|(key, value)| meta.annotations.get(*key) == value.as_ref())
        }) {
            return Outcome::Done(false);
        }
        self.patch_own_pod(
            "publish the member",
            json!({ "annotations": object(&notes) }),
        )
        .await
    }

    /// Set labels, or (`None`) remove them; `Done(false)`: it was so already. Of a key that
    /// [`super::DcsNames`] does not name nobody remembers what it was.
    pub async fn set_labels(&self, labels: &BTreeMap<String, Option<String>>) -> Outcome<bool> {
        let as_wanted = |meta: &Meta| {
            labels
                .iter()
                .all(|(key, value)| meta.labels.get(key) == value.as_ref())
        };
        if labels.is_empty() || self.own_pod_has(as_wanted) {
            return Outcome::Done(false);
        }
        self.patch_own_pod("set the pod's labels", json!({ "labels": labels }))
            .await
    }

    fn own_pod_has(&self, content: impl FnOnce(&Meta) -> bool) -> bool {
        let own = self
            .shared
            .own_pod
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        own.seen.as_ref().is_some_and(content)
    }

    /// The own Pod as the watch or an answer shows it; `None`: it is not there.
    pub(super) fn note_own_pod(&self, pod: Option<&SlimPod>) {
        let own_uid = &self.names().pod_uid;
        let seen = pod
            .map(|pod| &pod.metadata)
            .filter(|meta| meta.uid == *own_uid);
        let mut own = self
            .shared
            .own_pod
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        own.seen = seen.map(|meta| self.relevant(meta));
    }

    /// Only what is compared, so that nothing else of a Pod stays in memory.
    fn relevant(&self, meta: &Meta) -> Meta {
        let pick = |from: &BTreeMap<String, String>, keys: &[&str]| {
            keys.iter()
                .filter_map(|key| from.get_key_value(*key))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        };
        let names = self.names();
        let others = names.other_labels.iter().map(String::as_str);
        let labels: Vec<_> = others.chain([names.role_label.as_str()]).collect();
        Meta {
            labels: pick(&meta.labels, &labels),
            annotations: pick(&meta.annotations, &[member::STATUS, member::OURS]),
            ..Meta::default()
        }
    }

    async fn patch_own_pod(&self, what: &str, mut metadata: Value) -> Outcome<bool> {
        let names = self.names();
        if !names.pod_uid.is_empty() {
            metadata["uid"] = json!(names.pod_uid);
        }
        let path = self.path("api/v1", "pods", &names.pod_name);
        let ask = Ask::patch(what, &path, &json!({ "metadata": metadata }));
        match self.write_until(&ask, Instant::now() + self.call).await.0 {
            Outcome::Done(pod) => {
                self.note_own_pod(serde_json::from_value(pod).ok().as_ref());
                Outcome::Done(true)
            }
            other => other.without_value(),
        }
    }
}

fn object(notes: &Notes) -> Map<String, Value> {
    notes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect()
}
