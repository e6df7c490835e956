//! Taking over from a program that runs, or has died after it had started this one: the side of the
//! new one. `main` calls it, in the order of the messages in [`super::message`]; nothing here
//! starts a thread.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::message::{FromNew, FromOld, PROTOCOL, receive, send};
use crate::state::Director;
use crate::system::channel::{self, Channel};
use crate::system::fault;
use crate::system::inherited::Inherited;
use crate::system::successor;

/// After how long the silence of the predecessor is worth a line, or, once this program serves, is
/// no longer waited for.
const SILENCE: Duration = Duration::from_secs(10);
/// The most characters of a reason that is sent to the predecessor.
const LONGEST_REASON: usize = 4000;

/// The program that this one is to take over from.
pub struct Predecessor(Channel);

/// What comes from the predecessor before anything is bound.
#[derive(Default)]
pub struct InheritedSockets {
    /// Its listening sockets.
    pub inherited: Inherited,
    /// Its pid file.
    pub pidfile: Option<OwnedFd>,
    names: Vec<String>,
}

impl From<Inherited> for InheritedSockets {
    /// Sockets that do not come from a predecessor.
    fn from(inherited: Inherited) -> InheritedSockets {
        InheritedSockets { inherited, ..InheritedSockets::default() }
    }
}

impl Predecessor {
    /// The program that has started this one to take over, if one has.
    pub fn find() -> Option<io::Result<Predecessor>> {
        let channel = successor::predecessor()?;
        fault::point("new: started");
        Some(channel.map(Predecessor))
    }

    /// Takes what it hands over.
    pub fn sockets(&self) -> io::Result<InheritedSockets> {
        let mut sockets = InheritedSockets::default();
        match self.receive()? {
            (FromOld::Hello { protocol: PROTOCOL }, _) => {}
            (FromOld::Hello { protocol }, _) => {
                let why = format!(
                    "it speaks protocol {protocol} of the handover, and this version {PROTOCOL}"
                );
                return Err(io::Error::new(ErrorKind::Unsupported, why));
            }
            _ => return Err(io::Error::new(ErrorKind::InvalidData, "it did not say hello")),
        }
        loop {
            match self.receive()? {
                (FromOld::Listen { addresses }, handed) => {
                    sockets.names.extend_from_slice(&addresses);
                    addresses
                        .into_iter()
                        .zip(handed)
                        .for_each(|(address, socket)| sockets.inherited.add(address, socket));
                }
                (FromOld::Activated { addresses }, _) => sockets.inherited.add_activated(addresses),
                (FromOld::PidFile, pidfile) => sockets.pidfile = pidfile.into_iter().next(),
                (FromOld::End, _) => break,
                _ => {}
            }
        }
        fault::point("new: has the sockets");
        Ok(sockets)
    }

    /// Says that everything is prepared, waits until the predecessor has stopped accepting, and
    /// takes over its state; as much of it as there is, if the predecessor dies.
    pub fn ready(&self, sockets: InheritedSockets, director: &Director) -> io::Result<()> {
        let takes = sockets.inherited.taken_of(sockets.names);
        // those that nobody wants any more: only the predecessor has them now, and closes them
        // properly
        drop(sockets.inherited);
        fault::point("new: prepared");
        match self.take_over(takes, director) {
            Err(e) if channel::is_gone(&e) => {
                log::warn!("replace state=alone reason=\"the old program has died\"");
                Ok(())
            }
            done => done,
        }
    }

    fn take_over(&self, takes: Vec<String>, director: &Director) -> io::Result<()> {
        send(&self.0, &FromNew::Ready { takes }, &[])?;
        fault::point("new: has said that it is ready");
        loop {
            match self.receive()? {
                (FromOld::State { state }, _) => {
                    director.inherit(state);
                    fault::point("new: has a part of the state");
                }
                (FromOld::Go, _) => break,
                _ => {}
            }
        }
        fault::point("new: hears go");
        Ok(())
    }

    /// Says that clients are accepted here, and waits until the service manager knows, or the
    /// predecessor is gone or hangs.
    pub fn serving(&self) {
        fault::point("new: accepts");
        if send(&self.0, &FromNew::Serving, &[]).is_ok() {
            fault::point("new: has said that it serves");
            while let Ok(Some((message, _))) = receive::<FromOld>(&self.0, SILENCE) {
                if message == FromOld::Done {
                    break;
                }
            }
        }
        fault::point("new: hears done");
    }

    /// Says that the predecessor is needed no more.
    pub fn settled(&self) {
        fault::point("new: settled");
        // one that is gone need not know
        let _ = send(&self.0, &FromNew::Settled, &[]);
    }

    /// Says why this program cannot take over.
    pub fn fail(&self, reason: &str) {
        let reason = reason.chars().take(LONGEST_REASON).collect();
        // one that is gone need not know
        let _ = send(&self.0, &FromNew::Failed { reason }, &[]);
    }

    /// The next message of the predecessor. It has the clock: it ends a successor that takes too
    /// long, and this one waits while it lives.
    fn receive(&self) -> io::Result<(FromOld, Vec<OwnedFd>)> {
        loop {
            match receive(&self.0, SILENCE)? {
                Some(message) => return Ok(message),
                None => {
                    log::debug!("replace state=waiting reason=\"the old program says nothing\"")
                }
            }
        }
    }
}
