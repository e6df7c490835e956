//! The loop around tiny_http, on the thread `admin`: takes a request, calls the handler, sends its
//! answer.
//!
//! tiny_http listens on a private socket, on which the front's one connection waits already
//! ([`unix_socket::private_pair`]) and nobody else can connect: there is no file for it, and no
//! other client. Whenever that connection is of no use any more, for whatever reason, the front
//! asks for another one, which comes with another server.

use std::io::{self, Cursor, Read};
use std::mem::ManuallyDrop;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use nix::errno::Errno;
use parking_lot::{Condvar, Mutex};
use tiny_http::{Header, Server, StatusCode};

use super::http::{Handler, Method, Request, Response};
use super::wire::{CLIENT, HEAD, MAX_BODY};
use crate::system::logging::value;
use crate::system::memory;
use crate::system::shortage::Shortage;
use crate::system::unix_socket;

/// A server that is not dropped: tiny_http would then connect to the path of its socket, and panics
/// where that has none. What would be woken by that has ended: who accepts ends with the one
/// connection that there is, and who reads ends with that connection.
type Undropped = ManuallyDrop<Server>;
/// What a request and its answer may take together, lists of sessions aside. The program would end
/// if it were not there.
pub const ROOM: usize = 4 << 20;

/// The servers, one after the other, as the front and `Admin` see them.
#[derive(Default)]
pub struct Backend {
    state: Mutex<ServerState>,
    changed: Condvar,
}

#[derive(Default)]
struct ServerState {
    /// What the next server is to listen on.
    next: Option<UnixListener>,
    /// The server that runs.
    server: Option<Arc<Undropped>>,
    is_stopping: bool,
}

impl ServerState {
    /// Whether the server that runs is to end.
    fn is_over(&self) -> bool {
        self.is_stopping || self.next.is_some()
    }
}

impl Backend {
    /// A connection to a server of its own, to be used at once: what is sent waits until that
    /// server runs. The one before ends after the request that it is at.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let (listener, stream) = unix_socket::private_pair()?;
        self.change(|state| state.next = Some(listener));
        Ok(stream)
    }

    /// Ends [`Backend::run`] after the request that it is at.
    pub fn stop(&self) {
        self.change(|state| state.is_stopping = true);
    }

    fn change(&self, change: impl FnOnce(&mut ServerState)) {
        let mut state = self.state.lock();
        change(&mut state);
        state.server.iter().for_each(|server| server.unblock());
        self.changed.notify_one();
    }

    /// The body of the thread: one server after the other, until it is to stop.
    pub fn run(&self, handler: &dyn Handler) {
        let mut shortage = Shortage::default();
        while let Some(listener) = self.next() {
            // making a server panics when there is no thread for it
            match catch_unwind(AssertUnwindSafe(|| self.serve(listener, handler))) {
                Ok(Ok(())) => shortage.end(),
                Ok(Err(e)) => shortage.log_once(|| {
                    log::warn!("admin state=short reason={}", value(&e.to_string()));
                }),
                Err(_) => {}
            }
        }
    }

    /// Waits for something to listen on; `None` when it is to stop.
    fn next(&self) -> Option<UnixListener> {
        let mut state = self.state.lock();
        while !state.is_over() {
            self.changed.wait(&mut state);
        }
        state.next.take().filter(|_| !state.is_stopping)
    }

    /// The life of one server. It ends by a wake-up, or because tiny_http has ended: then that is
    /// the error.
    fn serve(&self, listener: UnixListener, handler: &dyn Handler) -> io::Result<()> {
        let server = Arc::new(ManuallyDrop::new(
            Server::from_listener(listener, None).map_err(io::Error::other)?,
        ));
        self.state.lock().server = Some(server.clone());
        let end = loop {
            if self.state.lock().is_over() {
                break Ok(());
            }
            match server.recv() {
                Ok(request) => answer(request, handler),
                Err(e) => match e.raw_os_error() {
                    // a wake-up has no error number, and this is how accept(2) says that nobody
                    // else will connect
                    None => {}
                    Some(number) if number == Errno::EINVAL as i32 => {}
                    Some(_) => break Err(e),
                },
            }
        };
        self.state.lock().server = None;
        end
    }
}

fn answer(mut request: tiny_http::Request, handler: &dyn Handler) {
    let response = match memory::check(ROOM).is_ok().then(|| read(&mut request)) {
        Some(Ok(read)) => catch_unwind(AssertUnwindSafe(|| handler.handle(&read))).unwrap_or_else(|_| {
            log::error!("admin state=recovered reason=\"a panic in its pages\"");
            Response::text(500, "NOT OK: this is a mistake in tcpdirector; what was asked for may be half done\n")
        }),
        Some(Err(why)) => Response::text(400, format!("NOT OK: {why}\n")),
        None => Response::text(503, "NOT OK: this machine is short of memory\n"),
    };
    // the only reader is the front, which knows by itself when an answer is cut off
    let _ = request.respond(translated(response));
}

fn read(request: &mut tiny_http::Request) -> Result<Request, String> {
    let mut body = Vec::new();
    request
        .as_reader()
        .take(MAX_BODY as u64)
        .read_to_end(&mut body)
        .map_err(|_| "the body is cut off".to_owned())?;
    let header = |name: &'static str| {
        let found = request.headers().iter().find(|header| header.field.equiv(name));
        found.map(|header| header.value.as_str().to_owned())
    };
    let method =
        if *request.method() == tiny_http::Method::Post { Method::Post } else { Method::Get };
    let mut read = Request {
        method,
        authorization: header("Authorization"),
        accept: header("Accept"),
        origin: header("Origin"),
        referer: header("Referer"),
        sec_fetch_site: header("Sec-Fetch-Site"),
        host: header("Host"),
        sec_purpose: header("Sec-Purpose"),
        accept_language: header("Accept-Language"),
        is_head: header(HEAD).is_some(),
        client: header(CLIENT).unwrap_or_default(),
        ..Request::default()
    };
    read.set_target(request.url())?;
    read.set_body(&header("Content-Type").unwrap_or_default(), &body)?;
    Ok(read)
}

fn translated(response: Response) -> tiny_http::Response<Cursor<Vec<u8>>> {
    let status = if (200..600).contains(&response.status) { response.status } else { 500 };
    let length = response.body.len();
    let header = |(name, value): (&str, String)| {
        // a line end in a value would be the start of another header, or of another answer
        let is_plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
        Header::from_bytes(name, value).ok().filter(|_| is_plain)
    };
    let headers: Vec<Header> = response.headers.into_iter().filter_map(header).collect();
    let body = Cursor::new(response.body);
    tiny_http::Response::new(StatusCode(status), headers, body, Some(length), None)
        .with_chunked_threshold(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// The last bytes of an answer, as many as are expected.
    fn ask(mut line: &UnixStream, expected: &str) {
        line.set_nonblocking(false).unwrap();
        line.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        line.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(expected.as_bytes()) {
            let mut space = [0; 1024];
            let count = line.read(&mut space).unwrap();
            assert!(count > 0, "no answer: {}", String::from_utf8_lossy(&answer));
            answer.extend(&space[..count]);
        }
    }

    /// Also when a test fails, or its scope would never end.
    struct StopOnDrop<'a>(&'a Backend);

    impl Drop for StopOnDrop<'_> {
        fn drop(&mut self) {
            self.0.stop();
        }
    }

    #[test]
    fn a_new_server_takes_over_when_the_front_connects_anew_and_each_answers_many_requests() {
        let backend = Backend::default();
        let first = backend.connect().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| backend.run(&|_: &Request| Response::text(200, "here")));
            let _end = StopOnDrop(&backend);
            (0..3).for_each(|_| ask(&first, "here"));
            let second = backend.connect().unwrap();
            drop(first);
            (0..3).for_each(|_| ask(&second, "here"));
        });
    }

    #[test]
    fn a_connection_that_was_replaced_before_its_server_ran_ends() {
        let backend = Backend::default();
        let (mut first, second) = (backend.connect().unwrap(), backend.connect().unwrap());
        first.set_nonblocking(false).unwrap();
        assert!(!matches!(first.read(&mut [0]), Ok(1)));
        thread::scope(|scope| {
            scope.spawn(|| backend.run(&|_: &Request| Response::text(200, "here")));
            let _end = StopOnDrop(&backend);
            ask(&second, "here");
        });
    }
}
