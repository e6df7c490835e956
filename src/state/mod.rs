//! The running state: director -> service -> group -> host. All behind locks of its own, none of
//! which is held across a system call; no sockets here. `traffic` picks hosts and reports how they
//! fare, `daemon` builds it from a configuration, and [`Director::apply`] is the one way to change
//! it.

mod apply;
mod director;
mod events;
mod group;
mod health;
mod heritage;
mod history;
mod host;
mod reloads;
mod roster;
mod service;
pub mod snapshot;
mod waiting;

pub use apply::Preview;
pub use director::{Director, Names};
pub use events::{Event, Events};
pub use group::{Group, Standing};
pub use health::{Health, Reason};
pub use heritage::Heritage;
pub use history::Sample;
pub use host::{Host, Lease, Operator};
pub use reloads::{Refused, Reloads};
pub use roster::{Entry, Line, Link, Roster};
pub use service::{Fate, Service};
pub use waiting::{Wait, Waiting};
