//! The Role is exactly what the agents call: each call is allowed, and nothing is allowed that is
//! not called.

use crate::chart::{Objects, helm, root};
use pgwarden::dcs::DcsNames;
use pgwarden::dcs::codec::route::Family;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// A request as the API server's authorizer sees it; `name` is empty where the path has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    name: String,
}

/// Every call of src/dcs, with the file that makes it. A list by `metadata.name` has that name.
fn calls(names: &DcsNames, members: usize) -> Vec<(Call, &'static str)> {
    const LEASES: (&str, &str) = ("coordination.k8s.io", "leases");
    const SLICES: (&str, &str) = ("discovery.k8s.io", "endpointslices");
    let mut calls = Vec::new();
    let mut add = |verbs: &[&'static str], (group, resource), name: &str, by| {
        for verb in verbs {
            let name = name.to_owned();
            calls.push((
                Call {
                    verb,
                    group,
                    resource,
                    name,
                },
                by,
            ));
        }
    };
    let scope = names.scope.as_str();
    add(&["get", "patch"], LEASES, scope, "client.rs");
    add(&["create"], LEASES, "", "client.rs");
    add(&["list", "watch"], LEASES, scope, "watch/mod.rs");
    add(&["list", "watch"], ("", "configmaps"), "", "watch/mod.rs");
    add(&["list", "watch"], ("", "pods"), "", "watch/mod.rs");
    add(&["create"], ("", "configmaps"), "", "shared.rs");
    for map in [
        names.config_name(),
        names.sync_name(),
        names.failover_name(),
    ] {
        add(&["patch", "get"], ("", "configmaps"), &map, "shared.rs");
    }
    for ordinal in 0..members {
        let pod = format!("{scope}-{ordinal}");
        add(&["get"], ("", "pods"), &pod, "checks.rs");
        add(&["patch"], ("", "pods"), &pod, "own_pod.rs");
    }
    for family in Family::ALL {
        add(
            &["get", "patch"],
            SLICES,
            &family.object_name(scope),
            "route.rs",
        );
    }
    add(&["create", "list"], SLICES, "", "route.rs");
    for by in ["checks.rs", "route.rs"] {
        add(&["get"], ("", "services"), scope, by);
    }
    add(&["get"], ("", "endpoints"), scope, "checks.rs");
    add(
        &["get"],
        ("", "configmaps"),
        &format!("{scope}-leader"),
        "checks.rs",
    );
    add(&["create"], ("", "events"), "", "event.rs");
    calls
}

/// A grant: one verb on one resource, and a name unless it is for all.
type Grant = (String, String, String, Option<String>);

fn grants(role: &Value) -> BTreeSet<Grant> {
    let texts = |list: &Value| -> Vec<String> {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter()
            .map(|one| one.as_str().unwrap().to_owned())
            .collect()
    };
    let mut grants = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let names = match &rule["resourceNames"] {
            Value::Null => vec![None],
            names => texts(names).into_iter().map(Some).collect(),
        };
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    for name in &names {
                        let grant = (group.clone(), resource.clone(), verb.clone(), name.clone());
                        assert!(grants.insert(grant.clone()), "{grant:?} is granted twice");
                    }
                }
            }
        }
    }
    grants
}

/// RBAC: a rule with names allows requests for these names, and none without a name.
fn allows(grant: &Grant, call: &Call) -> bool {
    let (group, resource, verb, name) = grant;
    (group.as_str(), resource.as_str(), verb.as_str()) == (call.group, call.resource, call.verb)
        && name.as_ref().is_none_or(|name| *name == call.name)
}

#[test]
fn the_role_is_exactly_what_is_called() {
    let Some(helm) = helm() else { return };
    for (release, members) in [("main", 9), ("orders-db", 2)] {
        let set = format!("replicas=1,rbac.maxMembers={members}");
        let objects = Objects::of(helm, release, &["--set", &set]);
        let grants = grants(objects.get("Role", release));
        let calls = calls(&DcsNames::new(release, "databases", "pod", "uid"), members);
        for (call, by) in &calls {
            let allowed = grants.iter().any(|grant| allows(grant, call));
            assert!(allowed, "src/dcs/{by} makes {call:?}, which no rule allows");
        }
        for grant in &grants {
            let used = calls.iter().any(|(call, _)| allows(grant, call));
            assert!(used, "{grant:?} is allowed and never called");
        }
        // A grant for all names, where every call has one, would be more than is needed.
        for grant in grants.iter().filter(|grant| grant.3.is_none()) {
            let nameless = calls
                .iter()
                .any(|(call, _)| call.name.is_empty() && allows(grant, call));
            assert!(nameless, "{grant:?} could be bound to names");
        }
        let binding = objects.get("RoleBinding", release);
        assert_eq!(binding["roleRef"]["kind"], "Role");
        assert_eq!(binding["subjects"][0]["namespace"], "databases");
    }
}

/// The table above lists GET, PATCH and POST; another method would need another verb.
#[test]
fn the_client_knows_no_other_methods() {
    let text = fs::read_to_string(root().join("src/dcs/request.rs")).unwrap();
    let methods: BTreeSet<&str> = text
        .split("Method::")
        .skip(1)
        .map(|rest| {
            rest.split(|c: char| !c.is_ascii_uppercase())
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(methods, BTreeSet::from(["GET", "PATCH", "POST"]));
}

/// Each place of src/dcs that names a collection, as often as it does: a new one is a new call.
#[test]
fn the_table_knows_every_collection() {
    let mut found = Vec::new();
    for name in [
        "checks.rs",
        "client.rs",
        "event.rs",
        "own_pod.rs",
        "route.rs",
        "shared.rs",
        "watch/mod.rs",
    ] {
        let text = fs::read_to_string(root().join("src/dcs").join(name)).unwrap();
        for (words, resource) in [
            ("\"pods\"", "pods"),
            ("\"services\"", "services"),
            ("\"endpointslices\"", "endpointslices"),
            ("\"events\"", "events"),
            // In the dialect of the chart, and the lock of each other one.
            ("dialect.lock()", "leases"),
            ("dialect.state()", "configmaps"),
            ("other.lock()", "configmaps"),
            ("other.lock()", "endpoints"),
        ] {
            if text.contains(words) {
                found.push((name, resource));
            }
        }
    }
    let names = DcsNames::new("main", "databases", "pod", "uid");
    let table: BTreeSet<_> = calls(&names, 1)
        .into_iter()
        .map(|(call, by)| (by, call.resource))
        .collect();
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), table);
}

/// Each rule of the template says above it what breaks without it.
#[test]
fn every_rule_says_why() {
    let text = fs::read_to_string(root().join("deploy/chart/templates/role.yaml")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with("  - apiGroups:") {
            let reason = lines[at - 1].starts_with("  # ");
            assert!(
                reason,
                "line {}: a rule without its reason above it",
                at + 1
            );
        }
    }
}
