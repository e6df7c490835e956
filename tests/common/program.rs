//! The built program, started as a user would, with its log read line by line.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::command::{null, of_file, output, text};
use super::left_out::{leave_out, missing};
use super::until;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tcpdirector");

/// A folder of one test's own, gone when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        Folder::inside(&std::env::temp_dir())
    }

    /// In a given folder rather than the temporary one.
    pub fn inside(parent: &Path) -> Folder {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tcpdirector-test-{}-{}", std::process::id(), LAST.fetch_add(1, SeqCst));
        let path = parent.join(name);
        of_file(&path, fs::create_dir_all(&path));
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        of_file(&path, fs::write(&path, text));
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> Output {
    output(Command::new(PROGRAM).args(arguments))
}

/// A running program. Its standard error is collected; a test that fails prints it.
pub struct Program {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    _folder: Folder,
}

impl Program {
    /// Starts it with a configuration, in the foreground, logging to standard error, and waits
    /// until it listens.
    pub fn start(xml: &str) -> Program {
        Program::start_with(xml, &[])
    }

    /// The same with more arguments.
    pub fn start_with(xml: &str, arguments: &[&str]) -> Program {
        let folder = Folder::new();
        let file = folder.write("tcpdirector.xml", xml);
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(&file).args(arguments);
        let program = Program::spawn(command, folder);
        until("the program listens", || program.has("state=open") || !program.is_running());
        assert!(program.has("state=open"), "the program ended at once");
        program
    }

    /// Runs any command line that logs to standard error.
    pub fn spawn(command: Command, folder: Folder) -> Program {
        Program::spawn_with(command, null(), folder)
    }

    /// The same with another standard input.
    pub fn spawn_with(mut command: Command, stdin: Stdio, folder: Folder) -> Program {
        let mut child = command
            .stdin(stdin)
            .stdout(null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it was built");
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let (lines, stderr) = (log.clone(), child.stderr.take().expect("piped"));
        thread::spawn(move || {
            BufReader::new(stderr)
                .lines()
                .map_while(Result::ok)
                .for_each(|line| lines.lock().push(line))
        });
        Program { child, log, _folder: folder }
    }

    /// Where its services listen, in order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let open = self.lines("state=open");
        open.iter().filter_map(|line| field(line, "address")?.parse().ok()).collect()
    }

    pub fn address(&self) -> SocketAddr {
        self.addresses()[0]
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The log lines that contain a text.
    pub fn lines(&self, text: &str) -> Vec<String> {
        self.log.lock().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    pub fn has(&self, text: &str) -> bool {
        self.count(text) > 0
    }

    /// How many log lines contain a text.
    pub fn count(&self, text: &str) -> usize {
        self.log.lock().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits for a line of the log that contains a text.
    pub fn wait_for(&self, text: &str) -> String {
        until(&format!("the log says `{text}`"), || self.has(text));
        self.lines(text).remove(0)
    }

    /// How long the log is by now, for [`Program::wait_after`].
    pub fn mark(&self) -> usize {
        self.log.lock().len()
    }

    /// Waits for a line that contains a text and comes after a mark. Looks at new lines only: a log
    /// may be long.
    pub fn wait_after(&self, mark: usize, text: &str) -> String {
        let mut found = None;
        let mut seen = mark;
        until(&format!("the log says `{text}` once more"), || {
            let log = self.log.lock();
            found = log.iter().skip(seen).find(|line| line.contains(text)).cloned();
            seen = log.len();
            found.is_some()
        });
        found.expect("it was found")
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).expect("it runs");
    }

    pub fn is_running(&self) -> bool {
        // a child that has ended and was not waited for is a zombie: its state is Z
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        until("the program ends", || !self.is_running());
        self.child.wait().expect("it is our child")
    }

    /// The processor time that it has used, in ticks.
    pub fn ticks(&self) -> usize {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<usize>().ok()).sum()
    }

    /// Waits until it has nothing more to do.
    pub fn until_quiet(&self) {
        let mut last = 0;
        until("nothing moves any more", || {
            let ticks = std::mem::replace(&mut last, self.ticks());
            thread::sleep(Duration::from_millis(300));
            last > 0 && ticks == last
        });
    }

    /// A number from /proc/PID/status, such as `Threads`, or `RssAnon` in kilobytes: its own
    /// memory, without the pages of its file, which come and go.
    pub fn status(&self, key: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{key}:")))
            .expect("the kernel tells");
        line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of the program\n{}\n---", self.log.lock().join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of a key in a log line.
pub fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

/// Where a program is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_path_buf()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Whether a program is installed; a test that needs one that is not is left out.
pub fn installed(program: &str) -> bool {
    let is_there = find(program).is_some();
    if !is_there {
        missing(program);
    }
    is_there
}

/// Whether unshare(1) can do this here; a test that needs it is left out where it cannot. In a
/// chroot, nobody can mount apart.
pub fn can_unshare(options: &[&str]) -> bool {
    if !installed("unshare") {
        return false;
    }
    let tried = output(Command::new("unshare").args(options).arg("true"));
    if !tried.status.success() {
        leave_out(text(&tried.stderr).trim());
    }
    tried.status.success()
}
