//! The Helm chart from outside: what it renders, what it refuses, and that the program itself takes
//! the configuration that it makes.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

#[path = "deploy/agent.rs"]
mod agent;
#[path = "deploy/chart.rs"]
mod chart;
#[path = "deploy/notes.rs"]
mod notes;
#[path = "deploy/nulls.rs"]
mod nulls;
#[path = "deploy/refusals.rs"]
mod refusals;
#[path = "deploy/rendering.rs"]
mod rendering;
#[path = "deploy/role.rs"]
mod role;
#[path = "deploy/texts.rs"]
mod texts;
