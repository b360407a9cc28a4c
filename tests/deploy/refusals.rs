//! Values that are wrong are refused, each with words that say which, what it was and what is
//! right.

use crate::chart::{Objects, helm, template};
use pgwarden::settings::budgets::{MAX_TTL_MS, MIN_TTL_MS};

/// What is set, and parts of the complaint.
const SENTENCES: &[(&str, [&str; 2])] = &[
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
    (
        "postgresql.parameters.PORT=6000",
        ["parameters.PORT", "sets it itself"],
    ),
    (
        "failover.primaryStartTimeout=31622401",
        ["primaryStartTimeout: found 31622401 s", "at most 31622400"],
    ),
    (
        "agentConfig.bootstrap.dcs.synchronous_node_count=2",
        ["synchronous_node_count: found 2", "expected 1"],
    ),
    (
        "service.leader.nodePort=30432",
        [
            "service.leader.nodePort: found 30432 with type: ClusterIP",
            "NodePort or LoadBalancer",
        ],
    ),
    (
        "service.replica.externalTrafficPolicy=Local",
        [
            "service.replica.externalTrafficPolicy: found Local",
            "type: NodePort or",
        ],
    ),
    (
        "service.leader.loadBalancerSourceRanges={10.0.0.0/8}",
        [
            "found [10.0.0.0/8] with type: ClusterIP",
            "type: LoadBalancer",
        ],
    ),
    (
        "service.replica.type=NodePort,service.replica.loadBalancerSourceRanges={10.0.0.0/8}",
        ["with type: NodePort", "or type: LoadBalancer"],
    ),
    (
        "probes.liveness=null",
        ["probes.liveness: found null", "cannot be switched off"],
    ),
    (
        "probes=null",
        ["probes.startup: found null", "cannot be switched off"],
    ),
    (
        "resources.requests.memory=2Gi",
        [
            "resources.requests.memory: found 2Gi",
            "resources.limits.memory: 1Gi",
        ],
    ),
    (
        "resources.requests.memory=1100M",
        ["found 1100M, which is more", "resources.limits.memory: 1Gi"],
    ),
    (
        "resources.limits.cpu=1,resources.requests.cpu=1500m",
        ["resources.requests.cpu: found 1500m", "cpu: 1; expected"],
    ),
    (
        "podSecurityContext.runAsUser=0",
        [
            "podSecurityContext.runAsUser: found 0",
            "does not run as root",
        ],
    ),
    (
        "containerSecurityContext.runAsUser=0",
        ["containerSecurityContext.runAsUser: found 0", "1 or more"],
    ),
    (
        "persistence.size=0Gi",
        ["persistence.size: found 0Gi", "a size as 10Gi"],
    ),
    (
        "image.repository=My Images/pg",
        [
            "image.repository: found \"My Images/pg\"",
            "lower-case letters",
        ],
    ),
    (
        "image.repository=",
        ["image.repository: found \"\"", "lower-case letters"],
    ),
    (
        "image.repository=pgwarden:15",
        ["found \"pgwarden:15\"", "the tag is image.tag"],
    ),
    (
        "image.tag=15 beta",
        ["image.tag: found \"15 beta\"", "at most 128 letters"],
    ),
    (
        "extraVolumes[0].name=data",
        ["extraVolumes: found the name data", "as my-data"],
    ),
    (
        "extraVolumeMounts[0].name=run,extraVolumeMounts[0].mountPath=/x",
        ["found the name run", "mounted at /run/postgresql"],
    ),
    (
        "extraVolumeMounts[0].name=x,extraVolumeMounts[0].mountPath=/x",
        ["extraVolumeMounts: found the name x", "one of extraVolumes"],
    ),
    (
        "extraVolumes[0].name=x,extraVolumeMounts[0].name=x,extraVolumeMounts[0].mountPath=/tmp/",
        ["found the path /tmp/", "mounts its volume tmp"],
    ),
    ("tags.nosync=2", ["tags.nosync: found 2", "true or false"]),
    (
        "tags.clonefrom=main-1",
        ["tags.clonefrom: found main-1", "true or false"],
    ),
    (
        "tags.nosync=true",
        [
            "tags.nosync: found true with failover.synchronousMode: on",
            "no standby would ever confirm",
        ],
    ),
    (
        "tags.nofailover=true",
        [
            "tags.nofailover: found true with replicas: 3",
            "none could ever lead",
        ],
    ),
    (
        "commonLabels.team=a,service.leader.labels.team=b",
        [
            "service.leader.labels.team: found in commonLabels",
            "in one of them",
        ],
    ),
    (
        "service.replica.labels.app\\.kubernetes\\.io/name=x",
        ["service.replica.labels.app.kubernetes.io/name", "remove it"],
    ),
    (
        "podAnnotations.checksum/agent=x",
        ["podAnnotations.checksum/agent", "remove it"],
    ),
];

/// What is set, and where the schema complains of what.
const SCHEMA: &[(&str, [&str; 2])] = &[
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
    (
        "probes.liveness.successThreshold=2",
        ["'/probes/liveness/successThreshold'", "got 2, want 1"],
    ),
    (
        "probes.startup.successThreshold=2",
        ["'/probes/startup/successThreshold'", "got 2, want 1"],
    ),
    (
        "resources.limit.memory=1Gi",
        ["'/resources'", "'limit' not allowed"],
    ),
    (
        "resources.limits.mem=1Gi",
        ["'/resources/limits'", "'mem' not allowed"],
    ),
    (
        "resources.limits.memory=1GB",
        ["'/resources/limits/memory'", "'1GB' does not match"],
    ),
    (
        "resources.requests.memory=512m",
        ["'/resources/requests/memory'", "'512m' does not match"],
    ),
    (
        "resources.requests.cpu=much",
        ["'/resources/requests/cpu'", "'much' does not match"],
    ),
    (
        "resources.requests.cpu=-1",
        ["'/resources/requests/cpu'", "got -1, want 0"],
    ),
    (
        "podSecurityContext.runAsUser=postgres",
        ["'/podSecurityContext/runAsUser'", "integer"],
    ),
    (
        "containerSecurityContext.runAsUser=1.5",
        ["'/containerSecurityContext/runAsUser'", "integer"],
    ),
    ("persistence.size=0", ["'/persistence/size'", "want string"]),
    (
        "extraEnv[0].name=A,extraEnv[0].value=5",
        ["'/extraEnv/0/value'", "want string"],
    ),
];

#[test]
fn what_cannot_work_is_refused_with_a_sentence() {
    let Some(helm) = helm() else { return };
    refused(helm, SENTENCES);
}

#[test]
fn what_is_no_value_is_refused_by_the_schema() {
    let Some(helm) = helm() else { return };
    refused(helm, SCHEMA);
}

pub(crate) fn refused(helm: &std::path::Path, cases: &[(&str, [&str; 2])]) {
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

/// What a crash, or a failover, would not forgive, by whichever way and in whichever words it
/// comes.
#[test]
fn parameters_that_lose_data_are_refused() {
    let Some(helm) = helm() else { return };
    let places = [
        "postgresql.parameters",
        "agentConfig.bootstrap.dcs.postgresql.parameters",
    ];
    for place in places {
        for (parameter, words, why) in [
            (
                "synchronous_commit",
                &["off", "local", "false", "no", "0", "Local"][..],
                "a failover would lose it",
            ),
            ("Synchronous_Commit", &["OFF"], "a failover would lose it"),
            (
                "fsync",
                &["off", "false", "no", "0", "f"],
                "must not be used",
            ),
            ("FULL_PAGE_WRITES", &["off", "no"], "must not be used"),
        ] {
            for word in words {
                let set = format!("{place}.{parameter}={word}");
                let found = format!("{place}.{parameter}: found {word}");
                refused(helm, &[(&set, [&found, why])]);
                // As text, not as what YAML makes of the word.
                let text = template(helm, "main", &["--set-string", &set]).unwrap_err();
                assert!(text.contains(&found) && text.contains(why), "{text}");
            }
        }
    }
    // The agent's own file has no other way in.
    let file = "agentConfig.postgresql.parameters";
    let set = format!("{file}.fsync=off");
    refused(helm, &[(&set, [file, "cannot be set here"])]);
}

/// What is next to a refusal and may be.
#[test]
fn what_is_right_is_not_refused() {
    let Some(helm) = helm() else { return };
    for set in [
        "postgresql.parameters.synchronous_commit=off,failover.synchronousMode=off",
        "postgresql.parameters.synchronous_commit=remote_apply,postgresql.parameters.fsync=on",
        "agentConfig.bootstrap.dcs.synchronous_node_count=1",
        "agentConfig.bootstrap.dcs.member_slots_ttl=600",
        "failover.primaryStartTimeout=31622400,probes.readiness.successThreshold=2",
        "service.leader.type=NodePort,service.leader.nodePort=30432,\
         service.leader.externalTrafficPolicy=Local",
        "service.replica.type=LoadBalancer,service.replica.loadBalancerSourceRanges={10.0.0.0/8}",
        "resources.requests.memory=1024Mi,resources.requests.cpu=0.5,resources.limits.cpu=500m",
        "resources.requests.memory=1e9,resources.limits.hugepages-2Mi=64Mi",
        "resources=null,podSecurityContext.runAsUser=1000650000",
        "resources.limits.memory=null,containerSecurityContext.runAsUser=null",
        "image.repository=Registry.example:5000/a_b/pg--warden,image.tag=V1.2_3-x",
        "image.repository=[::1]:5000/pgwarden,tags.nofailover=false,tags.mine=5",
        "extraVolumes[0].name=x,extraVolumeMounts[0].name=x,extraVolumeMounts[0].mountPath=/x",
        "fullnameOverride=null,image.tag=null,auth.superuser.password=null,affinity=null",
    ] {
        Objects::of(helm, "main", &["--set", set]);
    }
}
