//! The REST interface: probes for the kubelet and load balancers, questions of peers, operators
//! and people, and the verbs that change who leads, how it is configured and whether it runs anew.
//!
//! It exists apart from the decision loop because a probe must be answered whatever that loop,
//! PostgreSQL or the Kubernetes API is doing: every answer is computed from the last published
//! [`View`], a plain value in memory. What a GET answers is decided by pure functions of the view
//! and the time ([`health`], [`status`], [`cluster`]); the server around them only moves bytes.
//! Changes travel the other way: as a [`Command`] in a bounded queue, with a deadline.

mod access;
pub mod allowlist;
mod answers;
pub mod auth;
mod body;
pub mod client;
pub mod cluster;
pub mod command;
pub mod config;
mod connections;
pub mod failsafe;
pub mod health;
mod lines;
mod metrics;
pub mod peer;
pub mod query;
mod questions;
mod reinitialize;
pub mod restart;
mod routes;
pub mod security;
pub mod server;
pub mod spelling;
pub mod status;
pub mod switchover;
pub mod tls;
pub mod view;
pub mod vote;
pub mod when;

pub use auth::Credentials;
pub use command::{Ask, Command, Reply};
pub use config::ConfigChange;
pub use peer::PeerStatus;
pub use restart::{Conditions, RestartPlan};
pub use server::{Journal, Limits, Parts, Server, bind};
pub use view::{ReplicationRow, View, Xlog};
