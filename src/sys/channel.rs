//! Message channels between two processes: a SOCK_SEQPACKET pair keeps message boundaries and tells
//! when the other end is gone. Never blocks.

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A connected pair, both ends non-blocking and closed on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        flags,
    )?)
}

/// Sends one whole message, or fails at once (`WouldBlock` when the other end does not read).
pub fn send_message(fd: &impl AsFd, message: &[u8]) -> io::Result<()> {
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let sent = send(fd.as_fd().as_raw_fd(), message, flags)?;
    if sent == message.len() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::WriteZero,
        "the message was cut short",
    ))
}

/// Receives one message into `buffer`: its length, or `None` when the other end is gone.
///
/// A message longer than the buffer is an error, never silently cut.
pub fn receive_message(fd: &impl AsFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
    match recv(fd.as_fd().as_raw_fd(), buffer, flags) {
        Ok(0) | Err(Errno::ECONNRESET) => Ok(None),
        Ok(length) if length > buffer.len() => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message longer than the limit",
        )),
        Ok(length) => Ok(Some(length)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_boundaries_and_the_end_is_seen() {
        let (one, other) = pair().unwrap();
        let mut buffer = [0_u8; 16];
        let empty = receive_message(&other, &mut buffer).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        send_message(&one, b"first").unwrap();
        send_message(&one, b"second").unwrap();
        assert_eq!(receive_message(&other, &mut buffer).unwrap(), Some(5));
        assert_eq!(&buffer[..5], b"first");
        assert_eq!(receive_message(&other, &mut buffer).unwrap(), Some(6));
        drop(one);
        assert_eq!(receive_message(&other, &mut buffer).unwrap(), None);
    }

    #[test]
    fn an_oversize_message_is_an_error_and_a_full_channel_does_not_block() {
        let (one, other) = pair().unwrap();
        send_message(&one, &[b'x'; 32]).unwrap();
        let error = receive_message(&other, &mut [0_u8; 16]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let full = (0..10_000).find_map(|_| send_message(&one, &[b'x'; 4096]).err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
