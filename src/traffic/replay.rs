//! The first exchange of a session whose service has `<replay>`: what the client sends is passed on
//! and kept until the host answers. When the host ends the connection before its first byte, what
//! was kept is sent to the next one. Runs on a pool thread, before there is a relay, and never
//! waits.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpStream};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crate::relay::pool::Space;
use crate::relay::{CloseReason, Side};

use crate::system::{memory, socket};

/// What a client has sent so far, and how much of it the host of the moment has got.
pub struct ReplayBuffer {
    bytes: Vec<u8>,
    limit: usize,
    /// The client has ended its stream.
    is_complete: bool,
    sent: usize,
    /// The end of the stream was passed on.
    is_end_sent: bool,
    /// The connection to the host of the moment is lost, perhaps in the middle of its answer.
    lost: Option<CloseReason>,
    last_byte: Instant,
}

/// How a first exchange came out.
#[derive(Debug)]
pub enum ReplayOutcome {
    /// The host has answered so, or it is too late to send anything to another one: the session
    /// stays with this host.
    Answer(Vec<u8>),
    /// The same, and the connection to the client is lost.
    ClientLost,
    /// The host has ended the connection so, without a word.
    Left(CloseReason),
}

impl ReplayBuffer {
    /// Nothing yet.
    pub fn new(limit: NonZeroUsize) -> ReplayBuffer {
        ReplayBuffer {
            bytes: Vec::new(),
            limit: limit.get(),
            is_complete: false,
            sent: 0,
            is_end_sent: false,
            lost: None,
            last_byte: Instant::now(),
        }
    }

    /// What the client has sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes went to the host.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Whether the client has ended its stream, and that was passed on.
    pub fn is_end_sent(&self) -> bool {
        self.is_end_sent
    }

    /// How the connection to the host was lost, if it was, though something that it sent before can
    /// still be read.
    pub fn lost(&self) -> Option<CloseReason> {
        self.lost
    }

    /// What has still to go to the host.
    pub fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.sent.min(self.bytes.len()));
        self.bytes
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// Begins, perhaps anew, with a host that has got so much, and whose connection may be lost.
    pub fn begin(&mut self, sent: usize, lost: Option<CloseReason>) {
        (self.sent, self.is_end_sent, self.lost) = (sent, false, lost);
        self.last_byte = Instant::now();
    }

    /// Sends what there is to this host, and passes on what comes, until the host answers or
    /// ends; `None` while nothing more can be done at once. The host may answer before it has read
    /// all, the client may go, and `is_over` may say that it is time to end.
    pub fn step(
        &mut self,
        client: &TcpStream,
        server: &TcpStream,
        idle: Duration,
        is_over: &dyn Fn() -> Option<CloseReason>,
        space: &mut Space,
    ) -> Result<Option<ReplayOutcome>, CloseReason> {
        loop {
            // before the host is judged by its end: a client that has just come may have sent
            // something meanwhile
            if self.is_empty() && self.receive(client, space)? {
                self.last_byte = Instant::now();
            }
            match self.send(server) {
                Ok(0) => {}
                Ok(_) => self.last_byte = Instant::now(),
                // it had ended its stream before: that is to be read
                Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
                Err(e) => self.lost = Some(CloseReason::by(Side::Server, &e)),
            }
            if self.sent >= self.limit {
                return Ok(Some(ReplayOutcome::Answer(Vec::new())));
            }
            // also if nothing can be sent any more: what it sent before stands
            match self.receive_answer(server, space)? {
                Some(ReplayOutcome::Left(reason)) if self.is_end_sent && self.bytes.is_empty() => {
                    return Err(reason);
                }
                Some(outcome) => return Ok(Some(outcome)),
                None => {}
            }
            match self.receive(client, space) {
                Ok(true) => {
                    self.last_byte = Instant::now();
                    continue;
                }
                Ok(false) => {}
                // what it sent is for the host, be it the end alone
                Err(CloseReason::ClientGone) if !self.is_empty() => {
                    return Ok(Some(ReplayOutcome::ClientLost));
                }
                Err(reason) => return Err(reason),
            }
            return match is_over()
                .or_else(|| (self.last_byte.elapsed() >= idle).then_some(CloseReason::Idle))
            {
                Some(reason) => Err(reason),
                None => Ok(None),
            };
        }
    }

    /// What the host answers; `None` while that is nothing. The kernel reports the error of a lost
    /// connection once, which may have been when something was to be sent.
    fn receive_answer(
        &self,
        server: &TcpStream,
        space: &mut Space,
    ) -> Result<Option<ReplayOutcome>, CloseReason> {
        let receive = || memory::copy(socket::receive(server, space.spare_capacity_mut())?);
        Ok(match uninterrupted(receive) {
            Ok(answer) if !answer.is_empty() => Some(ReplayOutcome::Answer(answer)),
            // the answer is lost
            Err(e) if e.kind() == ErrorKind::OutOfMemory => return Err(CloseReason::Shortage),
            Err(e) if e.kind() == ErrorKind::WouldBlock => self.lost.map(ReplayOutcome::Left),
            Err(e) => Some(ReplayOutcome::Left(CloseReason::by(Side::Server, &e))),
            Ok(_) if self.lost.is_some() => self.lost.map(ReplayOutcome::Left),
            // an end in good order, of one that has had all from the client or has nothing to get,
            // is an answer
            Ok(_) if self.is_end_sent || self.bytes.is_empty() => {
                Some(ReplayOutcome::Answer(Vec::new()))
            }
            Ok(_) => Some(ReplayOutcome::Left(CloseReason::Closed)),
        })
    }

    /// Reads from the client if nothing has come from it yet.
    pub fn receive_first(
        &mut self,
        client: &TcpStream,
        space: &mut Space,
    ) -> Result<(), CloseReason> {
        if self.is_empty() { self.receive(client, space).map(drop) } else { Ok(()) }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.is_complete
    }

    /// Reads from the client if more of it is wanted; else only notices that it has gone, which is
    /// an error. Returns whether anything came, be it the end.
    fn receive(&mut self, client: &TcpStream, space: &mut Space) -> Result<bool, CloseReason> {
        let length = if self.is_complete { 0 } else { self.limit.saturating_sub(self.bytes.len()) };
        if length == 0 {
            return if socket::is_gone(client) { Err(CloseReason::ClientGone) } else { Ok(false) };
        }
        let room = space.spare_capacity_mut();
        let length = room.len().min(length);
        let room = room.get_mut(..length).unwrap_or_default();
        let before = self.bytes.len();
        match uninterrupted(|| memory::append(&mut self.bytes, socket::receive(client, room)?)) {
            Ok(()) => {
                self.is_complete = self.bytes.len() == before;
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(e) if e.kind() == ErrorKind::OutOfMemory => Err(CloseReason::Shortage),
            Err(_) => Err(CloseReason::ClientGone),
        }
    }

    /// Sends what the kernel takes, and once the end of the stream if that was reached; returns how
    /// much it took.
    fn send(&mut self, server: &TcpStream) -> io::Result<usize> {
        let count = match self.rest() {
            [] => 0,
            rest => match uninterrupted(|| socket::send_now(server, rest)) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
                result => result?,
            },
        };
        self.sent += count;
        if self.is_complete && !self.is_end_sent && self.rest().is_empty() {
            server.shutdown(Shutdown::Write)?;
            self.is_end_sent = true;
        }
        Ok(count)
    }
}

/// Repeats a call that a signal interrupted.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use nix::sys::socket::{setsockopt, sockopt};

    use super::*;
    use crate::relay::pool::BUFFER;

    const MANY: usize = 60_000;
    const LONG: Duration = Duration::from_secs(20);

    fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    /// A client that has sent [`MANY`] bytes, our ends of it and of a host, and the host, which
    /// takes little before it reads.
    fn with_a_full_host() -> (TcpStream, TcpStream, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut outside, client) = pair(&listener);
        outside.write_all(&[7; MANY]).unwrap();
        setsockopt(&listener, sockopt::RcvBuf, &2048).unwrap();
        let (server, host) = pair(&listener);
        setsockopt(&server, sockopt::SndBuf, &4096).unwrap();
        (outside, client, server, host)
    }

    fn exchange(
        client: &TcpStream,
        server: &TcpStream,
        idle: Duration,
        is_over: &dyn Fn() -> Option<CloseReason>,
    ) -> (ReplayBuffer, Result<ReplayOutcome, CloseReason>) {
        let mut kept = ReplayBuffer::new(NonZeroUsize::new(65_536).unwrap());
        kept.begin(0, None);
        let result = loop {
            match kept.step(client, server, idle, is_over, &mut Space::with_capacity(BUFFER)) {
                Ok(None) => thread::sleep(Duration::from_millis(5)),
                Ok(Some(outcome)) => break Ok(outcome),
                Err(reason) => break Err(reason),
            }
        };
        (kept, result)
    }

    #[test]
    fn a_host_that_answers_before_it_has_read_all_is_heard_and_gets_the_rest_later() {
        let (_outside, client, server, mut host) = with_a_full_host();
        let answering = thread::spawn(move || {
            host.read_exact(&mut [0; 10]).unwrap();
            host.write_all(b"enough").unwrap();
            host
        });
        let (kept, result) = exchange(&client, &server, LONG, &|| None);
        assert!(matches!(result, Ok(ReplayOutcome::Answer(answer)) if answer == b"enough"));
        assert_eq!(kept.sent() + kept.rest().len(), MANY);
        assert!(!kept.rest().is_empty(), "the host took all: this tests nothing");
        drop(answering.join().unwrap());
    }

    #[test]
    fn a_host_that_reads_nothing_holds_up_neither_a_stop_nor_the_idle_time() {
        let (_outside, client, server, _host) = with_a_full_host();
        let (_, result) = exchange(&client, &server, LONG, &|| Some(CloseReason::Stopped));
        assert!(matches!(result, Err(CloseReason::Stopped)));
        let (_outside, client, server, _host) = with_a_full_host();
        let (_, result) = exchange(&client, &server, Duration::from_millis(100), &|| None);
        assert!(matches!(result, Err(CloseReason::Idle)));
    }

    #[test]
    fn a_client_that_goes_while_its_host_reads_nothing_is_noticed() {
        let (outside, client, server, _host) = with_a_full_host();
        let leaving = thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            socket::reset_on_close(&outside, true);
        });
        let (_, result) = exchange(&client, &server, LONG, &|| None);
        assert!(matches!(result, Ok(ReplayOutcome::ClientLost)));
        leaving.join().unwrap();
    }
}
