//! Runs one script on one connection, directly or through the program.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage};
use nix::sys::socket::{connect, setsockopt, socket, sockopt};
use tcpdirector::system::socket::listen;

use super::end::{End, is_ready};
use super::rules::{Kind, Violation, judge};
use super::script::{Script, Side};
use super::seen::Seen;
use super::stream::Stream;
use super::ways::Way;
use crate::common::program::field;
use crate::common::server::free_address;

/// A place where one script runs at a time, with a host address of its own.
pub struct Lane {
    number: usize,
    listener: TcpListener,
}

/// What came of it.
pub struct Run {
    pub client: Seen,
    /// `None` if no connection came.
    pub host: Option<Seen>,
    pub violations: Vec<Violation>,
    /// What the program said of the session.
    pub log: Option<String>,
}

impl Run {
    /// How the session ended by the program's own account.
    pub fn end(&self) -> &str {
        self.log.as_deref().and_then(|line| field(line, "end")).unwrap_or("-")
    }
}

impl Lane {
    pub fn new(number: usize) -> Lane {
        // no port that a host of another test has had: a balancer might still look for that
        let listener = listen(free_address()).expect("free ports can be bound");
        listener.set_nonblocking(true).expect("a socket");
        // those that it accepts inherit this: an urgent byte may come before there is time to ask
        setsockopt(&listener, sockopt::OobInline, &true).expect("a socket");
        Lane { number, listener }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it listens")
    }

    /// Runs a script through the program, or directly. Every rule is judged. A wait without
    /// progress that takes longer than `limit` is a hang.
    pub fn run(&self, script: &Script, way: Option<&Way>, limit: Duration) -> Run {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let connection = LAST.fetch_add(1, SeqCst);
        while self.listener.accept().is_ok() {}
        way.inspect(|way| way.begin(self.number));
        let target = way.map_or_else(|| self.address(), |way| way.address(self.number));
        let [client_says, host_says] = Side::BOTH.map(|side| Stream::new(connection, side));
        let Some((socket, address)) = dial(target) else {
            let violations = vec![Kind::NotConnected.violation(Side::Client, "it cannot connect")];
            return Run { client: Seen::default(), host: None, violations, log: None };
        };
        let has_left = AtomicBool::new(false);
        let (client, host) = thread::scope(|scope| {
            let host = scope.spawn(|| {
                let is_over = || has_left.load(SeqCst) && self.has_ended(way, address);
                let socket = self.accept(is_over, limit)?;
                Some(End::new(socket, host_says, client_says, limit).perform(&script.host))
            });
            let client = End::new(socket, client_says, host_says, limit).perform(&script.client);
            has_left.store(true, SeqCst);
            (client, host.join().expect("an end does not panic"))
        });
        let mut violations = judge(&client, host.as_ref());
        let mut log = None;
        if let Some(way) = way {
            log = way.ended(self.number, address, limit);
            violations.extend(self.judge_program(way, log.is_some()));
        }
        Run { client, host, violations, log }
    }

    /// What the program must not do, whatever the ends can see.
    fn judge_program(&self, way: &Way, has_ended: bool) -> Vec<Violation> {
        let mut found = Vec::new();
        if !has_ended {
            let text = "both ends have left, and the session goes on";
            found.push(Kind::NotLetGo.violation(Side::Client, text));
        }
        if self.listener.accept().is_ok() {
            found.push(Kind::SecondConnection.violation(Side::Host, "another connection came"));
        }
        let blamed = way.blamed(self.number);
        found.extend(blamed.map(|line| Kind::HostBlamed.violation(Side::Host, line)));
        found
    }

    /// Whether no connection will come any more: the session has ended.
    fn has_ended(&self, way: Option<&Way>, client: SocketAddr) -> bool {
        way.is_some_and(|way| way.ended(self.number, client, Duration::ZERO).is_some())
    }

    fn accept(&self, is_over: impl Fn() -> bool, limit: Duration) -> Option<TcpStream> {
        let deadline = Instant::now() + limit;
        loop {
            // asked first: what comes before the end of the session is taken then
            let is_last = is_over() || Instant::now() > deadline;
            if let Ok((socket, _)) = self.listener.accept() {
                return Some(socket);
            }
            if is_last {
                return None;
            }
            is_ready(&self.listener, PollFlags::POLLIN, Duration::from_millis(10));
        }
    }
}

/// A connected socket with SO_OOBINLINE, and its own address.
fn dial(target: SocketAddr) -> Option<(TcpStream, SocketAddr)> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).ok()?;
    setsockopt(&fd, sockopt::OobInline, &true).ok()?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(target)).ok()?;
    let socket = TcpStream::from(fd);
    let address = socket.local_addr().ok()?;
    Some((socket, address))
}
