//! `relay::pipe` without pipes.

use std::sync::Arc;

pub const USUAL: usize = 0;

pub struct Pipes;

impl Pipes {
    pub fn new(_most: usize, _size: usize) -> Arc<Pipes> {
        Arc::new(Pipes)
    }

    pub fn set_limits(&self, _most: usize, _size: usize) {}
}
