//! The process: going to the background, giving up root, letting go of what only the start has needed. All of it is called by `main`,
//! and only the fork has to come before all threads: the C library gives up root for every thread.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{self, ForkResult, Gid, Group, Uid, User};

use super::raw;
pub use super::raw::{Code, ignore_file_size_signal};

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

/// Lets go of the folder of the start, lest it cannot be unmounted.
pub fn leave_folder() -> io::Result<()> {
    Ok(unistd::chdir("/")?)
}

impl Background {
    /// Everything is bound and running: lets go of the terminal and of the directory, and lets the parent exit with 0.
    pub fn ready(mut self) -> io::Result<()> {
        leave_folder()?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        unistd::dup2_stdin(null.as_fd())?;
        unistd::dup2_stdout(null.as_fd())?;
        unistd::dup2_stderr(null.as_fd())?;
        self.ready.write_all(&[0])
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

    /// Gives the open file at a path to this user, so that it can still be opened after root is gone. A device stays whose it is,
    /// and so does what a symbolic link has led to: whoever may write to the folder could have laid the link.
    pub fn own(&self, file: &File, path: &Path) -> io::Result<()> {
        let (open, there) = (file.metadata()?, fs::symlink_metadata(path)?);
        if !there.is_file() || (open.dev(), open.ino()) != (there.dev(), there.ino()) {
            return Ok(());
        }
        Ok(unistd::fchown(file, Some(self.uid), Some(self.gid))?)
    }

    /// Gives a path to this user: a socket in the file system cannot be given away through its descriptor. A symbolic link is given
    /// away itself, not what it leads to.
    pub fn own_path(&self, path: &Path) -> io::Result<()> {
        Ok(unistd::fchownat(AT_FDCWD, path, Some(self.uid), Some(self.gid), AtFlags::AT_SYMLINK_NOFOLLOW)?)
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
