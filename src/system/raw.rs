//! The system calls that no safe crate offers, and one symbol: the only file of the program with
//! unsafe code.

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
use nix::unistd::ForkResult;

/// recv(2) into memory that need not be initialised, and so is not touched before bytes arrive;
/// never waits for them. Returns the part that was filled; empty at the end of the stream. An error
/// of the kind `WouldBlock` says that nothing is there.
pub fn receive<'a>(socket: &TcpStream, space: &'a mut [MaybeUninit<u8>]) -> io::Result<&'a [u8]> {
    // SAFETY: the pointer and the length are those of one exclusively borrowed slice, and recv only
    // writes into it
    let count = unsafe {
        libc::recv(socket.as_raw_fd(), space.as_mut_ptr().cast(), space.len(), libc::MSG_DONTWAIT)
    };
    if count < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: recv has initialised the first `count` bytes, and `count` is at most the length of
    // the slice
    Ok(unsafe { std::slice::from_raw_parts(space.as_ptr().cast(), count as usize) })
}

/// Takes up to so many bytes that have come and drops them, without waiting; returns how many, 0 at
/// the end of the stream.
pub fn discard(socket: &TcpStream, most: usize) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: with MSG_TRUNC the kernel takes the bytes of a TCP socket without writing them
    // anywhere (tcp(7))
    let count = unsafe { libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), most, flags) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Bytes that were written to the socket and that the other side has not acknowledged (SIOCOUTQ,
/// tcp(7)).
pub fn unacknowledged(socket: &TcpStream) -> io::Result<usize> {
    queued(socket, libc::TIOCOUTQ)
}

/// Bytes that have come and that nobody has read yet (SIOCINQ, tcp(7)).
pub fn unread(socket: &TcpStream) -> io::Result<usize> {
    queued(socket, libc::FIONREAD)
}

/// For sockets SIOCOUTQ and SIOCINQ are the same requests as TIOCOUTQ and FIONREAD.
fn queued(socket: &TcpStream, request: libc::Ioctl) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: either request writes one int, to a place that lives through the call
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut count) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(usize::try_from(count).unwrap_or(0))
    }
}

/// The bytes of TCP_INFO that [`TcpInfo`](super::tcp_info::TcpInfo) reads.
pub const TCP_INFO_BYTES: usize = 144;

/// getsockopt(2) of TCP_INFO: `struct tcp_info` as far as this kernel knows it, zeros after that.
pub fn tcp_info(socket: &TcpStream) -> io::Result<[u8; TCP_INFO_BYTES]> {
    let mut bytes = [0; TCP_INFO_BYTES];
    let mut length = TCP_INFO_BYTES as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to a place that has as many, and the new
    // length to another one
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(bytes) }
}

/// getrandom(2): fills all of it, at most 256 bytes, with what nobody can guess. Not by the C
/// library, which has the function only since glibc 2.25. An error of number ENOSYS says that the
/// kernel is older than 3.17.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    loop {
        // SAFETY: the pointer and the length are those of one exclusively borrowed slice, and the
        // kernel only writes into it
        let count =
            unsafe { libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), 0) };
        match usize::try_from(count) {
            // up to 256 bytes come whole (getrandom(2))
            Ok(count) if count == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            },
        }
    }
}

/// flock(2): locks a file for us alone, or to share with others, until all copies of this
/// descriptor are closed. An error of the kind `WouldBlock` says that somebody else has it. nix
/// unlocks the file for a successor, too, and panics where it cannot.
pub fn lock(file: &File, alone: bool) -> io::Result<()> {
    let kind = if alone { libc::LOCK_EX } else { libc::LOCK_SH };
    // SAFETY: flock takes two numbers and touches no memory
    let result = unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Seconds since 1970 as the C library counts them: 32 bits in some.
pub type Seconds = libc::time_t;

/// localtime_r(3): a second as the clock on the wall shows it; `None` for a year beyond all
/// counting. The rules of the zone are read anew if `TZ`, or by glibc /etc/localtime, has changed.
pub fn local_time(seconds: Seconds) -> Option<libc::tm> {
    unsafe extern "C" {
        fn tzset();
    }
    let mut time = MaybeUninit::uninit();
    // SAFETY: both functions lock what they share, and read the environment, which nobody changes
    // once there are threads; localtime_r reads one number and writes to a place of the right size,
    // both of which live through the call
    let is_known = unsafe {
        tzset();
        !libc::localtime_r(&raw const seconds, time.as_mut_ptr()).is_null()
    };
    // SAFETY: localtime_r has filled it in whenever it returns where it is
    is_known.then(|| unsafe { time.assume_init() })
}

/// What the loader has mapped and not changed: the machine code, and the head of each file
/// (symbols, relocations and, by most linkers, constants), of the program and of the libraries that
/// it is linked to.
pub struct Code(Vec<Range<usize>>);

impl Code {
    /// What is mapped now. Must be called before anything loads a library that might be unloaded
    /// later, and before all threads.
    pub fn mapped() -> Code {
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let address = |text: &str| usize::from_str_radix(text, 16).ok();
        let read = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let (start, end) = words.next()?.split_once('-')?;
            // what is relocated and then made read-only is never at the head of its file
            let is_as_in_its_file = match (words.next()?, address(words.next()?)?) {
                ("r-xp", _) | ("r--p", 0) => words.next_back()?.starts_with('/'),
                _ => false,
            };
            Some(address(start)?..address(end)?).filter(|_| is_as_in_its_file)
        };
        Code(maps.lines().filter_map(read).collect())
    }

    /// Takes its pages out of this process; those that are needed come back from the page cache as
    /// they are touched.
    pub fn give_back(&self) {
        for range in &self.0 {
            // SAFETY: these are private mappings of files that this program cannot write to and
            // does not relocate, so no page has other contents than its file (but for the
            // breakpoints of a debugger, which it has to set anew), and the loader never unmaps
            // what a program is linked to, so that nothing else has come to be there
            unsafe {
                libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED)
            };
        }
    }
}

/// Has the allocator take all memory from one arena, where it knows arenas: glibc's does
/// (mallopt(3)).
pub fn use_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt sets a number under the allocator's own lock
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// From now on a file that may not grow any more (RLIMIT_FSIZE) costs a write its success, and not
/// the program its life; EFBIG says so.
pub fn ignore_file_size_signal() {
    // SAFETY: SIG_IGN runs none of our code
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// fork(2). Must be called while the process has one thread; both sides may then go on as usual.
pub fn fork() -> io::Result<ForkResult> {
    debug_assert_eq!(std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count), 1);
    // SAFETY: `main` calls this before it starts any thread, so the child inherits no lock that
    // another thread holds
    Ok(unsafe { nix::unistd::fork() }?)
}

/// The most descriptors that `receive_packet` takes in; the kernel's own limit is 253 (unix(7)).
pub const MAX_DESCRIPTORS: usize = 64;

/// recvmsg(2): one packet with the descriptors that came with it, up to [`MAX_DESCRIPTORS`], and
/// the process that has sent it, where the socket asks for that (SO_PASSCRED, unix(7)). Zero bytes:
/// the other side is gone.
pub fn receive_packet(
    socket: BorrowedFd<'_>,
    space: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>, Option<u32>)> {
    let mut rights = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS], UnixCredentials);
    let mut parts = [io::IoSliceMut::new(space)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut rights), flags)?;
    let (mut descriptors, mut sender) = (Vec::new(), None);
    for part in message.cmsgs()? {
        match part {
            // SAFETY: the kernel has just made these descriptors for this call, so nobody else
            // knows them
            ControlMessageOwned::ScmRights(numbers) => descriptors
                .extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) })),
            // 0 is a process that cannot be seen from here
            ControlMessageOwned::ScmCredentials(of) => {
                sender = u32::try_from(of.pid()).ok().filter(|pid| *pid > 0)
            }
            _ => {}
        }
    }
    match message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "a packet that is too large")),
        false => Ok((message.bytes, descriptors, sender)),
    }
}

/// Takes the descriptors that systemd has passed to this process, 3 and those after it; none the
/// second time. Must be called before anything else has opened one.
pub fn passed_descriptors(count: i32) -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, SeqCst) {
        return Ok(Vec::new());
    }
    let own = |number| {
        // SAFETY: `main` calls this first of all, and only when LISTEN_PID says that these
        // descriptors are for this process to own; fcntl borrows one for the call, and fails for
        // one that is not open
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        // SAFETY: as above, and the flag above makes sure that this happens once
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    };
    (3..count.saturating_add(3)).map(own).collect()
}

/// Closes those of these descriptors above standard error that have come through exec(2): whatever
/// this program opens is marked to be closed there, and what it takes over from systemd is, too.
pub fn close_inherited(numbers: impl IntoIterator<Item = RawFd>) {
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // SAFETY: fcntl reads a flag, and fails for a descriptor that is not open; what lacks the
        // flag belongs to nothing in here
        unsafe {
            if libc::fcntl(number, libc::F_GETFD) == 0 {
                libc::close(number);
            }
        }
    }
}

/// In the place of libgcc's function of this name, by which only std walks a stack, to print it:
/// the line of a panic in the log says where it was. Without that walk, std's reader of debug
/// information falls out of the program, a tenth of the file. Unwinding itself has no need of it.
/// Not where the unwinder is linked in and would define the name a second time.
#[cfg(all(not(debug_assertions), target_env = "gnu", not(target_feature = "crt-static")))]
// SAFETY: the same signature and a result that the function may have (unwind.h): the end of the
// stack, reached at once
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(
    _visit: *const libc::c_void,
    _state: *mut libc::c_void,
) -> libc::c_int {
    const END_OF_STACK: libc::c_int = 5;
    END_OF_STACK
}
