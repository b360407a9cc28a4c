//! Verbs of patronictl that this version does not have: what to do instead.

use crate::cli::{Exit, Failure};

/// `remove`: it deletes objects, and a member's REST API has no such route.
pub(super) fn remove(clusters: &[String]) -> Failure {
    let scope = clusters.first().map_or("SCOPE", String::as_str);
    let what = format!(
        "remove deletes the cluster's objects in Kubernetes, which members do not do over REST: \
         stop the members, then kubectl -n NAMESPACE delete \
         leases,endpoints,configmaps,endpointslices -l cluster-name={scope} (with the labels of \
         your kubernetes.labels and scope_label)"
    );
    Failure::new(Exit::Failure, what)
}
