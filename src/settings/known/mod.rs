//! Every key that is known: of which kind, and whether this version uses it. The table is the one
//! place that says so; warnings, nearest-name hints and the tests of the JSON schema read it.

mod postgresql;
mod table;
#[cfg(test)]
mod tests;

pub(super) use postgresql::USER_KEYS;
use postgresql::{DYNAMIC_POSTGRESQL, LOCAL_ONLY};
use table::SECTIONS;

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A map whose keys are in the table.
    Section,
    /// A map with keys of the user's choice.
    Open,
    Text,
    Bool,
    Int,
    List,
    /// More than one shape is accepted.
    Any,
}

/// What this version does with a key, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Used,
    /// Has no meaning here and never will.
    Ignored(&'static str),
    /// Patroni knows it, this version does not yet; running without it is safe.
    Later(&'static str),
    /// As above, but running without it would break a promise: refused.
    Refused(&'static str),
}

impl Key {
    const fn new(path: &'static str, kind: Kind, status: Status) -> Self {
        Self { path, kind, status }
    }
}

/// One known key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) status: Status,
}

/// The keys directly below a path, in the table's order; none for an open map or a leaf.
pub(super) fn children(path: &str) -> Vec<(&'static str, Kind, Status)> {
    if let Some(user) = path.strip_prefix("postgresql.authentication.") {
        let known = matches!(user, "superuser" | "replication" | "rewind");
        let keys = if known { USER_KEYS } else { &[] };
        return keys
            .iter()
            .map(|name| (*name, Kind::Text, Status::Used))
            .collect();
    }
    if path == "bootstrap.dcs.postgresql" {
        return children("postgresql").into_iter().map(in_dynamic).collect();
    }
    SECTIONS
        .iter()
        .flat_map(|section| section.iter())
        .filter_map(|key| {
            let rest = match path {
                "" => key.path,
                _ => key.path.strip_prefix(path)?.strip_prefix('.')?,
            };
            (!rest.contains('.')).then_some((rest, key.kind, key.status))
        })
        .collect()
}

/// A key of `postgresql` as it counts in `bootstrap.dcs.postgresql`.
fn in_dynamic(key: (&'static str, Kind, Status)) -> (&'static str, Kind, Status) {
    let (name, _, status) = key;
    match status {
        Status::Used if !DYNAMIC_POSTGRESQL.contains(&name) => {
            (name, Kind::Any, Status::Ignored(LOCAL_ONLY))
        }
        _ => key,
    }
}

/// The tags that mean something to a member, to its peers or to a balancer.
pub(super) const TAGS: [&str; 8] = [
    "clonefrom",
    "failover_priority",
    "nofailover",
    "noloadbalance",
    "nostream",
    "nosync",
    "replicatefrom",
    "sync_priority",
];

/// Those of them that are true or false.
pub(super) const SWITCHES: [&str; 5] = [
    "clonefrom",
    "nofailover",
    "noloadbalance",
    "nostream",
    "nosync",
];

/// Those that are whole numbers.
pub(super) const PRIORITIES: [&str; 2] = ["failover_priority", "sync_priority"];

/// The known name nearest to a misspelt one, if it is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).clamp(1, 4);
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let distance = edit_distance(&name.to_lowercase(), candidate);
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// How many letters must be put in, left out, changed or swapped with their neighbour.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
