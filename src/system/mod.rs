//! What the operating system gives: sockets, limits, the process, the log. Knows nothing of services or hosts.

pub mod limits;
pub mod logging;
pub mod process;
#[allow(unsafe_code)]
mod raw;
pub mod replace;
pub mod sink;
pub mod socket;
