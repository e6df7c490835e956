//! One end of a connection: carries out its list of steps and notes what it sees.
//!
//! The socket is read and written without blocking, and every wait has a limit. A wait that comes
//! to its limit is an observation; the end leaves then, by its last step.

use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use tcpdirector::system::socket;

use super::script::Step;
use super::seen::{Ending, Left, Seen};
use super::stream::{LONGEST, Stream};

/// The longest wait for an acknowledgement without progress: the peer may not be reading.
const ACK: Duration = Duration::from_millis(100);

/// What a slow reader does after each piece.
const SLOW: Duration = Duration::from_millis(1);

/// The pieces of one who reads to the end slowly.
const PIECE: usize = 32 * 1024;

/// One end and how far it is.
pub struct End {
    socket: TcpStream,
    says: Stream,
    hears: Stream,
    space: Vec<u8>,
    limit: Duration,
    seen: Seen,
}

/// A wait came to its limit.
struct Stuck;

impl End {
    /// The socket must have SO_OOBINLINE. A wait without progress takes no longer than `limit`.
    pub fn new(socket: TcpStream, says: Stream, hears: Stream, limit: Duration) -> End {
        End { socket, says, hears, space: vec![0; LONGEST], limit, seen: Seen::default() }
    }

    /// Carries out the steps. The last one says how the socket is closed at the return.
    pub fn perform(mut self, steps: &[Step]) -> Seen {
        for step in steps {
            if self.seen.stuck.is_some() && !step.is_leaving() {
                continue;
            }
            if self.step(*step).is_err() {
                self.seen.stuck = Some(*step);
            }
        }
        self.seen
    }

    fn step(&mut self, step: Step) -> Result<(), Stuck> {
        match step {
            Step::Send(count) => self.send(count, MsgFlags::empty())?,
            Step::Urgent => self.send(1, MsgFlags::MSG_OOB)?,
            Step::Pause(millis) => thread::sleep(Duration::from_millis(millis)),
            Step::Read(count) => self.read(count, LONGEST, None)?,
            Step::ReadSlowly(count) => self.read(count, count.div_ceil(8), Some(SLOW))?,
            Step::AwaitBytes if self.seen.end.is_some() => {}
            Step::AwaitBytes => self.wait_for(PollFlags::POLLIN)?,
            Step::AwaitAck => self.await_ack(),
            Step::HalfClose => {
                self.seen.half_closed = Some(Instant::now());
                // fails when the connection is gone already
                let _ = self.socket.shutdown(std::net::Shutdown::Write);
            }
            Step::ReadToEnd => self.read(usize::MAX, LONGEST, None)?,
            Step::ReadToEndSlowly => self.read(usize::MAX, PIECE, Some(SLOW))?,
            Step::Close => self.leave(false),
            Step::Reset => self.leave(true),
        }
        Ok(())
    }

    fn send(&mut self, count: usize, flags: MsgFlags) -> Result<(), Stuck> {
        let all = self.seen.sent + count;
        let flags = flags | MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        while self.seen.sent < all && self.seen.write_failed.is_none() {
            let part = self.says.part(self.seen.sent, all - self.seen.sent);
            match send(self.socket.as_raw_fd(), part, flags) {
                Ok(sent) => self.seen.sent += sent,
                Err(Errno::EAGAIN) => self.wait_for(PollFlags::POLLOUT)?,
                Err(errno) => self.seen.write_failed = Some((errno, Instant::now())),
            }
        }
        Ok(())
    }

    /// Reads until so many more bytes have come, or to the end.
    fn read(&mut self, count: usize, piece: usize, pause: Option<Duration>) -> Result<(), Stuck> {
        let all = self.seen.received.saturating_add(count);
        while self.seen.received < all && self.seen.end.is_none() {
            let most = piece.min(all - self.seen.received).min(LONGEST);
            let space = &mut self.space[..most];
            match recv(self.socket.as_raw_fd(), space, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => self.seen.end = Some((Ending::Eof, Instant::now())),
                Ok(got) => {
                    let wrong = self.hears.first_difference(self.seen.received, &space[..got]);
                    self.seen.wrong = self.seen.wrong.or(wrong);
                    self.seen.received += got;
                    pause.inspect(|pause| thread::sleep(*pause));
                }
                Err(Errno::EAGAIN) => self.wait_for(PollFlags::POLLIN)?,
                Err(_) => self.seen.end = Some((Ending::Reset, Instant::now())),
            }
        }
        Ok(())
    }

    fn wait_for(&self, event: PollFlags) -> Result<(), Stuck> {
        if is_ready(&self.socket, event, self.limit) { Ok(()) } else { Err(Stuck) }
    }

    fn await_ack(&mut self) {
        let (mut last, mut since) = (usize::MAX, Instant::now());
        while since.elapsed() < ACK {
            let left = socket::unacknowledged(&self.socket).unwrap_or(0);
            if left == 0 {
                return;
            }
            if left != last {
                (last, since) = (left, Instant::now());
            }
            thread::sleep(Duration::from_micros(300));
        }
    }

    fn leave(&mut self, is_reset: bool) {
        // the end of the stream is counted as one more byte
        let pending = socket::unacknowledged(&self.socket).unwrap_or(0);
        let end = usize::from(self.seen.half_closed.is_some());
        let acked = self.seen.sent.saturating_sub(pending.saturating_sub(end));
        let unread = socket::unread(&self.socket).unwrap_or(0);
        let is_end_acked = self.seen.half_closed.is_some() && pending == 0;
        let at = Instant::now();
        self.seen.left = Some(Left { at, is_reset, unread, acked, is_end_acked });
        socket::reset_on_close(&self.socket, is_reset);
    }
}

/// Whether the event comes within the time.
pub fn is_ready(socket: &impl AsFd, event: PollFlags, limit: Duration) -> bool {
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    let mut polled = [PollFd::new(socket.as_fd(), event)];
    loop {
        match poll(&mut polled, timeout) {
            Err(Errno::EINTR) => {}
            result => return result.is_ok_and(|count| count > 0),
        }
    }
}
