//! What the tests share: backends that behave in a known way, daemons on free ports, payloads with
//! a checksum.
//!
//! Nothing here sleeps to synchronise: a wait is for a fact, with a deadline.

pub mod admin;
pub mod backend;
pub mod command;
pub mod left_out;
pub mod machine;
pub mod net;
pub mod program;
pub mod replaceable;
pub mod server;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tcpdirector::config::{self, Change, Config, Refusal};
use tcpdirector::daemon::Daemon;
use tcpdirector::relay::pool::PoolLimits;
use tcpdirector::state::{Director, Host, Names};
use tcpdirector::system::tcp_info::{TcpInfo, TcpState};

/// The longest that any test waits for anything.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until something is so; fails the test, saying what, when it never is.
pub fn until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(comes_true(DEADLINE, is_so), "never came true: {what}");
}

/// Waits until something is so, for a time; whether it has come true.
pub fn comes_true(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// The client that comes to a listening socket next.
pub fn accept(listener: &TcpListener) -> TcpStream {
    let mut polled = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let count = poll(&mut polled, PollTimeout::try_from(DEADLINE).expect("it is short"));
    assert_eq!(count, Ok(1), "nobody came");
    let stream = listener.accept().expect("somebody has come").0;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// The Rust files below a folder.
pub fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}

/// Reads a configuration that must be good.
pub fn config(xml: &str) -> Config {
    config::read::parse(Path::new("test.xml"), xml.as_bytes())
        .unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// One service `web` on a free port with one group `main`; `inside` stands in the service.
pub fn one_service(scheduler: &str, hosts: &[SocketAddr], inside: &str) -> String {
    let hosts: String = hosts
        .iter()
        .enumerate()
        .map(|(i, ip)| format!("<host name=\"h{i}\" ip=\"{ip}\"/>"))
        .collect();
    format!(
        "<pdconfig><service name=\"web\"><listen ip=\"127.0.0.1:0\"/>\
         <group name=\"main\" scheduler=\"{scheduler}\">{hosts}</group>{inside}</service></pdconfig>"
    )
}

/// A balancer in this process.
pub struct TestDaemon {
    pub daemon: Daemon,
}

impl TestDaemon {
    pub fn start(xml: &str) -> TestDaemon {
        TestDaemon::with_limits(
            xml,
            PoolLimits {
                threads: 4,
                pollers: 2,
                sessions: 400,
                queue: 400,
                pipes: 8,
                pipe_size: 1 << 20,
                held: 10_000_000,
            },
        )
    }

    pub fn with_limits(xml: &str, limits: PoolLimits) -> TestDaemon {
        TestDaemon { daemon: Daemon::start(&config(xml), limits).expect("free ports can be bound") }
    }

    pub fn address(&self) -> SocketAddr {
        self.daemon.addresses()[0]
    }

    pub fn connect(&self) -> TcpStream {
        connect(self.address())
    }

    pub fn hosts(&self) -> Vec<Arc<Host>> {
        self.daemon.director().services()[0].enabled().hosts()
    }

    /// Makes a change, written as its URL.
    pub fn change(&self, url: &str) -> Result<String, Refusal> {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let pair = |pair: &str| {
            pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
        };
        let query: Vec<(String, String)> = query.split('&').filter_map(pair).collect();
        let change = Change::from_query(path, &query).expect("a change")?;
        apply(self.daemon.director(), &change)
    }

    /// Waits until every session has ended.
    pub fn settle(&self) {
        until("all sessions have ended", || self.daemon.open_sessions() == 0);
    }
}

/// Makes one change of the state, and none of what is around it.
pub fn apply(director: &Director, change: &Change) -> Result<String, Refusal> {
    let preview = director.preview(std::slice::from_ref(change))?;
    Ok(director.apply(preview, &Names::new()).pop().unwrap_or_default())
}

/// A client whose reads and writes fail rather than hang.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("the balancer accepts");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// The same at a path.
pub fn connect_unix(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("the program accepts");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// `count` bytes that differ from place to place.
pub fn pattern(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

/// Sends everything, half-closes, and reads to the end.
pub fn exchange(mut stream: TcpStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).expect("the balancer takes the request");
    stream.shutdown(Shutdown::Write).expect("still connected");
    read_all(stream)
}

/// Reads to the end of the stream, which must not be a reset.
pub fn read_all(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the answer ends without an error");
    answer
}

/// Reads whatever comes, to the end; returns it, and whether it ended by a reset. Any other end
/// fails the test.
pub fn read_out(mut stream: &TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => (bytes, false),
        Err(e) if e.kind() == ErrorKind::ConnectionReset => (bytes, true),
        Err(e) => panic!("{e} after {} bytes", bytes.len()),
    }
}

/// Waits until the other side's kernel has acknowledged everything.
pub fn until_acknowledged(stream: &TcpStream) {
    until("all has arrived", || {
        tcpdirector::system::socket::unacknowledged(stream).is_ok_and(|count| count == 0)
    });
}

/// Connects and asks who answers; for [`backend::Backend::named`].
pub fn ask(address: SocketAddr) -> String {
    String::from_utf8(exchange(connect(address), b"who?")).expect("a name")
}

/// Makes closing this socket reset the connection.
pub fn reset(stream: TcpStream) {
    tcpdirector::system::socket::reset_on_close(&stream, true);
}

/// Whether the balancer takes the connection and resets it at once, which may show before
/// connecting has returned.
pub fn is_turned_away(address: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&address, DEADLINE) {
        Ok(client) => {
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            ends_by_reset(&client)
        }
        Err(e) => e.kind() == ErrorKind::ConnectionReset,
    }
}

/// Whether the connection is over at the level of TCP: reset, or closed by both sides.
pub fn is_closed(stream: &TcpStream) -> bool {
    TcpInfo::of(stream).unwrap().state == TcpState::Closed
}

/// Whether the stream ends by a reset.
pub fn ends_by_reset(mut stream: &TcpStream) -> bool {
    let mut space = [0; 4096];
    loop {
        match stream.read(&mut space) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(e) => return e.kind() == ErrorKind::ConnectionReset,
        }
    }
}
