//! The allocator, told that this program is small and lives long.
//!
//! glibc gives each thread an arena of its own, keeps what was freed, and takes large blocks from
//! the heap once one of their size was freed: after a start that parsed and connected, megabytes
//! of holes stay resident. Elsewhere than on glibc these are no-ops.
#![allow(unsafe_code)]

#[cfg(target_env = "gnu")]
use nix::libc;

/// Blocks from this size on are mapped by themselves and go back when they are freed.
#[cfg(target_env = "gnu")]
const MAPPED_FROM_BYTES: libc::c_int = 64 * 1024;

/// One arena for all threads, and no large block inside of it. To be called before the first
/// thread is made.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets two integers of the allocator, which locks itself; an unknown one is refused.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES);
    }
}

/// Gives every free page of the heap back to the kernel. Pages that are locked stay.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches free memory only, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
