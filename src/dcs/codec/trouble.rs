//! Why a pod does not run, in the words of the scheduler or the kubelet, and what to do about it.
//!
//! Read from a Pod's `status` while it is parsed; only the sentence is kept, and of a long one the
//! ends.

use serde_json::Value;

/// Characters kept of what somebody else said: of its beginning and of its end.
const HEAD: usize = 240;
const TAIL: usize = 240;

/// The sentence; `None`: it runs, or nothing is said about it.
pub fn of_status(status: &Value) -> Option<String> {
    let containers = ["initContainerStatuses", "containerStatuses"]
        .iter()
        .filter_map(|key| status[*key].as_array())
        .flatten();
    let mut found = containers.filter_map(of_container);
    found.next().or_else(|| unscheduled(status))
}

fn of_container(container: &Value) -> Option<String> {
    let state = &container["state"];
    let (waiting, ended) = (&state["waiting"], &state["terminated"]);
    if let Some(reason) = waiting["reason"].as_str() {
        return match reason {
            // Another container of the pod is what it waits for.
            "PodInitializing" => None,
            // Its message only says for how long, and changes with every try.
            "CrashLoopBackOff" => {
                let last = &container["lastState"]["terminated"];
                Some(sentence(reason, &how_it_ended(last)))
            }
            _ => Some(sentence(reason, text(waiting, "message"))),
        };
    }
    let failed = ended["exitCode"].as_i64().is_some_and(|code| code != 0);
    failed.then(|| sentence("Terminated", &how_it_ended(ended)))
}

/// Of the kubelet's message, which may be the end of a log, the last line.
fn how_it_ended(ended: &Value) -> String {
    let mut words = text(ended, "reason").to_owned();
    if let Some(code) = ended["exitCode"].as_i64() {
        words = format!("{words}, exit code {code}");
    }
    let lines = text(ended, "message").lines().map(str::trim);
    match lines.rev().find(|line| !line.is_empty()) {
        Some(line) => format!("{words}: {line}"),
        None => words,
    }
}

fn unscheduled(status: &Value) -> Option<String> {
    let conditions = status["conditions"].as_array()?;
    let scheduled = conditions.iter().find(|c| c["type"] == "PodScheduled")?;
    let reason = scheduled["reason"].as_str().unwrap_or("Unschedulable");
    (scheduled["status"] == "False").then(|| sentence(reason, text(scheduled, "message")))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn sentence(reason: &str, words: &str) -> String {
    let said = bounded(words);
    let colon = if said.is_empty() { "" } else { ": " };
    bounded(reason) + colon + &said + "; " + advice(reason, words)
}

fn advice(reason: &str, words: &str) -> &'static str {
    if words.contains("exec format error") {
        return "the image is for another architecture than the node: use one for it, or \
                nodeSelector kubernetes.io/arch";
    }
    if words.contains("OOMKilled") {
        return "raise resources.limits.memory";
    }
    match reason {
        "Unschedulable" if words.to_lowercase().contains("persistentvolumeclaim") => {
            "its claim is not bound, kubectl describe pvc says why: name a StorageClass that is \
             there and has room"
        }
        "Unschedulable" => {
            "no node takes it: make room, or relax nodeSelector, affinity or topologySpread"
        }
        "CreateContainerConfigError" => {
            "make the Secret or ConfigMap, or correct its name or key in the values; the kubelet \
             tries again by itself"
        }
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
            "correct image.repository and image.tag, give imagePullSecrets, or load the image on \
             the node"
        }
        "ContainerCreating" => {
            "if it stays so, kubectl describe pod says which volume or network is not there"
        }
        "CrashLoopBackOff" | "Terminated" => "kubectl logs --previous says more",
        _ => "kubectl describe pod says more",
    }
}

/// In one line, without control characters, and short: of a long text its two ends.
pub fn bounded(text: &str) -> String {
    let plain = text.replace(|c: char| c.is_control(), " ");
    let line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let length = line.chars().count();
    if length <= HEAD + TAIL {
        return line;
    }
    let head: String = line.chars().take(HEAD).collect();
    let tail: String = line.chars().skip(length - TAIL).collect();
    format!("{head} … {tail}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn waits(reason: &str, message: &str) -> Option<String> {
        let waiting = json!({ "reason": reason, "message": message });
        of_status(&json!({ "containerStatuses": [{ "state": { "waiting": waiting } }] }))
    }

    #[track_caller]
    fn says(found: Option<&str>, parts: &[&str]) {
        let found = found.unwrap_or_default();
        for part in parts {
            assert!(found.contains(part), "{part} is missing: {found}");
        }
    }

    #[test]
    fn each_reason_comes_with_its_words_and_what_to_do() {
        let secret = waits("CreateContainerConfigError", "secret \"mine\" not found");
        let parts = [
            "CreateContainerConfigError: secret \"mine\" not found; ",
            "make the Secret",
        ];
        says(secret.as_deref(), &parts);
        let image = waits(
            "ErrImageNeverPull",
            "Container image \"x:1\" is not present",
        );
        says(image.as_deref(), &["\"x:1\"", "image.repository"]);
        let new = waits("SomethingNew", "");
        assert_eq!(
            new.as_deref(),
            Some("SomethingNew; kubectl describe pod says more")
        );
        let condition = |message: &str| {
            let scheduled = json!({ "type": "PodScheduled", "status": "False",
                "reason": "Unschedulable", "message": message });
            of_status(&json!({ "phase": "Pending", "conditions": [scheduled] }))
        };
        let claim = condition("pod has unbound immediate PersistentVolumeClaims.");
        says(claim.as_deref(), &["kubectl describe pvc", "StorageClass"]);
        says(
            condition("Insufficient cpu").as_deref(),
            &["no node takes it"],
        );
    }

    #[test]
    fn a_container_that_ends_again_and_again_shows_its_last_line_and_no_changing_pause() {
        let status = |pause: &str, message: &str| {
            let ended = json!({ "exitCode": 255, "reason": "Error", "message": message });
            let waiting = json!({ "reason": "CrashLoopBackOff", "message": pause });
            of_status(&json!({ "containerStatuses": [
                { "state": { "waiting": waiting }, "lastState": { "terminated": ended } }] }))
        };
        let message = "first\nexec /usr/local/bin/pgwarden: exec format error\n";
        let found = status("back-off 10s", message);
        assert_eq!(found, status("back-off 20s", message));
        let parts = [
            "CrashLoopBackOff: Error, exit code 255: exec /usr/local/bin/pgwarden",
            "another architecture than the node",
        ];
        says(found.as_deref(), &parts);
        says(
            status("", "").as_deref(),
            &["exit code 255; kubectl logs --previous"],
        );
    }

    #[test]
    fn what_runs_or_says_nothing_is_no_trouble() {
        for status in [
            json!(null),
            json!({ "containerStatuses": 7, "conditions": {} }),
            json!({ "containerStatuses": [{ "state": { "running": {} },
                "lastState": { "terminated": { "exitCode": 1 } } }] }),
            json!({ "containerStatuses": [{ "state": { "waiting": { "reason": "PodInitializing" } } }] }),
            json!({ "containerStatuses": [{ "state": { "terminated": { "exitCode": 0 } } }] }),
            json!({ "conditions": [{ "type": "PodScheduled", "status": "True" }] }),
        ] {
            assert_eq!(of_status(&status), None, "{status}");
        }
    }

    #[test]
    fn a_long_text_keeps_its_ends_and_no_text_moves_a_terminal() {
        let long = format!("begin{}{}end", "é".repeat(10_000), "\u{1b}[2J\n");
        let short = bounded(&long);
        assert!(short.starts_with("begin") && short.ends_with("[2J end"));
        assert!(short.chars().count() <= HEAD + TAIL + 3 && !short.contains('\u{1b}'));
    }
}
