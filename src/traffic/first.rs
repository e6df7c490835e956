//! The first exchange of a session whose service has `<replay>`: what the client sends is passed on and kept until the host
//! answers. When the host ends the connection before its first byte, what was kept is sent to the next one. Runs on the
//! session's pool thread, before there is a relay.

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ticket::Ending;
use crate::relay::End;
use crate::relay::pool::Space;
use crate::system::socket;

/// How often a wait looks up whether the program is stopping.
const LOOK: Duration = Duration::from_millis(500);

/// What a client has sent so far.
pub struct Kept {
    bytes: Vec<u8>,
    limit: usize,
    /// The client has ended its stream.
    is_all: bool,
}

/// How a first exchange came out, when the session goes on.
pub enum Outcome {
    /// The host has answered so, or the client has sent more than is kept: the session stays with this host.
    Answer(Vec<u8>),
    /// The host has ended the connection without a word.
    NoWord,
}

impl Kept {
    /// Nothing yet.
    pub fn new(limit: NonZeroUsize) -> Kept {
        Kept { bytes: Vec::new(), limit: limit.get(), is_all: false }
    }

    /// How many bytes went to the host.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the client has ended its stream, and the host was told.
    pub fn is_all(&self) -> bool {
        self.is_all
    }

    /// Sends what there is to this host, and passes on what comes, until the host says something or ends.
    pub fn exchange(
        &mut self,
        client: &TcpStream,
        server: &TcpStream,
        idle: Duration,
        is_stopping: &dyn Fn() -> bool,
        space: &mut Space,
    ) -> Result<Outcome, Ending> {
        server.set_nodelay(true).and_then(|()| server.set_write_timeout(Some(idle))).map_err(|_| Ending::Shortage)?;
        if self.send(server, 0).is_err() {
            return Ok(Outcome::NoWord);
        }
        let mut last_byte = Instant::now();
        while self.bytes.len() < self.limit {
            let (client_is_ready, server_is_ready) = self.wait(client, server).map_err(|_| Ending::Shortage)?;
            if server_is_ready {
                match again(|| socket::receive(server, space.spare_capacity_mut()).map(<[u8]>::to_vec)) {
                    Ok(answer) if !answer.is_empty() => return Ok(Outcome::Answer(answer)),
                    _ => return Ok(Outcome::NoWord),
                }
            }
            if client_is_ready {
                let from = self.bytes.len();
                self.receive(client, space)?;
                if self.send(server, from).is_err() {
                    return Ok(Outcome::NoWord);
                }
                last_byte = Instant::now();
            }
            if is_stopping() {
                return Err(Ending::Relayed(End::Stopped));
            }
            if last_byte.elapsed() >= idle {
                return Err(Ending::Relayed(End::Idle));
            }
        }
        Ok(Outcome::Answer(Vec::new()))
    }

    /// Waits a while for the client (unless it has ended) and for the server.
    fn wait(&self, client: &TcpStream, server: &TcpStream) -> io::Result<(bool, bool)> {
        let mut polled = vec![PollFd::new(server.as_fd(), PollFlags::POLLIN)];
        if !self.is_all {
            polled.push(PollFd::new(client.as_fd(), PollFlags::POLLIN));
        }
        again(|| Ok(poll(&mut polled, PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX))?))?;
        let is_ready = |i: usize| polled.get(i).and_then(PollFd::any).unwrap_or(false);
        Ok((is_ready(1), is_ready(0)))
    }

    fn receive(&mut self, client: &TcpStream, space: &mut Space) -> Result<(), Ending> {
        let room = space.spare_capacity_mut();
        let length = room.len().min(self.limit - self.bytes.len());
        let room = room.get_mut(..length).unwrap_or_default();
        let bytes = again(|| socket::receive(client, room).map(<[u8]>::to_vec)).map_err(|_| Ending::ClientGone)?;
        self.is_all = bytes.is_empty();
        self.bytes.extend(bytes);
        Ok(())
    }

    /// Sends what was kept from some place on, and the end of the stream if that was reached.
    fn send(&self, mut server: &TcpStream, from: usize) -> io::Result<()> {
        server.write_all(self.bytes.get(from..).unwrap_or_default())?;
        if self.is_all { server.shutdown(Shutdown::Write) } else { Ok(()) }
    }
}

/// Repeats a call that a signal interrupted.
fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
