//! The process: going to the background, the pid file, giving up root. All of it is called by `main` before any thread starts,
//! except for the end of the pid file.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{self, ForkResult, Gid, Group, Uid, User};

use super::raw;

/// The child's end of a program that goes to the background.
pub struct Background {
    ready: File,
}

/// Forks. The parent does not return: it waits until the child is ready or has failed, and exits with the status that this
/// deserves. The child goes on in a session of its own, still with the parent's standard error.
pub fn to_background() -> io::Result<Background> {
    let (wait, ready) = unistd::pipe2(OFlag::O_CLOEXEC)?;
    match raw::fork()? {
        ForkResult::Child => {
            unistd::setsid()?;
            Ok(Background { ready: File::from(ready) })
        }
        ForkResult::Parent { child } => {
            drop(ready);
            let is_ready = matches!(File::from(wait).read(&mut [0]), Ok(1));
            let status = match is_ready {
                true => 0,
                // the child has said why on the standard error that it shares with us
                false => match waitpid(child, None) {
                    Ok(WaitStatus::Exited(_, status)) if status != 0 => status,
                    _ => 1,
                },
            };
            std::process::exit(status);
        }
    }
}

impl Background {
    /// Everything is bound and running: lets go of the terminal and of the directory, and lets the parent exit with 0.
    pub fn ready(mut self) -> io::Result<()> {
        unistd::chdir("/")?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        unistd::dup2_stdin(null.as_fd())?;
        unistd::dup2_stdout(null.as_fd())?;
        unistd::dup2_stderr(null.as_fd())?;
        self.ready.write_all(&[0])
    }
}

/// The pid file: locked while this lives, removed when it is dropped.
pub struct PidFile {
    path: PathBuf,
    file: Flock<File>,
}

impl PidFile {
    /// Makes the file, locks it and writes our process id. Fails when another process holds the lock, naming that process.
    pub fn create(path: &Path) -> io::Result<PidFile> {
        let path = std::path::absolute(path)?;
        loop {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(&path)?;
            let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, e)| held_by(file, e))?;
            // its last owner may have removed it between our open and our lock
            if is_at(&file, &path) {
                file.set_len(0)?;
                file.rewind()?;
                writeln!(file, "{}", std::process::id())?;
                return Ok(PidFile { path, file });
            }
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|ours| there.ino() == ours.ino()))
}

fn held_by(mut file: File, error: nix::Error) -> io::Error {
    let mut pid = String::new();
    let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
    match error {
        nix::Error::EWOULDBLOCK if known => io::Error::new(ErrorKind::AddrInUse, format!("process {} holds it", pid.trim())),
        other => other.into(),
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // without the right to remove it (root was given up), at least no stale number stays; another one's file is left alone
        if !is_at(&self.file, &self.path) || fs::remove_file(&self.path).is_err() {
            let _ = self.file.set_len(0);
        }
    }
}

/// Whom to become after everything that needs root is done.
#[derive(Debug)]
pub struct Identity {
    name: CString,
    uid: Uid,
    gid: Gid,
}

impl Identity {
    /// Finds `USER` or `USER:GROUP`, by name or by number. The error is a sentence.
    pub fn find(text: &str) -> Result<Identity, String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let found = match user.parse() {
            Ok(uid) => User::from_uid(Uid::from_raw(uid)),
            Err(_) => User::from_name(user),
        };
        let found = found.ok().flatten().ok_or_else(|| format!("there is no user `{user}`"))?;
        let gid = match group {
            None => found.gid,
            Some(name) => match name.parse() {
                Ok(gid) => Gid::from_raw(gid),
                Err(_) => Group::from_name(name).ok().flatten().ok_or_else(|| format!("there is no group `{name}`"))?.gid,
            },
        };
        let name = CString::new(found.name).map_err(|_| format!("there is no user `{user}`"))?;
        Ok(Identity { name, uid: found.uid, gid })
    }

    /// Gives a file to this user, so that it can still be opened after root is gone. A device stays whose it is.
    pub fn own(&self, file: &File) -> io::Result<()> {
        if !file.metadata()?.is_file() {
            return Ok(());
        }
        Ok(unistd::fchown(file, Some(self.uid), Some(self.gid))?)
    }

    /// Gives a path to this user: a socket in the file system cannot be given away through its descriptor.
    pub fn own_path(&self, path: &Path) -> io::Result<()> {
        Ok(unistd::chown(path, Some(self.uid), Some(self.gid))?)
    }

    /// Becomes this user for good, with the user's supplementary groups.
    pub fn assume(&self) -> io::Result<()> {
        if unistd::geteuid() == self.uid && unistd::getegid() == self.gid {
            return Ok(());
        }
        unistd::initgroups(&self.name, self.gid)?;
        unistd::setresgid(self.gid, self.gid, self.gid)?;
        unistd::setresuid(self.uid, self.uid, self.uid)?;
        Ok(())
    }
}
