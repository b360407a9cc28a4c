//! The command line as a person meets it: the real program against a real API server.
// Helpers of tests are tests: a wrong assumption ends them.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "api/certificates.rs"]
mod certificates;
#[path = "cli/change.rs"]
mod change;
#[path = "cli/config.rs"]
mod config;
#[path = "cli/fake.rs"]
mod fake;
// The server of the API's own tests; not all of it is needed here.
#[allow(dead_code)]
#[path = "api/harness.rs"]
mod harness;
#[path = "cli/patroni.rs"]
mod patroni;
#[path = "cli/program.rs"]
mod program;
mod recorded;
#[path = "cli/show.rs"]
mod show;
#[path = "cli/steering.rs"]
mod steering;
#[path = "cli/tables.rs"]
mod tables;
#[path = "cli/tls.rs"]
mod tls;
#[path = "cli/verbs.rs"]
mod verbs;
