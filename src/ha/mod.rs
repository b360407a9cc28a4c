//! The decision core: pure, synchronous, replayable.
//!
//! Nothing here reads a clock, awaits, draws a random number or touches a file. Facts come in as
//! events with the time as an argument, decisions leave as effects; the runner and the simulator
//! are two shells around the same function.

pub mod lock;
pub mod model;
pub mod shared;
