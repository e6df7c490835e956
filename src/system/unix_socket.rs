//! Unix sockets: a listening one in the file system that only its owner may use, a private pair
//! outside of it, and a connect that does not wait.
//!
//! Called by `admin`. What is made in the file system is removed when it is dropped.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, fchmod};

/// A listening socket at a path, with the mode 0600; the file goes when this is dropped, if it is
/// still ours.
pub struct UnixSocketListener {
    socket: UnixListener,
    path: PathBuf,
    inode: u64,
    is_ours: AtomicBool,
}

impl UnixSocketListener {
    /// Opens it. A socket that nobody listens on any more is replaced; anything else that is there
    /// stays, and is an error.
    pub fn open(path: &Path) -> io::Result<UnixSocketListener> {
        make_way(path)?;
        // under a name of its own until it is ready: it takes the place of the old one in one step
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", std::process::id()));
        let draft = PathBuf::from(draft);
        let _ = fs::remove_file(&draft);
        let descriptor = open(SockFlag::SOCK_CLOEXEC)?;
        // the file is made with the mode of the socket: whoever may write to the folder cannot have
        // another one's changed
        fchmod(&descriptor, Mode::S_IRUSR | Mode::S_IWUSR)?;
        socket::bind(descriptor.as_raw_fd(), &UnixAddr::new(&draft)?)?;
        let prepare = || -> io::Result<u64> {
            socket::listen(&descriptor, Backlog::MAXALLOWABLE)?;
            let inode = fs::symlink_metadata(&draft)?.ino();
            fs::rename(&draft, path)?;
            Ok(inode)
        };
        match prepare() {
            Ok(inode) => {
                let (socket, path) = (UnixListener::from(descriptor), path.to_owned());
                Ok(UnixSocketListener { socket, path, inode, is_ours: AtomicBool::new(true) })
            }
            Err(e) => {
                let _ = fs::remove_file(&draft);
                Err(e)
            }
        }
    }

    /// One that a predecessor has opened; the file is the predecessor's before
    /// [`UnixSocketListener::set_ours`].
    pub fn inherit(socket: UnixListener, path: &Path) -> io::Result<UnixSocketListener> {
        let inode = fs::symlink_metadata(path)?.ino();
        Ok(UnixSocketListener {
            socket,
            path: path.to_owned(),
            inode,
            is_ours: AtomicBool::new(false),
        })
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
        Ok(there) if !there.file_type().is_socket() => {
            return is_taken("a file that is no socket is in the way");
        }
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

impl Drop for UnixSocketListener {
    fn drop(&mut self) {
        if self.is_ours.load(SeqCst)
            && fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode)
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// How often somebody else may be quicker with a connect before there is no private pair.
const TRIES: usize = 16;

/// A listening socket with one connection that waits in it, and the other end of that connection,
/// which does not block. It needs no place in the file system, and nobody else can connect: the
/// kernel gives it an abstract name (unix(7), autobind), it has room for one, and when that one is
/// ours it is shut, which keeps who waits in it and turns everybody else away. After the first
/// accept(2), the next fails with EINVAL.
pub fn private_pair() -> io::Result<(UnixListener, UnixStream)> {
    for _ in 0..TRIES {
        let listener = open(SockFlag::SOCK_CLOEXEC)?;
        socket::bind(listener.as_raw_fd(), &UnixAddr::new_unnamed())?;
        let name: UnixAddr = socket::getsockname(listener.as_raw_fd())?;
        socket::listen(&listener, Backlog::new(0)?)?;
        let stream = open(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        match socket::connect(stream.as_raw_fd(), &name) {
            Ok(()) => {
                socket::shutdown(listener.as_raw_fd(), Shutdown::Both)?;
                return Ok((UnixListener::from(listener), UnixStream::from(stream)));
            }
            // somebody has guessed the name between the two calls
            Err(Errno::EAGAIN) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(io::Error::new(ErrorKind::AddrInUse, "another program connects to every private socket"))
}

/// Connects to a Unix socket, now or not at all: a listener whose queue is full is an error. The
/// stream does not block.
fn connect_now(path: &Path) -> io::Result<UnixStream> {
    let descriptor = open(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    socket::connect(descriptor.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(descriptor))
}

fn open(flags: SockFlag) -> Result<std::os::fd::OwnedFd, Errno> {
    socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_private_pair_is_connected_and_nobody_else_can_connect() {
        let (listener, mut ours) = private_pair().unwrap();
        let name: UnixAddr = socket::getsockname(listener.as_raw_fd()).unwrap();
        assert!(name.path().is_none() && name.as_abstract().is_some());
        let stranger = open(SockFlag::SOCK_NONBLOCK).unwrap();
        assert_eq!(socket::connect(stranger.as_raw_fd(), &name), Err(Errno::ECONNREFUSED));
        let (mut theirs, _) = listener.accept().unwrap();
        ours.write_all(b"hello").unwrap();
        let mut word = [0; 5];
        theirs.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"hello");
        assert_eq!(listener.accept().unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(socket::connect(stranger.as_raw_fd(), &name), Err(Errno::ECONNREFUSED));
    }
}
