//! `crossbeam::channel`, as far as it is used: each call takes effect at once. A channel without
//! places is always full here, because nobody waits to receive.

use loom::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;

struct Channel<T> {
    capacity: usize,
    /// `None` once the receiver is gone.
    items: Mutex<Option<VecDeque<T>>>,
    has_changed: Condvar,
}

pub struct Sender<T>(Arc<Channel<T>>);

pub struct Receiver<T>(Arc<Channel<T>>);

pub struct TrySendError<T>(T);

pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel {
        capacity,
        items: Mutex::new(Some(VecDeque::new())),
        has_changed: Condvar::new(),
    });
    (Sender(channel.clone()), Receiver(channel))
}

impl<T> TrySendError<T> {
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender(self.0.clone())
    }
}

impl<T> Sender<T> {
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        match &mut *self.0.items.lock().unwrap() {
            Some(items) if items.len() < self.0.capacity => {
                items.push_back(item);
                Ok(())
            }
            _ => Err(TrySendError(item)),
        }
    }

    pub fn capacity(&self) -> Option<usize> {
        Some(self.0.capacity)
    }

    fn wait_for_room(&self) {
        let mut items = self.0.items.lock().unwrap();
        while items.as_ref().is_some_and(|items| items.len() >= self.0.capacity) {
            items = self.0.has_changed.wait(items).unwrap();
        }
    }
}

impl<T> Receiver<T> {
    pub fn try_recv(&self) -> Result<T, ()> {
        let first = self.0.items.lock().unwrap().as_mut().and_then(VecDeque::pop_front);
        first.inspect(|_| self.0.has_changed.notify_all()).ok_or(())
    }

    pub fn len(&self) -> usize {
        self.0.items.lock().unwrap().as_ref().map_or(0, VecDeque::len)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let items = self.0.items.lock().unwrap().take();
        self.0.has_changed.notify_all();
        drop(items);
    }
}

/// Of one sender.
pub struct Select<'a>(Option<Box<dyn Fn() + 'a>>);

impl<'a> Select<'a> {
    pub fn new() -> Select<'a> {
        Select(None)
    }

    pub fn send<T>(&mut self, sender: &'a Sender<T>) -> usize {
        self.0 = Some(Box::new(|| sender.wait_for_room()));
        0
    }

    pub fn ready(&mut self) -> usize {
        self.0.iter().for_each(|wait| wait());
        0
    }
}
