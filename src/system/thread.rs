//! Threads with a name and a stack of a known size.

use std::io;
use std::thread::{Builder, JoinHandle};

/// The stack of a thread that does little by itself: pool, accept and signal threads touch 12 KB of
/// it, measured under load.
pub const SMALL: usize = 64 * 1024;

/// The stack of a thread of which nobody has looked how much it needs: std's own choice.
pub const LARGE: usize = 2 * 1024 * 1024;

/// Starts one.
pub fn start(
    name: impl Into<String>,
    stack: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    // boxed: std's part is compiled once, and not for each body
    let body: Box<dyn FnOnce() + Send> = Box::new(body);
    Builder::new().name(name.into()).stack_size(stack).spawn(body)
}
