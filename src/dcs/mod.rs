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
//! One dialect so far: `lock: lease` (a `coordination.k8s.io/v1` Lease for the lock, ConfigMaps
//! with Patroni's annotations for the rest, EndpointSlices for the route).

mod calls;
mod checks;
mod client;
pub mod codec;
mod connect;
mod error;
mod event;
mod names;
pub mod outcome;
mod own_pod;
mod refusals;
mod request;
mod retry;
mod route;
mod shared;
pub mod watch;

pub use checks::Checked;
pub use client::{Dcs, DcsOptions};
pub use connect::{ApiAccess, connect};
pub use error::DcsError;
pub use names::{DcsNames, RoutePort};
pub use shared::SharedPart;
pub use watch::{Seen, SharedView, WatchOptions, Watching};
