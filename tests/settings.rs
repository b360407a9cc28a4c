//! The settings from outside: good files mean what they say, bad ones are told apart in words.

// The exemption of clippy.toml reaches test functions only, not what they share.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "settings/bad.rs"]
mod bad;
#[path = "settings/budgets.rs"]
mod budgets;
#[path = "settings/check.rs"]
mod check;
#[path = "settings/dynamic.rs"]
mod dynamic;
#[path = "settings/good.rs"]
mod good;
#[path = "settings/hooks.rs"]
mod hooks;
#[path = "settings/rest.rs"]
mod rest;
#[path = "settings/slots.rs"]
mod slots;
#[path = "settings/support.rs"]
mod support;
#[path = "settings/values.rs"]
mod values;
