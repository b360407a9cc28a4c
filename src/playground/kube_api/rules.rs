//! The words of fault injection: verbs, faults, and the rules that say which calls meet them.

use serde::{Deserialize, Serialize};

/// What a request does, in Kubernetes' own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read many.
    List,
    /// Follow changes.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of many.
    DeleteCollection,
}

impl Verb {
    /// Every verb that changes the store.
    pub const WRITES: [Self; 5] = [
        Self::Create,
        Self::Update,
        Self::Patch,
        Self::Delete,
        Self::DeleteCollection,
    ];
}

/// What goes wrong for a call that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Fault {
    /// A partition. Nothing is applied, nothing is answered; open watches fall silent too. With
    /// `reset` connections are closed instead of hanging; without it that happens when it heals.
    Cut {
        /// Close connections at once instead of leaving them without an answer.
        #[serde(default)]
        reset: bool,
    },
    /// The request takes its time to arrive. It is applied even if its sender has given up by then.
    DelayBefore {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Applied at once, answered late.
    DelayAfter {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Not applied; answered with this status.
    Answer {
        /// The HTTP status.
        code: u16,
        /// The `Retry-After` header and `details.retryAfterSeconds`.
        #[serde(default)]
        retry_after_s: Option<u32>,
    },
    /// Applied, and the answer lost: the connection closes, or with `hang` stays silent.
    LoseAnswer {
        /// Leave the connection open instead of closing it.
        #[serde(default)]
        hang: bool,
    },
    /// An open watch delivers nothing, no bookmarks either; it goes on when the rule is cleared.
    WatchStall,
    /// A watch is told 410 by an ERROR event and ends.
    WatchGone,
    /// Reads with resourceVersion=0 are answered from the named snapshot.
    Stale {
        /// A name given to `save_snapshot`.
        snapshot: String,
    },
}

/// Which calls meet a fault. An empty or missing criterion matches everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// The bearer token of the caller.
    #[serde(default)]
    pub client: Option<String>,
    /// Verbs it concerns.
    #[serde(default)]
    pub verbs: Vec<Verb>,
    /// Plurals of the kinds it concerns, such as `leases`.
    #[serde(default)]
    pub resources: Vec<String>,
    /// The object's name.
    #[serde(default)]
    pub name: Option<String>,
    /// Let this many matching calls pass first.
    #[serde(default)]
    pub skip: u32,
    /// Then hit this many; without it, until cleared.
    #[serde(default)]
    pub count: Option<u32>,
    /// What goes wrong.
    pub fault: Fault,
}

impl Rule {
    /// The fault for every call of everybody, until cleared.
    pub fn new(fault: Fault) -> Self {
        let (client, name, verbs, resources) = (None, None, Vec::new(), Vec::new());
        Self {
            client,
            verbs,
            resources,
            name,
            skip: 0,
            count: None,
            fault,
        }
    }

    /// Only calls of this client.
    #[must_use]
    pub fn client(mut self, client: &str) -> Self {
        self.client = Some(client.to_owned());
        self
    }

    /// Only these verbs.
    #[must_use]
    pub fn verbs(mut self, verbs: &[Verb]) -> Self {
        self.verbs = verbs.to_vec();
        self
    }

    /// Only this kind, by its plural; may be called again for one more.
    #[must_use]
    pub fn resource(mut self, plural: &str) -> Self {
        self.resources.push(plural.to_owned());
        self
    }

    /// Only the object of this name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Only the next `count` matching calls.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    /// Not the first `skip` matching calls.
    #[must_use]
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    pub(super) fn matches(&self, call: &Call) -> bool {
        self.client.as_ref().is_none_or(|it| *it == call.client)
            && (self.verbs.is_empty() || self.verbs.contains(&call.verb))
            && (self.resources.is_empty() || self.resources.iter().any(|it| it == call.resource))
            && self
                .name
                .as_ref()
                .is_none_or(|it| Some(it) == call.name.as_ref())
    }
}

/// A request as rules see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Call {
    pub(super) client: String,
    pub(super) verb: Verb,
    pub(super) resource: &'static str,
    pub(super) name: Option<String>,
}
