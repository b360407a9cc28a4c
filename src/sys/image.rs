//! The pages of this program's own file: code and constants, mapped and never written.
//!
//! A start maps most of the program: the command line, the configuration and the relocations touch
//! pages that are never needed again, and the kernel maps what lies around each of them too.
#![allow(unsafe_code)]

use nix::sys::mman::{MmapAdvise, madvise};
use std::ffi::c_void;
use std::ptr::{NonNull, addr_of};

const PAGE_BYTES: usize = 4096;

// SAFETY: the linker defines both on Linux; only their addresses are used.
unsafe extern "C" {
    /// Where the program begins in memory.
    static __executable_start: u8;
    /// Where its code ends. What is relocated or written lies behind it.
    static etext: u8;
}

/// Where the program lies in memory: (address, length) of its code and constants, whole pages.
pub fn extent() -> (usize, usize) {
    let start = addr_of!(__executable_start) as usize & !(PAGE_BYTES - 1);
    let end = addr_of!(etext) as usize & !(PAGE_BYTES - 1);
    (start, end - start)
}

/// Unmaps every page of code and constants. They stay in the kernel's cache of files, and those
/// that are needed come back from there, one cheap fault for each and its surroundings.
///
/// Not to be called where pages of the program are locked (G7): the kernel refuses at the first.
pub fn release() {
    let (start, length) = extent();
    let Some(pointer) = NonNull::new(start as *mut c_void) else {
        return;
    };
    // SAFETY: the pages are private mappings of a file and were never written, so that they come
    // back as they were. An address that is not mapped is answered by ENOMEM.
    let released = unsafe { madvise(pointer, length, MmapAdvise::MADV_DONTNEED) };
    if let Err(error) = released {
        tracing::debug!(%error, "the program's pages stay mapped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_goes_on_without_its_pages() {
        let constant = std::hint::black_box("a constant of the program");
        release();
        assert_eq!(constant.len(), 25);
        let (start, length) = extent();
        let code = release as *const () as usize;
        assert!((start..start + length).contains(&code), "code was released");
    }
}
