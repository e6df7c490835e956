//! The running state: director -> service -> group -> host. All behind locks of its own, none of which is held across a system
//! call; no sockets here. `traffic` picks hosts and reports how they fare; `daemon` builds it from a configuration.

mod director;
mod group;
mod host;
mod service;

pub use director::Director;
pub use group::Group;
pub use host::{Health, Host, Lease, Reason};
pub use service::{Fate, Service};
