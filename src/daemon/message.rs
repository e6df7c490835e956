//! The messages between a program and its successor while the one takes over from the other.
//!
//! Each message is one packet of JSON, some with descriptors. The old program sends first:
//!
//! ```text
//! old -> new   Hello, Listen + sockets ..., Activated, PidFile + file, End
//!              (only now the new one is started: it has all of that, whatever becomes of the old one)
//! new -> old   Ready                     it has read its file, has every address, and all its threads but for the admin side's
//!              (the old one accepts no more: clients wait in the kernel's queue)
//! old -> new   State ..., Go
//! new -> old   Serving                   it accepts clients
//!              (the old one tells the service manager)
//! old -> new   Done
//!              (the new one writes the pid file)
//! new -> old   Settled                   its last message
//!              (the old one closes its sockets)
//! ```
//!
//! # Never neither
//!
//! From its first moment to `Settled`, each of the two can serve alone, and does when the other one
//! dies: both have the sockets and the pid file, so that the addresses stay open and clients wait.
//! The end of the connection means a death, and nothing else: an old program that gives up on
//! the new one ends it first. Its clock counts, not the new one's, which waits as long as the old
//! one lives. The sessions of the one that dies end with it. `tests/replace_deaths.rs` kills either
//! at every [`fault`](crate::system::fault).
//!
//! The new one may send `Failed` at any time up to `Serving`. A version that speaks another
//! protocol has its number in `Hello`, and is refused. Within a protocol there may be new kinds:
//! one that is unknown is skipped, and its descriptors closed.
//!
//! Live sessions can be handed over later by such a kind, between `Go` and `Done`, at a moment when
//! no byte of the session is on its way through this process: `Session { id, service, group, host,
//! client, listen, age, bytes, half_closed }` with the two sockets, the server's and the client's.
//! A successor that does not know the kind closes them, so the old one would have to ask first, by
//! a field of `Ready`.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::state::HandoverState;
use crate::system::channel::Channel;

/// The protocol of this version.
pub const PROTOCOL: u32 = 2;

/// A message of the old program.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromOld {
    /// First of all.
    Hello { protocol: u32 },
    /// Listening sockets, with their addresses as the configuration writes them.
    Listen { addresses: Vec<String> },
    /// Where systemd goes on listening, whatever the two do.
    #[serde(rename = "lent")]
    Activated { addresses: Vec<SocketAddr> },
    /// The locked pid file.
    PidFile,
    /// These were all descriptors.
    End,
    /// A piece of the state.
    State { state: HandoverState },
    /// The old one has stopped accepting.
    Go,
    /// The service manager takes the new one for the service.
    Done,
}

/// A message of the new program.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromNew {
    /// Everything is prepared. The addresses that it goes on to listen on, of those that were
    /// handed over.
    Ready { takes: Vec<String> },
    /// It cannot take over.
    Failed { reason: String },
    /// It accepts clients.
    Serving,
    /// It needs the old one no more.
    Settled,
}

/// Sends a message.
pub fn send(
    channel: &Channel,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    channel.send(&serde_json::to_vec(message)?, descriptors)
}

/// The next message of the other one; `None` when the time is up. What this version does not know
/// is skipped.
pub fn receive<T: DeserializeOwned>(
    channel: &Channel,
    limit: Duration,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let deadline = Instant::now() + limit;
    loop {
        let Some(packet) = channel.receive(deadline.saturating_duration_since(Instant::now()))?
        else {
            return Ok(None);
        };
        if let Some(message) = parse(&packet.bytes)? {
            return Ok(Some((message, packet.descriptors)));
        }
    }
}

/// `None` for what a later version has added.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<Option<T>> {
    match serde_json::from_slice(bytes) {
        Ok(message) => Ok(Some(message)),
        Err(e) if e.is_data() => Ok(None),
        Err(e) => Err(io::Error::new(ErrorKind::InvalidData, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_version_has_added_is_skipped() {
        let read = |text: &str| parse::<FromOld>(text.as_bytes()).unwrap();
        assert_eq!(read(r#"{"session":{"id":5,"bytes":[1,2]}}"#), None);
        assert_eq!(read(r#""silence""#), None);
        assert_eq!(
            read(r#"{"hello":{"protocol":2,"version":"9"}}"#),
            Some(FromOld::Hello { protocol: 2 })
        );
        assert_eq!(read(r#"{"state":{"state":{"weather":{"rain":true}}}}"#), None);
        assert_eq!(read(r#""end""#), Some(FromOld::End));
        assert!(parse::<FromOld>(br#"{"hello":"#).is_err());
    }

    /// Reads a message and writes it again.
    fn again<T: Serialize + DeserializeOwned>(text: &str) -> String {
        serde_json::to_string(&serde_json::from_str::<T>(text).unwrap()).unwrap()
    }

    #[test]
    fn other_versions_read_and_write_the_same_words() {
        for text in [
            r#"{"hello":{"protocol":2}}"#,
            r#"{"listen":{"addresses":["*:80","unix:/run/a"]}}"#,
            r#"{"lent":{"addresses":["127.0.0.1:80"]}}"#,
            r#""pid_file""#,
            r#""end""#,
            r#"{"state":{"state":{"roster":{"last_id":42}}}}"#,
            r#""go""#,
            r#""done""#,
        ] {
            assert_eq!(again::<FromOld>(text), text);
        }
        for text in [
            r#"{"ready":{"takes":["*:80"]}}"#,
            r#"{"failed":{"reason":"why"}}"#,
            r#""serving""#,
            r#""settled""#,
        ] {
            assert_eq!(again::<FromNew>(text), text);
        }
    }
}
