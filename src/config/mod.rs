//! The configuration: XML in, plain values out, every complaint with its line and column.
//!
//! No locks, sockets or threads live here. [`read::parse`] is called by `main` (to start and to
//! check a file) and by the demo; everything above takes the plain values of [`model`]. The way
//! back is [`mod@write`]: a whole new file, or the old one with its comments.

pub mod address;
mod admin_listen;
mod admin_state;
#[cfg(test)]
pub mod arbitrary;
pub mod change;
mod diff;
pub mod duration;
mod edit;
mod encoding;
pub mod error;
mod item;
mod language;
mod layout;
mod merge;
pub mod model;
mod own;
mod query;
pub mod read;
mod redact;
mod scan;
mod text;
mod url;
mod value;
pub mod write;
mod xml;

pub use address::{Address, AddressHost};
pub use admin_listen::AdminListen;
pub use admin_state::AdminState;
pub use change::{Change, ElementKey, HostKey, Refusal};
pub use error::{Mistake, Mistakes};
pub use model::*;
pub use url::described;
