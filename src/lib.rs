//! pgwarden: high availability for PostgreSQL on Kubernetes.
//!
//! The map of the house. A module may import only what stands below it in this list:
//!
//! | module | what it is for | may import |
//! | --- | --- | --- |
//! | [`agent`], [`runner`], [`playground`] | composition: the only places that know everything | all |
//! | [`cli`] | what a person types: verbs, rendering, exit codes | `api`, `settings`, `ha`, `sys` |
//! | [`settings`] | what the file says → what the program uses | `ha`, `sys` |
//! | [`api`] | the REST interface, answered from memory | `ha`, `sys` |
//! | [`dcs`] | the lock and the shared state as Kubernetes objects | `ha`, `sys` |
//! | [`postgres`] | PostgreSQL's life cycle, files and protocol | `ha`, `sys` |
//! | [`guardian`] | the process that kills: deadline, reaping, supervision | `ha`, `sys` |
//! | [`sys`] | the only home of `nix`, signals and `unsafe` | nothing |
//! | [`ha`] | PURE: one function decides; no clock, no await, no I/O | nothing |
//!
//! `tests/tidy.rs` checks the list.

pub mod agent;
pub mod api;
pub mod cli;
pub mod dcs;
pub mod guardian;
pub mod ha;
pub mod playground;
pub mod postgres;
pub mod runner;
pub mod settings;
pub mod sys;
