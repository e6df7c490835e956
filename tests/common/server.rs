//! Servers and clients from Debian packages: each server on a free port of loopback, with files in
//! a folder of its own, and with all its processes ended when it is dropped.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::command::{output, text};
use super::program::{Folder, Program, find, installed};
use super::{one_service, until};

/// A real server; a test that fails prints what it said to standard error.
pub struct Server {
    program: Program,
    address: SocketAddr,
}

impl Server {
    /// Starts a command line that is to listen on an address, and waits until it does. The folder
    /// goes when the server goes.
    pub fn start(mut command: Command, folder: Folder, address: SocketAddr) -> Server {
        // a group of its own, so that a signal finds its workers too
        command.process_group(0);
        let server = Server { program: Program::spawn(command, folder), address };
        until("the server listens", || is_listening(address));
        server
    }

    /// An nginx with one worker; `inside` stands in its only server block.
    pub fn nginx(address: SocketAddr, inside: &str) -> Server {
        let folder = Folder::new();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {name};"));
        let file = folder.write(
            "nginx.conf",
            &format!(
                "daemon off; worker_processes 1; pid pid; error_log stderr;\n\
                 events {{ worker_connections 512; }}\n\
                 http {{\n{}\naccess_log off;\nserver {{ listen {address}; {inside} }}\n}}\n",
                temporary.concat()
            ),
        );
        let mut command = tool("nginx");
        command.arg("-e").arg("stderr").arg("-p").arg(folder.path("")).arg("-c").arg(file);
        Server::start(command, folder, address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id; for a server with workers, that of the process which looks after them.
    pub fn pid(&self) -> i32 {
        self.program.pid()
    }

    /// Sends a signal to its first process.
    pub fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// Sends a signal to all its processes.
    pub fn signal_all(&self, signal: Signal) {
        let _ = killpg(Pid::from_raw(self.pid()), signal);
    }

    /// Waits until its first process has ended.
    pub fn wait(&mut self) {
        self.program.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal_all(Signal::SIGKILL);
    }
}

/// An address of loopback that is free, and stays free until it is used: the system gives ports
/// below 32768 to nobody by itself.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // other test programs that run on this machine begin somewhere else
        let number = NEXT.fetch_add(1, SeqCst).wrapping_add(std::process::id().wrapping_mul(31));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 20_000 + (number % 12_000) as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A command line of an installed program.
pub fn tool(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| panic!("{program} is not installed")))
}

/// Runs a command line to its end, which must be a good one, and gives what it printed.
pub fn run(mut command: Command) -> String {
    let output = output(&mut command);
    let (printed, complaints) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{printed}\n{complaints}", output.status);
    printed
}

/// Whether all of these are installed.
pub fn have(programs: &[&str]) -> bool {
    programs.iter().all(|program| installed(program))
}

/// The program with one service for these hosts, `h0`, `h1` and so on, in turn; a failed one is
/// tried again after a second.
pub fn balance(hosts: &[SocketAddr]) -> Program {
    balance_with(hosts, "")
}

/// The same with more elements in the service.
pub fn balance_with(hosts: &[SocketAddr], inside: &str) -> Program {
    let service = one_service("roundrobin", hosts, inside);
    Program::start(&service.replace("</pdconfig>", "<checktime time=\"1s\"/></pdconfig>"))
}

/// What a web server answers to curl, which must be good, and come within a time.
pub fn curl_within(seconds: u32, address: SocketAddr, path: &str, options: &[&str]) -> String {
    let mut command = tool("curl");
    // first of all, without what the user or the machine has configured
    command
        .args(["-q", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time"])
        .arg(seconds.to_string());
    command.args(options).arg(format!("http://{address}{path}"));
    run(command)
}

pub fn curl(address: SocketAddr, path: &str) -> String {
    curl_within(60, address, path, &[])
}

/// Whether somebody listens there, found out without connecting. A no proves nothing: while other
/// sockets come and go, the kernel may leave one out.
fn is_listening(address: SocketAddr) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel tells");
    let port = format!(":{:04X}", address.port());
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().take(4).collect();
        matches!(fields[..], [_, local, _, "0A"] if local.ends_with(&port))
    })
}

/// Waits until these processes and their children have not run for a good many looks: what they
/// could do is done.
pub fn until_at_rest(pids: &[i32]) {
    let (mut last, mut looks) = (0, 0);
    until("they have nothing left to do", || {
        let now = pids.iter().map(|pid| nanoseconds(*pid)).sum();
        assert!(now > 0, "this kernel does not count how long a process runs");
        looks = if now == last { looks + 1 } else { 0 };
        last = now;
        looks == 50
    });
}

/// For how long all threads of a process and of its children have been running.
fn nanoseconds(pid: i32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .expect("it runs")
        .flatten()
        .map(|task| task.path());
    let of_task = |task: PathBuf| {
        let text = |name| fs::read_to_string(task.join(name)).unwrap_or_default();
        let own: u64 =
            text("schedstat").split(' ').next().and_then(|time| time.parse().ok()).unwrap_or(0);
        let children = text("children");
        own + children
            .split_whitespace()
            .filter_map(|child| child.parse().ok())
            .map(nanoseconds)
            .sum::<u64>()
    };
    tasks.map(of_task).sum()
}
