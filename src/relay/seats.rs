//! The sessions that have a place, by its number: what an event of the poller is about. Owns one lock.
//!
//! An event may be older than the session that has the number now: news are taken as hints, never as facts, so that it only costs a
//! look at a socket.

use std::sync::Arc;

use parking_lot::RwLock;

use super::seat::{Seat, Side};

/// Places, by number.
#[derive(Default)]
pub struct Seats(RwLock<Book>);

#[derive(Default)]
struct Book {
    seats: Vec<Option<Arc<Seat>>>,
    /// Numbers of empty places. The one left last is taken first, so that the numbers stay low.
    free: Vec<usize>,
}

impl Seats {
    /// Makes a session that is told its number, and lets it sit there.
    pub fn sit(&self, make: impl FnOnce(usize) -> Seat) -> Arc<Seat> {
        let mut book = self.0.write();
        let number = book.free.pop().unwrap_or(book.seats.len());
        let seat = Arc::new(make(number));
        match book.seats.get_mut(number) {
            Some(place) => *place = Some(seat.clone()),
            None => book.seats.push(Some(seat.clone())),
        }
        seat
    }

    /// The session of a number.
    pub fn find(&self, number: usize) -> Option<Arc<Seat>> {
        self.0.read().seats.get(number)?.clone()
    }

    /// The session is over: its number means nobody from now on. It ends when the last thread has let go of it.
    pub fn rise(&self, seat: &Arc<Seat>) {
        let _gone =
            self.0.write().seats.get_mut(seat.place.number).and_then(|place| place.take_if(|there| Arc::ptr_eq(there, seat)));
    }

    /// The number is free again.
    pub fn leave(&self, number: usize) {
        self.0.write().free.push(number);
    }

    /// The mark of a socket at the poller.
    pub fn mark(number: usize, side: Side) -> usize {
        number << 1 | usize::from(side == Side::Server)
    }

    /// What a mark means.
    pub fn read_mark(mark: usize) -> (usize, Side) {
        (mark >> 1, if mark & 1 == 0 { Side::Client } else { Side::Server })
    }
}
