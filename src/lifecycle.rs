//! From the moment when the program serves to its end: signals, the stop, the replacement, the exit
//! status. Runs on the thread `main`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, unbounded};
use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals as Hook;

use tcpdirector::daemon::Daemon;
use tcpdirector::system::log_output::LogOutput;
use tcpdirector::system::logging::value;
use tcpdirector::system::notify;
use tcpdirector::system::pidfile::PidFile;
use tcpdirector::system::process;
use tcpdirector::system::successor::{Invocation, Successor};
use tcpdirector::system::thread;

/// The exit status after a stop that had to cut sessions.
const HAS_CUT: u8 = 2;

/// How long ended sessions get to write their log lines; a blocked write looks up once a second.
const LAST_LINES: Duration = Duration::from_secs(3);
/// How often a stopping program says so, and ends the sessions that are silent.
const STOP_CHECK: Duration = Duration::from_secs(1);
/// How soon the service manager may expect to hear of it again: more than it takes to write the
/// last lines.
const STOP_NEWS: Duration = Duration::from_secs(10);
/// How often a draining program looks whether it is done.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// What this program listens to; process 1 of a container also to the end of its children, who are
/// everybody's orphans.
fn ours() -> SigSet {
    let mut ours = SigSet::from_iter([
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ]);
    if std::process::id() == 1 {
        ours.add(Signal::SIGCHLD);
    }
    ours
}

/// Signals, in the order of their arrival.
pub struct Signals {
    arriving: Receiver<i32>,
    /// Arrived while something was going on that only a stop may interrupt.
    waiting: VecDeque<i32>,
}

impl Signals {
    /// From now on they wait for [`Signals::start`]: in this thread, and in all that it starts.
    pub fn hold() -> io::Result<()> {
        Ok(ours().thread_block()?)
    }

    /// From now on, signals arrive here, those that have waited first; a thread of its own forwards
    /// them, so that waiting can have a time limit, and no other is disturbed.
    pub fn start() -> io::Result<Signals> {
        let mut hook = Hook::new(ours().iter().map(|signal| signal as i32))?;
        let (send, arriving) = unbounded();
        thread::start("signals", thread::SMALL, move || {
            // fails for no set of signals
            let _ = ours().thread_unblock();
            for signal in hook.forever() {
                match signal {
                    SIGCHLD => process::reap(),
                    _ if send.send(signal).is_err() => return,
                    _ => {}
                }
            }
        })?;
        Ok(Signals { arriving, waiting: VecDeque::new() })
    }

    fn next(&mut self) -> i32 {
        self.waiting.pop_front().or_else(|| self.arriving.recv().ok()).unwrap_or(SIGTERM)
    }

    fn next_within(&mut self, limit: Duration) -> Option<i32> {
        if let Some(signal) = self.waiting.pop_front() {
            return Some(signal);
        }
        match self.arriving.recv_timeout(limit) {
            Ok(signal) => Some(signal),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(SIGTERM),
        }
    }

    /// Whether one that has arrived asks for the end. All of them are kept.
    pub fn ask_to_stop(&mut self) -> bool {
        self.waiting.extend(self.arriving.try_iter());
        self.waiting.iter().any(|signal| matches!(*signal, SIGTERM | SIGINT))
    }

    /// The next one is one that asks for the end, if such a one waits.
    pub fn stop_first(&mut self) {
        let at = self.waiting.iter().position(|signal| matches!(*signal, SIGTERM | SIGINT));
        if let Some(signal) = at.and_then(|at| self.waiting.remove(at)) {
            self.waiting.push_front(signal);
        }
    }

    /// What has arrived before a successor served was meant for the service, so for both. systemd
    /// signals all processes of a service to stop, and a second signal would mean to hurry.
    fn pass_on(&mut self, successor: &Successor) {
        self.waiting.retain(|signal| *signal != SIGUSR2);
        for signal in &self.waiting {
            if !(notify::is_wanted() && matches!(*signal, SIGTERM | SIGINT)) {
                successor.signal(*signal);
            }
        }
    }
}

/// The program while it serves.
pub struct Server {
    /// The balancer.
    pub daemon: Daemon,
    /// What is asked of it.
    pub signals: Signals,
    /// The log.
    pub output: Arc<LogOutput>,
    /// Where a successor is to be found; the demo has none, because its addresses are new each
    /// time.
    pub invocation: Option<Invocation>,
    /// The pid file.
    pub pidfile: Option<PidFile>,
    /// Another program is the service.
    pub is_replaced: bool,
}

impl Server {
    /// Serves until a signal ends it, or until a successor serves and the last session has ended;
    /// returns the exit status.
    pub fn run(mut self) -> u8 {
        loop {
            match self.signals.next() {
                signal @ (SIGTERM | SIGINT) => return self.stop(signal),
                SIGUSR2 => {
                    if self.replace() {
                        return self.leave();
                    }
                }
                SIGHUP => self.reload(),
                _ => self.reopen(),
            }
        }
    }

    /// Reopens the log, as ever, and makes the running state what the file says.
    fn reload(&mut self) {
        self.reopen();
        notify::reloading();
        let Server { daemon, signals, .. } = self;
        if daemon.reload("HUP", &mut || signals.ask_to_stop()) {
            notify::ready(&daemon.status());
        } else {
            signals.stop_first();
        }
    }

    /// After TERM, sessions may finish; after INT, they may not.
    fn stop(&mut self, signal: i32) -> u8 {
        let reason = if signal == SIGTERM { "TERM" } else { "INT" };
        let sessions = self.daemon.open_sessions();
        log::info!("stop state=begun reason={reason} sessions={sessions}");
        self.tell_manager();
        self.daemon.close();
        self.end(reason, sessions, signal)
    }

    /// Lets running sessions finish if the signal says so, ends the rest, and returns the exit
    /// status.
    fn end(&mut self, reason: &str, sessions: usize, signal: i32) -> u8 {
        let silent = if signal == SIGTERM { self.drain() } else { 0 };
        let cut = self.daemon.cut();
        let deadline = Instant::now() + LAST_LINES;
        while self.daemon.open_sessions() > 0 && Instant::now() < deadline {
            std::thread::sleep(DRAIN_CHECK);
        }
        log::info!("stop state=done reason={reason} sessions={sessions} silent={silent} cut={cut}");
        if signal == SIGTERM && cut > 0 { HAS_CUT } else { 0 }
    }

    /// Tells the service manager that it is not over yet; it listens to the main process alone.
    fn tell_manager(&self) {
        if !self.is_replaced {
            notify::stopping(
                &format!("stopping, {} sessions", self.daemon.open_sessions()),
                STOP_NEWS,
            );
        }
    }

    /// Waits until the last session has ended, the grace is over, or another signal asks for the
    /// end. Silent sessions are not waited for; returns how many were ended.
    fn drain(&mut self) -> usize {
        let grace = self.daemon.director().grace();
        let began = Instant::now();
        let mut next_check = began;
        let mut silent = 0;
        while self.daemon.open_sessions() > 0 && began.elapsed() < grace {
            if Instant::now() >= next_check {
                silent += self.daemon.cut_silent();
                next_check = Instant::now() + STOP_CHECK;
                self.tell_manager();
            }
            match self.signals.next_within(DRAIN_CHECK) {
                // systemd signals those once more that are left when the main process has ended
                Some(SIGTERM) if self.is_replaced && notify::is_wanted() => {}
                Some(SIGTERM | SIGINT) => return silent,
                Some(_) => self.reopen(),
                None => {}
            }
        }
        silent
    }

    /// Lets a new program take over; returns whether it does, or this one goes on.
    fn replace(&mut self) -> bool {
        log::info!("replace state=begun pid={}", std::process::id());
        if self.daemon.director().differs_from_file() {
            log::warn!(
                "replace state=begun reason=\"edits since the last load are not in the file\""
            );
        }
        let Server { daemon, signals, invocation, pidfile, .. } = self;
        let Some(invocation) = invocation else {
            log::error!("replace state=refused reason=\"the demo cannot be replaced\"");
            return false;
        };
        match daemon.replace(invocation, pidfile.as_mut(), &mut || signals.ask_to_stop()) {
            Ok(successor) => {
                log::info!(
                    "replace state=done pid={} sessions={}",
                    successor.pid(),
                    daemon.open_sessions()
                );
                signals.pass_on(&successor);
                true
            }
            Err(reason) => {
                log::error!("replace state=refused reason={}", value(&reason));
                // whoever waits for the outcome sees it by the time of the file
                if let Some(Err(e)) = pidfile.as_mut().map(PidFile::name) {
                    log::error!(
                        "replace state=refused reason={}",
                        value(&format!("the pid file cannot be written: {e}"))
                    );
                }
                false
            }
        }
    }

    /// Stays until the last session has ended by itself, or a signal asks for the end; returns the
    /// exit status.
    fn leave(&mut self) -> u8 {
        self.is_replaced = true;
        let sessions = self.daemon.open_sessions();
        while self.daemon.open_sessions() > 0 {
            match self.signals.next_within(DRAIN_CHECK) {
                Some(signal @ (SIGTERM | SIGINT)) => return self.end("replaced", sessions, signal),
                Some(SIGUSR2) => {
                    log::warn!("replace state=refused reason=\"this program was replaced already\"")
                }
                Some(_) => self.reopen(),
                None => {}
            }
        }
        self.end("replaced", sessions, SIGINT)
    }

    fn reopen(&self) {
        match self.output.reopen() {
            Ok(()) => log::info!("log state=reopened"),
            Err(e) => log::error!("log state=kept reason={}", value(&e.to_string())),
        }
    }
}
