//! One request on its way to tiny_http, and its answer on the way back, without blocking.
//!
//! Owned by the thread `admin front`, which has at most one of these at a time. The connection
//! outlives it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use nix::poll::PollFlags;

use super::client::TIMEOUT;
use super::wire;
use crate::system::memory;

/// The most bytes of one answer.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// How much is read at once.
const SPACE: usize = 16 * 1024;

/// A request and what is known of its answer.
pub struct Exchange {
    /// Whose it is.
    pub client: u64,
    /// When it has failed at the latest.
    pub deadline: Instant,
    /// The connection, of use for another exchange when this one is done.
    pub stream: UnixStream,
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
    bodyless: bool,
}

/// How far an exchange has come.
pub enum ExchangeState {
    /// It is not over.
    Open,
    /// The answer.
    Done(Vec<u8>),
    /// There is no answer, or half of one.
    Failed,
}

impl Exchange {
    /// An exchange over a connection that does not block and has nothing under way.
    pub fn new(
        stream: UnixStream,
        client: u64,
        request: Vec<u8>,
        bodyless: bool,
        now: Instant,
    ) -> Exchange {
        Exchange {
            client,
            deadline: now + TIMEOUT,
            stream,
            request,
            sent: 0,
            answer: Vec::new(),
            bodyless,
        }
    }

    /// What to wait for.
    pub fn interest(&self) -> PollFlags {
        if self.sent < self.request.len() { PollFlags::POLLOUT } else { PollFlags::POLLIN }
    }

    /// Goes on as far as possible.
    pub fn act(&mut self) -> ExchangeState {
        match self.write().and_then(|()| self.read()) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                ExchangeState::Open
            }
            Err(_) => ExchangeState::Failed,
            Ok(()) => wire::relay_answer(std::mem::take(&mut self.answer), self.bodyless)
                .map_or(ExchangeState::Failed, ExchangeState::Done),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while let Some(rest) = self.request.get(self.sent..).filter(|rest| !rest.is_empty()) {
            self.sent += self.stream.write(rest)?;
        }
        Ok(())
    }

    /// Reads to the end of the answer.
    fn read(&mut self) -> io::Result<()> {
        let mut space = [0; SPACE];
        while wire::length_of_answer(&self.answer).is_none_or(|length| self.answer.len() < length) {
            match self.stream.read(&mut space)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => memory::append(&mut self.answer, space.get(..count).unwrap_or_default())?,
            }
            if self.answer.len() > MAX_ANSWER {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "the answer is larger than 16 MiB",
                ));
            }
        }
        Ok(())
    }
}

impl AsFd for Exchange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
