//! The only home of `nix`, signals and `unsafe`: small safe wrappers, named by what they are for.
//!
//! Everything above asks for "the boottime clock", "a durable rename", "a process of this kind";
//! which system call answers, and what makes it sound, is decided here and nowhere else.

pub mod account;
pub mod async_fd;
pub mod channel;
pub mod clock;
pub mod durable;
pub mod events;
pub mod fault;
pub mod heap;
pub mod host;
pub mod image;
pub mod leash;
pub mod memlock;
pub mod process;
pub mod proctable;
pub mod shm;
pub mod space;
pub mod spawn;
pub mod stderr;
