//! Being replaced by a new program: the side of the old one, called by `main` on its thread. See
//! [`super::message`] for the messages. Up to the last message of the new one everything can be
//! taken back: it is ended, waited for, and this one goes on accepting.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use super::Daemon;
use super::cancellable::CANCEL_CHECK;
use super::message::{FromNew, FromOld, PROTOCOL, receive, send};
use crate::admin::{self, Admin};
use crate::system::channel::{self, Channel, MAX_DESCRIPTORS};
use crate::system::fault;
use crate::system::notify;
use crate::system::pidfile::PidFile;
use crate::system::successor::{Invocation, Successor};
use crate::traffic::Listener;

/// How long the new program may take to prepare itself: to read, to bind, to look names up.
const PREPARATION: Duration = Duration::from_secs(30);
/// How long clients may wait in the kernel's queue for the new program to accept them.
const SWITCH: Duration = Duration::from_secs(5);
/// How long a new program that has given up may take to end.
const LAST_STEPS: Duration = Duration::from_millis(500);

/// Why the new program does not take over.
enum HandoverError {
    /// It says so.
    Failed(String),
    /// It has ended, or has let go of its end.
    Gone,
    /// It takes too long.
    Late(Duration),
    /// Somebody wants this program to stop.
    Cancelled,
    /// The connection with it does not work.
    Broken(io::Error),
}

impl From<io::Error> for HandoverError {
    fn from(error: io::Error) -> HandoverError {
        match error.kind() {
            _ if channel::is_gone(&error) => HandoverError::Gone,
            // it does not read what it is told
            ErrorKind::WouldBlock => HandoverError::Late(SWITCH),
            _ => HandoverError::Broken(error),
        }
    }
}

impl Daemon {
    /// Starts the program that is at our path now and leaves the service to it: then this one has
    /// no listen address and no admin pages any more, and its sessions go on. On failure, which the
    /// error gives in words, nothing has changed. `is_cancelled` is asked now and then while there
    /// is time to turn back, and once more when there is none.
    pub fn replace(
        &mut self,
        invocation: &Invocation,
        pidfile: Option<&mut PidFile>,
        is_cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<Successor, String> {
        invocation.obstacle().map_or(Ok(()), |obstacle| Err(obstacle.to_owned()))?;
        self.core.announce_replacement()?;
        let mut successor = invocation
            .start(|channel| self.send_sockets(channel, pidfile.as_deref()))
            .map_err(|e| {
                self.core.is_replaced.store(false, SeqCst);
                format!("the new program cannot be started: {e}")
            })?;
        fault::point("old: started");
        match self.hand_over(&successor, is_cancelled) {
            Ok(kept) => {
                // the caller's last look: what arrives after this is meant for one of the two
                // processes
                is_cancelled();
                successor.release();
                pidfile.map(PidFile::leave);
                self.retire(&kept);
                fault::point("old: retired");
                Ok(successor)
            }
            Err(error) => {
                // gone for good before anybody accepts here again one that has let go of its end is
                // about to end, and its exit status tells more than ours
                let limit =
                    if matches!(error, HandoverError::Gone) { LAST_STEPS } else { Duration::ZERO };
                let ended = successor.end(limit);
                // it may have been told otherwise
                notify::main_process_is(std::process::id());
                self.core.listeners.lock().iter().for_each(Listener::resume);
                self.core.is_replaced.store(false, SeqCst);
                Err(match (error, ended) {
                    (HandoverError::Failed(reason), _) => reason,
                    // the process that was started ends in good order as soon as the one that
                    // serves does without it
                    (HandoverError::Gone, Ok(status)) if status.success() => {
                        "the new program has ended early".to_owned()
                    }
                    (HandoverError::Gone, Ok(status)) => {
                        format!("the new program has ended early: {status}")
                    }
                    (HandoverError::Gone, Err(e)) => {
                        format!("the new program has ended early: {e}")
                    }
                    (HandoverError::Late(limit), _) => {
                        format!("the new program was not ready within {} s", limit.as_secs())
                    }
                    (HandoverError::Cancelled, _) => "this program is to stop".to_owned(),
                    (HandoverError::Broken(e), _) => {
                        format!("the new program does not understand: {e}")
                    }
                })
            }
        }
    }

    /// Everything up to the last message of the new program. Returns which listen addresses it has
    /// taken.
    fn hand_over(
        &self,
        successor: &Successor,
        is_cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<String>, HandoverError> {
        let channel = &successor.channel;
        let kept = match wait(channel, PREPARATION, is_cancelled)? {
            FromNew::Ready { takes } => takes,
            _ => {
                return Err(HandoverError::Failed("the new program serves before its time".into()));
            }
        };
        fault::point("old: hears that it is ready");
        self.core.listeners.lock().iter().for_each(Listener::pause);
        fault::point("old: paused");
        for state in self.director().handover_state() {
            send(channel, &FromOld::State { state }, &[])?;
            fault::point("old: has told a part of the state");
        }
        send(channel, &FromOld::Go, &[])?;
        fault::point("old: has said go");
        match wait(channel, SWITCH, &mut || false)? {
            FromNew::Serving => {}
            _ => return Err(HandoverError::Failed("the new program is ready twice".into())),
        }
        fault::point("old: hears that it serves");
        successor.await_fork();
        notify::main_process_is(successor.pid());
        fault::point("old: has told the service manager");
        send(channel, &FromOld::Done, &[])?;
        fault::point("old: has said done");
        match wait(channel, SWITCH, &mut || false) {
            // it has clients by now: what takes long is no reason to end it
            Ok(FromNew::Settled) | Err(HandoverError::Late(_)) => {}
            Ok(_) => return Err(HandoverError::Failed("the new program serves twice".into())),
            Err(error) => return Err(error),
        }
        fault::point("old: hears that it is settled");
        Ok(kept)
    }

    fn send_sockets(&self, channel: &Channel, pidfile: Option<&PidFile>) -> io::Result<()> {
        send(channel, &FromOld::Hello { protocol: PROTOCOL }, &[])?;
        let sockets: Vec<_> = {
            let listeners = self.core.listeners.lock();
            listeners
                .iter()
                .filter_map(|listener| Some((listener.listen().to_string(), listener.socket()?)))
                .collect()
        };
        let admin_sockets: Vec<admin::AdminSocket> =
            self.core.admin.lock().iter().flat_map(Admin::listeners).cloned().collect();
        let mut all: Vec<(String, BorrowedFd<'_>)> =
            sockets.iter().map(|(address, socket)| (address.clone(), socket.as_fd())).collect();
        all.extend(
            admin_sockets.iter().map(|socket| (socket.listen().to_string(), socket.as_fd())),
        );
        for part in all.chunks(MAX_DESCRIPTORS) {
            let (addresses, descriptors): (Vec<_>, Vec<_>) = part.iter().cloned().unzip();
            send(channel, &FromOld::Listen { addresses }, &descriptors)?;
        }
        send(channel, &FromOld::Activated { addresses: self.core.activated.clone() }, &[])?;
        if let Some(pidfile) = pidfile {
            send(channel, &FromOld::PidFile, &[pidfile.descriptor()])?;
        }
        send(channel, &FromOld::End, &[])
    }

    /// Lets go of all that another process has now. Addresses that it does not have are closed as
    /// at a stop.
    fn retire(&mut self, kept: &[String]) {
        self.core.is_closed.store(true, SeqCst);
        let listeners = std::mem::take(&mut *self.core.listeners.lock());
        for listener in &listeners {
            match kept.contains(&listener.listen().to_string()) {
                true => listener.stop(),
                false => {
                    listener.resume();
                    self.core.close(listener);
                }
            }
        }
        self.director().retire();
        self.stop_resolver = None;
        self.wake_manager();
        let admin = self.core.admin.lock().take();
        if let Some(mut admin) = admin {
            for listener in admin.listeners() {
                let is_taken = kept.contains(&listener.listen().to_string());
                listener.set_ours(!is_taken);
                self.core.warn_if_activated(listener.address().filter(|_| !is_taken));
            }
            admin.stop();
        }
    }
}

/// The next message of the new program. What is there counts, also when this
/// program was stopped for longer.
fn wait(
    channel: &Channel,
    limit: Duration,
    is_cancelled: &mut dyn FnMut() -> bool,
) -> Result<FromNew, HandoverError> {
    let deadline = Instant::now() + limit;
    loop {
        match receive(channel, CANCEL_CHECK)? {
            Some((FromNew::Failed { reason }, _)) => return Err(HandoverError::Failed(reason)),
            Some((message, _)) => return Ok(message),
            None if is_cancelled() => return Err(HandoverError::Cancelled),
            None if Instant::now() >= deadline => return Err(HandoverError::Late(limit)),
            None => {}
        }
    }
}
