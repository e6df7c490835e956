//! Networks of a test's own: namespaces of the kernel with a line between them that can be cut. Needs root.

use std::fs::File;
use std::process::Command;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use super::program::{find, installed};

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
                eprintln!("skipped: networks of its own are for root");
                None
            }
            Err(e) => panic!("no network of its own: {e}"),
        }
    }

    /// Runs something in it. The threads and programs that it starts are in it, too, and so are their sockets.
    pub fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("it is ours");
                what()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs ip(8) in it.
    pub fn ip(&self, arguments: &str) {
        self.tool("ip", arguments);
    }

    /// Runs a program in it.
    pub fn tool(&self, program: &str, arguments: &str) {
        let program = find(program).expect("it is installed");
        let output = self.run(|| Command::new(&program).args(arguments.split(' ')).output().expect("it runs"));
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {arguments}: {complaints}", program.display());
    }

    /// Lays a line to another one: the ends are called `name` in both, and have these addresses.
    pub fn link(&self, name: &str, here: &str, other: &Network, there: &str) {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/{}/fd/{}", std::process::id(), other.0.as_raw_fd());
        self.ip(&format!("link add {name} type veth peer name {name} netns {path}"));
        for (network, address) in [(self, here), (other, there)] {
            network.ip(&format!("addr add {address} dev {name}"));
            network.ip(&format!("link set {name} up"));
        }
    }
}
