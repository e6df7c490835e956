//! New connections: so many at once, each with one request and its answer, then closed by the
//! client.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt,
};

use super::histogram::Histogram;
use super::{ANSWER, REQUEST, Result, event};

/// Clients come from so many addresses in turn: one would run out of ports, since each is kept for
/// a while after its connection.
const SOURCES: u8 = 200;

struct Trial {
    stream: TcpStream,
    began: Instant,
    has_asked: bool,
    got: usize,
}

pub fn connect(time: Duration, at_once: usize, to: &[SocketAddr]) -> Result<()> {
    let poller = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let (mut histogram, mut failed) = (Histogram::new(), 0_u64);
    let mut targets = to.iter().copied().cycle().zip((1..=SOURCES).cycle());
    let mut next = |number| -> io::Result<Option<Trial>> {
        targets.next().map(|t| Trial::start(t, &poller, number)).transpose()
    };
    let mut trials = (0..at_once).map(&mut next).collect::<io::Result<Vec<Option<Trial>>>>()?;
    let mut events = vec![EpollEvent::empty(); at_once];
    let began = Instant::now();
    while began.elapsed() < time {
        let count = poller.wait(&mut events, EpollTimeout::from(100_u8))?;
        for ready in events.iter().take(count) {
            let number = ready.data() as usize;
            let Some(place) = trials.get_mut(number) else { continue };
            let Some(trial) = place else { continue };
            match trial.go_on(&poller, number) {
                Ok(false) => continue,
                Ok(true) => histogram.note(trial.began.elapsed()),
                Err(_) => failed += 1,
            }
            *place = None;
            *place = next(number)?;
        }
    }
    let rate = histogram.count() as f64 / began.elapsed().as_secs_f64();
    println!("{{\"rate\": {rate:.0}, \"failed\": {failed}, {histogram}}}");
    Ok(())
}

impl Trial {
    fn start((to, source): (SocketAddr, u8), poller: &Epoll, number: usize) -> io::Result<Trial> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket::socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        // the port is chosen when it is known where to, so that one port may serve several
        // connections
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        let source = SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, source), 0);
        socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(source))?;
        let began = Instant::now();
        match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(e) => return Err(e.into()),
        }
        let stream = TcpStream::from(socket);
        poller.add(&stream, event(EpollFlags::EPOLLOUT, number))?;
        Ok(Trial { stream, began, has_asked: false, got: 0 })
    }

    /// Whether the whole answer is there.
    fn go_on(&mut self, poller: &Epoll, number: usize) -> io::Result<bool> {
        if !self.has_asked {
            self.stream.write_all(REQUEST)?;
            self.has_asked = true;
            poller.modify(&self.stream, &mut event(EpollFlags::EPOLLIN, number))?;
            return Ok(false);
        }
        let mut space = [0; 1024];
        match self.stream.read(&mut space) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.got += count;
                Ok(self.got >= ANSWER.len())
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(e),
        }
    }
}
