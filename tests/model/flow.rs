//! The state of a flow: no wake-up is lost, and no two threads run it at once.
//!
//! Two sockets stand for the kernel's: a lock around what can be read from one and written to the
//! other. Like the kernel, whoever changes one tells of it afterwards, by an event.

use loom::cell::Cell;
use loom::sync::{Arc, Mutex};
use loom::thread;
use model::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use model::relay::flow_state::{FlowState, For, Trigger};

const BYTES: Trigger = Trigger::Source { can_read: true, saw_rdhup: false };
const ROOM: Trigger = Trigger::Sink { can_write: true };

/// A flow that copies from its source to its sink whatever there is, and is cancelled at most once.
struct Flow {
    state: FlowState,
    readable: Mutex<usize>,
    room: Mutex<usize>,
    /// Read and not written yet; only whoever runs the flow may touch it.
    held: Cell<usize>,
    written: AtomicUsize,
    is_cut: AtomicBool,
}

impl Flow {
    fn new(state: FlowState, readable: usize, room: usize) -> Arc<Flow> {
        Arc::new(Flow {
            state,
            readable: Mutex::new(readable),
            room: Mutex::new(room),
            held: Cell::new(0),
            written: AtomicUsize::new(0),
            is_cut: AtomicBool::new(false),
        })
    }

    /// What a pool thread does with a flow that it is to run.
    fn run(&self) {
        loop {
            let what = match self.step() {
                None => return self.state.finish(),
                Some(what) => what,
            };
            if self.state.wait(what) {
                return;
            }
        }
    }

    /// Copies as far as it goes; `None` once it was cut.
    fn step(&self) -> Option<For> {
        loop {
            if self.is_cut.load(SeqCst) {
                return None;
            }
            // the checker complains if another thread is at it
            if self.held.get() > 0 && !self.write() {
                self.state.widen();
                // room that comes after this try is told of
                if !self.write() {
                    return Some(For::Sink);
                }
            }
            let read = std::mem::take(&mut *self.readable.lock().unwrap());
            if read == 0 {
                return Some(For::Source);
            }
            self.held.set(read);
        }
    }

    /// Writes what there is room for; returns whether that was all.
    fn write(&self) -> bool {
        let mut room = self.room.lock().unwrap();
        let (held, count) = (self.held.get(), self.held.get().min(*room));
        *room -= count;
        self.held.set(held - count);
        self.written.fetch_add(count, SeqCst);
        count == held
    }

    /// What a thread does that has heard of an event.
    fn on(&self, trigger: Trigger) {
        if self.state.on(trigger) {
            self.run();
        }
    }

    fn receive(&self, count: usize) {
        *self.readable.lock().unwrap() += count;
        self.on(BYTES);
    }

    fn make_room(&self, count: usize) {
        *self.room.lock().unwrap() += count;
        self.on(ROOM);
    }

    fn cut(&self) {
        self.is_cut.store(true, SeqCst);
        self.on(Trigger::Wake);
    }
}

/// Runs this with at most so many switches of threads that none of them asked for.
fn check(act: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(act);
}

/// Does this, and each of the others on a thread of its own.
fn beside(flow: &Arc<Flow>, here: fn(&Flow), others: [fn(&Flow); 2]) {
    let others = others.map(|act| {
        let flow = flow.clone();
        thread::spawn(move || act(&flow))
    });
    here(flow);
    others.into_iter().for_each(|other| other.join().unwrap());
}

fn assert_is_over(flow: &Flow) {
    assert!(flow.state.is_over());
    assert!(![BYTES, ROOM, Trigger::Wake].into_iter().any(|event| flow.state.on(event)));
}

#[test]
fn bytes_that_come_in_two_events_on_two_threads_are_all_passed_on() {
    check(|| {
        let flow = Flow::new(FlowState::running(), 0, 9);
        beside(&flow, Flow::run, [|flow| flow.receive(1), |flow| flow.receive(2)]);
        assert_eq!(flow.written.load(SeqCst), 3);
    });
}

#[test]
fn bytes_and_room_that_come_at_once_are_both_seen() {
    check(|| {
        let flow = Flow::new(FlowState::running(), 1, 0);
        beside(&flow, Flow::run, [|flow| flow.receive(1), |flow| flow.make_room(2)]);
        assert_eq!(flow.written.load(SeqCst), 2);
    });
}

#[test]
fn a_flow_that_is_cut_beside_two_events_ends_and_stays_so() {
    check(|| {
        let flow = Flow::new(FlowState::running(), 1, 0);
        let with_bytes: [fn(&Flow); 2] = [
            |flow| flow.receive(1),
            |flow| {
                flow.make_room(2);
                flow.cut();
            },
        ];
        beside(&flow, Flow::run, with_bytes);
        assert_is_over(&flow);
    });
}

#[test]
fn a_flow_that_waits_is_run_by_one_of_those_who_hear_of_something_and_ends() {
    check(|| {
        let flow = Flow::new(FlowState::running(), 1, 0);
        flow.run();
        beside(&flow, Flow::cut, [|flow| flow.receive(1), |flow| flow.make_room(2)]);
        assert_is_over(&flow);
    });
}

#[test]
fn the_first_turn_is_had_once_and_no_byte_before_it_is_forgotten() {
    check(|| {
        let flow = Flow::new(FlowState::not_started(), 0, 9);
        let other = flow.clone();
        let event = thread::spawn(move || other.receive(1));
        // the other flow of the session has started it, and pauses
        flow.state.start();
        if flow.state.take_first_turn() {
            flow.run();
        }
        event.join().unwrap();
        assert_eq!(flow.written.load(SeqCst), 1);
    });
}
