//! What the operating system gives: sockets, limits, the process, the terminal, the log. Knows
//! nothing of services or hosts.

pub mod atomic_write;
pub mod channel;
pub mod connecting;
mod control_group;
pub mod date;
pub mod fault;
pub mod inherited;
pub mod interfaces;
pub mod journal;
pub mod limits;
mod lines;
pub mod log_output;
pub mod logging;
pub mod memory;
mod nofollow;
pub mod notify;
pub mod pidfile;
pub mod poll_timeout;
pub mod process;
pub mod random;
#[allow(unsafe_code)]
mod raw;
pub mod shortage;
pub mod socket;
pub mod successor;
pub mod syslog;
pub mod tcp_info;
pub mod terminal;
pub mod thread;
pub mod unix_socket;
pub mod waker;
