use super::*;
use serde_json::json;

const OWN: &str = "containerd://own";
const OLD: &str = "containerd://old";

fn terminated(id: &str, reason: &str) -> Value {
    json!({ "terminated": { "containerID": id, "exitCode": 137, "reason": reason,
        "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:00Z" } })
}

fn pod(state: Value, last_state: Value) -> Value {
    json!({
        "metadata": { "name": "pg-0", "uid": "u" },
        "spec": { "nodeName": "node-a" },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }],
            "containerStatuses": [
                { "name": "postgres", "containerID": OWN, "state": state, "lastState": last_state }
            ],
        },
    })
}

fn proof(pod: &Value, id: &str) -> Result<(), WhyNot> {
    terminated_proof(&decode(pod), "u", id)
}

#[test]
fn the_kubelets_word_in_state_or_last_state_is_proof() {
    let running = json!({ "running": { "startedAt": "2026-01-01T00:02:00Z" } });
    assert_eq!(
        proof(&pod(terminated(OWN, "Error"), json!({})), OWN),
        Ok(())
    );
    assert_eq!(
        proof(&pod(running, terminated(OLD, "OOMKilled")), OLD),
        Ok(())
    );
}

#[test]
fn everything_else_is_refused() {
    let running = json!({ "running": { "startedAt": "2026-01-01T00:02:00Z" } });
    let alive = pod(running.clone(), terminated(OLD, "Error"));
    assert!(matches!(proof(&alive, OWN), Err(WhyNot::NotTerminated(_))));
    assert_eq!(proof(&alive, ""), Err(WhyNot::NothingRecorded));
    assert!(matches!(
        terminated_proof(&decode(&alive), "other", OLD),
        Err(WhyNot::OtherPod { .. })
    ));
    assert!(matches!(
        terminated_proof(&decode(&alive), "", OLD),
        Err(WhyNot::OtherPod { .. })
    ));

    let lost = pod(terminated(OWN, "ContainerStatusUnknown"), json!({}));
    assert!(matches!(proof(&lost, OWN), Err(WhyNot::KubeletUnsure(_))));
    for finished in [json!(null), json!("1970-01-01T00:00:00Z")] {
        let mut unsure = pod(terminated(OWN, "Error"), json!({}));
        unsure["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = finished;
        assert!(matches!(proof(&unsure, OWN), Err(WhyNot::KubeletUnsure(_))));
    }

    for field in ["hostPID", "shareProcessNamespace"] {
        let mut shared = pod(terminated(OWN, "Error"), json!({}));
        shared["spec"][field] = json!(true);
        assert_eq!(proof(&shared, OWN), Err(WhyNot::SharedProcesses(field)));
    }

    // A phase alone, and a pod that says nothing at all.
    let mut phase = pod(json!({}), json!({}));
    phase["status"]["phase"] = json!("Failed");
    assert!(proof(&phase, OWN).is_err());
    assert!(
        proof(
            &json!({ "metadata": { "uid": "u" }, "status": { "phase": "Failed" } }),
            OWN
        )
        .is_err()
    );
    assert!(proof(&json!(null), OWN).is_err());
}

/// 2026-01-01T00:02:00Z.
const STARTED: u64 = 1_767_225_720_000;

fn own_id(pod: &Value, pid1: u64, read_at: u64) -> Result<String, WhyNot> {
    container_id_to_record(&decode(pod), None, pid1, read_at)
}

#[test]
fn the_own_id_is_taken_only_from_a_settled_status_of_this_life() {
    let running = json!({ "running": { "startedAt": "2026-01-01T00:02:00Z" } });
    let good = pod(running.clone(), terminated(OLD, "Error"));
    // startedAt is cut to seconds: PID 1 started 700 ms into that second.
    let pid1 = STARTED + 700;
    assert_eq!(own_id(&good, pid1, pid1 + 2_000), Ok(OWN.to_owned()));
    // The predecessor's status: its start lies before this PID 1's.
    assert!(matches!(
        own_id(&good, STARTED + 1_000, STARTED + 9_000),
        Err(WhyNot::Stale(_))
    ));
    assert!(matches!(
        own_id(&good, pid1, pid1 + 1_999),
        Err(WhyNot::Stale(_))
    ));
    let reused = pod(running.clone(), terminated(OWN, "Error"));
    assert!(matches!(
        own_id(&reused, pid1, pid1 + 5_000),
        Err(WhyNot::Stale(_))
    ));
    let ended = pod(terminated(OWN, "Error"), json!({}));
    assert_eq!(own_id(&ended, pid1, pid1 + 5_000), Err(WhyNot::NotRunning));
    let mut nameless = good.clone();
    nameless["status"]["containerStatuses"][0]["containerID"] = json!("");
    assert_eq!(
        own_id(&nameless, pid1, pid1 + 5_000),
        Err(WhyNot::NotRunning)
    );
    let mut shared = good;
    shared["spec"]["hostPID"] = json!(true);
    assert!(matches!(
        own_id(&shared, pid1, pid1 + 5_000),
        Err(WhyNot::SharedProcesses(_))
    ));
}

#[test]
fn among_several_containers_ours_must_be_named() {
    let running = json!({ "running": { "startedAt": "2026-01-01T00:02:00Z" } });
    let mut pod = pod(running.clone(), json!({}));
    let statuses = pod["status"]["containerStatuses"].as_array_mut().unwrap();
    statuses.push(json!({ "name": "exporter", "containerID": "containerd://x", "state": running }));
    let facts = decode(&pod);
    let at = STARTED + 5_000;
    assert_eq!(
        container_id_to_record(&facts, None, STARTED, at),
        Err(WhyNot::WhichContainer(2))
    );
    assert_eq!(
        container_id_to_record(&facts, Some("postgres"), STARTED, at),
        Ok(OWN.to_owned())
    );
    assert_eq!(
        container_id_to_record(&facts, Some("nope"), STARTED, at),
        Err(WhyNot::NotRunning)
    );
}

#[test]
fn addresses_of_both_families_once_each() {
    let facts = decode(&pod(json!({}), json!({})));
    let texts: Vec<_> = facts.ips.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.0.0.1", "fd00::1"]);
    assert_eq!(facts.node_name, "node-a");
}
