//! Who may write PostgreSQL's files: one at a time, and only the newest operation.
//!
//! A disk that stands still holds a write up for longer than its operation is waited for. When it goes
//! on, another operation may have written other files, for another role: the old one must not be last.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Files {
    newest: AtomicU64,
    writing: Mutex<()>,
}

impl Files {
    /// The turn of an operation that begins now; every turn before it is over.
    pub(super) fn turn(&self) -> u64 {
        self.newest.fetch_add(1, SeqCst) + 1
    }

    /// Write, unless a later operation has begun. Blocks while another writes.
    pub(super) fn write<T>(
        &self,
        turn: u64,
        write: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.newest.load(SeqCst) != turn {
            return Err("a later operation writes the files".to_owned());
        }
        write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_turn_writes() {
        let files = Files::default();
        let (old, new) = (files.turn(), files.turn());
        assert_eq!(files.write(new, || Ok(1)), Ok(1));
        assert!(files.write(old, || Ok(2)).is_err());
        assert_eq!(files.write(new, || Ok(3)), Ok(3));
    }
}
