//! Being replaced by a new program: the side of the old one, called by `main` on its thread. See
//! [`super::message`] for what is said. Up to the last word of the new one everything can be taken
//! back: it is ended, waited for, and this one goes on accepting.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use super::Daemon;
use super::aside::LOOK;
use super::message::{New, Old, PROTOCOL, hear, say};
use crate::admin::{self, Admin};
use crate::system::channel::{self, Channel, MAX_DESCRIPTORS};
use crate::system::fault;
use crate::system::notify;
use crate::system::pidfile::PidFile;
use crate::system::successor::{Origin, Successor};
use crate::traffic::Listener;

/// How long the new program may take to prepare itself: to read, to bind, to look names up.
const PREPARATION: Duration = Duration::from_secs(30);
/// How long clients may wait in the kernel's queue for the new program to accept them.
const SWITCH: Duration = Duration::from_secs(5);
/// How long a new program that has given up may take to end.
const LAST_STEPS: Duration = Duration::from_millis(500);

/// Why the new program does not take over.
enum Trouble {
    /// It says so.
    Failed(String),
    /// It has ended, or has let go of its end.
    Gone,
    /// It takes too long.
    Late(Duration),
    /// Somebody wants this program to stop.
    CalledOff,
    /// The connection with it does not work.
    Broken(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        match error.kind() {
            _ if channel::is_gone(&error) => Trouble::Gone,
            // it does not read what it is told
            ErrorKind::WouldBlock => Trouble::Late(SWITCH),
            _ => Trouble::Broken(error),
        }
    }
}

impl Daemon {
    /// Starts the program that is at our path now and leaves the service to it: then this one has
    /// no listen address and no admin pages any more, and its sessions go on. On failure, which the
    /// error tells in words, nothing has changed. `is_called_off` is asked now and then while there
    /// is time to turn back, and once more when there is none.
    pub fn replace(
        &mut self,
        origin: &Origin,
        pidfile: Option<&mut PidFile>,
        is_called_off: &mut dyn FnMut() -> bool,
    ) -> Result<Successor, String> {
        origin.obstacle().map_or(Ok(()), |obstacle| Err(obstacle.to_owned()))?;
        self.core.announce_replacement()?;
        let mut successor =
            origin.start(|channel| self.say_estate(channel, pidfile.as_deref())).map_err(|e| {
                self.core.is_replaced.store(false, SeqCst);
                format!("the new program cannot be started: {e}")
            })?;
        fault::point("old: started");
        match self.hand_over(&successor, is_called_off) {
            Ok(takes) => {
                // the caller's last look: what arrives after this is meant for one of the two
                // processes
                is_called_off();
                successor.release();
                pidfile.map(PidFile::leave);
                self.retire(&takes);
                fault::point("old: retired");
                Ok(successor)
            }
            Err(trouble) => {
                // gone for good before anybody accepts here again one that has let go of its end is
                // about to end, and its exit status tells more than ours
                let patience =
                    if matches!(trouble, Trouble::Gone) { LAST_STEPS } else { Duration::ZERO };
                let ended = successor.end(patience);
                // it may have been told otherwise
                notify::main_process_is(std::process::id());
                self.core.listeners.lock().iter().for_each(Listener::resume);
                self.core.is_replaced.store(false, SeqCst);
                Err(match (trouble, ended) {
                    (Trouble::Failed(reason), _) => reason,
                    // the process that was started ends in good order as soon as the one that
                    // serves does without it
                    (Trouble::Gone, Ok(status)) if status.success() => {
                        "the new program has ended early".to_owned()
                    }
                    (Trouble::Gone, Ok(status)) => {
                        format!("the new program has ended early: {status}")
                    }
                    (Trouble::Gone, Err(e)) => format!("the new program has ended early: {e}"),
                    (Trouble::Late(limit), _) => {
                        format!("the new program was not ready within {} s", limit.as_secs())
                    }
                    (Trouble::CalledOff, _) => "this program is to stop".to_owned(),
                    (Trouble::Broken(e), _) => format!("the new program does not understand: {e}"),
                })
            }
        }
    }

    /// Everything up to the last word of the new program. Tells which listen addresses it has
    /// taken.
    fn hand_over(
        &self,
        successor: &Successor,
        is_called_off: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<String>, Trouble> {
        let channel = &successor.channel;
        let takes = match wait(channel, PREPARATION, is_called_off)? {
            New::Ready { takes } => takes,
            _ => return Err(Trouble::Failed("the new program serves before its time".into())),
        };
        fault::point("old: hears that it is ready");
        self.core.listeners.lock().iter().for_each(Listener::pause);
        fault::point("old: paused");
        for state in self.director().handover_state() {
            say(channel, &Old::State { state }, &[])?;
            fault::point("old: has told a part of the state");
        }
        say(channel, &Old::Go, &[])?;
        fault::point("old: has said go");
        match wait(channel, SWITCH, &mut || false)? {
            New::Serving => {}
            _ => return Err(Trouble::Failed("the new program is ready twice".into())),
        }
        fault::point("old: hears that it serves");
        successor.await_fork();
        notify::main_process_is(successor.pid());
        fault::point("old: has told the service manager");
        say(channel, &Old::Done, &[])?;
        fault::point("old: has said done");
        match wait(channel, SWITCH, &mut || false) {
            // it has clients by now: what takes long is no reason to end it
            Ok(New::Settled) | Err(Trouble::Late(_)) => {}
            Ok(_) => return Err(Trouble::Failed("the new program serves twice".into())),
            Err(trouble) => return Err(trouble),
        }
        fault::point("old: hears that it is settled");
        Ok(takes)
    }

    fn say_estate(&self, channel: &Channel, pidfile: Option<&PidFile>) -> io::Result<()> {
        say(channel, &Old::Hello { protocol: PROTOCOL }, &[])?;
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
        all.extend(admin_sockets.iter().map(|door| (door.listen().to_string(), door.as_fd())));
        for part in all.chunks(MAX_DESCRIPTORS) {
            let (addresses, descriptors): (Vec<_>, Vec<_>) = part.iter().cloned().unzip();
            say(channel, &Old::Listen { addresses }, &descriptors)?;
        }
        say(channel, &Old::Lent { addresses: self.core.lent.clone() }, &[])?;
        if let Some(pidfile) = pidfile {
            say(channel, &Old::PidFile, &[pidfile.descriptor()])?;
        }
        say(channel, &Old::End, &[])
    }

    /// Lets go of all that another process has now. Addresses that it does not have are closed as
    /// at a stop.
    fn retire(&mut self, takes: &[String]) {
        self.core.is_closed.store(true, SeqCst);
        let listeners = std::mem::take(&mut *self.core.listeners.lock());
        for listener in &listeners {
            match takes.contains(&listener.listen().to_string()) {
                true => listener.stop(),
                false => {
                    listener.resume();
                    self.core.close_for_good(listener);
                }
            }
        }
        self.director().retire();
        self.stop_resolver = None;
        self.wake_manager();
        let admin = self.core.admin.lock().take();
        if let Some(mut admin) = admin {
            for listener in admin.listeners() {
                let is_taken = takes.contains(&listener.listen().to_string());
                listener.set_ours(!is_taken);
                self.core.note_lent(listener.address().filter(|_| !is_taken));
            }
            admin.stop();
        }
    }
}

/// What the new program says about how it is getting on. What is there counts, also when this
/// program was stopped for longer.
fn wait(
    channel: &Channel,
    limit: Duration,
    is_called_off: &mut dyn FnMut() -> bool,
) -> Result<New, Trouble> {
    let deadline = Instant::now() + limit;
    loop {
        match hear(channel, LOOK)? {
            Some((New::Failed { reason }, _)) => return Err(Trouble::Failed(reason)),
            Some((message, _)) => return Ok(message),
            None if is_called_off() => return Err(Trouble::CalledOff),
            None if Instant::now() >= deadline => return Err(Trouble::Late(limit)),
            None => {}
        }
    }
}
