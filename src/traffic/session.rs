//! One client connection, from accept to its log line. Made by a listener, run by two pool threads.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use super::Traffic;
use super::connect::{Connected, connect};
use super::first::{Kept, Outcome};
use super::ticket::{Ending, Ticket};
use crate::relay::pool::{Pair, Space};
use crate::relay::{Direction, End, Relay};
use crate::state::{Lease, Link, Service};
use crate::system::socket;

/// A session that has no server yet.
pub struct Session {
    client: TcpStream,
    traffic: Arc<Traffic>,
    ticket: Ticket,
}

/// A session that is being relayed; both of its threads hold it, and the last one ends it. The order of the fields is the order of
/// the end: sockets closed (a stop or a drain may hold the relay for a moment longer), lease given back, log line written.
struct Running {
    relay: Arc<Relay>,
    _lease: Lease,
    ticket: Ticket,
}

impl Session {
    /// A session for a client that was just accepted. `peer` and `listen` are the two ends of its connection.
    pub fn new(client: TcpStream, peer: SocketAddr, listen: SocketAddr, service: Arc<Service>, traffic: Arc<Traffic>) -> Session {
        // a client that reaches nobody must not take that for an empty answer; taken back when somebody is there
        socket::reset_on_close(&client, true);
        let ticket = Ticket::new(&traffic.director.roster, service, peer, listen);
        Session { client, traffic, ticket }
    }

    /// Connects the client to a host and relays until both have ended. `pair` is the place of the second flow.
    pub fn run(self, pair: Pair, space: &mut Space) {
        let Some((session, Said { by_client, by_server })) = self.connect(space) else { return };
        let session = Arc::new(session);
        let other = session.clone();
        pair.run_beside(move |space| other.relay.run(Direction::ToClient, &by_server, space));
        session.relay.run(Direction::ToServer, &by_client, space);
    }

    /// The session with its server, and what has to go on its way first; `None` when it has ended, which its ticket knows.
    fn connect(self, space: &mut Space) -> Option<(Running, Said)> {
        let Session { client, traffic, mut ticket } = self;
        match find(&client, &traffic, &mut ticket, space) {
            Ok(found) => Running::new(client, found, ticket),
            Err(ending) => {
                ticket.ending = Some(ending);
                None
            }
        }
    }
}

/// What was read from both sides before there was a relay, and has not gone on to the other.
#[derive(Default)]
struct Said {
    by_client: Vec<u8>,
    by_server: Vec<u8>,
}

/// A host for the client, what went to it already, and what it has answered.
struct Found {
    connected: Connected,
    kept: Option<Kept>,
    answer: Vec<u8>,
}

/// Connects to a host of the enabled group; with `<replay>`, goes on to the next one until one has answered.
fn find(client: &TcpStream, traffic: &Traffic, ticket: &mut Ticket, space: &mut Space) -> Result<Found, Ending> {
    let service = ticket.service.clone();
    let group = service.enabled();
    ticket.group = Some(group.name().to_owned());
    let mut kept = service.replay_limit().map(Kept::new);
    let mut tried = Vec::new();
    loop {
        let result = connect(&service, &group, client, traffic, &mut tried);
        (ticket.tries, ticket.connect) = (tried.len(), ticket.age());
        let connected = result?;
        let Some(exchange) = &mut kept else { return Ok(Found { connected, kept, answer: Vec::new() }) };
        let is_over = || match ticket.entry().is_stopping() {
            true => Some(End::Stopped),
            false => connected.lease.host().is_drained().then_some(End::Drained),
        };
        match exchange.exchange(client, &connected.server, service.idle_limit(), &is_over, space)? {
            Outcome::Answer(answer) => return Ok(Found { connected, kept, answer }),
            Outcome::NoWord => {}
        }
    }
}

impl Running {
    /// Makes the relay. `None` when a socket has died in the meantime; the ticket says so.
    fn new(client: TcpStream, found: Found, mut ticket: Ticket) -> Option<(Running, Said)> {
        let Found { connected: Connected { server, address, lease }, kept, answer } = found;
        socket::reset_on_close(&client, false);
        let host = lease.host().clone();
        let Ok(relay) = Relay::new(client, server, ticket.service.idle_limit(), host.meter().clone()) else {
            ticket.ending = Some(Ending::ClientGone);
            return None;
        };
        let mut said = Said { by_server: answer, ..Said::default() };
        if let Some(kept) = kept {
            relay.take_over(kept.sent(), kept.is_told());
            said.by_client = kept.rest().to_vec();
        }
        let relay = Arc::new(relay);
        let group = ticket.group.clone().unwrap_or_default();
        ticket.entry().connected(Link::new(group, host.clone(), address, &relay));
        ticket.server = Some((host, address));
        Some((Running { relay, _lease: lease, ticket }, said))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let moved = self.relay.moved();
        self.ticket.bytes = (moved.to_server(), moved.to_client());
        self.ticket.ending = Some(Ending::Relayed(self.relay.end()));
    }
}
