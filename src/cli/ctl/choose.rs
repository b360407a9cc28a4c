//! Which members a verb means.

use crate::cli::cluster::{Cluster, Row};
use crate::cli::verbs::Role;
use crate::cli::{Exit, Failure};

/// Those of the names and the role, the leader last, so that the others are done before it.
pub(super) fn choose<'a>(
    cluster: &'a Cluster,
    names: &[String],
    role: Role,
) -> Result<Vec<&'a Row>, Failure> {
    let fits = |row: &Row| match role {
        Role::Leader => row.leads(),
        Role::StandbyLeader => row.role == "standby_leader",
        Role::Replica => !row.leads(),
        Role::Any => true,
    };
    for name in names {
        if !cluster.members.iter().any(|row| row.name == *name) {
            return Err(stranger(cluster, name));
        }
    }
    let mut chosen: Vec<&Row> = cluster
        .members
        .iter()
        .filter(|row| names.is_empty() || names.contains(&row.name))
        .filter(|row| fits(row))
        .collect();
    chosen.sort_by_key(|row| row.leads());
    if chosen.is_empty() {
        let word = match role {
            Role::Leader => "leader",
            Role::StandbyLeader => "standby leader",
            Role::Replica => "replica",
            Role::Any => "member",
        };
        let what = format!(
            "there is no {word} among them; the members are {}",
            cluster.names()
        );
        return Err(Failure::new(Exit::Refused, what));
    }
    Ok(chosen)
}

/// A name that nobody has.
pub(super) fn stranger(cluster: &Cluster, name: &str) -> Failure {
    let what = format!(
        "there is no member {name}; the members are {}",
        cluster.names()
    );
    Failure::new(Exit::Usage, what)
}

/// Their names, for a question.
pub(super) fn names(chosen: &[&Row]) -> String {
    let names: Vec<_> = chosen.iter().map(|row| row.name.as_str()).collect();
    names.join(", ")
}
