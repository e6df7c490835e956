//! A machine with a systemd of its own, for the time of a test: systemd-nspawn(1) boots a tree of
//! files, of which nothing is changed, in namespaces that share the network with this process.
//! Needs root.
//!
//! The tree is this machine's own, so that nothing has to be fetched, unless
//! `TCPDIRECTOR_SYSTEMD_ROOT` names a folder with another one, such as debootstrap(8) makes.

use std::fs::{self, File};
use std::io::Read;
use std::process::{Command, Output};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::command::{null, of_file, output, text};
use super::left_out::leave_out;
use super::program::{Folder, PROGRAM, Program, installed};
use super::until;

/// The class and the machine of an ELF file: see elf(5).
fn architecture(path: &str) -> Option<(u8, [u8; 2])> {
    let mut header = [0; 20];
    File::open(path).and_then(|mut file| file.read_exact(&mut header)).ok()?;
    Some((header[4], [header[18], header[19]]))
}

/// A booted machine with the sample unit; it is gone when this is dropped.
pub struct Machine {
    nspawn: Program,
    init: i32,
    _folder: Folder,
    _alone: Flock<File>,
}

impl Machine {
    /// Boots one with these units besides the sample; `None` where that is not possible, which is
    /// said.
    pub fn boot(units: &[(&str, &str)]) -> Option<Machine> {
        if !["systemd-nspawn", "nsenter", "unshare"].into_iter().all(installed) {
            return None;
        }
        let has_groups = fs::read_to_string("/proc/self/mounts")
            .is_ok_and(|mounts| mounts.contains(" /sys/fs/cgroup"));
        if !nix::unistd::geteuid().is_root() || !has_groups {
            leave_out("booting a machine takes root and /sys/fs/cgroup");
            return None;
        }
        let tree = std::env::var("TCPDIRECTOR_SYSTEMD_ROOT").unwrap_or_else(|_| "/".to_owned());
        let systemd = format!("{tree}/usr/lib/systemd/systemd");
        if architecture(PROGRAM) != architecture(&systemd) {
            // `SystemCallArchitectures=native` of the sample means the one of systemd
            leave_out("the machine to boot is of another architecture than the program");
            return None;
        }
        // the control groups of two of them would be the same ones
        let lock = std::env::temp_dir().join("tcpdirector-test-machine.lock");
        let lock = of_file(&lock, File::create(&lock));
        let alone = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
        let folder = Folder::new();
        for name in ["root", "units"] {
            fs::create_dir(folder.path(name)).unwrap();
        }
        let sample = include_str!("../../etc/tcpdirector.service");
        let target = "[Unit]\nRequires=basic.target\nAfter=basic.target\n";
        for (unit, text) in
            [("tcpdirector.service", sample), ("test.target", target)].iter().chain(units)
        {
            folder.write(&format!("units/{unit}"), text);
        }
        let mut command = Command::new("unshare");
        // nspawn refuses to boot `/` as such; nobody else sees the tree at this other place, and so
        // nobody can remove it there
        let script = "mount --bind \"$0\" \"$1\" && shift && exec systemd-nspawn \"$@\"";
        command.args(["--mount", "sh", "-c", script, &tree]).arg(folder.path("root"));
        // the hierarchy of control groups that every systemd of today knows
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        command.args([
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--link-journal=no",
            "--console=pipe",
            "--volatile=overlay",
        ]);
        command.arg("--machine=tcpdirector-test").arg("--directory").arg(folder.path("root"));
        command.arg(format!("--bind-ro={PROGRAM}:/usr/local/sbin/tcpdirector"));
        command.arg(format!("--bind-ro={}:/etc/systemd/system", folder.path("units").display()));
        command.args(["--boot", "--", "systemd.unit=test.target"]);
        let nspawn = Program::spawn_with(command, null(), Folder::new());
        let mut machine = Machine { nspawn, init: 0, _folder: folder, _alone: alone };
        until("the machine has booted", || {
            machine.init = machine.find_init().unwrap_or(0);
            !machine.nspawn.is_running()
                || machine.systemctl(&["is-active", "test.target"]).status.success()
        });
        if machine.nspawn.is_running() {
            return Some(machine);
        }
        leave_out(&format!("no machine can be booted: {}", machine.nspawn.lines("").join(" ")));
        None
    }

    fn find_init(&self) -> Option<i32> {
        let pid = self.nspawn.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let is_init = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.trim() == "systemd")
        };
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_init)
    }

    /// Runs a command in it.
    pub fn run(&self, command: &[&str]) -> Output {
        let nsenter =
            ["--all", "--target"].map(str::to_owned).into_iter().chain([self.init.to_string()]);
        output(Command::new("nsenter").args(nsenter).arg("--").args(command))
    }

    /// Runs systemctl(1).
    pub fn systemctl(&self, arguments: &[&str]) -> Output {
        self.run(&[&["systemctl"], arguments].concat())
    }

    /// The same, which must succeed.
    pub fn must(&self, arguments: &[&str]) {
        let output = self.systemctl(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}\n{}",
            text(&output.stderr),
            self.journal()
        );
    }

    /// A property of the service, such as `MainPID`.
    pub fn show(&self, property: &str) -> String {
        let output =
            self.systemctl(&["show", "--value", "--property", property, "tcpdirector.service"]);
        text(&output.stdout).trim().to_owned()
    }

    /// What the journal has of the service.
    pub fn journal(&self) -> String {
        let output = self.run(&["journalctl", "--no-pager", "--unit", "tcpdirector.service"]);
        text(&output.stdout)
    }

    /// What the log of the service says.
    pub fn log(&self) -> String {
        text(&self.run(&["cat", "/var/log/tcpdirector/log"]).stdout)
    }

    /// Makes this text the configuration of the service.
    pub fn configure(&self, xml: &str) {
        let folder = "/var/lib/private/tcpdirector";
        let script = format!(
            "mkdir -p -m 700 /var/lib/private {folder} && printf %s \"$0\" > {folder}/tcpdirector.xml"
        );
        assert!(self.run(&["sh", "-c", &script, xml]).status.success());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- journal of the service\n{}\n--- its log\n{}\n---",
                self.journal(),
                self.log()
            );
        }
        // all of it goes with its process 1
        if self.init > 1 {
            let _ = kill(Pid::from_raw(self.init), Signal::SIGKILL);
            self.nspawn.wait();
        }
    }
}
