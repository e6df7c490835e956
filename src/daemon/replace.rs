//! Being replaced by a new program: the side of the old one, called by `main` on its thread. See [`super::message`] for what is
//! said. Up to the last step everything can be taken back: the new program is ended, waited for, and this one goes on accepting.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use super::message::{New, Old, PROTOCOL, hear, say};
use super::{Daemon, LOOK};
use crate::admin::{self, Admin};
use crate::system::channel::Channel;
use crate::system::logging::value;
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
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Trouble::Gone,
            // it does not read what it is told
            ErrorKind::WouldBlock => Trouble::Late(SWITCH),
            _ => Trouble::Broken(error),
        }
    }
}

impl Daemon {
    /// Starts the program that is at our path now and leaves the service to it: then this one has no listen address and no admin
    /// pages any more, and its sessions go on. On failure, which the error tells in words, nothing has changed.
    /// `is_called_off` is asked now and then while there is time to turn back, and once more when there is none.
    pub fn replace(
        &mut self,
        origin: &Origin,
        mut pidfile: Option<&mut PidFile>,
        is_called_off: &mut dyn FnMut() -> bool,
    ) -> Result<Successor, String> {
        origin.obstacle().map_or(Ok(()), |obstacle| Err(obstacle.to_owned()))?;
        self.levers.announce_replacement()?;
        let mut successor = origin.start().map_err(|e| {
            self.levers.is_replaced.store(false, SeqCst);
            format!("the new program cannot be started: {e}")
        })?;
        match self.hand_over(&successor.channel, pidfile.as_deref(), is_called_off) {
            Ok(takes) => {
                // the caller's last look: what arrives after this is meant for one of the two processes
                is_called_off();
                successor.release();
                let pid = successor.pid();
                if let Some(Err(e)) = pidfile.as_mut().map(|pidfile| pidfile.name(pid)) {
                    log::warn!("replace state=done pid={pid} reason={}", value(&format!("the pid file cannot be written: {e}")));
                }
                notify::main_process_is(pid);
                // if this does not arrive, it waits a little and goes on all the same
                let _ = say(&successor.channel, &Old::Done, None);
                self.retire(&takes);
                Ok(successor)
            }
            Err(trouble) => {
                // gone for good before anybody accepts here again
                // one that has let go of its end is about to end, and its exit status tells more than ours
                let patience = if matches!(trouble, Trouble::Gone) { LAST_STEPS } else { Duration::ZERO };
                let ended = successor.end(patience);
                self.levers.listeners.lock().iter().for_each(Listener::resume);
                self.levers.is_replaced.store(false, SeqCst);
                Err(match (trouble, ended) {
                    (Trouble::Failed(reason), _) => reason,
                    // the process that was started ends in good order as soon as the one that serves does without it
                    (Trouble::Gone, Ok(status)) if status.success() => "the new program has ended early".to_owned(),
                    (Trouble::Gone, Ok(status)) => format!("the new program has ended early: {status}"),
                    (Trouble::Gone, Err(e)) => format!("the new program has ended early: {e}"),
                    (Trouble::Late(limit), _) => format!("the new program was not ready within {} s", limit.as_secs()),
                    (Trouble::CalledOff, _) => "this program is to stop".to_owned(),
                    (Trouble::Broken(e), _) => format!("the new program does not understand: {e}"),
                })
            }
        }
    }

    /// Everything up to the moment when the new program serves. Tells which listen addresses it has taken.
    fn hand_over(
        &self,
        channel: &Channel,
        pidfile: Option<&PidFile>,
        is_called_off: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<String>, Trouble> {
        match self.say_estate(channel, pidfile).map_err(Trouble::from) {
            // what it has said before it went is the better reason
            Ok(()) | Err(Trouble::Gone) => {}
            Err(trouble) => return Err(trouble),
        }
        let takes = match wait(channel, PREPARATION, is_called_off)? {
            New::Ready { takes } => takes,
            _ => return Err(Trouble::Failed("the new program serves before its time".into())),
        };
        self.levers.listeners.lock().iter().for_each(Listener::pause);
        for state in self.director().heritage() {
            say(channel, &Old::State { state }, None)?;
        }
        say(channel, &Old::Go, None)?;
        match wait(channel, SWITCH, &mut || false)? {
            New::Serving => Ok(takes),
            _ => Err(Trouble::Failed("the new program is ready twice".into())),
        }
    }

    fn say_estate(&self, channel: &Channel, pidfile: Option<&PidFile>) -> io::Result<()> {
        say(channel, &Old::Hello { protocol: PROTOCOL }, None)?;
        let sockets: Vec<_> = {
            let listeners = self.levers.listeners.lock();
            listeners.iter().filter_map(|listener| Some((listener.listen().to_string(), listener.socket()?))).collect()
        };
        for (address, socket) in sockets {
            say(channel, &Old::Listen { address }, Some(socket.as_fd()))?;
        }
        let doors: Vec<admin::Listener> = self.levers.admin.lock().iter().flat_map(Admin::listeners).cloned().collect();
        for listener in doors {
            say(channel, &Old::Listen { address: listener.listen().to_string() }, Some(listener.as_fd()))?;
        }
        say(channel, &Old::Lent { addresses: self.levers.lent.clone() }, None)?;
        if let Some(pidfile) = pidfile {
            say(channel, &Old::PidFile, Some(pidfile.descriptor()))?;
        }
        say(channel, &Old::End, None)
    }

    /// Lets go of all that another process has now. Addresses that it does not have are closed as at a stop.
    fn retire(&mut self, takes: &[String]) {
        self.levers.is_closed.store(true, SeqCst);
        let listeners = std::mem::take(&mut *self.levers.listeners.lock());
        for listener in &listeners {
            match takes.contains(&listener.listen().to_string()) {
                true => listener.stop(),
                false => {
                    listener.resume();
                    self.levers.close_for_good(listener);
                }
            }
        }
        self.director().retire();
        self.stop_resolver = None;
        self.wake_manager();
        let admin = self.levers.admin.lock().take();
        if let Some(mut admin) = admin {
            for listener in admin.listeners() {
                let is_taken = takes.contains(&listener.listen().to_string());
                listener.set_ours(!is_taken);
                self.levers.note_lent(listener.address().filter(|_| !is_taken));
            }
            admin.stop();
        }
    }
}

/// What the new program says about how it is getting on.
fn wait(channel: &Channel, limit: Duration, is_called_off: &mut dyn FnMut() -> bool) -> Result<New, Trouble> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        match hear(channel, LOOK)? {
            Some((New::Failed { reason }, _)) => return Err(Trouble::Failed(reason)),
            Some((message, _)) => return Ok(message),
            None if is_called_off() => return Err(Trouble::CalledOff),
            None => {}
        }
    }
    Err(Trouble::Late(limit))
}
