//! One client connection, from accept to its log line. Made by a listener, run by the pool.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::connect::Connected;
use super::replay::ReplayBuffer;
use super::search::{Found, Search};
use super::session_log::SessionLog;
use super::{MOST_ADDRESSES, Traffic};
use crate::relay::pool::Space;
use crate::relay::task::{For, Job, Next, Task};
use crate::relay::{CloseReason, Direction, Relay, Side, Unsent};
use crate::state::{Lease, Link, Service};
use crate::system::socket;

/// How often a session without a server checks whether the program is stopping.
const STOP_CHECK: Duration = Duration::from_millis(500);

/// A session: it searches for a server, then it is relayed.
pub struct Session {
    /// While there is no relay; taken out by the one thread that goes on with it.
    search: Mutex<Option<Box<Search>>>,
    running: OnceLock<Running>,
    look: Duration,
}

/// A session that is being relayed. The order of the fields is the order of the end: sockets closed
/// (a stop or a drain may hold the relay for a moment longer), lease given back, log line written.
struct Running {
    relay: Arc<Relay>,
    traffic: Arc<Traffic>,
    held: Mutex<Held>,
}

/// What a session gives back at its end, or before.
struct Held {
    /// Given back when the server has left: then it has no work with the session any more.
    lease: Option<Lease>,
    /// Taken out when the session tries another host.
    session_log: Option<Box<SessionLog>>,
}

impl Session {
    /// A session for a client that was just accepted from a socket that was
    /// [prepared](socket::prepare_clients). `peer` and `listen` are the two ends of its connection.
    pub fn new(
        client: TcpStream,
        peer: SocketAddr,
        listen: SocketAddr,
        service: Arc<Service>,
        traffic: Arc<Traffic>,
    ) -> Session {
        let replay = service.replay_limit().map(ReplayBuffer::new);
        let session_log =
            Box::new(SessionLog::new(&traffic.director.sessions, service, peer, listen));
        Session::search(Search::new(client, traffic, session_log, Unsent::default(), replay))
    }

    fn search(search: Search) -> Session {
        let service = &search.session_log.service;
        // a connect is looked at by the share that each of several addresses has of its time
        let look = STOP_CHECK
            .min(service.connect_limit() / MOST_ADDRESSES as u32)
            .min(service.timeouts().half / 4)
            .max(Duration::from_millis(1));
        Session { search: Mutex::new(Some(Box::new(search))), running: OnceLock::new(), look }
    }

    /// Goes on with the search. Without a relay afterwards, returns what to do instead.
    fn find(&self, task: &Arc<Task>, space: &mut Space) -> Result<&Running, Next> {
        let mut search = self.search.lock().take().ok_or(Next::Over)?;
        match search.step(task, space) {
            Ok(Some(found)) => {
                let running = self.running.get_or_init(|| Running::new(*search, found, task));
                task.start_other();
                Ok(running)
            }
            Ok(None) => {
                *self.search.lock() = Some(search);
                Err(Next::Wait(For::Anything))
            }
            Err(reason) => {
                if reason == CloseReason::Closed {
                    socket::reset_on_close(&search.client, false);
                }
                search.session_log.close_reason = Some(reason);
                Err(Next::Over)
            }
        }
    }
}

impl Job for Session {
    fn run(&self, flow: Direction, task: &Arc<Task>, space: &mut Space) -> Next {
        let running = match self.running.get().map_or_else(|| self.find(task, space), Ok) {
            Ok(running) => running,
            Err(next) => return next,
        };
        let next = running.relay.run(flow, task, space);
        if running.relay.has_server_left() {
            let _lease = running.held.lock().lease.take();
        }
        if next == Next::Over && running.relay.is_over() {
            running.retry(task);
        }
        next
    }

    fn on_timer(&self) -> Duration {
        self.running.get().map_or(self.look, |running| running.relay.check_timeouts())
    }
}

impl Running {
    /// Makes the relay.
    fn new(search: Search, found: Found, task: &Task) -> Running {
        let Search { client, traffic, mut session_log, mut unsent, replay, .. } = search;
        let Found {
            connected: Connected { group, server, address, lease, sent, .. },
            answer,
            is_client_lost,
            server_lost,
        } = found;
        let host = lease.host().clone();
        let relay =
            Relay::new(client, server, session_log.service.timeouts(), host.meter().clone());
        let server_lost = server_lost.or(replay.as_ref().and_then(ReplayBuffer::lost));
        match replay {
            Some(replay) => {
                let (sent, is_end_sent) = (replay.sent(), replay.is_end_sent());
                relay.take_over(
                    sent,
                    is_end_sent,
                    task.keep(replay.into_rest()),
                    task.keep(answer),
                );
            }
            None if unsent.bytes.is_empty() => {}
            None => {
                unsent.bytes.drain(..sent);
                relay.take_over(sent, false, unsent, Unsent::default());
            }
        }
        if let Some(end) = server_lost {
            relay.note_loss(Side::Server, end);
        }
        if is_client_lost {
            relay.note_loss(Side::Client, CloseReason::ResetByClient);
        }
        let relay = Arc::new(relay);
        session_log.entry().connected(Link::new(group, host.clone(), address, &relay));
        session_log.server = Some((host, address));
        Running {
            relay,
            traffic,
            held: Mutex::new(Held { lease: Some(lease), session_log: Some(session_log) }),
        }
    }

    /// A session whose server went before a byte moved tries another one, and the client does not
    /// notice. It has to queue like any other; if it cannot, it ends as the server has
    /// ended it.
    fn retry(&self, task: &Task) {
        let Some((client, unsent)) = self.relay.take_untouched_client() else { return };
        let Some(mut session_log) = self.held.lock().session_log.take() else { return };
        task.deregister(Side::Client, self.relay.client());
        session_log.entry().disconnected();
        if let Some((host, address)) = session_log.server.take() {
            session_log.note_left(&host, address, self.relay.end(), 0);
        }
        let search = Search::new(client, self.traffic.clone(), session_log, unsent, None);
        drop(self.traffic.pool.try_submit(Box::new(Session::search(search))));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(session_log) = &mut self.held.get_mut().session_log else { return };
        let (moved, reason) = (self.relay.moved(), self.relay.end());
        session_log.bytes = (moved.to_server(), moved.to_client());
        session_log.close_reason = Some(reason);
        if reason != CloseReason::Closed {
            let (to_server, to_client) = self.relay.undelivered();
            session_log.undelivered = (to_server as u32, to_client as u32);
        }
    }
}
