//! One client connection, from accept to its log line. Made by a listener, carried by the pool.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::connect::{Connected, Hunt};
use super::first::{Kept, Outcome};
use super::ticket::{Ending, Ticket};
use super::{MOST_ADDRESSES, Traffic};
use crate::relay::pool::Space;
use crate::relay::seat::{Carried, For, Next, Seat, Side};
use crate::relay::{Direction, End, Relay};
use crate::state::{Lease, Link, Service};
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
    /// With `<replay>`: what the client has sent so far.
    kept: Option<Kept>,
    /// With `<replay>`: a host that is connected and has not answered yet.
    asked: Option<Connected>,
}

/// A session that is being relayed. The order of the fields is the order of the end: sockets closed (a stop or a drain may hold the
/// relay for a moment longer), lease given back, log line written.
struct Running {
    relay: Arc<Relay>,
    _lease: Lease,
    ticket: Box<Ticket>,
}

impl Session {
    /// A session for a client that was just accepted from a socket that was [prepared](socket::prepare_clients). `peer` and `listen`
    /// are the two ends of its connection.
    pub fn new(client: TcpStream, peer: SocketAddr, listen: SocketAddr, service: Arc<Service>, traffic: Arc<Traffic>) -> Session {
        // a connect is looked at by the share that each of several addresses has of its time
        let look =
            LOOK.min(service.connect_limit() / MOST_ADDRESSES as u32).min(service.idle_limit() / 4).max(Duration::from_millis(1));
        let kept = service.replay_limit().map(Kept::new);
        let ticket = Box::new(Ticket::new(&traffic.director.roster, service, peer, listen));
        let search = Search { client, traffic, ticket, hunt: None, kept, asked: None };
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
                search.ticket.ending = Some(ending);
                Err(Next::Over)
            }
        }
    }
}

impl Carried for Session {
    fn go(&self, half: Direction, seat: &Arc<Seat>, space: &mut Space) -> Next {
        match self.running.get().map_or_else(|| self.find(seat, space), Ok) {
            Ok(running) => running.relay.go(half, seat, space),
            Err(next) => next,
        }
    }

    fn look(&self) -> Duration {
        self.running.get().map_or(self.look, |running| running.relay.look())
    }
}

/// A host for the client, and what it has answered.
struct Found {
    connected: Connected,
    answer: Vec<u8>,
}

impl Search {
    /// Goes on until a host is connected; with `<replay>`, until one has answered. `None`: it takes its time.
    fn step(&mut self, seat: &Seat, space: &mut Space) -> Result<Option<Found>, Ending> {
        loop {
            let asked = self.asked.take();
            let connected = match asked.map_or_else(|| self.connect(seat), |asked| Ok(Some(asked)))? {
                Some(connected) => connected,
                None => return Ok(None),
            };
            match self.ask(&connected, seat, space)? {
                Some(Outcome::Answer(answer)) => return Ok(Some(Found { connected, answer })),
                Some(Outcome::NoWord) => {
                    drop(connected);
                    seat.forget(Side::Server);
                }
                None => {
                    self.asked = Some(connected);
                    return Ok(None);
                }
            }
        }
    }

    /// Connects to a host of the enabled group, or to the next one of the group that was enabled when the search began.
    fn connect(&mut self, seat: &Seat) -> Result<Option<Connected>, Ending> {
        let Search { client, traffic, ticket, hunt, kept, .. } = self;
        let hunt = hunt.get_or_insert_with(|| {
            let group = ticket.service.enabled();
            ticket.group = Some(group.clone());
            Hunt::new(ticket.service.clone(), group, ticket.age() < FRESH)
        });
        let result = hunt.step(client, traffic, seat);
        (ticket.tries, ticket.connect) = (hunt.tries(), ticket.age());
        match (&result, kept) {
            (Ok(None), _) if ticket.entry().is_stopping() => return Err(Ending::Relayed(End::Stopped)),
            (Ok(Some(_)), Some(kept)) => kept.begin(),
            _ => {}
        }
        result
    }

    /// With `<replay>`, the first exchange with a host; without it, any host that is connected is the one.
    fn ask(&mut self, connected: &Connected, seat: &Seat, space: &mut Space) -> Result<Option<Outcome>, Ending> {
        let Search { client, ticket, kept, .. } = self;
        let Some(kept) = kept else { return Ok(Some(Outcome::Answer(Vec::new()))) };
        let is_over = || match ticket.entry().is_stopping() {
            true => Some(End::Stopped),
            false => connected.lease.host().is_drained().then_some(End::Drained),
        };
        let outcome = kept.step(client, &connected.server, ticket.service.idle_limit(), &is_over, space)?;
        if outcome.is_none() {
            seat.watch(Side::Client, client).map_err(|_| Ending::Shortage)?;
            seat.watch_room(Side::Server, &connected.server).map_err(|_| Ending::Shortage)?;
        }
        Ok(outcome)
    }
}

impl Running {
    /// Makes the relay.
    fn new(search: Search, found: Found) -> Running {
        let Search { client, mut ticket, kept, .. } = search;
        let Found { connected: Connected { group, server, address, lease }, answer } = found;
        // there is somebody: from now on an end is an end
        socket::reset_on_close(&client, false);
        let host = lease.host().clone();
        let relay = Relay::new(client, server, ticket.service.idle_limit(), host.meter().clone());
        if let Some(kept) = kept {
            relay.take_over(kept.sent(), kept.is_told(), kept.rest().to_vec(), answer);
        }
        let relay = Arc::new(relay);
        ticket.entry().connected(Link::new(group, host.clone(), address, &relay));
        ticket.server = Some((host, address));
        Running { relay, _lease: lease, ticket }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let moved = self.relay.moved();
        self.ticket.bytes = (moved.to_server(), moved.to_client());
        self.ticket.ending = Some(Ending::Relayed(self.relay.end()));
    }
}
