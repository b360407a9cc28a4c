//! Locking a few pages in memory (G7): the kill path must not wait for a page to be read from a
//! dead disk or from swap.
#![allow(unsafe_code)]

use nix::sys::mman::mlock;
use std::ffi::c_void;
use std::io;
use std::ptr::NonNull;

const PAGE_BYTES: usize = 4096;
/// How much of the stack below the caller's frame the kill path may use.
const STACK_BYTES: usize = 64 * 1024;
/// How much code is locked from the beginning of each function of the kill path.
const CODE_BYTES: usize = 2 * PAGE_BYTES;

/// Locks the pages that hold the extent (address, length).
pub fn lock_extent((address, length): (usize, usize)) -> io::Result<()> {
    let start = address & !(PAGE_BYTES - 1);
    let Some(pointer) = NonNull::new(start as *mut c_void) else {
        return Ok(());
    };
    // SAFETY: locking changes neither contents nor validity; an address that is not mapped is
    // answered by ENOMEM.
    Ok(unsafe { mlock(pointer, address + length - start) }?)
}

/// Locks the stack from the caller's frame downwards, faulting it in first.
#[inline(never)]
#[allow(clippy::large_stack_arrays)] // it is the stack that is meant
pub fn lock_stack() -> io::Result<()> {
    let mut frame = [0_u8; STACK_BYTES];
    // The kernel grows a stack only when it is touched.
    for at in (0..STACK_BYTES).step_by(PAGE_BYTES) {
        frame[at] = std::hint::black_box(1);
    }
    lock_extent((std::hint::black_box(&frame).as_ptr() as usize, STACK_BYTES))
}

/// Locks the code of a function.
pub fn lock_code(function: *const ()) -> io::Result<()> {
    lock_extent((function as usize, CODE_BYTES))
}
