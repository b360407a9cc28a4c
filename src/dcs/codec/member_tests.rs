use super::*;
use proptest::prelude::*;

fn pod(annotations: Value, phase: &str) -> SlimPod {
    let object = json!({
        "metadata": { "name": "pg-0", "uid": "u", "resourceVersion": "1", "annotations": annotations },
        "spec": { "containers": [{ "name": "postgres" }] },
        "status": { "phase": phase },
    });
    serde_json::from_value(object).unwrap()
}

fn read(status: &str) -> Member {
    decode(&pod(json!({ "status": status }), "Running")).unwrap()
}

#[test]
fn reads_what_patroni_writes() {
    let member = read(
        "{\"conn_url\":\"postgres://198.18.0.12:15432/postgres\",\"api_url\":\"http://198.18.0.12:18008/patroni\",\
         \"state\":\"running\",\"role\":\"replica\",\"version\":\"4.1.5\",\"xlog_location\":67394392,\
         \"replay_lsn\":67394391,\"receive_lsn\":67394392,\"replication_state\":\"streaming\",\"timeline\":2,\
         \"tags\":{\"nofailover\":true,\"failover_priority\":3,\"zone\":\"a\"}}",
    );
    assert_eq!((member.host.as_str(), member.port), ("198.18.0.12", 15432));
    assert_eq!(member.api_url, "http://198.18.0.12:18008/patroni");
    assert_eq!(
        (member.state.as_str(), member.role.as_str()),
        ("running", "replica")
    );
    assert_eq!(
        (member.lsn, member.replay_lsn),
        (Some(Lsn(67_394_392)), Some(Lsn(67_394_391)))
    );
    assert_eq!(
        (member.timeline, member.replication_state.as_deref()),
        (Some(2), Some("streaming"))
    );
    assert!(member.nofailover());
    assert_eq!(member.tags["failover_priority"], "3");
    assert_eq!((member.pod_uid.as_str(), member.system_id), ("u", None));
}

#[test]
fn a_pod_without_or_with_garbage_is_an_empty_member() {
    let empty = Member {
        pod_uid: "u".to_owned(),
        ..Member::default()
    };
    for annotations in [
        json!(null),
        json!({ "status": "nonsense" }),
        json!({ "status": "[1]" }),
        json!({ "status": 7 }),
    ] {
        assert_eq!(decode(&pod(annotations, "Running")), Some(empty.clone()));
    }
    let wrong =
        read("{\"xlog_location\":\"x\",\"timeline\":-1,\"tags\":[],\"conn_url\":7,\"state\":null}");
    assert_eq!(wrong, empty);
}

#[test]
fn evicted_and_completed_pods_are_no_members() {
    for phase in ["Failed", "Succeeded"] {
        assert_eq!(decode(&pod(json!({ "status": "{}" }), phase)), None);
    }
    for phase in ["Pending", "Running", "Unknown", ""] {
        assert!(decode(&pod(json!(null), phase)).is_some());
    }
}

#[test]
fn addresses_of_every_shape() {
    for (url, expected) in [
        ("postgres://h:1/postgres", Some(("h", 1))),
        (
            "postgres://[fd00::1]:5433/postgres",
            Some(("fd00::1", 5433)),
        ),
        ("postgres://user:pw@h:2/db", Some(("h", 2))),
        ("postgresql://h/db", Some(("h", 5432))),
        ("http://h:1", None),
        ("postgres://h:0/x", None),
        ("postgres://:1/x", None),
        ("postgres://[fd00::1/x", None),
        ("postgres://h:99999/x", None),
    ] {
        let expected = expected.map(|(host, port)| (host.to_owned(), port));
        assert_eq!(address(url), expected, "{url}");
    }
}

#[test]
fn the_old_word_for_primary_is_understood() {
    assert_eq!(read("{\"role\":\"master\"}").role, "primary");
}

#[test]
fn patroni_reads_our_status() {
    let member = Member {
        host: "fd00::1".to_owned(),
        port: 5432,
        proxy: Some(("10.0.0.9".to_owned(), 6432)),
        state: "running".to_owned(),
        role: "primary".to_owned(),
        lsn: Some(Lsn(5)),
        timeline: Some(1),
        checkpoint_after_promote: Some(false),
        tags: [
            ("nofailover", "true"),
            ("clonefrom", "false"),
            ("zone", "a"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
        ..Member::default()
    };
    let text = notes(&member)[0].1.clone().unwrap();
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        status,
        json!({
            "conn_url": "postgres://[fd00::1]:5432/postgres", "proxy_url": "postgres://10.0.0.9:6432/postgres", "state": "running", "role": "primary",
            "xlog_location": 5, "timeline": 1, "checkpoint_after_promote": false,
            "tags": { "nofailover": true, "zone": "a" },
        })
    );
}

#[test]
fn a_false_nofailover_stays_beside_a_priority() {
    let tags = BTreeMap::from([
        ("nofailover".to_owned(), "false".to_owned()),
        ("failover_priority".to_owned(), "2".to_owned()),
    ]);
    assert_eq!(tag_values(&tags).len(), 2);
}

#[test]
fn a_pod_that_cannot_start_is_an_empty_member_with_the_kubelets_reason() {
    let pod = |annotations: Value, leaving: Value| {
        let waiting = json!({ "reason": "CreateContainerConfigError",
            "message": "secret \"mine\" not found" });
        let object = json!({
            "metadata": { "name": "pg-0", "annotations": annotations, "deletionTimestamp": leaving },
            "status": { "phase": "Pending",
                "containerStatuses": [{ "state": { "waiting": waiting } }] },
        });
        decode(&serde_json::from_value(object).unwrap()).unwrap()
    };
    let waiting = pod(json!({}), json!(null));
    let reason = "CreateContainerConfigError: secret \"mine\" not found; make the Secret";
    assert!(waiting.trouble.starts_with(reason), "{}", waiting.trouble);
    assert_eq!((waiting.state.as_str(), waiting.role.as_str()), ("", ""));
    // Newer than what the container said when it ran, and no news of one that is going.
    let before = Member {
        trouble: "full".to_owned(),
        ..Member::default()
    };
    let annotations: Map<String, Value> = notes(&before)
        .into_iter()
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    let again = pod(Value::Object(annotations.clone()), json!(null));
    assert_eq!(again.trouble, waiting.trouble);
    let leaving = pod(Value::Object(annotations), json!("2026-01-01T00:00:00Z"));
    assert_eq!(leaving.trouble, "");
}

#[test]
fn a_members_own_trouble_is_published_beside_patronis_words() {
    let full = Member {
        state: "running".to_owned(),
        trouble: "the volume of /data is full".to_owned(),
        ..Member::default()
    };
    let notes = notes(&full);
    assert_eq!(notes[0].1.as_deref(), Some("{\"state\":\"running\"}"));
    let annotation = json!({ "pgwarden.io/status": notes[1].1 });
    let read = decode(&pod(annotation, "Running")).unwrap();
    assert_eq!(read.trouble, full.trouble);
    let well = super::notes(&Member::default());
    assert!(!well[1].1.as_ref().unwrap().contains("trouble"));
    // Whoever wrote it, it stays short.
    let long = json!({ "schema": 1, "systemId": null, "trouble": "x".repeat(100_000) });
    let annotation = json!({ "pgwarden.io/status": long.to_string() });
    let read = decode(&pod(annotation, "Running")).unwrap();
    assert!(read.trouble.len() < 500);
}

proptest! {
    #[test]
    fn every_member_reads_back(
        host in "[a-z0-9.:]{1,12}", port in 1_u16.., timeline in any::<Option<u32>>(),
        lsn in any::<Option<u64>>(), system_id in any::<Option<String>>(),
        tags in proptest::collection::btree_map("[a-z]{1,5}", "[ -~]{0,8}", 0..3),
        state in any::<String>(), after in prop_oneof![Just(None), Just(Some(false))],
    ) {
        let member = Member {
            pod_uid: "u".to_owned(), host, port, api_url: "http://x/patroni".to_owned(), state,
            role: "replica".to_owned(), timeline, lsn: lsn.map(Lsn), receive_lsn: lsn.map(Lsn),
            replay_lsn: None, replication_state: Some("streaming".to_owned()), system_id,
            version: "0.1.0".to_owned(), tags, checkpoint_after_promote: after,
            ..Member::default()
        };
        let annotations: Map<String, Value> =
            notes(&member).into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
        prop_assert_eq!(decode(&pod(Value::Object(annotations), "Running")), Some(member));
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        decode(&pod(json!({ "status": text, "pgwarden.io/status": text }), "Running"));
        address(&text);
    }
}

#[test]
fn a_patroni_is_known_by_what_stands_beside_its_status() {
    let pod = |annotations: Value| decode(&pod(annotations, "Running")).unwrap();
    let theirs = json!({ "state": "running", "role": "replica", "version": "4.1.5" }).to_string();
    assert!(pod(json!({ "status": theirs })).patroni);
    let me = Member {
        state: "running".to_owned(),
        role: "replica".to_owned(),
        version: "0.1.0".to_owned(),
        system_id: Some("7".to_owned()),
        trouble: "full".to_owned(),
        ..Member::default()
    };
    let mut ours: Map<String, Value> = notes(&me)
        .into_iter()
        .map(|(note, text)| (note.to_owned(), json!(text)))
        .collect();
    assert!(!pod(json!(ours)).patroni);
    // Patroni in the same Pod writes its own annotation and leaves ours.
    ours.insert("status".to_owned(), json!(theirs));
    let back = pod(json!(ours));
    assert!(back.patroni);
    assert_eq!(
        (back.trouble.as_str(), back.system_id.as_deref()),
        ("", Some("7"))
    );
    assert!(!pod(json!({})).patroni, "nothing runs there yet");
}
