//! A session in the pool: which of its two flows run, which wait and for what
//! ([`super::flow_state`]), and at which pollers its sockets are registered.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::direction::{Direction, Side};
use super::executor::Executor;
pub use super::flow_state::For;
use super::flow_state::{FlowState, Trigger};
use super::limits::{BUFFER, LEAST, Space};
use super::pipe::Pipes;
use super::poller::{Readiness, Token};
use super::quota::Unsent;

/// What a pool runs: a session, in two flows that may run at the same time, each on one thread at a
/// time.
pub trait Job: Send + Sync {
    /// Goes on with one flow until it is over or would have to wait. The first call is for
    /// [`Direction::ToServer`]; the other flow is started by [`Task::start_other`].
    fn run(&self, flow: Direction, task: &Arc<Task>, space: &mut Space) -> Next;

    /// Looks at the clock; afterwards the flows that wait go on, once. Returns after what time to
    /// call again.
    fn on_timer(&self) -> Duration;
}

/// What a flow wants after it has done what could be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// To be called when something like this happens. The sockets that this is about must be
    /// registered already.
    Wait(For),
    /// To be called again when others had their turn.
    Yield,
    /// Not to be called any more.
    Over,
}

/// The socket is registered with no poller.
const NOWHERE: u8 = 0;

/// A session in the pool. Dropping it drops the session first, then frees its number.
pub struct Task {
    pub(super) job: Box<dyn Job>,
    states: [FlowState; 2],
    /// The poller of each socket, counted from one; [`NOWHERE`] while there is none.
    pollers: [AtomicU8; 2],
    is_for_writing: [AtomicBool; 2],
    /// Held while a socket is registered or moved.
    moving: Mutex<()>,
    /// Beside bytes, something else may be there to be read: the end of the stream, an error.
    saw_rdhup: [AtomicBool; 2],
    /// The connection is, or was for a moment, over in both directions, or has failed.
    saw_hup: [AtomicBool; 2],
    /// Last, so that the session is dropped first.
    slot: Slot,
}

/// A number in the task table; dropping it frees the number.
struct Slot {
    number: usize,
    executor: Arc<dyn Executor>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.executor.clone().free(self.number);
    }
}

impl Task {
    pub(super) fn new(job: Box<dyn Job>, number: usize, executor: Arc<dyn Executor>) -> Task {
        let states = [FlowState::running(), FlowState::not_started()];
        let [is_for_writing, saw_rdhup, saw_hup] = Default::default();
        Task {
            job,
            states,
            pollers: Default::default(),
            is_for_writing,
            moving: Mutex::default(),
            saw_rdhup,
            saw_hup,
            slot: Slot { number, executor },
        }
    }

    /// Its number in the task table.
    pub(super) fn number(&self) -> usize {
        self.slot.number
    }

    /// Registers a socket of the session with a poller, unless that was done before. A flow must do
    /// so each time before it waits for the socket: it goes to another poller if there are more or
    /// less of them now.
    pub fn register_readable(&self, side: Side, socket: &impl AsFd) -> io::Result<()> {
        self.register(side, socket, false)
    }

    /// The same before it waits for room to write, too. Apart, because most sockets always have
    /// room, and to say so would wake a thread for nothing.
    pub fn register_writable(&self, side: Side, socket: &impl AsFd) -> io::Result<()> {
        self.register(side, socket, true)
    }

    fn register(&self, side: Side, socket: &impl AsFd, wants_room: bool) -> io::Result<()> {
        let pollers = self.slot.executor.pollers();
        let there = pollers.of(self.slot.number);
        let token = Token { number: self.slot.number, side };
        if self.registered(side, wants_room) == Some(there) {
            return Ok(());
        }
        // the two flows of a session have both sockets in common; nobody else waits for this, and
        // epoll_ctl does not wait
        let _one_at_a_time = self.moving.lock();
        let here = self.registered(side, false);
        let wants_room = wants_room || side.of(&self.is_for_writing).load(SeqCst);
        let at = match (pollers.register(there, socket.as_fd(), token, wants_room), here) {
            (Ok(()), Some(here)) if here != there => {
                // only now: events of both are welcome, those of none would be lost
                pollers.deregister(here, socket.as_fd());
                there
            }
            (Ok(()), _) => there,
            // where it is, it can stay, too
            (Err(_), Some(here)) => {
                pollers.register(here, socket.as_fd(), token, wants_room)?;
                here
            }
            (Err(e), None) => return Err(e),
        };
        side.of(&self.is_for_writing).store(wants_room, SeqCst);
        side.of(&self.pollers).store(at as u8 + 1, SeqCst);
        Ok(())
    }

    /// The poller of this socket, if it tells of what is wanted: of room, too, or not.
    fn registered(&self, side: Side, for_room: bool) -> Option<usize> {
        let is_enough = !for_room || side.of(&self.is_for_writing).load(SeqCst);
        let at = side.of(&self.pollers).load(SeqCst).checked_sub(1);
        at.filter(|_| is_enough).map(usize::from)
    }

    /// Whether events of this socket may have come before.
    pub fn is_registered(&self, side: Side) -> bool {
        side.of(&self.pollers).load(SeqCst) != NOWHERE
    }

    /// Where a read of the session may put what it finds: as much as the pool may hold of it.
    pub fn room<'a>(&self, space: &'a mut Space) -> &'a mut [MaybeUninit<u8>] {
        let most = if self.slot.executor.quota().has_room() { BUFFER } else { LEAST };
        let room = space.spare_capacity_mut();
        let most = room.len().min(most);
        room.get_mut(..most).unwrap_or_default()
    }

    /// Keeps a copy of bytes that were read and cannot be written yet.
    pub fn copy(&self, bytes: &[u8]) -> io::Result<Unsent> {
        self.slot.executor.quota().copy(bytes)
    }

    /// Keeps such bytes.
    pub fn keep(&self, bytes: Vec<u8>) -> Unsent {
        self.slot.executor.quota().keep(bytes)
    }

    /// [`Job::on_timer`] is called after this time at the latest.
    pub fn set_timer(&self, limit: Duration) {
        self.slot.executor.set_timer(self.slot.number, Instant::now() + limit);
    }

    /// Takes a socket from its poller, though it stays open by another handle.
    pub fn deregister(&self, side: Side, socket: &impl AsFd) {
        if let Some(at) = self.registered(side, false) {
            self.slot.executor.pollers().deregister(at, socket.as_fd());
        }
        self.note_closed(side);
    }

    /// Makes the first flow look again, if it waits, on a thread of the pool.
    pub fn wake(&self) {
        if self.wake_flow(Direction::ToServer) {
            self.slot.executor.clone().run_soon(self.slot.number, Direction::ToServer);
        }
    }

    /// The running flow begins with something that takes its time: another thread is to wait for
    /// events meanwhile.
    pub(super) fn promote_follower(&self) {
        self.slot.executor.promote_follower(self.slot.executor.pollers().of(self.slot.number));
    }

    /// The pipes that the pool lends to flows.
    pub(super) fn pipes(&self) -> &Arc<Pipes> {
        self.slot.executor.pipes()
    }

    /// The socket of this side was closed, and another one may come.
    pub fn note_closed(&self, side: Side) {
        side.of(&self.pollers).store(NOWHERE, SeqCst);
        side.of(&self.is_for_writing).store(false, SeqCst);
        side.of(&self.saw_rdhup).store(false, SeqCst);
        side.of(&self.saw_hup).store(false, SeqCst);
    }

    /// Whether a read that came back with less than it could have may have left something to be
    /// read that nobody will tell of: an end that came together with the bytes, or what stands
    /// behind an urgent byte.
    pub fn saw_rdhup(&self, side: Side) -> bool {
        side.of(&self.saw_rdhup).load(SeqCst)
    }

    /// Whether the poller has ever said that the connection hangs: then its state is worth a
    /// question.
    pub fn saw_hup(&self, side: Side) -> bool {
        side.of(&self.saw_hup).load(SeqCst)
    }

    /// Starts the second flow: it has its first turn when the first one pauses, or with the first
    /// event that concerns it.
    pub fn start_other(&self) {
        self.state(Direction::ToClient).start();
    }

    /// Whether the second flow was started and nobody has run it yet; then the caller must run it
    /// now.
    pub(super) fn take_other_first_turn(&self) -> bool {
        self.state(Direction::ToClient).take_first_turn()
    }

    /// Something has happened to a socket: notes it, and returns the flows that the caller must run
    /// now.
    pub(super) fn on_event(&self, side: Side, readiness: Readiness) -> [Option<Direction>; 2] {
        let saw_hup = readiness.intersects(Readiness::EPOLLHUP | Readiness::EPOLLERR);
        let saw_rdhup =
            saw_hup || readiness.intersects(Readiness::EPOLLRDHUP | Readiness::EPOLLPRI);
        // before anybody is woken by it
        if saw_rdhup {
            side.of(&self.saw_rdhup).store(true, SeqCst);
        }
        if saw_hup {
            side.of(&self.saw_hup).store(true, SeqCst);
        }
        let reader = match side {
            Side::Client => Direction::ToServer,
            Side::Server => Direction::ToClient,
        };
        let can_read = saw_rdhup || readiness.contains(Readiness::EPOLLIN);
        let can_write = saw_hup || readiness.contains(Readiness::EPOLLOUT);
        let reads = self.state(reader).on(Trigger::Source { can_read, saw_rdhup });
        let writes = self.state(reader.other()).on(Trigger::Sink { can_write });
        [reads.then_some(reader), writes.then_some(reader.other())]
    }

    /// Both flows, as far as they wait: the caller must run them now.
    pub(super) fn wake_flows(&self) -> [Option<Direction>; 2] {
        [Direction::ToServer, Direction::ToClient].map(|flow| self.wake_flow(flow).then_some(flow))
    }

    /// Makes a flow look again; returns whether the caller must run it now.
    pub(super) fn wake_flow(&self, flow: Direction) -> bool {
        self.state(flow).on(Trigger::Wake)
    }

    /// The state of a flow.
    pub fn state(&self, flow: Direction) -> &FlowState {
        match (flow, &self.states) {
            (Direction::ToServer, [state, _]) | (Direction::ToClient, [_, state]) => state,
        }
    }

    /// A flow is done; returns whether the session is over.
    pub(super) fn finish(&self, flow: Direction) -> bool {
        self.state(flow).finish();
        self.state(flow.other()).is_over()
    }
}
