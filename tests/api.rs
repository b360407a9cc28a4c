//! The REST API over real sockets: codes and bodies of the contract, bad input, rude clients.
// Helpers of tests are tests: a wrong assumption ends them.
#![allow(clippy::unwrap_used)]

#[path = "api/allowlist.rs"]
mod allowlist;
#[path = "api/certificates.rs"]
mod certificates;
#[path = "api/changes.rs"]
mod changes;
#[path = "api/configuring.rs"]
mod configuring;
#[path = "api/failsafe.rs"]
mod failsafe;
#[path = "api/harness.rs"]
mod harness;
#[path = "api/metrics.rs"]
mod metrics;
#[path = "api/planning.rs"]
mod planning;
#[path = "api/probes.rs"]
mod probes;
mod recorded;
#[path = "api/reload.rs"]
mod reload;
#[path = "api/rude.rs"]
mod rude;
#[path = "api/tls.rs"]
mod tls;
