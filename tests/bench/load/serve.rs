//! A host: one thread, one poller, any number of clients.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{ANSWER, CHUNK, Result, event};
use tcpdirector::system::socket::listen;

/// The number under which the poller knows the listener.
const LISTENER: usize = usize::MAX;

struct Host {
    poller: Epoll,
    /// By number; a place whose client has gone is taken by the next one.
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    space: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    is: Doing,
}

/// What a client is at.
enum Doing {
    /// Sends requests; this much of one has come.
    Asking(Vec<u8>),
    /// Still gets so many bytes.
    Getting(u64),
    /// Has brought so many bytes, and will be told.
    Bringing(u64),
}

/// Whether a client stays.
type Stays = io::Result<bool>;

pub fn serve(address: SocketAddr) -> Result<()> {
    let listener = listen(address)?;
    listener.set_nonblocking(true)?;
    let poller = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    poller.add(&listener, event(EpollFlags::EPOLLIN, LISTENER))?;
    let mut host = Host { poller, clients: Vec::new(), free: Vec::new(), space: vec![0; CHUNK] };
    println!("{{\"ready\": \"{}\"}}", listener.local_addr()?);
    let mut events = [EpollEvent::empty(); 256];
    loop {
        let count = match host.poller.wait(&mut events, EpollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            count => count?,
        };
        for ready in events.iter().take(count) {
            match ready.data() as usize {
                LISTENER => host.accept(&listener)?,
                number => host.go_on(number),
            }
        }
    }
}

impl Host {
    fn accept(&mut self, listener: &TcpListener) -> Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e.into()),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let number = self.free.pop().unwrap_or(self.clients.len());
            self.poller.add(&stream, event(EpollFlags::EPOLLIN, number))?;
            let client = Some(Client { stream, is: Doing::Asking(Vec::new()) });
            match self.clients.get_mut(number) {
                Some(place) => *place = client,
                None => self.clients.push(client),
            }
        }
    }

    /// A client that breaks off is nothing special here: the load at the other end counts what it
    /// misses.
    fn go_on(&mut self, number: usize) {
        let Some(place) = self.clients.get_mut(number) else { return };
        let Some(client) = place else { return };
        let stays = match client.go_on(&mut self.space) {
            Ok(stays) => stays,
            Err(e) => e.kind() == ErrorKind::WouldBlock,
        };
        if stays {
            let interest = if matches!(client.is, Doing::Getting(_)) {
                EpollFlags::EPOLLOUT
            } else {
                EpollFlags::EPOLLIN
            };
            if interest == EpollFlags::EPOLLOUT {
                let _ = self.poller.modify(&client.stream, &mut event(interest, number));
            }
        } else {
            *place = None;
            self.free.push(number);
        }
    }
}

impl Client {
    fn go_on(&mut self, space: &mut [u8]) -> Stays {
        if let Doing::Getting(_) = self.is {
            return self.give(space);
        }
        let count = self.stream.read(space)?;
        let bytes = space.get(..count).unwrap_or_default();
        match &mut self.is {
            Doing::Bringing(brought) if bytes.is_empty() => {
                writeln!(self.stream, "{brought}")?;
                self.stream.shutdown(Shutdown::Write)?;
                Ok(false)
            }
            Doing::Bringing(brought) => {
                *brought += count as u64;
                Ok(true)
            }
            _ if bytes.is_empty() => Ok(false),
            // the usual case without a copy
            Doing::Asking(before)
                if before.is_empty()
                    && bytes.starts_with(b"GET / ")
                    && bytes.ends_with(b"\r\n\r\n") =>
            {
                self.stream.write_all(ANSWER).map(|()| true)
            }
            Doing::Asking(before) => {
                before.extend_from_slice(bytes);
                let head = std::mem::take(before);
                self.understand(head)
            }
            Doing::Getting(_) => Ok(true),
        }
    }

    fn understand(&mut self, head: Vec<u8>) -> Stays {
        let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
            self.is = Doing::Asking(head);
            return Ok(true);
        };
        let text = String::from_utf8_lossy(&head);
        let mut words = text.split_ascii_whitespace();
        match (words.next(), words.next().and_then(|path| path.strip_prefix('/'))) {
            (Some("PUT"), _) => self.is = Doing::Bringing((head.len() - end - 4) as u64),
            (Some("GET"), Some("")) => self.stream.write_all(ANSWER)?,
            (Some("GET"), Some(count)) => {
                self.is = Doing::Getting(count.parse().map_err(io::Error::other)?)
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn give(&mut self, space: &[u8]) -> Stays {
        let Doing::Getting(left) = &mut self.is else { return Ok(true) };
        let next = usize::try_from(*left).unwrap_or(usize::MAX).min(space.len());
        *left -= self.stream.write(space.get(..next).unwrap_or_default())? as u64;
        Ok(*left > 0)
    }
}
