//! Starting this program once more while it runs, and being the one that was started: processes and
//! environment, not what is said.
//!
//! Used by `daemon`, on the thread `main`.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{AccessFlags, Pid, access, getppid};

use super::channel::Channel;
use super::notify;
use super::pidfile::HeldPidFile;

/// Names the process that has started this one to be its successor.
const VARIABLE: &str = "TCPDIRECTOR_HANDOVER";

/// How often a process that is about to end is looked at.
const END_CHECK: Duration = Duration::from_millis(5);
/// How long one may take to end that has nothing more to do, or that was killed.
const LAST_STEPS: Duration = Duration::from_millis(500);

/// How this program was started: what is at that path later is its successor. A symbolic link is
/// followed anew.
#[derive(Debug)]
pub struct Invocation {
    program: PathBuf,
    arguments: Vec<OsString>,
    folder: PathBuf,
}

/// The path that this program was called by, as far as its name says it: the system gives the file
/// behind all links.
fn own_path(name: &Path) -> PathBuf {
    let Ok(file) = env::current_exe() else { return name.to_owned() };
    let is_searched = name.components().count() < 2;
    let path = env::var_os("PATH").filter(|_| is_searched).unwrap_or_default();
    let searched = env::split_paths(&path).map(|folder| folder.join(name));
    let mut called =
        searched.chain([name.to_owned()]).filter_map(|path| std::path::absolute(path).ok());
    called.find(|path| path.canonicalize().is_ok_and(|real| real == file)).unwrap_or(file)
}

impl Invocation {
    /// To be called at the start: the file may be moved away later, and a daemon leaves the folder.
    pub fn remember() -> Invocation {
        let mut arguments = env::args_os();
        let name = arguments.next().unwrap_or_default();
        let folder = env::current_dir().unwrap_or_else(|_| "/".into());
        Invocation { program: own_path(Path::new(&name)), arguments: arguments.collect(), folder }
    }

    /// Why this process cannot be replaced by another one, if so.
    pub fn obstacle(&self) -> Option<&'static str> {
        if std::process::id() == 1 {
            return Some("this is process 1, and the container ends when it ends");
        }
        let is_of_systemd =
            env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == std::process::id().to_string());
        (is_of_systemd && !notify::is_wanted())
            .then_some("systemd would take this for the end of the service: use Type=notify")
    }

    /// Where the successor starts. The user that this program has become need not be let into the
    /// folder that root was in.
    fn place(&self) -> &Path {
        let is_open = access(&self.folder, AccessFlags::X_OK).is_ok();
        if is_open { &self.folder } else { Path::new("/") }
    }

    /// Starts the program that is there now, in a process group of its own: it forks, and both of
    /// its processes must be found. It has what `first` says to it even if this process ends in the
    /// next moment.
    pub fn start(&self, first: impl FnOnce(&Channel) -> io::Result<()>) -> io::Result<Successor> {
        let (channel, theirs) = Channel::pair()?;
        first(&channel)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(self.place()).stdin(theirs).process_group(0);
        command.env(VARIABLE, std::process::id().to_string());
        for only_ours in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            command.env_remove(only_ours);
        }
        let child = command
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.program.display())))?;
        Ok(Successor { channel, child, is_free: false })
    }
}

/// The program that is to take over; ended and waited for when this is dropped before
/// [`Successor::release`].
///
/// The process that was started forks and waits until the other one serves; then it ends, so that
/// process 1, or whoever adopts orphans here, becomes the parent of the one that serves. A service
/// manager looks after none but its own children.
pub struct Successor {
    /// How to talk to it.
    pub channel: Channel,
    child: Child,
    /// Nothing is to be ended any more.
    is_free: bool,
}

impl Successor {
    /// Its process id: that of the process that speaks.
    pub fn pid(&self) -> u32 {
        self.channel.sender().unwrap_or(self.child.id())
    }

    /// Ends it, if it does not end by itself within the time, and returns how it ended. It is gone
    /// when this returns.
    pub fn end(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        self.await_child(limit);
        // an ended child stays ours until it is waited for, so this never meets another group of
        // the same number
        let _ = killpg(self.child_id(), Signal::SIGKILL);
        let status = self.child.wait();
        self.is_free = true;
        // the other process cannot be waited for: when it lets go of its end, it has let go of all
        // that it had
        while let Ok(Some(_)) = self.channel.receive(LAST_STEPS) {}
        status
    }

    /// Passes a signal on, if it is still there.
    pub fn signal(&self, signal: i32) {
        let signal = Signal::try_from(signal).ok();
        let _ = i32::try_from(self.pid()).map(|pid| kill(Pid::from_raw(pid), signal));
    }

    /// Waits until the process that serves, if it has forked, is not our child any more.
    pub fn await_fork(&self) {
        if self.pid() != self.child.id() {
            self.await_child(LAST_STEPS);
        }
    }

    /// It has taken over: it lives on when this is dropped.
    pub fn release(&mut self) {
        self.is_free = true;
        if self.pid() != self.child.id() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn child_id(&self) -> Pid {
        // the system's process ids are of this type
        Pid::from_raw(self.child.id() as i32)
    }

    /// Waits until the process that was started has ended, for so long at most, and lets the system
    /// remember it.
    fn await_child(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while Instant::now() < deadline
            && waitid(Id::Pid(self.child_id()), look) == Ok(WaitStatus::StillAlive)
        {
            thread::sleep(END_CHECK);
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.is_free {
            let _ = self.end(Duration::ZERO);
        }
    }
}

/// The way to the process that has started this one to be its successor, if one has; it may be dead
/// by now. To be called once, at the start.
pub fn predecessor() -> Option<io::Result<Channel>> {
    let parent = env::var(VARIABLE).ok()?;
    match Channel::from_stdin() {
        // the variable of somebody else's successor, inherited by accident, means nothing
        Err(_) if parent != getppid().to_string() => None,
        channel => Some(channel),
    }
}

/// How often the pid file is looked at.
const CHECK: Duration = Duration::from_millis(50);

/// Asks the process that holds a pid file to leave the service to a new program, and waits until it
/// has; returns the process id of the new one. A refusal is seen at once: the old process writes
/// its pid file anew then.
pub fn ask(pidfile: &Path, limit: Duration) -> Result<i32, String> {
    let cannot = |e: io::Error| format!("{}: {e}", pidfile.display());
    let mut held = HeldPidFile::open(pidfile).map_err(cannot)?;
    let (old, written) = held.holder().map_err(cannot)?;
    if !held.is_held_by(old).map_err(cannot)? {
        return Err(format!(
            "{}: it names process {old}, and another one holds it",
            pidfile.display()
        ));
    }
    kill(Pid::from_raw(old), Signal::SIGUSR2)
        .map_err(|e| format!("process {old} cannot be told: {}", io::Error::from(e)))?;
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        thread::sleep(CHECK);
        match held.holder().map_err(cannot)? {
            (pid, _) if pid != old && kill(Pid::from_raw(pid), None) != Err(nix::Error::ESRCH) => {
                return Ok(pid);
            }
            (pid, now) if pid == old && now != written => {
                return Err(format!(
                    "process {old} was not replaced and goes on; its log says why"
                ));
            }
            _ => {}
        }
    }
    Err(format!("process {old} was not replaced within {} s; its log says why", limit.as_secs()))
}
