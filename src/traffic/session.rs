//! One client connection, from accept to its log line. Made by a listener, carried by the pool.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connect::{Connected, Hunt};
use super::first::{Kept, Outcome};
use super::ticket::{Ending, Ticket};
use super::{MOST_ADDRESSES, Traffic};
use crate::relay::pool::Space;
use crate::relay::seat::{Carried, For, Next, Seat, Side};
use crate::relay::{Direction, End, Liveness, Relay};
use crate::state::{Health, Lease, Link, Service, Wait};
use crate::system::socket;

/// A client that has waited for so long may have gone again.
const FRESH: Duration = Duration::from_millis(1);

/// How often a session without a server looks up whether the program is stopping.
const LOOK: Duration = Duration::from_millis(500);

/// A session: it searches for a server, then it is relayed.
pub struct Session {
    /// While there is no relay; taken out by the one thread that goes on with it.
    search: Mutex<Option<Box<Search>>>,
    running: OnceLock<Running>,
    look: Duration,
}

/// A client that has no server yet.
struct Search {
    client: TcpStream,
    traffic: Arc<Traffic>,
    ticket: Box<Ticket>,
    hunt: Option<Hunt>,
    /// What the client has said to a server that went before it was passed on.
    unsent: Vec<u8>,
    /// With `<replay>`: what the client has sent so far.
    kept: Option<Kept>,
    /// With `<replay>`: a host that is connected and has not answered yet.
    asked: Option<Asked>,
}

/// A host that has not answered yet.
struct Asked {
    connected: Connected,
    since: Instant,
    liveness: Liveness,
    _wait: Wait,
}

/// A session that is being relayed. The order of the fields is the order of the end: sockets closed (a stop or a drain may hold the
/// relay for a moment longer), lease given back, log line written.
struct Running {
    relay: Arc<Relay>,
    traffic: Arc<Traffic>,
    held: Mutex<Held>,
}

/// What a session gives back at its end, or before.
struct Held {
    /// Given back when the server has left: then it has no work with the session any more.
    lease: Option<Lease>,
    /// Taken out when the session begins anew.
    ticket: Option<Box<Ticket>>,
}

impl Session {
    /// A session for a client that was just accepted from a socket that was [prepared](socket::prepare_clients). `peer` and `listen`
    /// are the two ends of its connection.
    pub fn new(client: TcpStream, peer: SocketAddr, listen: SocketAddr, service: Arc<Service>, traffic: Arc<Traffic>) -> Session {
        let kept = service.replay_limit().map(Kept::new);
        let ticket = Box::new(Ticket::new(&traffic.director.roster, service, peer, listen));
        Session::search(Search { client, traffic, ticket, hunt: None, unsent: Vec::new(), kept, asked: None })
    }

    fn search(search: Search) -> Session {
        let service = &search.ticket.service;
        // a connect is looked at by the share that each of several addresses has of its time
        let look = LOOK
            .min(service.connect_limit() / MOST_ADDRESSES as u32)
            .min(service.timeouts().half / 4)
            .max(Duration::from_millis(1));
        Session { search: Mutex::new(Some(Box::new(search))), running: OnceLock::new(), look }
    }

    /// Goes on with the search. Without a relay afterwards, says what to do instead.
    fn find(&self, seat: &Arc<Seat>, space: &mut Space) -> Result<&Running, Next> {
        let mut search = self.search.lock().take().ok_or(Next::Over)?;
        match search.step(seat, space) {
            Ok(Some(found)) => {
                let running = self.running.get_or_init(|| Running::new(*search, found));
                seat.begin_other();
                Ok(running)
            }
            Ok(None) => {
                *self.search.lock() = Some(search);
                Err(Next::Wait(For::Anything))
            }
            Err(ending) => {
                if ending == Ending::Relayed(End::Closed) {
                    socket::reset_on_close(&search.client, false);
                }
                search.ticket.ending = Some(ending);
                Err(Next::Over)
            }
        }
    }
}

impl Carried for Session {
    fn go(&self, half: Direction, seat: &Arc<Seat>, space: &mut Space) -> Next {
        let running = match self.running.get().map_or_else(|| self.find(seat, space), Ok) {
            Ok(running) => running,
            Err(next) => return next,
        };
        let next = running.relay.go(half, seat, space);
        if running.relay.has_server_left() {
            let _lease = running.held.lock().lease.take();
        }
        if next == Next::Over && running.relay.is_over() {
            running.begin_anew(seat);
        }
        next
    }

    fn look(&self) -> Duration {
        self.running.get().map_or(self.look, |running| running.relay.look())
    }
}

/// A host for the client, and what it has answered.
struct Found {
    connected: Connected,
    answer: Vec<u8>,
    is_client_lost: bool,
    /// How the connection to the host was lost, if it was.
    server_lost: Option<End>,
}

impl Search {
    /// Goes on until a host is connected; with `<replay>`, until one has answered. `None`: it takes its time.
    fn step(&mut self, seat: &Arc<Seat>, space: &mut Space) -> Result<Option<Found>, Ending> {
        loop {
            let asked = match self.asked.take() {
                Some(asked) => asked,
                None => match (self.connect(seat)?, &mut self.kept) {
                    (None, _) => return Ok(None),
                    (Some(connected), None) => return Ok(Some(Found::new(connected))),
                    (Some(connected), Some(kept)) => {
                        kept.begin();
                        self.asked(connected, seat)
                    }
                },
            };
            match self.ask(&asked, seat, space) {
                Ok(Some(Outcome::Answer(answer))) => return Ok(Some(Found { answer, ..Found::new(asked.connected) })),
                Ok(Some(Outcome::ClientLost)) => return Ok(Some(Found { is_client_lost: true, ..Found::new(asked.connected) })),
                Ok(Some(Outcome::Left(end))) if self.has_another() => {
                    self.note_left(&asked, end);
                    drop(asked);
                    seat.forget(Side::Server);
                }
                // nobody else is left: the session goes on as it would without replay
                Ok(Some(Outcome::Left(end))) => {
                    let server_lost = Some(end).filter(|end| *end != End::Closed);
                    return Ok(Some(Found { server_lost, ..Found::new(asked.connected) }));
                }
                Ok(None) => {
                    self.asked = Some(asked);
                    return Ok(None);
                }
                Err(ending) => {
                    self.ticket.server = Some((asked.connected.lease.host().clone(), asked.connected.address));
                    self.ticket.bytes.0 = self.count_sent(&asked);
                    return Err(ending);
                }
            }
        }
    }

    /// Connects to a host of the enabled group, or to the next one of the group that was enabled when the search began.
    fn connect(&mut self, seat: &Seat) -> Result<Option<Connected>, Ending> {
        let Search { client, traffic, ticket, hunt, unsent, .. } = self;
        let hunt = hunt.get_or_insert_with(|| {
            let group = ticket.group.get_or_insert_with(|| ticket.service.enabled()).clone();
            Hunt::new(group, ticket.failed().cloned().collect(), ticket.age() < FRESH)
        });
        let result = hunt.step((client, !unsent.is_empty()), traffic, seat, ticket);
        ticket.note_search(hunt.tries());
        match &result {
            Ok(None) if ticket.entry().is_stopping() => Err(Ending::Relayed(End::Stopped)),
            _ => result,
        }
    }

    /// Begins the first exchange with a host.
    fn asked(&self, connected: Connected, seat: &Arc<Seat>) -> Asked {
        // what is kept may go out in pieces
        let _ = connected.server.set_nodelay(true);
        let wait = self.traffic.director.waiting.enter(connected.lease.host(), seat);
        Asked { connected, since: Instant::now(), liveness: Liveness::default(), _wait: wait }
    }

    /// With `<replay>`, the first exchange with a host.
    fn ask(&mut self, asked: &Asked, seat: &Seat, space: &mut Space) -> Result<Option<Outcome>, Ending> {
        let Asked { connected: Connected { server, lease, .. }, .. } = asked;
        let Search { client, ticket, kept: Some(kept), .. } = self else { return Ok(None) };
        let is_over = || match ticket.entry().is_stopping() {
            true => Some(End::Stopped),
            false => lease.host().is_drained().then_some(End::Drained),
        };
        let outcome = kept.step(client, server, ticket.service.timeouts().idle, &is_over, space)?;
        if outcome.is_none() {
            seat.watch(Side::Client, client).map_err(|_| Ending::Shortage)?;
            seat.watch_room(Side::Server, server).map_err(|_| Ending::Shortage)?;
        }
        let is_lost = || self.is_dead(asked) || self.is_elsewhere_better(asked);
        Ok(match outcome {
            None if is_lost() => Some(Outcome::Left(End::ServerDead)),
            outcome => outcome,
        })
    }

    /// Whether the host gives no sign of life.
    fn is_dead(&self, asked: &Asked) -> bool {
        let server = &asked.connected.server;
        let is_waited_for = socket::unacknowledged(server).is_ok_and(|count| count > 0);
        let now = asked.since.elapsed().as_millis() as usize;
        self.ticket.service.timeouts().dead.is_some_and(|dead| asked.liveness.check(server, dead, is_waited_for, now))
    }

    /// Whether the host went down since it was connected, and there is another one to try.
    fn is_elsewhere_better(&self, asked: &Asked) -> bool {
        let is_down = match asked.connected.lease.host().health() {
            Health::Down { since, .. } => since > asked.since,
            Health::Up { .. } => false,
        };
        is_down && self.has_another()
    }

    /// Whether there is another host to try.
    fn has_another(&self) -> bool {
        self.hunt.as_ref().is_some_and(|hunt| hunt.has_another())
    }

    /// The host has left without an answer.
    fn note_left(&mut self, asked: &Asked, end: End) {
        let Connected { address, lease, .. } = &asked.connected;
        let sent = self.count_sent(asked);
        self.ticket.note_left(lease.host(), *address, end, sent);
    }

    /// What was sent to a host that did not answer, which counts for it all the same.
    fn count_sent(&self, asked: &Asked) -> u64 {
        let sent = self.kept.as_ref().map_or(0, Kept::sent);
        asked.connected.lease.host().meter().add(Direction::ToServer, sent);
        sent as u64
    }
}

impl Found {
    fn new(connected: Connected) -> Found {
        Found { connected, answer: Vec::new(), is_client_lost: false, server_lost: None }
    }
}

impl Running {
    /// Makes the relay.
    fn new(search: Search, found: Found) -> Running {
        let Search { client, traffic, mut ticket, unsent, kept, .. } = search;
        let Found { connected: Connected { group, server, address, lease }, answer, is_client_lost, server_lost } = found;
        let host = lease.host().clone();
        let relay = Relay::new(client, server, ticket.service.timeouts(), host.meter().clone());
        match kept {
            Some(kept) => {
                relay.take_over(kept.sent(), kept.is_told(), kept.rest().to_vec(), answer);
                if let Some(end) = server_lost.or(kept.lost()) {
                    relay.note_loss(Side::Server, end);
                }
                if is_client_lost {
                    relay.note_loss(Side::Client, End::ResetByClient);
                }
            }
            None if unsent.is_empty() => {}
            None => relay.take_over(0, false, unsent, answer),
        }
        let relay = Arc::new(relay);
        ticket.entry().connected(Link::new(group, host.clone(), address, &relay));
        ticket.server = Some((host, address));
        Running { relay, traffic, held: Mutex::new(Held { lease: Some(lease), ticket: Some(ticket) }) }
    }

    /// A session whose server went before a byte moved begins anew with another one, and the client does not notice. It has to
    /// queue like any other; if it cannot, it ends as the server has ended it.
    fn begin_anew(&self, seat: &Seat) {
        let Some((client, unsent)) = self.relay.take_untouched_client() else { return };
        let Some(mut ticket) = self.held.lock().ticket.take() else { return };
        seat.unwatch(Side::Client, self.relay.client());
        ticket.entry().disconnected();
        if let Some((host, address)) = ticket.server.take() {
            ticket.note_left(&host, address, self.relay.end(), 0);
        }
        let search = Search { client, traffic: self.traffic.clone(), ticket, hunt: None, unsent, kept: None, asked: None };
        drop(self.traffic.pool.try_submit(Box::new(Session::search(search))));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(ticket) = &mut self.held.get_mut().ticket else { return };
        let (moved, end) = (self.relay.moved(), self.relay.end());
        ticket.bytes = (moved.to_server(), moved.to_client());
        ticket.ending = Some(Ending::Relayed(end));
        if end != End::Closed {
            let (to_server, to_client) = self.relay.undelivered();
            ticket.undelivered = (to_server as u32, to_client as u32);
        }
    }
}
