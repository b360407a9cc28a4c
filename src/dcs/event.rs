//! Kubernetes Events about the own Pod: for people who look with `kubectl`, best effort.

use super::client::Dcs;
use super::request::Ask;
use crate::ha::lock::Outcome;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The API refuses longer messages.
const MESSAGE_MAX_CHARS: usize = 1000;

impl Dcs {
    /// Tell; `None`: it was dropped, because too many are under way.
    pub async fn create_event(
        &self,
        reason: &str,
        message: &str,
        warning: bool,
    ) -> Option<Outcome<()>> {
        let _permit = self.shared.events.try_acquire().ok()?;
        let body = self.event(reason, message, warning, jiff::Timestamp::now());
        let ask = Ask::create(
            "create an Event",
            &self.collection("api/v1", "events"),
            &body,
        )
        .spare();
        let (outcome, _) = self.write_until(&ask, Instant::now() + self.call).await;
        Some(outcome.and_then(|_| Outcome::Done(())))
    }

    fn event(&self, reason: &str, message: &str, warning: bool, now: jiff::Timestamp) -> Value {
        let names = self.names();
        let time = format!("{now:.0}");
        let message: String = message.chars().take(MESSAGE_MAX_CHARS).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": format!("{}.{:x}", names.pod_name, now.as_nanosecond()),
                "namespace": names.namespace,
                "labels": names.object_labels(),
            },
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": names.pod_name,
                "namespace": names.namespace,
                "uid": names.pod_uid,
            },
            "reason": reason,
            "message": message,
            "type": if warning { "Warning" } else { "Normal" },
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
            "source": { "component": "pgwarden" },
            "reportingComponent": "pgwarden.io/agent",
            "reportingInstance": names.pod_name,
        })
    }
}
