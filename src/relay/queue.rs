//! The queue of sessions before the pool: a bounded channel, whose senders, the accept threads, wait
//! while it is full. When the limit changes, another channel takes its place. The one lock here
//! guards which it is, and is held for no longer than a look at it takes.

use crossbeam::channel::{Receiver, Select, Sender, TrySendError, bounded};
use parking_lot::RwLock;

/// What waits, in its order.
pub struct Queue<T>(RwLock<Ends<T>>);

struct Ends<T> {
    /// `None` when it was closed.
    sender: Option<Sender<T>>,
    receiver: Receiver<T>,
    /// What a lower limit left no room for. It is older than the rest.
    excess: Receiver<T>,
}

impl<T> Queue<T> {
    /// An empty one of so many places.
    pub fn new(limit: usize) -> Queue<T> {
        Queue(RwLock::new(Ends::holding(Vec::new(), limit)))
    }

    /// Puts one to the end; waits while there is no room. Gives it back if the queue was closed.
    pub fn push(&self, mut item: T) -> Result<(), T> {
        loop {
            match self.try_push(item) {
                Ok(()) => return Ok(()),
                Err(back) => item = back,
            }
            let Some(sender) = self.0.read().sender.clone() else { return Err(item) };
            // not sent here: the channel may be replaced in the same moment, and the item lost
            let mut room = Select::new();
            room.send(&sender);
            room.ready();
        }
    }

    /// The same without waiting; gives it back if there is no room, too.
    pub fn try_push(&self, item: T) -> Result<(), T> {
        match &self.0.read().sender {
            Some(sender) => sender.try_send(item).map_err(TrySendError::into_inner),
            None => Err(item),
        }
    }

    /// Takes the oldest one.
    pub fn pop(&self) -> Option<T> {
        self.0.read().pop()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        let ends = self.0.read();
        ends.excess.len() + ends.receiver.len()
    }

    /// Changes the limit. What waits goes on waiting, in its order; nothing more comes in before
    /// fewer wait than the limit says. Who waits for room looks again: the old channel has no
    /// receiver any more.
    pub fn set_limit(&self, limit: usize) {
        let mut ends = self.0.write();
        if ends.sender.as_ref().is_some_and(|sender| sender.capacity() != Some(limit)) {
            let items = std::iter::from_fn(|| ends.pop()).collect();
            *ends = Ends::holding(items, limit);
        }
    }

    /// Drops what waits, and takes nothing more.
    pub fn close(&self) {
        let closed = Ends { sender: None, ..Ends::holding(Vec::new(), 0) };
        let old = std::mem::replace(&mut *self.0.write(), closed);
        // what waits goes with its channel, and without the lock
        drop(old);
    }
}

impl<T> Ends<T> {
    /// The ends of a channel of so many places, with these in it.
    fn holding(items: Vec<T>, limit: usize) -> Ends<T> {
        let over = items.len().saturating_sub(limit);
        let ((to_excess, excess), (sender, receiver)) = (bounded(over), bounded(limit));
        for (number, item) in items.into_iter().enumerate() {
            // there is room: each of the two was made for its share
            let _ = if number < over { to_excess.try_send(item) } else { sender.try_send(item) };
        }
        Ends { sender: Some(sender), receiver, excess }
    }

    fn pop(&self) -> Option<T> {
        self.excess.try_recv().or_else(|_| self.receiver.try_recv()).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn all(queue: &Queue<usize>) -> Vec<usize> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn it_holds_no_more_than_its_limit() {
        let queue = Queue::new(2);
        assert_eq!([1, 2, 3].map(|item| queue.try_push(item)), [Ok(()), Ok(()), Err(3)]);
        assert_eq!((queue.len(), queue.pop(), queue.try_push(4)), (2, Some(1), Ok(())));
        assert_eq!((all(&queue), queue.is_empty()), (vec![2, 4], true));
    }

    #[test]
    fn a_lower_limit_loses_nothing_and_lets_nothing_in_until_fewer_wait() {
        let queue = Queue::new(4);
        (0..4).for_each(|item| queue.push(item).unwrap());
        queue.set_limit(2);
        assert_eq!((queue.len(), queue.try_push(9)), (4, Err(9)));
        queue.set_limit(1);
        for oldest in 0..4 {
            assert_eq!((queue.try_push(9), queue.pop()), (Err(9), Some(oldest)));
        }
        assert_eq!((queue.try_push(9), queue.try_push(10)), (Ok(()), Err(10)));
    }

    #[test]
    fn a_higher_limit_lets_in_who_waits_for_room_and_a_close_gives_it_back() {
        let queue = Arc::new(Queue::new(1));
        queue.push(1).unwrap();
        let waiting = |item| {
            let queue = queue.clone();
            thread::spawn(move || queue.push(item))
        };
        let second = waiting(2);
        queue.set_limit(2);
        assert_eq!((second.join().unwrap(), queue.len()), (Ok(()), 2));
        let third = waiting(3);
        queue.close();
        assert_eq!((third.join().unwrap(), queue.len(), queue.push(4)), (Err(3), 0, Err(4)));
    }

    #[test]
    fn nothing_is_lost_or_doubled_while_the_limit_changes_under_many_threads() {
        const EACH: usize = 2000;
        let queue = Arc::new(Queue::new(1));
        let senders: Vec<_> = (0..3)
            .map(|sender| {
                let queue = queue.clone();
                thread::spawn(move || {
                    (0..EACH).for_each(|item| queue.push(sender * EACH + item).unwrap())
                })
            })
            .collect();
        let mut came = Vec::new();
        while came.len() < 3 * EACH {
            queue.set_limit(came.len() % 5 + 1);
            came.extend(queue.pop());
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        for sender in 0..3 {
            let of_one: Vec<_> = came.iter().filter(|item| **item / EACH == sender).collect();
            assert!(of_one.len() == EACH && of_one.is_sorted(), "{sender}: {}", of_one.len());
        }
        assert!(queue.is_empty());
    }
}
