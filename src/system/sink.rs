//! Where log lines end up: standard error, a file, or syslog. Cannot fail and cannot block for long: what cannot be written is
//! counted, and the count is written when writing works again. fern alone would panic.
//!
//! Called by fern on whichever thread logs. Owns one lock, around the open output, never held while writing.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use std::time::SystemTime;

use log::{Level, Log, Metadata, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd;
use parking_lot::RwLock;

use super::date::Date;

/// Where syslog daemons listen.
const SYSLOG_SOCKET: &str = "/dev/log";
/// The facility `daemon` of RFC 3164.
const FACILITY: u8 = 3;
/// How long a line waits for a reader of standard error that is slow. One that is gone costs each thread this much once.
const PATIENCE_MILLIS: u16 = 2000;

/// What the user named as the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard error.
    Stderr,
    /// The syslog daemon behind this socket.
    Syslog(PathBuf),
    /// A file, appended to, made if it is missing.
    File(PathBuf),
}

impl Target {
    /// Reads `stderr`, `syslog`, `syslog:SOCKET` or a file name; a relative name starts at this folder.
    pub fn from_name(name: &str, folder: &Path) -> Target {
        match (name, name.strip_prefix("syslog:")) {
            ("stderr", _) => Target::Stderr,
            ("syslog", _) => Target::Syslog(SYSLOG_SOCKET.into()),
            (_, Some(socket)) => Target::Syslog(socket.into()),
            _ => Target::File(folder.join(name)),
        }
    }
}

/// A place for the log, opened and not yet used.
pub struct Open {
    target: Target,
    output: Output,
}

/// The open log.
pub struct Sink {
    open: RwLock<Arc<Open>>,
    /// Lines that could not be written, ever, and how many of them the log has confessed.
    lost: AtomicUsize,
    confessed: AtomicUsize,
    /// Nobody reads standard error: do not wait before a line gets through again.
    stuck: AtomicBool,
}

enum Output {
    Stderr {
        /// Nothing that a write could have to wait for.
        is_file: bool,
    },
    File(File),
    Syslog(UnixDatagram),
}

impl Open {
    /// Opens a place for the log. Fails for a file that cannot be opened, and for a FIFO that nobody reads.
    pub fn new(target: Target) -> io::Result<Open> {
        let output = Output::open(&target)?;
        Ok(Open { target, output })
    }
}

impl Sink {
    /// Opens the log. Fails for a file that cannot be opened; a syslog daemon that is away may come back.
    pub fn open(target: Target) -> io::Result<Sink> {
        let open = RwLock::new(Arc::new(Open::new(target)?));
        Ok(Sink { open, lost: AtomicUsize::default(), confessed: AtomicUsize::default(), stuck: AtomicBool::default() })
    }

    /// Opens the log anew, for a file that was moved away. Lines that are written meanwhile go to the one or the other; when the new
    /// one cannot be opened the old one stays.
    pub fn reopen(&self) -> io::Result<()> {
        let target = self.open.read().target.clone();
        let new = Arc::new(Open::new(target)?);
        let mut open = self.open.write();
        // somebody may have switched meanwhile, and it stays at that
        let over = if open.target == new.target { mem::replace(&mut *open, new) } else { new };
        drop(open);
        // closes what is not used any more, and not under the lock
        drop(over);
        Ok(())
    }

    /// From now on, the log goes here.
    pub fn switch(&self, open: Open) {
        let old = mem::replace(&mut *self.open.write(), Arc::new(open));
        drop(old);
    }

    /// The log file and its path, to hand it to another owner.
    pub fn with_file<T>(&self, act: impl FnOnce(&File, &Path) -> T) -> Option<T> {
        let open = self.open.read().clone();
        match (&open.output, &open.target) {
            (Output::File(file), Target::File(path)) => Some(act(file, path)),
            _ => None,
        }
    }

    fn write(&self, level: Level, line: &str) {
        let open = self.open.read().clone();
        if open.output.write(level, line, &self.stuck).is_err() && !self.write_to_new_socket(&open, level, line) {
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        let lost = self.lost.load(Relaxed);
        if self.confessed.swap(lost, Relaxed) != lost {
            // comes back here as a line of its own; if that is lost too, it counts, and the next line tells the sum
            log::warn!("log lost={lost}");
        }
    }

    /// A syslog daemon that was restarted has a new socket behind the old name.
    fn write_to_new_socket(&self, open: &Open, level: Level, line: &str) -> bool {
        let is_syslog = matches!(open.target, Target::Syslog(_));
        is_syslog && self.reopen().is_ok() && self.open.read().clone().output.write(level, line, &self.stuck).is_ok()
    }
}

impl Log for Sink {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        // as long as most lines are: grown step by step, it would be allocated six times
        let mut line = String::with_capacity(256);
        let _ = writeln!(line, "{}", record.args());
        self.write(record.level(), &line);
    }

    fn flush(&self) {}
}

impl Output {
    fn open(target: &Target) -> io::Result<Output> {
        Ok(match target {
            Target::Stderr => {
                let kind = fstat(io::stderr()).map(|about| about.st_mode & SFlag::S_IFMT.bits());
                Output::Stderr { is_file: kind == Ok(SFlag::S_IFREG.bits()) }
            }
            Target::File(path) => {
                let mut options = OpenOptions::new();
                // a FIFO that nobody reads must not hold up whoever opens it, nor a session; it means nothing to a regular file
                options.append(true).create(true).mode(0o640).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
                Output::File(options.open(path)?)
            }
            Target::Syslog(path) => {
                let socket = UnixDatagram::unbound()?;
                // a daemon that does not read must not hold up a session
                socket.set_nonblocking(true)?;
                let _ = socket.connect(path);
                Output::Syslog(socket)
            }
        })
    }

    /// Writes one line with one call, so that lines of several threads do not mix.
    fn write(&self, level: Level, line: &str, stuck: &AtomicBool) -> io::Result<()> {
        match self {
            Output::File(file) => (&*file).write_all(line.as_bytes()),
            Output::Stderr { is_file } => {
                let stderr = io::stderr();
                let mut polled = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
                let patience = PollTimeout::from(if stuck.load(Relaxed) { 0 } else { PATIENCE_MILLIS });
                // a pipe that nobody reads, or a stopped terminal, must not hold up a session for long
                let is_stuck = !is_file && matches!(poll(&mut polled, patience), Ok(0));
                if stuck.load(Relaxed) != is_stuck {
                    stuck.store(is_stuck, Relaxed);
                }
                match is_stuck {
                    true => Err(io::ErrorKind::WouldBlock.into()),
                    // past std's lock, which would be held while writing
                    false => Ok(unistd::write(&stderr, line.as_bytes()).map(drop)?),
                }
            }
            Output::Syslog(socket) => {
                let now = Date::of(SystemTime::now()).for_syslog();
                let priority = FACILITY * 8 + severity(level);
                let message = format!("<{priority}>{now} tcpdirector[{}]: {}", std::process::id(), line.trim_end_matches('\n'));
                socket.send(message.as_bytes()).map(drop)
            }
        }
    }
}

/// The severities of RFC 3164.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
