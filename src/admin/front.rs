//! The acceptor that faces the network: everything a client sends is read, bounded, checked and
//! rewritten here before tiny_http sees it, one request at a time.
//!
//! Runs on the thread `admin front`: one poll(2) loop over sockets that do not block, so that a
//! silent or slow client costs one of [`MAX_CLIENTS`] places and no thread. When all are taken, the
//! one that has been unfinished longest makes room, of the address that has the most. Only a
//! request that waits for us keeps its place, and of these an address has its share (`places`).

use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::client::Client;
use super::exchange::{Exchange, ExchangeState};
use super::listener::AdminSocket;
use super::places::{self, MAX_CLIENTS};
use super::serve::Backend;
use super::wire::Refused;
use crate::system::logging::value;
use crate::system::poll_timeout::poll_timeout;
use crate::system::shortage::{self, Shortage};
use crate::system::socket;

/// The most clients that are accepted before the others are looked at again.
const AT_ONCE: usize = 16;
/// The most bytes of answers that wait for their clients, before the slowest client is dropped.
const MAX_OWED: usize = 16 * 1024 * 1024;
/// How long the last answers may take to go out at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The front and all it holds.
pub struct Front {
    listeners: Vec<AdminSocket>,
    backend: Arc<Backend>,
    /// Ends when the front is to stop; gone when it has.
    stop: Option<UnixStream>,
    /// Until when the last answers may go out.
    end: Option<Instant>,
    clients: Vec<Client>,
    exchange: Option<Exchange>,
    /// The connection to tiny_http, while no exchange has it; gone when it was of no use any more.
    connection: Option<UnixStream>,
    /// How many clients there were.
    count: u64,
    /// Whose request was served last.
    last: Option<IpAddr>,
    /// Until when nobody is accepted, because this machine is short of something.
    rest: Option<Instant>,
    shortage: Shortage,
}

/// Which sockets poll(2) has news of.
#[derive(Default)]
struct PollResults {
    stop: bool,
    exchange: bool,
    listeners: Vec<bool>,
    clients: Vec<PollFlags>,
}

impl Front {
    /// A front that stops when the other end of `stop` is closed; `connection` is a connection to
    /// the backend.
    pub fn new(
        listeners: Vec<AdminSocket>,
        backend: Arc<Backend>,
        connection: UnixStream,
        stop: UnixStream,
    ) -> Front {
        let (clients, connection, stop) =
            (Vec::with_capacity(MAX_CLIENTS), Some(connection), Some(stop));
        Front {
            listeners,
            backend,
            stop,
            end: None,
            clients,
            exchange: None,
            connection,
            count: 0,
            last: None,
            rest: None,
            shortage: Shortage::default(),
        }
    }

    /// Serves until it is to stop.
    pub fn run(&mut self) {
        loop {
            let results = self.wait();
            let now = Instant::now();
            for (client, flags) in self.clients.iter_mut().zip(results.clients) {
                if !flags.is_empty() {
                    client.act(flags, now);
                }
                client.expire(now);
            }
            // not before what has happened to the clients is dealt with: this lets go of some of
            // them
            if results.stop {
                self.finish(now);
            }
            self.go_on(results.exchange, now);
            for number in results
                .listeners
                .iter()
                .enumerate()
                .filter_map(|(number, is_ready)| is_ready.then_some(number))
            {
                self.accept(number, now);
            }
            self.refuse_excess(now);
            self.begin(now);
            let is_done = |client: &Client| client.is_lingering() || client.is_over();
            let is_idle = self.exchange.is_none() && self.clients.iter().all(is_done);
            if self.end.is_some_and(|end| is_idle || now >= end) {
                return;
            }
        }
    }

    /// Takes no more clients and requests; those that wait for us get their answers, if that does
    /// not take long.
    fn finish(&mut self, now: Instant) {
        self.stop = None;
        self.end = Some(now + LAST_ANSWERS);
        self.listeners.clear();
        self.clients.retain(|client| client.owed() > 0 || !client.may_be_dropped());
    }

    /// Forgets every client and request.
    pub fn clear(&mut self) {
        self.clients.clear();
        self.exchange = None;
    }

    /// Lets go of who is over, and waits for the next thing to happen.
    fn wait(&mut self) -> PollResults {
        self.clients.retain(|client| !client.is_over());
        let now = Instant::now();
        self.rest = self.rest.filter(|until| *until > now);
        let accepts = self.rest.is_none()
            && (self.clients.len() < MAX_CLIENTS
                || self.clients.iter().any(Client::may_be_dropped));
        let accepting = if accepts { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut polled: Vec<PollFd> =
            self.stop.iter().map(|stop| PollFd::new(stop.as_fd(), PollFlags::POLLIN)).collect();
        polled
            .extend(self.listeners.iter().map(|listener| PollFd::new(listener.as_fd(), accepting)));
        polled.extend(
            self.clients.iter().map(|client| PollFd::new(client.as_fd(), client.interest())),
        );
        polled.extend(
            self.exchange.iter().map(|exchange| PollFd::new(exchange.as_fd(), exchange.interest())),
        );
        if let Err(e) = poll(&mut polled, self.timeout(now)) {
            // a signal, or no memory for a moment: nothing has happened
            if e != Errno::EINTR {
                shortage::rest();
            }
            return PollResults::default();
        }
        let mut flags = polled.iter().map(|one| one.revents().unwrap_or(PollFlags::empty()));
        PollResults {
            stop: self.stop.is_some() && flags.next().is_some_and(|flags| !flags.is_empty()),
            listeners: flags
                .by_ref()
                .take(self.listeners.len())
                .map(|flags| !flags.is_empty())
                .collect(),
            clients: flags.by_ref().take(self.clients.len()).collect(),
            exchange: flags.next().is_some_and(|flags| !flags.is_empty()),
        }
    }

    /// Until the first deadline.
    fn timeout(&self, now: Instant) -> PollTimeout {
        let deadlines = self.clients.iter().map(|client| client.deadline);
        let others =
            self.exchange.iter().map(|exchange| exchange.deadline).chain(self.rest).chain(self.end);
        let first = deadlines.chain(others).min();
        first.map_or(PollTimeout::NONE, |first| poll_timeout(first.saturating_duration_since(now)))
    }

    /// Takes in some of the clients that wait at a listener.
    fn accept(&mut self, listener: usize, now: Instant) {
        for _ in 0..AT_ONCE {
            let victim = if self.clients.len() < MAX_CLIENTS {
                None
            } else {
                Some(places::whom_to_drop(&self.clients, now))
            };
            let Some(socket) = self.listeners.get(listener).filter(|_| victim != Some(None)) else {
                return;
            };
            match socket.accept() {
                Ok((stream, address)) => {
                    if let Some(victim) = victim.flatten() {
                        self.clients.swap_remove(victim);
                    }
                    self.shortage.end();
                    self.count += 1;
                    let mut client = Client::new(self.count, stream, address, now);
                    // most requests come with the connection
                    client.act(PollFlags::POLLIN, now);
                    self.clients.push(client);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                    ) => {}
                Err(e) => {
                    self.shortage.log_once(|| log::warn!("admin state=short reason=\"{e}\""));
                    self.rest = Some(now + shortage::PAUSE);
                    return;
                }
            }
        }
    }

    /// Refuses requests that would take the places of others, or make them wait.
    fn refuse_excess(&mut self, now: Instant) {
        let excess = |client: &Client| Some((client.id, places::excess(client, &self.clients)?));
        let refused: Vec<(u64, Refused)> = self.clients.iter().filter_map(excess).collect();
        for (id, refused) in refused {
            self.clients
                .iter_mut()
                .filter(|client| client.id == id)
                .for_each(|client| client.refuse(refused, now));
        }
    }

    /// Goes on with the exchange, if there is one.
    fn go_on(&mut self, is_ready: bool, now: Instant) {
        let Some(exchange) = &mut self.exchange else { return };
        let progress = match is_ready {
            true => exchange.act(),
            false => ExchangeState::Open,
        };
        let (refused, why) = match progress {
            ExchangeState::Open if now < exchange.deadline => return,
            ExchangeState::Open => (
                Refused(504, "no answer came in time; what was asked for may still be done"),
                "no answer in time",
            ),
            ExchangeState::Failed => {
                (Refused(502, "the answer was cut off: try again"), "an answer was cut off")
            }
            ExchangeState::Done(answer) => {
                self.connection = self.end_exchange(|client| client.answer(answer, now));
                return self.drop_who_owes_most();
            }
        };
        // the next request gets another connection, and with it another server
        log::warn!("admin state=restarted reason={}", value(why));
        self.end_exchange(|client| client.refuse(refused, now));
    }

    /// Answers the client of the exchange, if it is still there. Returns the connection.
    fn end_exchange(&mut self, answer: impl FnOnce(&mut Client)) -> Option<UnixStream> {
        let exchange = self.exchange.take()?;
        self.clients.iter_mut().find(|client| client.id == exchange.client).map(answer);
        Some(exchange.stream)
    }

    /// Hands the next request to tiny_http, when the last one is done.
    fn begin(&mut self, now: Instant) {
        while self.exchange.is_none() {
            let next = places::next(&mut self.clients, self.last);
            let Some((client, (request, bodyless))) =
                next.and_then(|client| client.take_request(now).map(|taken| (client, taken)))
            else {
                return;
            };
            self.last = Some(client.source);
            match self.connection.take().map_or_else(|| self.backend.connect(), Ok) {
                Ok(connection) => {
                    self.exchange =
                        Some(Exchange::new(connection, client.id, request, bodyless, now))
                }
                Err(e) if socket::is_our_shortage(&e) => {
                    client.refuse(Refused(503, "this machine is short of something"), now)
                }
                Err(e) => {
                    log::warn!("admin state=short reason={}", value(&e.to_string()));
                    client.refuse(
                        Refused(502, "the admin pages cannot be reached just now: try again"),
                        now,
                    );
                }
            }
            self.go_on(true, now);
        }
    }

    /// Large answers for clients that do not take them are the only memory here that could add up.
    fn drop_who_owes_most(&mut self) {
        while self.clients.iter().map(Client::owed).sum::<usize>() > MAX_OWED {
            let largest = self
                .clients
                .iter()
                .enumerate()
                .max_by_key(|(_, client)| client.owed())
                .map(|(number, _)| number);
            let Some(largest) = largest else { return };
            self.clients.swap_remove(largest);
        }
    }
}

/// The body of the thread. A panic, which would be a mistake of ours, costs the clients of the
/// moment and not the admin pages.
pub fn run(mut front: Front) {
    while std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| front.run())).is_err() {
        log::error!("admin state=recovered reason=\"a panic in its front\"");
        front.clear();
        shortage::rest();
    }
}
