//! `relay::quota` without a limit.

use std::io;
use std::sync::Arc;

pub struct Quota;

pub struct Unsent;

impl Quota {
    pub fn new(_most: usize) -> Arc<Quota> {
        Arc::new(Quota)
    }

    pub fn set_most(&self, _most: usize) {}

    pub fn has_room(&self) -> bool {
        true
    }

    pub fn copy(&self, _bytes: &[u8]) -> io::Result<Unsent> {
        Ok(Unsent)
    }

    pub fn keep(&self, _bytes: Vec<u8>) -> Unsent {
        Unsent
    }
}
