//! Networks of a test's own: namespaces of the kernel with a line between them that can be cut.
//! Needs root.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CloneFlags, setns, unshare};

use super::command::{of_file, output, text};
use super::left_out::leave_out;
use super::program::{find, installed};
use super::until;

/// What makes devices whose other end is a program.
const TUN: &str = "/dev/net/tun";

/// A network namespace. It goes with the last socket and thread in it.
pub struct Network(File);

impl Network {
    /// One with its loopback up; `None` if this is not allowed here, and then the test is skipped.
    pub fn new() -> Option<Network> {
        if !installed("ip") {
            return None;
        }
        // a thread of its own: the test's stays where it is
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(File::open("/proc/thread-self/ns/net").expect("it is there"))
        });
        match made.join().unwrap() {
            Ok(file) => {
                let network = Network(file);
                network.ip("link set lo up");
                Some(network)
            }
            Err(Errno::EPERM) => {
                leave_out("only root makes networks");
                None
            }
            Err(e) => panic!("no network of its own: {e}"),
        }
    }

    /// Runs something in it. The threads and programs that it starts are in it, too, and so are
    /// their sockets.
    pub fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("it is ours");
                what()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sets a parameter of its part of the kernel, such as `net/ipv4/ip_forward`.
    pub fn set(&self, parameter: &str, value: &str) {
        self.run(|| std::fs::write(format!("/proc/sys/{parameter}"), value).expect("it is ours"));
    }

    /// Runs ip(8) in it.
    pub fn ip(&self, arguments: &str) {
        let program = find("ip").expect("it is installed");
        let output = self.run(|| output(Command::new(&program).args(arguments.split(' '))));
        assert!(output.status.success(), "ip {arguments}: {}", text(&output.stderr));
    }

    /// Lays a line to another one: the ends are called `name` in both, and have these addresses. A
    /// packet that is sent too early is lost, and with a SYN a second: it works when this returns.
    pub fn link(&self, name: &str, here: &str, other: &Network, there: &str) {
        let path = format!("/proc/{}/fd/{}", std::process::id(), other.0.as_raw_fd());
        self.ip(&format!("link add {name} type veth peer name {name} netns {path}"));
        for (network, address) in [(self, here), (other, there)] {
            network.ip(&format!("addr add {address} dev {name}"));
            network.ip(&format!("link set {name} up"));
        }
        let there: Ipv4Addr = there.split('/').next().unwrap().parse().unwrap();
        until("the line works", || {
            let tried = self
                .run(|| TcpStream::connect_timeout(&(there, 9).into(), Duration::from_millis(200)));
            tried.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
        });
    }
}

/// A slow line between two networks: packets by way of this process. It goes when it is dropped.
pub struct SlowLine {
    end: Arc<AtomicBool>,
    lose: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl SlowLine {
    /// With these addresses at its ends, which are called `slow` in both networks; every packet
    /// takes so long. `None` on a machine without such devices, a chroot for example, and then the
    /// test is skipped.
    pub fn new(ends: [(&Network, &str); 2], delay: Duration) -> Option<SlowLine> {
        if !Path::new(TUN).exists() {
            leave_out(&format!("there is no {TUN}"));
            return None;
        }
        let ends = ends.map(|(network, address)| {
            let tun = network.run(|| tun("slow"));
            network.ip(&format!("addr add {address} dev slow"));
            network.ip("link set slow up");
            tun
        });
        let (end, lose) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_over, to_lose) = (end.clone(), lose.clone());
        let thread = thread::spawn(move || carry(&ends, delay, &is_over, &to_lose));
        Some(SlowLine { end, lose, thread: Some(thread) })
    }

    /// Loses the next packet of IPv4 from the first end to the other one, and waits until it is
    /// lost.
    pub fn lose_one(&self) {
        self.lose.store(1, SeqCst);
        until("there is a packet to lose", || self.lose.load(SeqCst) == 0);
    }
}

impl Drop for SlowLine {
    fn drop(&mut self) {
        self.end.store(true, SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn carry(ends: &[File; 2], delay: Duration, is_over: &AtomicBool, lose: &AtomicUsize) {
    let mut under_way: VecDeque<(Instant, usize, Vec<u8>)> = VecDeque::new();
    let mut packet = vec![0; 65_536];
    while !is_over.load(SeqCst) {
        while under_way.front().is_some_and(|(due, ..)| *due <= Instant::now()) {
            let (_, to, bytes) = under_way.pop_front().expect("there is one");
            let _ = (&ends[to]).write(&bytes);
        }
        let left = under_way
            .front()
            .map_or(delay, |(due, ..)| due.saturating_duration_since(Instant::now()));
        let mut polled = ends.each_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
        let _ = poll(&mut polled, left.as_millis() as u16 + 1);
        for (from, mut end) in ends.iter().enumerate() {
            while let Ok(count) = end.read(&mut packet) {
                // what IPv6 says by itself does not count
                let is_lost = from == 0
                    && packet[0] >> 4 == 4
                    && lose.fetch_update(SeqCst, SeqCst, |count| count.checked_sub(1)).is_ok();
                if !is_lost {
                    under_way.push_back((
                        Instant::now() + delay,
                        1 - from,
                        packet[..count].to_vec(),
                    ));
                }
            }
        }
    }
}

/// A network device whose packets are read from and written to a file, which never waits.
fn tun(name: &str) -> File {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(TUN);
    let file = of_file(TUN, file);
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&((libc::IFF_TUN | libc::IFF_NO_PI) as u16).to_ne_bytes());
    // SAFETY: the kernel reads and writes a struct ifreq, which is no longer than this
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    file
}
