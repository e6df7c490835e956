//! One request on its way to tiny_http, and its answer on the way back, without blocking.
//!
//! Owned by the thread `admin front`, which has at most one of these at a time.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::client::PATIENCE;
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
    /// Who is to answer it.
    pub path: PathBuf,
    /// When it has failed at the latest.
    pub deadline: Instant,
    stream: UnixStream,
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
    bodyless: bool,
}

/// How far an exchange has come.
pub enum Progress {
    /// It is not over.
    Open,
    /// The answer, and how long to hold it back.
    Done(Vec<u8>, Duration),
    /// There is no answer, or half of one.
    Failed,
}

impl Exchange {
    /// Connects, which succeeds at once or never.
    pub fn start(path: PathBuf, client: u64, request: Vec<u8>, bodyless: bool, now: Instant) -> io::Result<Exchange> {
        let stream = crate::system::local::connect_now(&path)?;
        Ok(Exchange { client, path, deadline: now + PATIENCE, stream, request, sent: 0, answer: Vec::new(), bodyless })
    }

    /// What to wait for.
    pub fn interest(&self) -> PollFlags {
        if self.sent < self.request.len() { PollFlags::POLLOUT } else { PollFlags::POLLIN }
    }

    /// Goes on as far as possible.
    pub fn act(&mut self) -> Progress {
        match self.write().and_then(|()| self.read()) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Progress::Open,
            Err(_) => Progress::Failed,
            Ok(()) => match wire::relay_answer(std::mem::take(&mut self.answer), self.bodyless) {
                Some((answer, delay)) => Progress::Done(answer, delay),
                None => Progress::Failed,
            },
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while let Some(rest) = self.request.get(self.sent..).filter(|rest| !rest.is_empty()) {
            self.sent += self.stream.write(rest)?;
        }
        Ok(())
    }

    /// Reads to the end.
    fn read(&mut self) -> io::Result<()> {
        let mut space = [0; SPACE];
        loop {
            match self.stream.read(&mut space)? {
                0 => return Ok(()),
                count => memory::append(&mut self.answer, space.get(..count).unwrap_or_default())?,
            }
            if self.answer.len() > MAX_ANSWER {
                return Err(io::Error::new(ErrorKind::InvalidData, "the answer is larger than 16 MiB"));
            }
        }
    }
}

impl AsFd for Exchange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
