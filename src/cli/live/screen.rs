//! The terminal: the other screen, raw keys, and everything put back whatever ends it.

use crate::sys::async_fd;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use tokio::io::unix::AsyncFd;

/// Opening a terminal so that reading it never waits.
const O_NONBLOCK: i32 = 0o4000;

/// The other screen, no cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// The cursor, and the screen as it was.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// What is between these two appears at once, on terminals that know it.
const BEGIN: &str = "\x1b[?2026h\x1b[H";
const END: &str = "\x1b[J\x1b[?2026l";

/// A terminal's other screen while it is shown.
pub(super) struct Screen<'a> {
    out: &'a mut dyn Write,
    raw: bool,
}

impl<'a> Screen<'a> {
    /// Take the screen over; `raw` where keys are read.
    pub(super) fn open(out: &'a mut dyn Write, raw: bool) -> io::Result<Self> {
        let raw = raw && crossterm::terminal::enable_raw_mode().is_ok();
        let mut screen = Self { out, raw };
        screen.put(ENTER)?;
        Ok(screen)
    }

    /// Columns and lines; what a terminal has that does not tell.
    #[allow(clippy::unused_self)] // It is this terminal's.
    pub(super) fn size(&self) -> (usize, usize) {
        match crossterm::terminal::size() {
            Ok((width, height)) if width > 0 && height > 0 => (width.into(), height.into()),
            _ => (80, 24),
        }
    }

    /// Show these lines: over the old ones and in one piece, so that nothing flickers.
    pub(super) fn show(&mut self, lines: &[String]) -> io::Result<()> {
        let rows = lines.join("\x1b[K\r\n");
        self.put(&format!("{BEGIN}{rows}\x1b[K{END}"))
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        let _ = self.put(LEAVE);
        if self.raw {
            let _ = crossterm::terminal::disable_raw_mode();
        }
    }
}

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// q, Ctrl-C, Ctrl-D or Escape; or the terminal is gone.
    End,
    /// Any other.
    Other,
}

/// The keys of the terminal, opened anew: what is set on it ends with it.
pub(super) struct Keys {
    ready: AsyncFd<OwnedFd>,
    terminal: File,
}

impl Keys {
    /// None where there is no terminal to read from.
    pub(super) fn open() -> Option<Self> {
        let terminal = File::options()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open("/dev/tty")
            .ok()?;
        let ready = async_fd::register(terminal.try_clone().ok()?.into()).ok()?;
        Some(Self { ready, terminal })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Key {
        let mut keys = [0; 64];
        loop {
            let Ok(mut ready) = self.ready.readable().await else {
                return Key::End;
            };
            match ready.try_io(|_| self.terminal.read(&mut keys)) {
                Ok(Ok(0)) => return Key::End,
                Ok(Ok(read)) => return meaning(&keys[..read]),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(_)) => return Key::End,
                Err(_not_yet) => {}
            }
        }
    }
}

/// An escape with something behind it is an arrow or the like.
fn meaning(keys: &[u8]) -> Key {
    let ends = keys == [27] || keys.iter().any(|key| matches!(key, b'q' | b'Q' | 3 | 4));
    let sequence = keys.len() > 1 && keys[0] == 27;
    if ends && !sequence {
        Key::End
    } else {
        Key::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_keys_that_end_it_end_it() {
        for keys in [&b"q"[..], b"Q", b"\x03", b"\x04", b"\x1b", b"aq"] {
            assert_eq!(meaning(keys), Key::End, "{keys:?}");
        }
        for keys in [&b"a"[..], b" ", b"\x1b[A", b"\x1bOq", b"\r"] {
            assert_eq!(meaning(keys), Key::Other, "{keys:?}");
        }
    }

    #[test]
    fn the_terminal_is_put_back() {
        let mut out = Vec::new();
        let mut screen = Screen::open(&mut out, false).expect("opened");
        screen
            .show(&["a".to_owned(), "b".to_owned()])
            .expect("shown");
        drop(screen);
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with(ENTER) && text.ends_with(LEAVE), "{text:?}");
        assert!(text.contains("a\x1b[K\r\nb\x1b[K"), "{text:?}");
    }
}
