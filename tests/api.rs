//! The REST API over real sockets: codes and bodies of the contract, bad input, rude clients.

#[path = "api/changes.rs"]
mod changes;
#[path = "api/harness.rs"]
mod harness;
#[path = "api/probes.rs"]
mod probes;
mod recorded;
#[path = "api/rude.rs"]
mod rude;
