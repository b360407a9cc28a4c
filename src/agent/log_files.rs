//! `log.dir`: the log in files, of a bounded size and number.
//!
//! The names are Patroni's (`patroni.log`, then `patroni.log.1` and older), since collectors look
//! for them. A thread of its own writes, behind a queue that drops and counts what finds no room: a
//! disk that hangs or is full delays nothing (G9 finds it out elsewhere).

use crate::settings::LogFile;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

const NAME: &str = "patroni.log";
/// Lines that may wait for the disk.
const QUEUE_MAX: usize = 1_000;

/// Why there is no log file.
#[derive(Debug, thiserror::Error)]
#[error("log.dir: cannot write {path}: {source}")]
pub(super) struct LogFileError {
    path: PathBuf,
    source: io::Error,
}

/// Takes lines; cheap to clone.
#[derive(Clone)]
pub(super) struct LogFiles {
    queue: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl LogFiles {
    /// Opens the file, goes on at its end, and starts the thread that writes.
    pub(super) fn open(settings: &LogFile) -> Result<Self, LogFileError> {
        let mut current = Current::open(settings.clone())?;
        let (queue, lines) = sync_channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let writer = thread::Builder::new().name("log".into());
        let started = writer.spawn(move || write_all(&mut current, &lines, &lost));
        // It ends with the last sender, or with the process.
        match started {
            Ok(_) => Ok(Self { queue, dropped }),
            Err(source) => Err(LogFileError {
                path: settings.dir.join(NAME),
                source,
            }),
        }
    }

    /// One line, or a count of what was lost.
    pub(super) fn put(&self, line: &[u8]) {
        if self.queue.try_send(line.to_vec()).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines found no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn write_all(current: &mut Current, lines: &Receiver<Vec<u8>>, lost: &AtomicU64) {
    for line in lines {
        if current.append(&line).is_err() {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The file that is written to.
struct Current {
    settings: LogFile,
    file: File,
    len: u64,
}

impl Current {
    fn open(settings: LogFile) -> Result<Self, LogFileError> {
        let path = settings.dir.join(NAME);
        let opened = fs::create_dir_all(&settings.dir).and_then(|()| open(&path, settings.mode));
        match opened {
            Ok((file, len)) => Ok(Self {
                settings,
                file,
                len,
            }),
            Err(source) => Err(LogFileError { path, source }),
        }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let grown = self.len + line.len() as u64;
        if self.len > 0 && grown > self.settings.max_bytes {
            self.put_aside()?;
        }
        self.file.write_all(line)?;
        self.len += line.len() as u64;
        Ok(())
    }

    /// The oldest goes, the others move up by one. Where none is kept, the file begins anew. What is
    /// not there, because somebody else has moved it or the attempt before ended halfway, is passed
    /// over.
    fn put_aside(&mut self) -> io::Result<()> {
        let path = self.settings.dir.join(NAME);
        let numbered = |number: u32| match number {
            0 => path.clone(),
            number => self.settings.dir.join(format!("{NAME}.{number}")),
        };
        for number in (0..self.settings.kept).rev() {
            let from = numbered(number);
            if from.exists() {
                fs::rename(from, numbered(number + 1))?;
            }
        }
        if self.settings.kept == 0 {
            self.file.set_len(0)?;
        }
        (self.file, self.len) = open(&path, self.settings.mode)?;
        Ok(())
    }
}

fn open(path: &Path, mode: u32) -> io::Result<(File, u64)> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(mode)
        .open(path)?;
    // Whatever the umask is: a collector of the same group has to read it.
    file.set_permissions(Permissions::from_mode(mode))?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Removed when the test ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let id = std::process::id();
            let dir = std::env::temp_dir().join(format!("pgw-log-{name}-{id}"));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_have_a_bounded_size_and_number() {
        let dir = Scratch::new("files");
        let settings = LogFile {
            dir: dir.0.join("log"),
            mode: 0o640,
            kept: 2,
            max_bytes: 20,
        };
        let mut current = Current::open(settings.clone()).unwrap();
        for number in 0..9 {
            let line = format!("line {number} of 9\n");
            current.append(line.as_bytes()).unwrap();
        }
        // A second life goes on at the end.
        drop(current);
        let mut current = Current::open(settings.clone()).unwrap();
        current.append(b"x\n").unwrap();
        let read = |name: &str| fs::read_to_string(settings.dir.join(name));
        assert_eq!(read("patroni.log").unwrap(), "line 8 of 9\nx\n");
        assert_eq!(read("patroni.log.1").unwrap(), "line 7 of 9\n");
        assert_eq!(read("patroni.log.2").unwrap(), "line 6 of 9\n");
        assert_eq!(fs::read_dir(&settings.dir).unwrap().count(), 3);
        let mode = fs::metadata(settings.dir.join("patroni.log")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_file_that_somebody_else_moved_away_is_made_anew() {
        let dir = Scratch::new("moved");
        let settings = LogFile {
            dir: dir.0.clone(),
            mode: 0o640,
            kept: 1,
            max_bytes: 10,
        };
        let mut current = Current::open(settings).unwrap();
        current.append(b"line 1\n").unwrap();
        let path = dir.0.join("patroni.log");
        fs::rename(&path, dir.0.join("elsewhere")).unwrap();
        current.append(b"line 2\n").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "line 2\n");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = Scratch::new("refused");
        let path = dir.0.join("file");
        fs::write(&path, "").unwrap();
        let settings = LogFile {
            dir: path.join("log"),
            mode: 0o640,
            kept: 2,
            max_bytes: 20,
        };
        let error = LogFiles::open(&settings).err().unwrap().to_string();
        assert!(error.starts_with("log.dir: cannot write "), "{error}");
    }
}
