//! One client connection, from accept to its log line. Made by a listener, run by two pool threads.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use super::Traffic;
use super::connect::{Connected, connect};
use super::ticket::{Ending, Ticket};
use crate::relay::pool::{Pair, Space};
use crate::relay::{Direction, End, Relay};
use crate::state::{Lease, Link, Service};

/// A session that has no server yet.
pub struct Session {
    client: TcpStream,
    traffic: Arc<Traffic>,
    ticket: Ticket,
}

/// A session that is being relayed; both of its threads hold it, and the last one ends it (a stop or a drain may hold the relay for
/// a moment longer). The order of the fields is the order
/// of the end: sockets closed, lease given back, log line written.
struct Running {
    relay: Arc<Relay>,
    _lease: Lease,
    ticket: Ticket,
}

impl Session {
    /// A session for a client that was just accepted. `peer` and `listen` are the two ends of its connection.
    pub fn new(client: TcpStream, peer: SocketAddr, listen: SocketAddr, service: Arc<Service>, traffic: Arc<Traffic>) -> Session {
        let ticket = Ticket::new(&traffic.director.roster, service, peer, listen);
        Session { client, traffic, ticket }
    }

    /// Connects the client to a host and relays until both have ended. `pair` is the place of the second flow.
    pub fn run(self, pair: Pair, space: &mut Space) {
        let Some(session) = self.connect() else { return };
        let session = Arc::new(session);
        let other = session.clone();
        if let Err(e) = pair.run_beside(move |space| other.relay.run(Direction::ToClient, space)) {
            log::error!("pool state=short reason=\"no thread for a flow: {e}\"");
            session.relay.cut(End::Shortage);
        }
        session.relay.run(Direction::ToServer, space);
    }

    fn connect(self) -> Option<Running> {
        let Session { client, traffic, mut ticket } = self;
        let group = ticket.service.enabled();
        ticket.group = Some(group.name().to_owned());
        let mut tried = Vec::new();
        let result = connect(&ticket.service, &group, &client, &traffic, &mut tried);
        ticket.tries = tried.len();
        ticket.connect = ticket.age();
        match result {
            Ok(Connected { server, address, lease }) => {
                ticket.server = Some((lease.host().clone(), address));
                let total = lease.host().meter().clone();
                match Relay::new(client, server, ticket.service.idle_limit(), total) {
                    Ok(relay) => {
                        let relay = Arc::new(relay);
                        let link = Link::new(group.name().to_owned(), lease.host().clone(), address, &relay);
                        ticket.entry().connected(link);
                        return Some(Running { relay, _lease: lease, ticket });
                    }
                    Err(_) => ticket.ending = Some(Ending::ClientGone),
                }
            }
            Err(ending) => ticket.ending = Some(ending),
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let moved = self.relay.moved();
        self.ticket.bytes = (moved.to_server(), moved.to_client());
        self.ticket.ending = Some(Ending::Relayed(self.relay.end()));
    }
}
