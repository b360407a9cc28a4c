//! The settings: what the file says, and what the program uses.

pub mod address;
pub mod budgets;
pub mod dynamic;
pub mod secret;
mod show;
mod types;

pub use types::*;
