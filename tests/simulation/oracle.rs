//! What must hold, whatever happens: judged from outside, with the knowledge of the whole world.

use crate::server::Record;
use std::collections::BTreeMap;

/// An acknowledged commit.
#[derive(Clone, Debug)]
pub(crate) struct Acked {
    pub(crate) record: Record,
    pub(crate) node: usize,
    pub(crate) at: u64,
}

/// The clients' memory.
#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) acked: Vec<Acked>,
    /// The first acknowledgement on each node's writable life, to judge statements sent later.
    pub(crate) first_ack: BTreeMap<(usize, u64), u64>,
}

impl Oracle {
    /// *No acknowledged synchronous commit lost*: every acknowledged record is in this log.
    pub(crate) fn missing_from<'a>(&'a self, log: &[Record]) -> Vec<&'a Acked> {
        let present: std::collections::HashSet<u64> = log.iter().map(|record| record.id).collect();
        self.acked
            .iter()
            .filter(|acked| !present.contains(&acked.record.id))
            .collect()
    }
}

/// *At most one writable*: the nodes that could acknowledge a commit at this instant.
pub(crate) fn writable_conflict(writable: &[(usize, String)]) -> Option<String> {
    (writable.len() > 1).then(|| {
        let names: Vec<String> = writable
            .iter()
            .map(|(node, name)| format!("node {node} as {name}"))
            .collect();
        format!("writable at once: {}", names.join(", "))
    })
}
