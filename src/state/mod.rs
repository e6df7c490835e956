//! The running state: director -> service -> group -> host. All behind locks of its own, none of
//! which is held across a system call; no sockets here. `traffic` picks hosts and reports how they
//! fare, `daemon` builds it from a configuration, and [`Director::apply`] is the one way to change
//! it.

mod affinity;
mod apply;
mod director;
mod events;
mod group;
mod handover_state;
mod health;
mod history;
mod host;
mod reloads;
mod service;
mod sessions;
pub mod snapshot;
mod waiting;

pub use apply::Preview;
pub use director::Director;
pub use events::{Event, Events};
pub use group::{Group, GroupHealth};
pub use handover_state::HandoverState;
pub use health::{Health, Reason};
pub use history::Sample;
pub use host::{Host, Lease, Names};
pub use reloads::{RefusedReload, Reloads};
pub use service::Service;
pub use sessions::{Entry, Link, OpenSession, Sessions};
pub use waiting::{Wait, Waiting};
