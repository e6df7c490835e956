//! The part of a flow that moves bulk: from socket to socket through a [`Pipe`], without a copy.
//! Called by [`super::copy`], on its thread, when a flow has read much several times in a
//! row.

use std::io::{self, ErrorKind};
use std::net::TcpStream;

use nix::errno::Errno;

use super::close_reason::CloseReason;
use super::flow::{Flow, Over};
use super::pipe::Pipe;
use super::progress::{Pending, Progress};

impl Flow<'_> {
    /// Goes on by splice, as far as that goes; tells what is left of its share. If nothing comes, a
    /// plain read has the last word: splice tells neither an empty source from one whose next byte
    /// is urgent, nor that one from the end of the stream.
    pub(super) fn splice(&self, progress: &mut Progress, mut share: usize) -> Result<usize, Over> {
        if !std::mem::replace(&mut progress.never_blocks, true) {
            // splice knows no flag for it
            progress.is_plain = [&self.source.stream, &self.sink.stream]
                .iter()
                .any(|socket| socket.set_nonblocking(true).is_err());
        }
        let Some(mut pipe) = self.task.pipes().lend() else { return Ok(share) };
        while progress.is_bulk() && share > 0 {
            let count = self.fill(&mut pipe, progress)?;
            if count == 0 {
                break;
            }
            progress.note_read(count);
            share = share.saturating_sub(count);
            if !self.empty(&mut pipe)? {
                progress.pending = Some(Box::new(Pending::Piped(pipe)));
                break;
            }
            self.leave_if_over()?;
        }
        Ok(share)
    }

    /// Reads by splice; tells how much that brought.
    fn fill(&self, pipe: &mut Pipe, progress: &mut Progress) -> Result<usize, Over> {
        match pipe.fill(&self.source.stream) {
            Ok(count) => Ok(count),
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOMEM | Errno::EPERM) => {
                progress.is_plain = true;
                Ok(0)
            }
            // what it had sent before was read by now, or is about to be by plain reads
            Err(e) => {
                self.lose_source(CloseReason::by(self.source.side, &e.into()));
                Ok(0)
            }
        }
    }

    /// Writes what is in the pipe, as much as there is room for; tells whether that was all.
    pub(super) fn empty(&self, pipe: &mut Pipe) -> Result<bool, Over> {
        let mut is_wide = false;
        while pipe.holds() > 0 {
            let write = |sink: &TcpStream| match pipe.empty(sink) {
                Ok(0) => Err(ErrorKind::BrokenPipe.into()),
                result => result.map_err(io::Error::from),
            };
            match self.write(write)? {
                Some(count) => self.relay.note_bytes(self.direction, count),
                None if is_wide => return Ok(false),
                // room that comes after the next try will be told of
                None => {
                    self.task.state(self.direction).widen();
                    is_wide = true;
                }
            }
        }
        Ok(true)
    }
}
