//! The pid file: locked while the service lives, whichever process that is, and removed at its end.
//!
//! The lock belongs to the open file (flock(2)), so a successor that gets the descriptor holds the
//! lock as well, and it is never free in between. Owned by `main`; [`HeldPidFile`] is for
//! `--replace`, in another process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::nofollow;
use super::raw;

/// A pid file with its lock. Dropping it removes the file if it is this process's own.
pub struct PidFile {
    path: PathBuf,
    file: File,
    is_ours: bool,
}

impl PidFile {
    /// Makes the file, locks it and writes our process id. Fails when another process holds the
    /// lock, naming that process, and when the path is a link: root might write where whoever laid
    /// it wants.
    pub fn create(path: &Path) -> io::Result<PidFile> {
        let path = std::path::absolute(path)?;
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o644);
            let file = nofollow::open(&options, &path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::new(ErrorKind::InvalidInput, "it is no plain file"));
            }
            let file = locked(file)?;
            // its last owner may have removed it between our open and our lock
            if nofollow::at(&file, &path).is_some() {
                let mut pidfile = PidFile { path, file, is_ours: false };
                pidfile.name()?;
                return Ok(pidfile);
            }
        }
    }

    /// The file of a predecessor, by its descriptor. It goes on to be the predecessor's before
    /// [`PidFile::name`].
    pub fn inherit(path: &Path, descriptor: OwnedFd) -> io::Result<PidFile> {
        let path = std::path::absolute(path)?;
        Ok(PidFile { path, file: locked(File::from(descriptor))?, is_ours: false })
    }

    /// This process is the service from now on, and the file is ours to remove. The number is
    /// replaced in one write: a reader finds the one or the other.
    pub fn name(&mut self) -> io::Result<()> {
        self.is_ours = true;
        let text = format!("{}\n", std::process::id());
        let length = self.file.metadata()?.len();
        // a longer text that was there ends in blank lines for a moment
        let padded =
            format!("{text:\n<width$}", width = usize::try_from(length.min(4096)).unwrap_or(0));
        self.file.write_all_at(padded.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }

    /// Another process has taken it over, and has written its number.
    pub fn leave(&mut self) {
        self.is_ours = false;
    }

    /// The file, to hand it over.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The file with our lock on it, until it and all copies of its descriptor are closed.
fn locked(mut file: File) -> io::Result<File> {
    match raw::lock(&file, true) {
        Ok(()) => Ok(file),
        Err(e) => Err(match read(&mut file) {
            Ok(pid) if e.kind() == ErrorKind::WouldBlock => {
                io::Error::new(ErrorKind::AddrInUse, format!("process {pid} holds it"))
            }
            _ => e,
        }),
    }
}

fn read(file: &mut File) -> io::Result<i32> {
    let mut text = String::new();
    file.rewind()?;
    file.take(64).read_to_string(&mut text)?;
    let pid = text.trim().parse().ok().filter(|pid| *pid > 0);
    pid.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "there is no process id in it"))
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // without the right to remove it (root was given up), at least no stale number stays;
        // another one's file is left alone
        if self.is_ours
            && (nofollow::at(&self.file, &self.path).is_none()
                || fs::remove_file(&self.path).is_err())
        {
            let _ = self.file.set_len(0);
        }
    }
}

/// A pid file as other processes see it.
pub struct HeldPidFile(File);

impl HeldPidFile {
    /// Opens a file that a process holds; one that is not locked names nobody who lives. Fails for
    /// a link, which may lead to the file of another program: that holds it, and would be
    /// signalled.
    pub fn open(path: &Path) -> io::Result<HeldPidFile> {
        let file = nofollow::open(OpenOptions::new().read(true), path)?;
        match raw::lock(&file, false) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(HeldPidFile(file)),
            Err(e) => Err(e),
            Ok(()) => Err(io::Error::new(ErrorKind::NotFound, "no running process holds it")),
        }
    }

    /// Whether this process holds it, by what the kernel lists of its open files
    /// (proc_pid_fdinfo(5)). What is written in the file is only what its writer says.
    pub fn is_held_by(&self, pid: i32) -> io::Result<bool> {
        let of = |what: &str| format!("/proc/{pid}/{what}");
        let ours = self.0.metadata()?;
        let open = fs::read_dir(of("fd"))
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", of("fd"))))?;
        let holds = |number: &str| {
            let is_it = fs::metadata(of(&format!("fd/{number}")))
                .is_ok_and(|it| (it.dev(), it.ino()) == (ours.dev(), ours.ino()));
            is_it
                && fs::read_to_string(of(&format!("fdinfo/{number}")))
                    .is_ok_and(|text| text.contains("FLOCK"))
        };
        Ok(open
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .any(|number| holds(&number)))
    }

    /// The process that is said to hold it, and when that was last written.
    pub fn holder(&mut self) -> io::Result<(i32, (i64, i64))> {
        let written = self.0.metadata().map(|data| (data.mtime(), data.mtime_nsec()))?;
        Ok((read(&mut self.0)?, written))
    }
}
