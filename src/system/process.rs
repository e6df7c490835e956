//! The process: leaving the one that has started it, giving up root, letting go of what only the
//! start has needed. All of it is called by `main`, and only the fork has to come before all
//! threads: the C library gives up root for every thread. [`reap`] is for whoever hears of signals.

use std::ffi::CString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{self, ForkResult, Gid, Group, Uid, User};

pub use super::raw::{Code, ignore_file_size_signal};
use super::{fault, nofollow, raw};

/// Where the kernel does not list which descriptors are open, those below this are looked at.
const PLAUSIBLE: i32 = 1024;

/// The process that this one was forked from: it waits until we are ready.
pub struct Parent {
    ready: File,
}

impl Parent {
    /// Forks. The parent does not return: it waits until the child is ready or has failed, and
    /// exits with the status that this deserves. The child goes on, still with the parent's
    /// standard error.
    pub fn leave() -> io::Result<Parent> {
        let (wait, ready) = unistd::pipe2(OFlag::O_CLOEXEC)?;
        match raw::fork()? {
            ForkResult::Child => Ok(Parent { ready: File::from(ready) }),
            ForkResult::Parent { child } => {
                fault::point("between: has forked");
                drop(ready);
                // it does nothing that a signal could harm
                let _ = SigSet::all().thread_unblock();
                let is_ready = matches!(File::from(wait).read(&mut [0]), Ok(1));
                let status = match is_ready {
                    true => 0,
                    // the child has said why on the standard error that it shares with us
                    false => match waitpid(child, None) {
                        Ok(WaitStatus::Exited(_, status)) if status != 0 => status,
                        // as a shell has it
                        Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
                        _ => 1,
                    },
                };
                std::process::exit(status);
            }
        }
    }

    /// Lets it exit with 0. One that is gone already has exited otherwise.
    pub fn ready(mut self) {
        let _ = self.ready.write_all(&[0]);
    }
}

/// Takes this process out of the session that it was started in, and closes what it has inherited:
/// somebody may wait for the end of a pipe. Standard input, output and error are not meant, nor
/// what systemd has passed.
pub fn leave_session() -> io::Result<()> {
    unistd::setsid()?;
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    match fs::read_dir("/proc/self/fd") {
        Ok(open) => raw::close_inherited(open.flatten().filter_map(number).collect::<Vec<_>>()),
        Err(_) => raw::close_inherited(3..PLAUSIBLE),
    }
    Ok(())
}

/// Lets go of the terminal.
pub fn leave_terminal() -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(|e| io::Error::new(e.kind(), format!("/dev/null: {e}")))?;
    unistd::dup2_stdin(null.as_fd())?;
    unistd::dup2_stdout(null.as_fd())?;
    Ok(unistd::dup2_stderr(null.as_fd())?)
}

/// Lets go of the folder of the start, lest it cannot be unmounted.
pub fn leave_folder() -> io::Result<()> {
    Ok(unistd::chdir("/")?)
}

/// Lets the system forget the children that have ended. For process 1, which does not wait for any
/// of them.
pub fn reap() {
    let any = || waitpid(None, Some(WaitPidFlag::WNOHANG));
    while !matches!(any(), Ok(WaitStatus::StillAlive) | Err(_)) {}
}

/// Whom to become after everything that needs root is done.
#[derive(Debug)]
pub struct Identity {
    /// `None` for a number that no user has.
    name: Option<CString>,
    uid: Uid,
    gid: Gid,
}

impl Identity {
    /// Finds `USER` or `USER:GROUP`, by name or by number. A number need not be a user's: in a
    /// container there may be no list of them. Its group has the same number then, unless one is
    /// named. The error is a sentence.
    pub fn find(text: &str) -> Result<Identity, String> {
        let (user, group) =
            text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let number = id(user);
        let found = match number {
            Some(uid) => User::from_uid(Uid::from_raw(uid)),
            None => User::from_name(user),
        };
        let (name, uid, own_gid) = match (found.ok().flatten(), number) {
            (Some(found), _) => (CString::new(found.name).ok(), found.uid, found.gid),
            (None, Some(number)) => (None, Uid::from_raw(number), Gid::from_raw(number)),
            (None, None) => return Err(format!("there is no user `{user}`")),
        };
        let gid = match (group, group.and_then(id)) {
            (None, _) => own_gid,
            (_, Some(gid)) => Gid::from_raw(gid),
            (Some(name), None) => {
                Group::from_name(name)
                    .ok()
                    .flatten()
                    .ok_or_else(|| format!("there is no group `{name}`"))?
                    .gid
            }
        };
        Ok(Identity { name, uid, gid })
    }

    /// Gives the open file at a path to this user, so that it can still be opened after root is
    /// gone. A device stays whose it is, and so does what has another name, too, or has been moved:
    /// whoever may write to the folder could have laid a link.
    pub fn give_file(&self, file: &File, path: &Path) -> io::Result<()> {
        let is_meant = |there: &Metadata| {
            (there.is_file() || there.file_type().is_socket()) && there.nlink() == 1
        };
        match nofollow::at(file, path).filter(is_meant) {
            Some(_) => Ok(unistd::fchownat(
                file,
                "",
                Some(self.uid),
                Some(self.gid),
                AtFlags::AT_EMPTY_PATH,
            )?),
            None => Ok(()),
        }
    }

    /// The same for a socket in the file system, whose descriptor is not that of its file.
    pub fn give_path(&self, path: &Path) -> io::Result<()> {
        let place = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
            .open(path)?;
        self.give_file(&place, path)
    }

    /// Becomes this user for good, with the user's supplementary groups. Other processes of this
    /// user cannot look into this one, nor into a successor, which is this user from the start.
    pub fn assume(&self) -> io::Result<()> {
        if unistd::geteuid() != self.uid || unistd::getegid() != self.gid {
            match &self.name {
                Some(name) => unistd::initgroups(name, self.gid)?,
                None => unistd::setgroups(&[self.gid])?,
            }
            unistd::setresgid(self.gid, self.gid, self.gid)?;
            unistd::setresuid(self.uid, self.uid, self.uid)?;
        }
        // behind the change of user, at which the kernel sets this to what fs.suid_dumpable says
        // (proc_sys_fs(5))
        Ok(prctl::set_dumpable(false)?)
    }
}

/// A number of a user or a group; not the one that stands for none (setresuid(2)), which would
/// leave root what it is.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_has_another_name_or_is_not_there_any_more_is_not_given_away() {
        if !unistd::geteuid().is_root() {
            return eprintln!("skipped: only root can give a file away");
        }
        let folder = std::env::temp_dir().join(format!("tcpdirector-own-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let [lone, second, moved, socket] =
            ["lone", "second", "moved", "socket"].map(|name| folder.join(name));
        let (file, identity) =
            (File::create(&lone).unwrap(), Identity::find("12345:12345").unwrap());
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        fs::hard_link(&lone, &second).unwrap();
        identity.give_file(&file, &lone).unwrap();
        assert_eq!(owner(&lone), 0);
        fs::rename(&second, &moved).unwrap();
        fs::remove_file(&lone).unwrap();
        identity.give_file(&file, &moved).unwrap();
        assert_eq!(owner(&moved), 12345);
        std::os::unix::fs::symlink("/dev/null", &lone).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        fs::hard_link(&socket, &second).unwrap();
        identity.give_path(&socket).unwrap();
        identity.give_path(&lone).unwrap();
        assert_eq!([&socket, &lone].map(|path| owner(path)), [0, 0]);
        fs::remove_file(&second).unwrap();
        identity.give_path(&socket).unwrap();
        assert_eq!(owner(&socket), 12345);
        fs::remove_dir_all(&folder).unwrap();
    }
}
