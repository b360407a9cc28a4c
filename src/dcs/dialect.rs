//! Which objects carry the lock and the shared state: one dialect per cluster (L8).
//!
//! | dialect | lock | shared state | route |
//! | --- | --- | --- | --- |
//! | [`Dialect::Lease`] | Lease `<scope>` | ConfigMaps | EndpointSlices |
//! | [`Dialect::Endpoints`] | Endpoints `<scope>`, annotations | Endpoints | its own subsets |
//! | [`Dialect::ConfigMap`] | ConfigMap `<scope>-leader`, annotations | ConfigMaps | the pods' role label |
//!
//! The last two are Patroni's (contract §1.1): its readers find everything where they look for it.

/// Where the objects of a kind are: API group and version, plural, and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path of the group: `api/v1`, `apis/coordination.k8s.io/v1`.
    pub group: &'static str,
    /// The plural, as in paths: `endpoints`.
    pub resource: &'static str,
    /// `apiVersion` and `kind` of a body.
    pub kind: (&'static str, &'static str),
}

impl Place {
    pub(super) fn path(self) -> (&'static str, &'static str) {
        (self.group, self.resource)
    }
}

const LEASES: Place = Place {
    group: "apis/coordination.k8s.io/v1",
    resource: "leases",
    kind: ("coordination.k8s.io/v1", "Lease"),
};
const ENDPOINTS: Place = Place {
    group: "api/v1",
    resource: "endpoints",
    kind: ("v1", "Endpoints"),
};
const CONFIGMAPS: Place = Place {
    group: "api/v1",
    resource: "configmaps",
    kind: ("v1", "ConfigMap"),
};

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `kubernetes.lock: lease`.
    #[default]
    Lease,
    /// `kubernetes.use_endpoints: true`.
    Endpoints,
    /// Neither: Patroni's default.
    ConfigMap,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lease, Self::Endpoints, Self::ConfigMap];

    /// Where the lock is.
    pub fn lock(self) -> Place {
        match self {
            Self::Lease => LEASES,
            Self::Endpoints => ENDPOINTS,
            Self::ConfigMap => CONFIGMAPS,
        }
    }

    /// The name of the lock object.
    pub fn lock_name(self, scope: &str) -> String {
        match self {
            Self::Lease | Self::Endpoints => scope.to_owned(),
            Self::ConfigMap => format!("{scope}-leader"),
        }
    }

    /// Where configuration, synchronous set and failover request are.
    pub fn state(self) -> Place {
        match self {
            Self::Lease | Self::ConfigMap => CONFIGMAPS,
            Self::Endpoints => ENDPOINTS,
        }
    }

    /// The settings that choose it, as people write them.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Lease => "kubernetes.lock: lease",
            Self::Endpoints => "kubernetes.use_endpoints: true",
            Self::ConfigMap => "kubernetes without lock and use_endpoints",
        }
    }
}
