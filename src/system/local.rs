//! Unix sockets: a listening one in the file system that only its owner may use, a private one in a folder of its own, and a
//! connect that does not wait.
//!
//! Called by `admin`. What is made in the file system is removed when it is dropped.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};

/// A listening socket at a path, with the mode 0600; the file goes when this is dropped, if it is still ours.
pub struct LocalListener {
    socket: UnixListener,
    path: PathBuf,
    inode: u64,
    is_ours: AtomicBool,
}

impl LocalListener {
    /// Opens it. A socket that nobody listens on any more is replaced; anything else that is there stays, and is an error.
    pub fn open(path: &Path) -> io::Result<LocalListener> {
        make_way(path)?;
        // under a name of its own until it is ready: it takes the place of the old one in one step, and nobody can connect
        // before the mode is set, because nobody listens before
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", std::process::id()));
        let draft = PathBuf::from(draft);
        let _ = fs::remove_file(&draft);
        let descriptor = open(SockFlag::SOCK_CLOEXEC)?;
        socket::bind(descriptor.as_raw_fd(), &UnixAddr::new(&draft)?)?;
        let prepare = || -> io::Result<u64> {
            fs::set_permissions(&draft, Permissions::from_mode(0o600))?;
            socket::listen(&descriptor, Backlog::MAXALLOWABLE)?;
            let inode = fs::symlink_metadata(&draft)?.ino();
            fs::rename(&draft, path)?;
            Ok(inode)
        };
        match prepare() {
            Ok(inode) => {
                let (socket, path) = (UnixListener::from(descriptor), path.to_owned());
                Ok(LocalListener { socket, path, inode, is_ours: AtomicBool::new(true) })
            }
            Err(e) => {
                let _ = fs::remove_file(&draft);
                Err(e)
            }
        }
    }

    /// One that a predecessor has opened; the file is the predecessor's before [`LocalListener::set_ours`].
    pub fn inherit(socket: UnixListener, path: &Path) -> io::Result<LocalListener> {
        let inode = fs::symlink_metadata(path)?.ino();
        Ok(LocalListener { socket, path: path.to_owned(), inode, is_ours: AtomicBool::new(false) })
    }

    /// Whether the file is this process's to remove.
    pub fn set_ours(&self, is_ours: bool) {
        self.is_ours.store(is_ours, SeqCst);
    }

    /// The socket itself.
    pub fn socket(&self) -> &UnixListener {
        &self.socket
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes sure that nothing is at the path but what may be replaced.
fn make_way(path: &Path) -> io::Result<()> {
    let is_taken = |why: &str| Err(io::Error::new(ErrorKind::AddrInUse, why.to_owned()));
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => return is_taken("a file that is no socket is in the way"),
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    }
    match connect_now(path) {
        // its last owner has gone without removing it
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(()),
        Err(e) if e.kind() != ErrorKind::WouldBlock => Err(e),
        _ => is_taken("another program listens there"),
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        if self.is_ours.load(SeqCst) && fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A folder that only this user can look into, with a path for one socket; both go when this is dropped.
pub struct Den {
    folder: PathBuf,
}

impl Den {
    /// Makes the folder, below the one for temporary files.
    pub fn new() -> io::Result<Den> {
        let name = format!("tcpdirector-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let folder = std::env::temp_dir().join(name);
        // fails if it is there already, so it is never a folder that somebody else has prepared
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Den { folder })
    }

    /// Where the socket belongs.
    pub fn path(&self) -> PathBuf {
        self.folder.join("admin")
    }
}

impl Drop for Den {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path());
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Connects to a Unix socket, now or not at all: a listener whose queue is full is an error. The stream does not block.
pub fn connect_now(path: &Path) -> io::Result<UnixStream> {
    let descriptor = open(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    socket::connect(descriptor.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(descriptor))
}

fn open(flags: SockFlag) -> Result<std::os::fd::OwnedFd, Errno> {
    socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)
}
