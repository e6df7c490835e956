//! Packets with descriptors between a program and its successor: one end of a Unix socket pair
//! each.
//!
//! Made by [`super::successor`], used by `daemon`. Knows nothing of what is said.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    self, AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, getsockopt, setsockopt,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd;

use super::poll_timeout::poll_timeout;
use super::raw;

/// The most descriptors of a packet.
pub use super::raw::MAX_DESCRIPTORS;

/// The most bytes of a packet. The kernel's default buffer holds three of them.
pub const MAX_PACKET: usize = 64 * 1024;

/// How long the other side may leave its buffer full, in seconds.
const SEND_TIMEOUT: i64 = 5;

/// Whether an error of a [`Channel`] says that nobody has the other end any more. The process that
/// had it has ended then, all its threads, or has closed it on purpose: what is open is closed
/// after the last thread.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    )
}

/// One end.
pub struct Channel {
    end: OwnedFd,
    sender: Cell<Option<u32>>,
}

/// What one call of [`Channel::send`] has sent.
pub struct Packet {
    /// At least one.
    pub bytes: Vec<u8>,
    /// Ours now; closed when they are dropped.
    pub descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Our end, and the one that becomes the standard input of another program.
    pub fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = socket::socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Channel::new(ours)?, theirs))
    }

    /// The end that this program was started with as its standard input, which is /dev/null from
    /// now on.
    pub fn from_stdin() -> io::Result<Channel> {
        let end = io::stdin().as_fd().try_clone_to_owned()?;
        if getsockopt(&end, sockopt::SockType)? != SockType::SeqPacket {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "standard input is not the socket of a predecessor",
            ));
        }
        let null = std::fs::File::open("/dev/null")
            .map_err(|e| io::Error::new(e.kind(), format!("/dev/null: {e}")))?;
        unistd::dup2_stdin(null)?;
        Channel::new(end)
    }

    fn new(end: OwnedFd) -> io::Result<Channel> {
        setsockopt(&end, sockopt::SendTimeout, &TimeVal::seconds(SEND_TIMEOUT))?;
        setsockopt(&end, sockopt::PassCred, &true)?;
        Ok(Channel { end, sender: Cell::default() })
    }

    /// The process that has sent the last packet that was received, as the kernel knows it.
    pub fn sender(&self) -> Option<u32> {
        self.sender.get()
    }

    /// Sends a packet: between 1 and [`MAX_PACKET`] bytes, and up to [`MAX_DESCRIPTORS`]
    /// descriptors, of which the other side gets copies; they are open from now on as long as the
    /// other end is, read or not. Fails when the other side is gone, or has not read for five
    /// seconds.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let numbers: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let rights = if numbers.is_empty() { &[] } else { &rights[..] };
        let parts = [io::IoSlice::new(bytes)];
        match socket::sendmsg::<()>(
            self.end.as_raw_fd(),
            &parts,
            rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )? {
            count if count == bytes.len() => Ok(()),
            _ => Err(ErrorKind::WriteZero.into()),
        }
    }

    /// The next packet; `None` when the time is up. What the other side has said before it was gone
    /// comes before that error.
    pub fn receive(&self, limit: Duration) -> io::Result<Option<Packet>> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut polled = [PollFd::new(self.end.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, poll_timeout(left)) {
                Ok(0) if left.is_zero() => return Ok(None),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return self.read().map(Some),
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn read(&self) -> io::Result<Packet> {
        let mut bytes = vec![0; MAX_PACKET];
        let received = match raw::receive_packet(self.end.as_fd(), &mut bytes) {
            // it has gone without reading all that we sent; what it had sent before is still there
            Err(e) if e.kind() == ErrorKind::ConnectionReset => {
                raw::receive_packet(self.end.as_fd(), &mut bytes)
            }
            received => received,
        };
        let (count, descriptors, sender) = received?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.sender.set(sender);
        bytes.truncate(count);
        Ok(Packet { bytes, descriptors })
    }
}
