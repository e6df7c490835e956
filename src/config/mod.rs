//! The configuration: XML in, plain values out, every complaint with its line and column.
//!
//! No locks, sockets or threads live here. [`read::parse`] is called by `main` (to start and to check a file) and by the
//! demo; everything above takes the plain values of [`model`].

pub mod address;
pub mod change;
pub mod duration;
pub mod error;
mod language;
pub mod model;
pub mod read;
mod scan;
mod text;
mod value;
mod xml;

pub use address::{Address, Place};
pub use change::{Change, HostKey, Refusal, Wish};
pub use error::{Mistake, Mistakes};
pub use model::*;
