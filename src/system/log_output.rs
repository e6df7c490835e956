//! Where log lines end up: standard error, the journal behind it, a file, or syslog; each has lines
//! of its own form. Cannot fail and cannot block for long: what cannot be written is counted, and
//! the count is written when writing works again. fern alone would panic.
//!
//! Called by fern on whichever thread logs. Owns one lock, around the open output, never held while
//! writing.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use log::{Log, Metadata, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::geteuid;
use parking_lot::RwLock;

use super::date::Clock;
use super::journal;
use super::lines::LineWriter;
use super::nofollow;
use super::syslog::{self, Syslog};

/// How long a line waits for a reader of standard error that is slow. One that is gone costs each
/// thread this much once.
const STDERR_TIMEOUT_MILLIS: u16 = 2000;
/// Links to what a process has open.
const OPEN_LINKS: [&str; 4] = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc/self/fd"];

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
    /// Reads `stderr`, `syslog`, `syslog:SOCKET` or a file name; a relative name starts at this
    /// folder.
    pub fn from_name(name: &str, folder: &Path) -> Target {
        match (name, name.strip_prefix("syslog:")) {
            ("stderr", _) => Target::Stderr,
            ("syslog", _) => Target::Syslog(syslog::SOCKET.into()),
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
pub struct LogOutput {
    open: RwLock<Arc<Open>>,
    clock: Clock,
    /// LineWriter that could not be written, ever, and how many of them the log has confessed.
    lost: AtomicUsize,
    confessed: AtomicUsize,
}

enum Output {
    Stderr {
        is_journal: bool,
        /// Nothing that a write could have to wait for.
        is_file: bool,
        /// Nobody reads: do not wait before a line gets through again.
        is_stuck: AtomicBool,
        lines: LineWriter,
    },
    File(File, LineWriter),
    /// Or why there is no connection.
    Syslog(io::Result<Syslog>),
}

impl Open {
    /// Opens a place for the log. Fails for a file that cannot be opened, and for a FIFO that
    /// nobody reads.
    pub fn new(target: Target) -> io::Result<Open> {
        let output = Output::open(&target)?;
        Ok(Open { target, output })
    }

    fn is_syslog(&self) -> bool {
        matches!(self.output, Output::Syslog(_))
    }
}

impl LogOutput {
    /// Opens the log. Fails for a file that cannot be opened; a syslog daemon that is away may come
    /// back.
    pub fn open(target: Target) -> io::Result<LogOutput> {
        let open = RwLock::new(Arc::new(Open::new(target)?));
        Ok(LogOutput {
            open,
            clock: Clock::default(),
            lost: AtomicUsize::default(),
            confessed: AtomicUsize::default(),
        })
    }

    /// Opens the log anew, for a file that was moved away. LineWriter that are written meanwhile go to
    /// the one or the other; when the new one cannot be opened the old one stays.
    pub fn reopen(&self) -> io::Result<()> {
        let target = self.now_open().target.clone();
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
        let open = self.now_open();
        match (&open.output, &open.target) {
            (Output::File(file, _), Target::File(path)) => Some(act(file, path)),
            _ => None,
        }
    }

    /// Why every line is lost for now, in words: no syslog daemon listens.
    pub fn absence(&self) -> Option<String> {
        let open = self.now_open();
        match (&open.output, &open.target) {
            (Output::Syslog(Err(e)), Target::Syslog(path)) => {
                Some(format!("no syslog listens at {}: {e}", path.display()))
            }
            _ => None,
        }
    }

    /// LineWriter that could not be written, since the start.
    pub fn lost(&self) -> usize {
        self.lost.load(Relaxed)
    }

    fn now_open(&self) -> Arc<Open> {
        self.open.read().clone()
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        let open = self.now_open();
        match open.output.write(record, &self.clock) {
            // a syslog daemon that was restarted has a new socket behind the old name; one that is
            // slow has not
            Err(e) if open.is_syslog() && e.kind() != ErrorKind::WouldBlock => {
                self.reopen()?;
                self.now_open().output.write(record, &self.clock)
            }
            written => written,
        }
    }
}

impl Log for LogOutput {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        if self.write(record).is_err() {
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        let lost = self.lost();
        if self.confessed.swap(lost, Relaxed) != lost {
            // comes back here as a line of its own; if that is lost too, it counts, and the next
            // line has the sum
            log::warn!("log lost={lost}");
        }
    }

    fn flush(&self) {}
}

impl Output {
    fn open(target: &Target) -> io::Result<Output> {
        Ok(match target {
            Target::Stderr => {
                let kind = fstat(io::stderr()).map(|about| about.st_mode & SFlag::S_IFMT.bits());
                let is_file = kind == Ok(SFlag::S_IFREG.bits());
                let (is_stuck, lines) = (AtomicBool::default(), LineWriter::default());
                Output::Stderr { is_journal: journal::is_stderr(), is_file, is_stuck, lines }
            }
            Target::File(path) => {
                let file = open_file(path)?;
                let lines = LineWriter::after(&file, path);
                Output::File(file, lines)
            }
            Target::Syslog(path) => Output::Syslog(Syslog::connect(path)),
        })
    }

    /// Writes a line as it is written here.
    fn write(&self, record: &Record, clock: &Clock) -> io::Result<()> {
        // as long as most lines are: grown step by step, it would be allocated six times
        let mut line = String::with_capacity(256);
        let (level, text) = (record.level(), record.args());
        // writing to a string cannot fail
        let _ = match self {
            Output::Stderr { is_journal: true, .. } => {
                writeln!(line, "{}{text}", journal::prefix(level))
            }
            Output::Syslog(_) => writeln!(line, "{}{text}", syslog::head(level)),
            Output::Stderr { .. } | Output::File(..) => writeln!(line, "{} {text}", clock.now()),
        };
        match self {
            Output::Stderr { is_file, is_stuck, lines, .. }
                if *is_file || !is_stuck_now(is_stuck) =>
            {
                // past std's lock, which would be held while writing
                lines.write(io::stderr(), &line)
            }
            Output::Stderr { .. } => Err(ErrorKind::WouldBlock.into()),
            Output::File(file, lines) => lines.write(file, &line),
            Output::Syslog(Ok(syslog)) => syslog.write(&line),
            Output::Syslog(Err(e)) => Err(e.kind().into()),
        }
    }
}

/// As root, no link is followed: the folder may be that of the user that the program becomes. What
/// leads to a file that this process has open already gives nobody anything.
fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640);
    let is_ours = OPEN_LINKS.iter().any(|place| path.starts_with(place));
    if geteuid().is_root() && !is_ours {
        nofollow::open(&options, path)
    } else {
        options.custom_flags(nofollow::FLAGS).open(path)
    }
}

/// Whether nobody reads standard error: a pipe that is full, or a stopped terminal, must not hold
/// up a session for long.
fn is_stuck_now(was_stuck: &AtomicBool) -> bool {
    let stderr = io::stderr();
    let mut polled = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    let limit = PollTimeout::from(if was_stuck.load(Relaxed) { 0 } else { STDERR_TIMEOUT_MILLIS });
    let is_stuck = matches!(poll(&mut polled, limit), Ok(0));
    if was_stuck.load(Relaxed) != is_stuck {
        was_stuck.store(is_stuck, Relaxed);
    }
    is_stuck
}
