//! Taking over from a program that runs: the side of the new one. `main` calls it, in the order of the journey in
//! [`super::message`]; nothing here starts a thread.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::message::{New, Old, PROTOCOL, hear, say};
use crate::state::Director;
use crate::system::channel::Channel;
use crate::system::inherited::Inherited;
use crate::system::successor;

/// How long the predecessor may take for its part, which is sending.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most characters of a reason that the predecessor is told.
const LONGEST_REASON: usize = 4000;

/// The program that this one is to take over from.
pub struct Predecessor(Channel);

/// What comes from the predecessor before anything is bound.
#[derive(Default)]
pub struct Estate {
    /// Its listening sockets.
    pub inherited: Inherited,
    /// Its pid file.
    pub pidfile: Option<OwnedFd>,
    names: Vec<String>,
}

impl From<Inherited> for Estate {
    /// Sockets that do not come from a predecessor.
    fn from(inherited: Inherited) -> Estate {
        Estate { inherited, ..Estate::default() }
    }
}

impl Predecessor {
    /// The program that has started this one to take over, if one has.
    pub fn find() -> Option<io::Result<Predecessor>> {
        Some(successor::predecessor()?.map(Predecessor))
    }

    /// Takes what it hands over.
    pub fn estate(&self) -> io::Result<Estate> {
        let mut estate = Estate::default();
        match self.hear(PATIENCE)? {
            (Old::Hello { protocol: PROTOCOL }, _) => {}
            (Old::Hello { protocol }, _) => {
                let why = format!("it speaks protocol {protocol} of the handover, and this version {PROTOCOL}");
                return Err(io::Error::new(ErrorKind::Unsupported, why));
            }
            _ => return Err(io::Error::new(ErrorKind::InvalidData, "it did not say hello")),
        }
        loop {
            match self.hear(PATIENCE)? {
                (Old::Listen { address }, Some(socket)) => {
                    estate.names.push(address.clone());
                    estate.inherited.add(address, socket);
                }
                (Old::Lent { addresses }, _) => estate.inherited.add_lent(addresses),
                (Old::PidFile, pidfile) => estate.pidfile = pidfile,
                (Old::End, _) => return Ok(estate),
                _ => {}
            }
        }
    }

    /// Says that everything is prepared, waits until the predecessor has stopped accepting, and takes over its state.
    pub fn ready(&self, estate: Estate, director: &Director) -> io::Result<()> {
        let takes = estate.inherited.taken_of(estate.names);
        // those that nobody wants any more: only the predecessor has them now, and closes them properly
        drop(estate.inherited);
        say(&self.0, &New::Ready { takes }, None)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.hear(deadline.saturating_duration_since(Instant::now()))? {
                (Old::State { state }, _) => director.inherit(state),
                (Old::Go, _) => return Ok(()),
                _ => {}
            }
        }
    }

    /// Says that clients are accepted here, and waits until the predecessor has left the service to this program or is gone.
    pub fn serving(&self) {
        if say(&self.0, &New::Serving, None).is_ok() {
            while let Ok((message, _)) = self.hear(PATIENCE) {
                if message == Old::Done {
                    return;
                }
            }
        }
    }

    /// Says why this program cannot take over.
    pub fn fail(&self, reason: &str) {
        let reason = reason.chars().take(LONGEST_REASON).collect();
        // one that is gone need not know
        let _ = say(&self.0, &New::Failed { reason }, None);
    }

    fn hear(&self, limit: Duration) -> io::Result<(Old, Option<OwnedFd>)> {
        hear(&self.0, limit)?.ok_or_else(|| io::Error::new(ErrorKind::TimedOut, "it says nothing"))
    }
}
