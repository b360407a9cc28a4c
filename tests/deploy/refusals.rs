//! Values that are wrong are refused, each with words that say which, what it was and what is right.

use crate::chart::{Objects, helm, template};
use pgwarden::settings::budgets::{MAX_TTL_MS, MIN_TTL_MS};

/// What is set, and parts of the complaint.
const SENTENCES: [(&str, [&str; 2]); 31] = [
    (
        "replicas=1,failover.synchronousMode=strict",
        [
            "synchronousMode: found strict with replicas: 1",
            "replicas: 2 or more",
        ],
    ),
    (
        "failover.synchronousMode=strict",
        [
            "found strict, which pgwarden does not support yet",
            "expected on",
        ],
    ),
    (
        "failover.synchronousMode=quorum",
        ["found quorum", "expected on"],
    ),
    (
        "failover.synchronousMode=maybe",
        ["found \"maybe\"", "expected on or off"],
    ),
    (
        "failover.ttl=5",
        ["failover.ttl: found 5 s; expected at least 6", "(G2)"],
    ),
    ("failover.ttl=0", ["failover.ttl: found 0 s", "at least 6"]),
    (
        "failover.ttl=15000",
        ["failover.ttl: found 15000 s", "it is in seconds"],
    ),
    (
        "agentConfig.pgwarden.kill_ms=14900",
        ["agentConfig.pgwarden", "failover.ttl"],
    ),
    (
        "agentConfig.bootstrap.dcs.ttl=5",
        ["agentConfig.bootstrap.dcs.ttl", "under failover"],
    ),
    (
        "agentConfig.bootstrap.dcs.synchronous_mode_strict=true",
        ["synchronous_mode_strict", "under failover"],
    ),
    (
        "agentConfig.scope=x",
        ["agentConfig.scope", "fullnameOverride"],
    ),
    (
        "agentConfig.kubernetes.lock=lease",
        ["agentConfig.kubernetes", "cannot be set here"],
    ),
    (
        "agentConfig.postgresql.data_dir=/x",
        ["agentConfig.postgresql.data_dir", "cannot be set here"],
    ),
    (
        "auth.existingSecret=mine,auth.superuser.password=x",
        ["auth.superuser.password", "one or the other"],
    ),
    (
        "auth.existingSecret=mine,auth.replication.password=x",
        ["auth.replication.password", "\"mine\""],
    ),
    (
        "auth.existingSecret=mine,auth.restapi.password=x",
        ["auth.restapi.password", "one or the other"],
    ),
    (
        "auth.replication.username=postgres",
        ["auth.replication.username", "a role of its own"],
    ),
    (
        "podDisruptionBudget.maxUnavailable=0",
        ["maxUnavailable: found 0", "expected 1"],
    ),
    (
        "podDisruptionBudget.maxUnavailable=3",
        ["found 3 with replicas: 3", "expected 1 to 2"],
    ),
    ("replicas=10", ["replicas: found 10", "rbac.maxMembers"]),
    (
        "terminationGracePeriodSeconds=10",
        ["terminationGracePeriodSeconds: found 10", "at least 30"],
    ),
    (
        "serviceAccount.create=false",
        ["serviceAccount.name", "an account that is there"],
    ),
    (
        "persistence.accessModes={ReadWriteMany}",
        ["found ReadWriteMany", "ReadWriteOncePod or ReadWriteOnce"],
    ),
    (
        "postgresql.parameters.synchronous_standby_names=x",
        ["parameters.synchronous_standby_names", "remove it"],
    ),
    (
        "postgresql.parameters.port=6000",
        ["postgresql.parameters.port", "sets it itself"],
    ),
    ("podLabels.role=primary", ["podLabels.role", "remove it"]),
    (
        "commonLabels.cluster-name=x",
        ["commonLabels.cluster-name", "remove it"],
    ),
    (
        "extraEnv[0].name=PATRONI_SCOPE",
        ["extraEnv: found PATRONI_SCOPE", "remove it"],
    ),
    (
        "fullnameOverride=a-name-that-has-one-character-too-many-41",
        ["which has 41 characters", "at most 40"],
    ),
    (
        "fullnameOverride=orders.db",
        ["found \"orders.db\"", "expected lower-case letters"],
    ),
    (
        "fullnameOverride=main-repl",
        ["found \"main-repl\"", "-repl or -pods"],
    ),
];

/// What is set, and where the schema complains of what.
const SCHEMA: [(&str, [&str; 2]); 14] = [
    ("replicas=three", ["'/replicas'", "want integer"]),
    ("replicas=-1", ["'/replicas'", "got -1, want 0"]),
    ("replica=3", ["''", "'replica' not allowed"]),
    ("failover.tll=15", ["'/failover'", "'tll' not allowed"]),
    ("failover.ttl=soon", ["'/failover/ttl'", "want integer"]),
    (
        "failover.reclone=maybe",
        ["'/failover/reclone'", "want boolean"],
    ),
    ("log.type=xml", ["'/log/type'", "'plain', 'json'"]),
    (
        "service.leader.type=ExternalName",
        ["'/service/leader/type'", "'ClusterIP'"],
    ),
    (
        "service.replica.port=70000",
        ["'/service/replica/port'", "65,535"],
    ),
    (
        "persistence.size=big",
        ["'/persistence/size'", "'big' does not match"],
    ),
    (
        "persistence.retention.whenDeleted=Recycle",
        ["whenDeleted'", "'Retain', 'Delete'"],
    ),
    (
        "topologySpread.zones=Never",
        ["'/topologySpread/zones'", "'DoNotSchedule'"],
    ),
    (
        "probes.liveness.periodSeconds=0",
        ["'/probes/liveness/periodSeconds'", "want 1"],
    ),
    ("image.digest=latest", ["'/image/digest'", "does not match"]),
];

#[test]
fn what_cannot_work_is_refused_with_a_sentence() {
    let Some(helm) = helm() else { return };
    refused(helm, &SENTENCES);
}

#[test]
fn what_is_no_value_is_refused_by_the_schema() {
    let Some(helm) = helm() else { return };
    refused(helm, &SCHEMA);
}

fn refused(helm: &std::path::Path, cases: &[(&str, [&str; 2])]) {
    let mut missed = Vec::new();
    for (set, parts) in cases {
        match template(helm, "main", &["--set", set]) {
            Ok(_) => missed.push(format!("{set} was accepted")),
            Err(complaint) => missed.extend(
                parts
                    .iter()
                    .filter(|part| !complaint.contains(**part))
                    .map(|part| format!("{set}: no {part:?} in {complaint}")),
            ),
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// The chart and the program draw the same lines.
#[test]
fn the_limits_are_the_program_s() {
    let Some(helm) = helm() else { return };
    for (ttl_ms, good) in [
        (MIN_TTL_MS, true),
        (MIN_TTL_MS - 1_000, false),
        (MAX_TTL_MS, true),
        (MAX_TTL_MS + 1_000, false),
    ] {
        let set = format!("failover.ttl={}", ttl_ms / 1_000);
        assert_eq!(
            template(helm, "main", &["--set", &set]).is_ok(),
            good,
            "{set}"
        );
    }
}

/// The longest name that is accepted leaves room for what is made of it.
#[test]
fn the_longest_name_fits_everywhere() {
    let Some(helm) = helm() else { return };
    let name = "n".repeat(40);
    for (kind, name) in Objects::of(helm, &name, &[]).names() {
        assert!(name.len() <= 63, "{kind} {name}");
    }
    // StatefulSet controllers label pods with the name, a dash and a hash of ten characters.
    assert!(format!("{name}-0123456789").len() <= 63);
}
