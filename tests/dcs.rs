//! The DCS layer against the embedded Kubernetes API, which fails on demand.

#[path = "dcs/lock.rs"]
mod lock;
#[path = "dcs/objects.rs"]
mod objects;
#[path = "dcs/support.rs"]
mod support;
#[path = "dcs/watching.rs"]
mod watching;
