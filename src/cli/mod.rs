//! What a person types: verbs, rendering, exit codes.

pub mod check;
pub mod exit;
