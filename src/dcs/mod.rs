//! The cluster's shared memory: the lock and the state of the members as Kubernetes objects.
//!
//! Why it exists: the core decides on facts (`ha::lock`, `ha::shared`) and must not know how they
//! are stored. Here is the only place that does. Three kinds of code, kept apart:
//!
//! * [`codec`]: object ↔ domain, plain functions, tested without a client. They never fail on what
//!   a stranger wrote: garbage becomes [`crate::ha::lock::LockState::Garbled`] or a
//!   [`codec::Problem`].
//! * [`Dcs`]: the requests. Each has its own deadline (L6) and every outcome its meaning in
//!   [`outcome`].
//! * [`watch`]: what the API server tells by itself, delivered over one bounded channel.
//!
//! The same record in three dialects ([`Dialect`]): a Lease, or Patroni's annotations on Endpoints
//! or ConfigMaps.

mod bypass;
mod calls;
mod checks;
mod client;
pub mod codec;
mod connect;
mod dialect;
mod error;
mod event;
mod members;
mod names;
pub mod outcome;
mod own_pod;
mod refusals;
mod request;
mod retry;
mod route;
mod route_patroni;
mod shared;
pub mod watch;

pub use bypass::Servers;
pub use checks::Checked;
pub use client::{Dcs, DcsOptions};
pub use connect::{ApiAccess, connect, connect_to};
pub use dialect::Dialect;
pub use error::DcsError;
pub use members::addresses;
pub use names::{DcsNames, RoutePort};
pub use shared::SharedPart;
pub use watch::{Seen, SharedView, WatchOptions, Watching};
