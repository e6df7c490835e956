//! The program with a binary of its own that a test can exchange, and with all its successors.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Scope};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::command::{null, output, text};
use super::program::{Folder, PROGRAM, Program, field};
use super::{DEADLINE, until};

/// A running program; its successors log to the same standard error, and end with the test.
pub struct Replaceable {
    pub program: Program,
    folder: PathBuf,
}

impl Replaceable {
    /// Starts it from a folder of its own with a pid file, and waits until it listens.
    pub fn start(xml: &str) -> Replaceable {
        Replaceable::start_with(xml, "", &[])
    }

    /// The same with words of the shell in front of the command (`$$` is its process id) and more
    /// variables; `FLAGS` is for more arguments.
    pub fn start_with(xml: &str, prefix: &str, variables: &[(&str, &str)]) -> Replaceable {
        let folder = Folder::new();
        let place = folder.path("");
        put_program(&folder.path("tcpdirector"));
        folder.write("td.xml", xml);
        let mut command = Command::new("sh");
        command.current_dir(&place).env("PLACE", &place).env("BINARY", folder.path("tcpdirector"));
        command.arg("-c").arg(format!(
            "{prefix} exec \"$BINARY\" -c \"$PLACE/td.xml\" -p \"$PLACE/td.pid\" $FLAGS"
        ));
        command.envs(variables.iter().copied());
        let program = Program::spawn_with(command, null(), folder);
        let replaceable = Replaceable { program, folder: place };
        until("it serves", || replaceable.program.has("listen service=web"));
        replaceable
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn address(&self) -> SocketAddr {
        let line = self.program.wait_for("listen service=web");
        field(&line, "address").unwrap().parse().unwrap()
    }

    /// What the pid file says.
    pub fn pid(&self) -> i32 {
        fs::read_to_string(self.path("td.pid")).unwrap().trim().parse().expect("a process id")
    }

    /// Every process that has called itself started.
    pub fn pids(&self) -> BTreeSet<i32> {
        let starts = self.program.lines("start version=");
        starts.iter().filter_map(|line| field(line, "pid")?.parse().ok()).collect()
    }

    /// Asks with `--replace`.
    pub fn ask(&self) -> Output {
        output(Command::new(PROGRAM).arg("--replace").arg("-p").arg(self.path("td.pid")))
    }

    /// Replaces it, which must succeed; tells the new process id.
    pub fn replace(&self) -> i32 {
        let before = self.pid();
        let output = self.ask();
        let said = text(&output.stdout).trim().to_owned();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let pid = said.parse().expect("a process id");
        assert!(pid != before && pid == self.pid(), "{before} {pid} {}", self.pid());
        pid
    }

    /// Tries to replace it, which must fail; tells the reason in the log.
    pub fn fails(&self) -> String {
        loop {
            let (before, refusals) = (self.pid(), self.program.count("replace state=refused"));
            let output = self.ask();
            assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
            assert!(text(&output.stderr).contains("log says why"));
            assert_eq!(self.pid(), before);
            until("the reason is in the log", || {
                self.program.count("replace state=refused") > refusals
            });
            let reason = self.program.lines("replace state=refused").pop().unwrap();
            // another thread of the tests was just starting a program, and held the new file open
            // for a moment
            if !reason.contains("Text file busy") {
                return reason;
            }
        }
    }

    /// Puts another program in the place of the binary, as an installer does.
    pub fn install(&self, text: &str) {
        let draft = self.path("new");
        fs::write(&draft, text).unwrap();
        fs::set_permissions(&draft, PermissionsExt::from_mode(0o755)).unwrap();
        fs::rename(draft, self.path("tcpdirector")).unwrap();
    }

    /// Puts the right program back.
    pub fn install_right(&self) {
        put_program(&self.path("new"));
        fs::rename(self.path("new"), self.path("tcpdirector")).unwrap();
    }

    /// The children of the process in the pid file, zombies too.
    pub fn children(&self) -> String {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().flatten();
        tasks
            .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default())
            .collect()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }
}

/// The built program under another name.
fn put_program(path: &Path) {
    // a debug build is large, and the temporary folder may be on another disk
    fs::hard_link(PROGRAM, path).or_else(|_| fs::copy(PROGRAM, path).map(drop)).unwrap();
}

/// Whether a process runs: not one that has ended and that nobody has asked about.
pub fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ") && !stat.contains(") X ")
}

impl Drop for Replaceable {
    fn drop(&mut self) {
        let ours = self.path("tcpdirector");
        for pid in self.pids() {
            // its name proves that it is ours, not a stranger with a number used again
            let name = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if name.starts_with(ours.as_os_str().as_encoded_bytes()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// Clients that come and go all the time, and what has become of them.
#[derive(Default)]
pub struct Load {
    served: AtomicUsize,
    failed: AtomicUsize,
    /// Of those that were connected.
    reset: AtomicUsize,
    is_over: AtomicBool,
}

/// How many clients there are at a time.
pub const CLIENTS: usize = 2;

impl Load {
    /// [`CLIENTS`] at a time, to an echo, until the [`Load::guard`] goes; they leave something of
    /// the machine to other tests.
    pub fn run<'a>(&'a self, scope: &'a Scope<'a, '_>, address: SocketAddr) {
        for _ in 0..CLIENTS {
            scope.spawn(move || {
                while !self.is_over.load(SeqCst) {
                    match short_session(address) {
                        Ok(()) => self.served.fetch_add(1, SeqCst),
                        Err(e) if e.kind() == ErrorKind::ConnectionReset => {
                            self.reset.fetch_add(1, SeqCst)
                        }
                        Err(e) => {
                            eprintln!("a client failed: {e}");
                            self.failed.fetch_add(1, SeqCst)
                        }
                    };
                    thread::sleep(Duration::from_millis(3));
                }
            });
        }
    }

    /// Waits for some more clients, and fails the test if any was not served.
    pub fn check(&self) {
        self.check_but(0);
    }

    /// The same where a process has died, with so many of their sessions at most; whoever came
    /// later was served.
    pub fn check_but(&self, reset: usize) {
        let before = self.served.load(SeqCst);
        until("more clients are served", || {
            self.served.load(SeqCst) > before + 4 || self.failed.load(SeqCst) > 0
        });
        assert_eq!(self.failed.load(SeqCst), 0, "of {}", self.served.load(SeqCst));
        let found = self.reset.swap(0, SeqCst);
        assert!(found <= reset, "{found} sessions were reset, {reset} may be");
    }

    /// Lets the clients go home when it is dropped, so that a test that fails ends.
    pub fn guard(&self) -> impl Drop + '_ {
        struct Guard<'a>(&'a AtomicBool);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.store(true, SeqCst);
            }
        }
        Guard(&self.is_over)
    }
}

fn short_session(address: SocketAddr) -> std::io::Result<()> {
    let mut client = TcpStream::connect_timeout(&address, DEADLINE)?;
    client.set_read_timeout(Some(DEADLINE))?;
    client.write_all(b"question")?;
    client.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer)?;
    if answer == b"question" {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("{} bytes came back", answer.len())))
    }
}
