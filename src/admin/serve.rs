//! The loop around tiny_http, on the thread `admin`: takes a request, calls the handler, sends its answer.
//!
//! tiny_http listens on a Unix socket in a folder that nobody else can look into, and only `front` connects there. Whenever it
//! ends, for whatever reason, another one is made in another folder.

use std::io::{self, Cursor, Read};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tiny_http::{Header, Server, StatusCode};

use super::http::{Handler, Method, Request, Response};
use super::wire::{CLIENT, DELAY, HEAD, MAX_BODY};
use crate::system::local::Den;
use crate::system::logging::value;
use crate::system::memory;

/// How long to wait before another attempt to make a server.
const PAUSE: Duration = Duration::from_millis(100);
/// What a request and its answer may take together, lists of sessions aside. The program would end if it were not there.
pub const ROOM: usize = 4 << 20;

/// The server that runs at the moment, as the front and `Admin` see it.
#[derive(Default)]
pub struct Backend {
    path: Mutex<PathBuf>,
    server: Mutex<Option<Arc<Server>>>,
    stopping: AtomicBool,
}

/// A place for a server, already listened on.
pub struct Place {
    // dropped in this order: the socket, then its folder
    socket: UnixListener,
    den: Den,
}

impl Place {
    /// Makes it.
    pub fn open() -> io::Result<Place> {
        let den = Den::new()?;
        Ok(Place { socket: UnixListener::bind(den.path())?, den })
    }
}

impl Backend {
    /// A backend that can be connected to at once, and will answer when [`Backend::live`] runs.
    pub fn new(place: &Place) -> Backend {
        Backend { path: Mutex::new(place.den.path()), ..Backend::default() }
    }

    /// Where to connect to.
    pub fn path(&self) -> PathBuf {
        self.path.lock().clone()
    }

    /// Has the server at `path` replaced, because something is wrong with it; not the one that has replaced it already.
    pub fn rebuild(&self, path: &Path, why: &str) {
        if self.path() != path {
            return;
        }
        log::warn!("admin state=restarted reason={}", value(why));
        self.wake();
    }

    /// Ends [`Backend::live`] after the request that it is at.
    pub fn stop(&self) {
        self.stopping.store(true, SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if let Some(server) = &*self.server.lock() {
            server.unblock();
        }
    }

    /// The body of the thread: one server after the other, until it is to stop.
    pub fn live(&self, place: Place, handler: &dyn Handler) {
        let mut place = Some(place);
        let mut short = false;
        while !self.stopping.load(SeqCst) {
            // making a server panics when there is no thread for it
            let attempt = AssertUnwindSafe(|| self.serve(place.take().map_or_else(Place::open, Ok)?, handler));
            match catch_unwind(attempt) {
                Ok(Ok(())) => short = false,
                Ok(Err(e)) => {
                    if !std::mem::replace(&mut short, true) {
                        log::warn!("admin state=short reason={}", value(&e.to_string()));
                    }
                    thread::sleep(PAUSE);
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// The life of one server. It ends by a wake-up, or because tiny_http has ended: then that is the error.
    fn serve(&self, place: Place, handler: &dyn Handler) -> io::Result<()> {
        let Place { socket, den } = place;
        let server = Arc::new(Server::from_listener(socket, None).map_err(io::Error::other)?);
        *self.path.lock() = den.path();
        *self.server.lock() = Some(server.clone());
        let end = loop {
            if self.stopping.load(SeqCst) {
                break Ok(());
            }
            match server.recv() {
                Ok(request) => answer(request, handler),
                // that is what a wake-up looks like; everything else has an error number
                Err(e) if e.raw_os_error().is_none() => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        *self.server.lock() = None;
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
    request.as_reader().take(MAX_BODY as u64).read_to_end(&mut body).map_err(|_| "the body is cut off".to_owned())?;
    let header = |name: &'static str| {
        let found = request.headers().iter().find(|header| header.field.equiv(name));
        found.map(|header| header.value.as_str().to_owned())
    };
    let method = if *request.method() == tiny_http::Method::Post { Method::Post } else { Method::Get };
    let mut read = Request {
        method,
        authorization: header("Authorization"),
        accept: header("Accept"),
        origin: header("Origin"),
        referer: header("Referer"),
        sec_fetch_site: header("Sec-Fetch-Site"),
        host: header("Host"),
        user_agent: header("User-Agent"),
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
    let mut headers: Vec<Header> = response.headers.into_iter().filter_map(header).collect();
    if !response.delay.is_zero() {
        headers.extend(header((DELAY, response.delay.as_millis().to_string())));
    }
    let body = Cursor::new(response.body);
    tiny_http::Response::new(StatusCode(status), headers, body, Some(length), None).with_chunked_threshold(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    fn ask(path: &Path) -> io::Result<String> {
        use std::io::Write;
        let mut stream = UnixStream::connect(path)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Also when a test fails, or its scope would never end.
    struct StopOnDrop<'a>(&'a Backend);

    impl Drop for StopOnDrop<'_> {
        fn drop(&mut self) {
            self.0.stop();
        }
    }

    #[test]
    fn a_new_server_takes_over_in_another_place_when_the_old_one_is_given_up_and_is_not_given_up_with_it() {
        let place = Place::open().unwrap();
        let backend = Backend::new(&place);
        let first = backend.path();
        thread::scope(|scope| {
            scope.spawn(|| backend.live(place, &|_: &Request| Response::text(200, "here")));
            let _end = StopOnDrop(&backend);
            assert!(ask(&first).unwrap().ends_with("here"));
            backend.rebuild(&first, "the test wants it");
            let deadline = Instant::now() + Duration::from_secs(10);
            while backend.path() == first {
                assert!(Instant::now() < deadline, "there is no new server");
                thread::sleep(Duration::from_millis(2));
            }
            let second = backend.path();
            assert!(ask(&second).unwrap().ends_with("here") && !first.exists());
            backend.rebuild(&first, "one more request that the first one has not answered");
            assert!(ask(&second).unwrap().ends_with("here") && backend.path() == second);
        });
        assert!(!backend.path().exists());
    }
}
