//! A descriptor of our own in tokio's hands.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// Registers a non-blocking descriptor for reading and writing. Inside a tokio runtime.
pub fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays the same descriptor for as long as the `AsyncFd`,
    // which owns it, lives.
    Ok(unsafe { AsyncFd::register(fd) }?)
}
