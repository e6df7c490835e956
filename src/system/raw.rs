//! The system calls that no safe crate offers: the only file of the program with unsafe code.

use std::io;
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use nix::unistd::ForkResult;

/// recv(2) into memory that need not be initialised, and so is not touched before bytes arrive. Returns the part that was
/// filled; empty at the end of the stream.
pub fn receive<'a>(socket: &TcpStream, space: &'a mut [MaybeUninit<u8>]) -> io::Result<&'a [u8]> {
    // SAFETY: the pointer and the length are those of one exclusively borrowed slice, and recv only writes into it
    let count = unsafe { libc::recv(socket.as_raw_fd(), space.as_mut_ptr().cast(), space.len(), 0) };
    if count < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: recv has initialised the first `count` bytes, and `count` is at most the length of the slice
    Ok(unsafe { std::slice::from_raw_parts(space.as_ptr().cast(), count as usize) })
}

/// Bytes that were written to the socket and that the other side has not acknowledged (SIOCOUTQ, tcp(7)).
pub fn unacknowledged(socket: &TcpStream) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same request as TIOCOUTQ) writes one int, to a place that lives through the call
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(count).unwrap_or(0)) }
}

/// fork(2). Must be called while the process has one thread; both sides may then go on as usual.
pub fn fork() -> io::Result<ForkResult> {
    debug_assert_eq!(std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count), 1);
    // SAFETY: `main` calls this before it starts any thread, so the child inherits no lock that another thread holds
    Ok(unsafe { nix::unistd::fork() }?)
}
