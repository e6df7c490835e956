//! Pipes for splice(2): bulk bytes go from socket to socket through one, without being copied. A
//! bounded number of them is lent to flows; an empty one that is dropped goes back, one with bytes
//! in it is closed. Owns one lock, around those that nobody has.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use parking_lot::Mutex;

/// What a pipe holds at least: the kernel's default.
pub const USUAL: usize = 64 * 1024;

/// The pipes of a pool.
pub struct Pipes {
    free: Mutex<Vec<Ends>>,
    /// Pipes that exist.
    made: AtomicUsize,
    most: AtomicUsize,
    /// What a new one may hold, as far as the system has it so large.
    size: AtomicUsize,
}

struct Ends {
    out: OwnedFd,
    into: OwnedFd,
    size: usize,
}

/// A pipe that is lent to one flow.
pub struct Pipe {
    /// Taken out only by the drop.
    ends: Option<Ends>,
    holds: usize,
    home: Arc<Pipes>,
}

impl Pipes {
    /// None made yet, and never more than so many of this size.
    pub fn new(most: usize, size: usize) -> Arc<Pipes> {
        let pipes = Pipes {
            free: Mutex::default(),
            made: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            size: AtomicUsize::new(0),
        };
        pipes.set_limits(most, size);
        Arc::new(pipes)
    }

    /// Changes the limits: the number, and the size of those that are made from now on. Those over
    /// the number that are lent are closed when they come back.
    pub fn set_limits(&self, most: usize, size: usize) {
        let allowed = fs::read_to_string("/proc/sys/fs/pipe-max-size")
            .ok()
            .and_then(|text| text.trim().parse().ok());
        self.size.store(size.min(allowed.unwrap_or(USUAL)), SeqCst);
        self.most.store(most, SeqCst);
        let mut free = self.free.lock();
        while self.made.load(SeqCst) > most && free.pop().is_some() {
            self.made.fetch_sub(1, SeqCst);
        }
    }

    /// An empty pipe; `None` when all are lent, or the system gives none.
    pub fn lend(self: &Arc<Self>) -> Option<Pipe> {
        let free = self.free.lock().pop();
        let ends = match free {
            Some(ends) => ends,
            None => self.make()?,
        };
        Some(Pipe { ends: Some(ends), holds: 0, home: self.clone() })
    }

    fn make(&self) -> Option<Ends> {
        let has_room = self.made.fetch_add(1, SeqCst) < self.most.load(SeqCst);
        let ends = if has_room { Ends::new(self.size.load(SeqCst)).ok() } else { None };
        if ends.is_none() {
            self.made.fetch_sub(1, SeqCst);
        }
        ends
    }
}

impl Ends {
    /// As large as this user may have it.
    fn new(mut size: usize) -> io::Result<Ends> {
        let (out, into) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        while size > USUAL
            && fcntl(&into, FcntlArg::F_SETPIPE_SZ(i32::try_from(size).unwrap_or(i32::MAX)))
                .is_err()
        {
            size /= 2;
        }
        Ok(Ends { out, into, size: size.max(USUAL) })
    }
}

impl Pipe {
    /// Bytes in it.
    pub fn holds(&self) -> usize {
        self.holds
    }

    /// Takes in what the socket has, as far as there is room, without waiting; tells how much. None
    /// may mean many things: the socket has nothing, has ended, or has bytes of a kind that cannot
    /// be had in this way.
    pub fn fill(&mut self, source: &TcpStream) -> Result<usize, Errno> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        match splice(source, None, &ends.into, None, ends.size, flags) {
            Ok(count) => {
                self.holds += count;
                Ok(count)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// Gives to the socket what it has room for, without waiting; tells how much.
    pub fn empty(&mut self, sink: &TcpStream) -> Result<usize, Errno> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        let count = splice(&ends.out, None, sink, None, self.holds, flags)?;
        self.holds -= count.min(self.holds);
        Ok(count)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut free = self.home.free.lock();
        match self.ends.take() {
            Some(ends)
                if self.holds == 0
                    && self.home.made.load(SeqCst) <= self.home.most.load(SeqCst) =>
            {
                free.push(ends)
            }
            ends => {
                self.home.made.fetch_sub(1, SeqCst);
                // closed without the lock
                drop(free);
                drop(ends);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        (near, far)
    }

    #[test]
    fn bytes_go_through_and_an_empty_pipe_is_lent_again() {
        let pipes = Pipes::new(1, 1 << 20);
        let ((source, mut outside), (sink, mut reader)) = (pair(), pair());
        let mut pipe = pipes.lend().unwrap();
        assert!(pipes.lend().is_none(), "there is one only");
        assert_eq!(pipe.fill(&source), Ok(0));
        outside.write_all(b"hello").unwrap();
        while pipe.fill(&source).unwrap() == 0 {}
        assert_eq!((pipe.holds(), pipe.empty(&sink), pipe.holds()), (5, Ok(5), 0));
        let mut said = [0; 5];
        reader.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hello");
        drop(pipe);
        assert!(pipes.lend().is_some());
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_not_lent_again() {
        let pipes = Pipes::new(1, 1 << 20);
        let (source, mut outside) = pair();
        let mut pipe = pipes.lend().unwrap();
        outside.write_all(b"left behind").unwrap();
        while pipe.fill(&source).unwrap() == 0 {}
        drop(pipe);
        let mut pipe = pipes.lend().expect("a new one");
        let (sink, _reader) = pair();
        assert_eq!((pipe.holds(), pipe.empty(&sink)), (0, Ok(0)));
        pipes.set_limits(0, USUAL);
        drop(pipe);
        assert!(pipes.lend().is_none() && pipes.made.load(SeqCst) == 0);
    }
}
