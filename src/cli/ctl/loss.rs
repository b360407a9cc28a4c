//! What a failover by hand gives up: said before it is asked for, and asked for by name.
//!
//! Where a leader runs, it stops in order and its candidate gets everything. Where none does, the
//! cluster itself elects only who has all that it may not lose; a person may overrule it, and has
//! to know by how much.

use crate::cli::cluster::{Cluster, Row};
use crate::ha::model::Lsn;

/// What is lost, in words; `None`: nothing that is known of. `synchronous`: commits wait for
/// standbys, as the dynamic configuration says.
pub(super) fn given_up(cluster: &Cluster, candidate: &str, synchronous: bool) -> Option<String> {
    let row = cluster.members.iter().find(|row| row.name == candidate)?;
    let leader = cluster.members.iter().find(|row| row.leads());
    // A standby leader that runs says how it replicates.
    let serves = |row: &Row| {
        matches!(
            row.state.as_str(),
            "running" | "streaming" | "in archive recovery"
        )
    };
    let in_order = leader.is_some_and(serves) && row.state == "streaming";
    if row.leads() || in_order {
        return None;
    }
    let Some(mine) = position(row) else {
        return Some(format!(
            "the position of {candidate} is not known: whatever the others have and it has not is \
             given up"
        ));
    };
    let mut lost = Vec::new();
    if let Some((whose, end)) = furthest(cluster, leader, row).filter(|(_, end)| *end > mine) {
        lost.push(behind(candidate, mine, &whose, end));
    }
    if synchronous && !matches!(row.role.as_str(), "sync_standby" | "quorum_standby") {
        let nothing_ahead = lost.is_empty();
        lost.push(format!(
            "{candidate} is not in the synchronous set: commits that were acknowledged may be \
             missing from it"
        ));
        if nothing_ahead {
            let (timeline, from) = mine;
            lost.push(format!(
                "it ends at {from} on timeline {timeline}, and all WAL behind that is given up, of \
                 which nothing is known here"
            ));
        }
    }
    (!lost.is_empty()).then(|| lost.join("; "))
}

type Place = (u32, Lsn);

fn behind(candidate: &str, mine: Place, whose: &str, end: Place) -> String {
    let ((timeline, from), (other, to)) = (mine, end);
    let known = format!("{candidate} ends at {from} on timeline {timeline}");
    if timeline == other {
        let bytes = to.0 - from.0;
        format!("{known}, {whose} at {to}: {bytes} bytes of WAL, {from} to {to}, are given up")
    } else {
        format!("{known}, {whose} at {to} on timeline {other}: all of timeline {other} is given up")
    }
}

/// The furthest that is known of anybody else, the leader's last word among it.
fn furthest(cluster: &Cluster, leader: Option<&Row>, of: &Row) -> Option<(String, Place)> {
    let others = cluster.members.iter().filter(|row| row.name != of.name);
    let theirs = others.filter_map(|row| Some((row.name.clone(), position(row)?)));
    // Lag is counted from what the leader has published last.
    let published = position(of).zip(of.receive_lag.filter(|lag| *lag > 0));
    let published = published.map(|((timeline, lsn), lag)| {
        let whose = leader.map_or("the last leader", |row| row.name.as_str());
        (whose.to_owned(), (timeline, Lsn(lsn.0 + lag)))
    });
    theirs.chain(published).max_by_key(|(_, place)| *place)
}

fn position(row: &Row) -> Option<Place> {
    let lsn = row.receive_lsn.as_ref().or(row.replay_lsn.as_ref())?;
    Some((row.timeline?, lsn.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Nobody leads; `a` is ahead of `b`, whose lag is counted from what the leader published.
    fn leaderless() -> Value {
        json!({ "members": [
            { "name": "a", "role": "replica", "state": "running", "timeline": 1,
              "receive_lsn": "0/5000060", "receive_lag": 0 },
            { "name": "b", "role": "replica", "state": "running", "timeline": 1,
              "receive_lsn": "0/5000000", "receive_lag": 256 },
            { "name": "c", "role": "replica", "state": "stopped" },
        ] })
    }

    fn said(cluster: &Value, candidate: &str, synchronous: bool) -> Option<String> {
        given_up(
            &Cluster::decode(cluster, None).unwrap(),
            candidate,
            synchronous,
        )
    }

    #[test]
    fn positions_say_what_is_given_up() {
        let cluster = leaderless();
        assert_eq!(said(&cluster, "a", false), None);
        let words = "b ends at 0/5000000 on timeline 1, the last leader at 0/5000100: 256 bytes of \
                     WAL, 0/5000000 to 0/5000100, are given up";
        assert_eq!(said(&cluster, "b", false).as_deref(), Some(words));
        assert!(
            said(&cluster, "c", false)
                .unwrap()
                .starts_with("the position of c")
        );
        let mut ahead = cluster.clone();
        ahead["members"][0]["timeline"] = json!(2);
        let words = said(&ahead, "b", false).unwrap();
        assert!(words.ends_with("all of timeline 2 is given up"), "{words}");
    }

    #[test]
    fn the_synchronous_set_may_lack_nothing_and_others_may() {
        let mut cluster = leaderless();
        let words = said(&cluster, "a", true).unwrap();
        assert!(
            words.starts_with("a is not in the synchronous set")
                && words.contains("it ends at 0/5000060 on timeline 1"),
            "{words}"
        );
        cluster["members"][0]["role"] = json!("sync_standby");
        assert_eq!(said(&cluster, "a", true), None);
    }

    #[test]
    fn a_leader_that_runs_hands_over_to_who_streams() {
        let mut cluster = leaderless();
        let leader = json!({ "name": "l", "role": "leader", "state": "running", "timeline": 1 });
        cluster["members"].as_array_mut().unwrap().push(leader);
        assert!(said(&cluster, "b", true).is_some(), "it does not stream");
        cluster["members"][1]["state"] = json!("streaming");
        assert_eq!(said(&cluster, "b", true), None);
        assert_eq!(said(&cluster, "l", true), None);
        // The leader of a standby cluster says how it replicates.
        cluster["members"][3]["role"] = json!("standby_leader");
        cluster["members"][3]["state"] = json!("streaming");
        assert_eq!(said(&cluster, "b", true), None);
    }
}
