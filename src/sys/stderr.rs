//! A standard error that never blocks and never fails: a full log pipe must not delay a fence, and
//! a broken one must not end who logs.
//!
//! The descriptor is shared with the agent and PostgreSQL, so its flags are left alone; a pipe or a
//! terminal is opened a second time instead. Where that is not permitted, or for a file or socket,
//! a line is written only when the kernel says there is room. Lines without room are dropped and
//! counted. (A regular file on a dead disk can still block: give the guardian a pipe.)
//! Room in a pipe means room for [`ROOM_BYTES`], so more than that is written in pieces, and by one
//! thread at a time.

use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What a pipe that can be written to takes without blocking (`PIPE_BUF`).
const ROOM_BYTES: usize = 4096;

/// Writes whole lines to standard error, or drops them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct NonBlockingStderr {
    own: Option<Arc<OwnedFd>>,
    dropped: Arc<AtomicU64>,
    turn: Arc<Mutex<()>>,
}

impl NonBlockingStderr {
    /// Opens standard error a second time where that helps.
    pub fn open() -> Self {
        let stderr = io::stderr();
        let kind = fstat(&stderr).map_or(SFlag::empty(), |s| SFlag::from_bits_truncate(s.st_mode));
        let kind = kind & SFlag::S_IFMT;
        let reopens = kind == SFlag::S_IFIFO || kind == SFlag::S_IFCHR;
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let own = reopens
            .then(|| open("/proc/self/fd/2", flags, Mode::empty()).ok())
            .flatten();
        Self {
            own: own.map(Arc::new),
            dropped: Arc::default(),
            turn: Arc::default(),
        }
    }

    /// How many lines found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn has_room(fd: BorrowedFd) -> bool {
        let mut set = [PollFd::new(fd, PollFlags::POLLOUT)];
        poll(&mut set, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

impl Write for NonBlockingStderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        let fd = self.own.as_ref().map_or(stderr.as_fd(), |own| own.as_fd());
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let written = line
            .chunks(ROOM_BYTES)
            .all(|piece| Self::has_room(fd) && nix::unistd::write(fd, piece) == Ok(piece.len()));
        if !written {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        // A dropped line is not an error of whoever logs, and a cut one is not tried again.
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
