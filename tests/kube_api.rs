//! Conformance of the embedded Kubernetes API, and its faults.
//!
//! Everything outside `faults` and `lives` runs against the embedded API, or against a real
//! kube-apiserver when `PGWARDEN_KUBECONFIG` names a kubeconfig file (`tests/kube/run.sh` does
//! that): what the program relies on is thus checked in both places by the same lines.

#![allow(clippy::panic)] // A helper that panics is a failed test with a better message.

#[path = "kube_api/bodies.rs"]
mod bodies;
#[path = "kube_api/faults.rs"]
mod faults;
#[path = "kube_api/lives.rs"]
mod lives;
#[path = "kube_api/objects.rs"]
mod objects;
#[path = "kube_api/patches.rs"]
mod patches;
#[path = "kube_api/pods.rs"]
mod pods;
#[path = "kube_api/refusals.rs"]
mod refusals;
#[path = "kube_api/rig.rs"]
mod rig;
#[path = "kube_api/updates.rs"]
mod updates;
#[path = "kube_api/watches.rs"]
mod watches;
