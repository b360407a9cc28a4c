//! Locking a few pages in memory (G7): the kill path must not wait for a page to be read from a
//! dead disk or from swap.
#![allow(unsafe_code)]

use nix::sys::mman::mlock;
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

const PAGE_BYTES: usize = 4096;
/// The size of an entry of `/proc/self/pagemap`.
const WORD_BYTES: usize = 8;
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

/// Locks those pages of the extent (address, length) that are mapped at this moment.
///
/// After a rehearsal these are the pages that it ran through, in whichever functions the compiler
/// left them.
pub fn lock_mapped((address, length): (usize, usize)) -> io::Result<()> {
    let first = address / PAGE_BYTES;
    let pages = (address + length).div_ceil(PAGE_BYTES) - first;
    // A word a page; its highest bit says that the page is mapped.
    let mut words = vec![0_u8; pages * WORD_BYTES];
    File::open("/proc/self/pagemap")?.read_exact_at(&mut words, (first * WORD_BYTES) as u64)?;
    let mapped = |page: usize| words[(page + 1) * WORD_BYTES - 1] & 0x80 != 0;
    for page in (0..pages).filter(|page| mapped(*page)) {
        lock_extent(((first + page) * PAGE_BYTES, PAGE_BYTES))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_is_locked_and_nothing_is_mapped_for_it() {
        // Large enough for a mapping of its own, of which nothing is touched yet.
        let room = vec![0_u8; 8 << 20];
        let inside = room.as_ptr() as usize + (1 << 20);
        let extent = (inside, 1 << 20);
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let after = status.lines().filter(|line| line.starts_with("Locked:"));
            let kib = after.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            kib.sum::<u64>()
        };
        let before = resident();
        lock_mapped(extent).unwrap();
        assert_eq!(resident(), before, "no page of it is mapped");
        // SAFETY: inside of the room, which nobody else knows.
        unsafe { ((inside + 5 * PAGE_BYTES) as *mut u8).write_volatile(1) };
        lock_mapped(extent).unwrap();
        assert_eq!(resident(), before + 4);
    }
}
