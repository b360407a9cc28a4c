//! The shared memory of guardian and agent (G1): one sealed page of atomic words.
//!
//! It is an anonymous memfd, mapped shared by both, inherited by descriptor. Sealed against
//! shrinking, so that neither side can make the other fault.
#![allow(unsafe_code)]

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

const PAGE_BYTES: usize = 4096;

/// The words both processes see. All are milliseconds; every value is a valid one.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Words {
    /// The deadline as [`crate::guardian::deadline`] encodes it; 0 is none.
    pub deadline: AtomicU64,
    /// The boottime instant of the agent's last heartbeat; 0 before its first.
    pub heartbeat: AtomicU64,
    /// D: the TTL of the lock record, as the agent knows it.
    pub ttl: AtomicU64,
}

/// A mapping of the shared page; unmapped when dropped.
#[derive(Debug)]
pub struct SharedWords {
    address: NonNull<c_void>,
    fd: OwnedFd,
}

// SAFETY: the page is only ever reached through the atomics of `Words`.
unsafe impl Send for SharedWords {}
// SAFETY: as above; all shared access is atomic.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Creates a fresh page, all words zero.
    pub fn create() -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let fd = memfd_create(c"pgwarden", flags)?;
        nix::unistd::ftruncate(&fd, PAGE_BYTES as i64)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
        Self::map(fd)
    }

    /// Maps a page that another process created; refuses a file that is not such a page.
    pub fn map(fd: OwnedFd) -> io::Result<Self> {
        let seals = fcntl(&fd, FcntlArg::F_GET_SEALS)?;
        let long_enough = nix::sys::stat::fstat(&fd)?.st_size >= PAGE_BYTES as i64;
        if !long_enough || seals & SealFlag::F_SEAL_SHRINK.bits() == 0 {
            return Err(io::Error::other(
                "the descriptor is not a sealed page of shared memory",
            ));
        }
        let length = NonZeroUsize::MIN.saturating_add(PAGE_BYTES - 1);
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing of ours; the
        // file is at least a page long and sealed against shrinking.
        let address = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, &fd, 0) }?;
        Ok(Self { address, fd })
    }

    /// The words.
    pub fn words(&self) -> &Words {
        // SAFETY: the mapping is page-aligned, at least `PAGE_BYTES` long, lives as long as `self`,
        // and `Words` is atomics only, valid for every bit pattern.
        unsafe { self.address.cast::<Words>().as_ref() }
    }

    /// The page as bytes, for locking it in memory.
    pub fn extent(&self) -> (usize, usize) {
        (self.address.as_ptr() as usize, PAGE_BYTES)
    }
}

impl AsFd for SharedWords {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length, and no reference outlives `self`.
        let _ = unsafe { munmap(self.address, PAGE_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn two_mappings_see_each_others_words() {
        let one = SharedWords::create().unwrap();
        let other = SharedWords::map(one.as_fd().try_clone_to_owned().unwrap()).unwrap();
        one.words().deadline.store(7, Ordering::SeqCst);
        assert_eq!(other.words().deadline.load(Ordering::SeqCst), 7);
        assert_eq!(other.words().heartbeat.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn the_page_cannot_be_shrunk_under_the_other_side_and_other_files_are_refused() {
        let page = SharedWords::create().unwrap();
        assert!(nix::unistd::ftruncate(&page, 0).is_err());
        let plain = memfd_create(c"plain", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(SharedWords::map(plain).is_err());
    }
}
