//! The built program as a process: what it inherits, whose child and whose parent it is, as whom it
//! runs, and what it hears.

use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGHUP, SIGTERM, SIGUSR1};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::common::command::{finish, null};
use crate::common::left_out::leave_out;
use crate::common::net::Network;
use crate::common::program::{Folder, PROGRAM, Program, can_unshare, run};
use crate::common::{DEADLINE, one_service, until};

fn status(pid: i32, key: &str) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the kernel tells");
    line.split_whitespace().map(|id| id.parse().expect("a number")).collect()
}

/// A box without a list of users, such as a container made from nothing, has numbers.
#[test]
fn root_is_given_up_for_a_number_that_no_user_has() {
    if !nix::unistd::geteuid().is_root() {
        return leave_out("only root can give up root");
    }
    for (user, uid, gid) in
        [("12345", 12345, 12345), ("12345:23456", 12345, 23456), ("nobody:23456", 65534, 23456)]
    {
        let program = Program::start_with(&one_service("random", &[], ""), &["-u", user]);
        let ids = ["Uid:", "Gid:"].map(|key| status(program.pid(), key));
        assert_eq!(ids, [vec![uid; 4], vec![gid; 4]], "{user}");
        assert!(!status(program.pid(), "Groups:").contains(&0), "{user} keeps root's groups");
    }
}

/// To the kernel it means that nothing is to change, and so root would stay what it is.
#[test]
fn the_number_that_stands_for_nobody_at_all_is_no_user_and_no_group() {
    let folder = Folder::new();
    let file = folder.write("td.xml", &one_service("random", &[], ""));
    for (user, named) in
        [("4294967295", "no user `4294967295`"), ("nobody:4294967295", "no group `4294967295`")]
    {
        let output = run(&["-c", file.to_str().unwrap(), "-u", user]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(named), "{said}");
    }
}

/// Whoever waits for the end of that pipe, as ssh does and start-stop-daemon, waited for the end of
/// the daemon.
#[test]
fn a_daemon_lets_go_of_what_it_has_inherited() {
    let folder = Folder::new();
    folder.write("td.xml", &one_service("random", &[], ""));
    let (reader, writer) = nix::unistd::pipe().unwrap();
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))
        .unwrap();
    let mut command = Command::new("sh");
    command.env("PROGRAM", PROGRAM).current_dir(folder.path("")).stdin(writer).arg("-c");
    command.arg("exec 7>&0 </dev/null; exec \"$PROGRAM\" -d -p pid -l log td.xml");
    let started = finish(&mut command.spawn().unwrap());
    drop(command);
    assert!(started.status.success());
    let pid: i32 = fs::read_to_string(folder.path("pid")).unwrap().trim().parse().unwrap();
    let mut polled =
        [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&reader), nix::poll::PollFlags::POLLIN)];
    let is_over =
        nix::poll::poll(&mut polled, nix::poll::PollTimeout::try_from(DEADLINE).unwrap()) == Ok(1);
    kill(Pid::from_raw(pid), SIGTERM).unwrap();
    until("it has gone", || !folder.path("pid").exists());
    assert!(is_over, "the daemon keeps the pipe open");
}

/// They ended it: it was not listening yet.
#[test]
fn signals_that_come_while_the_file_is_read_wait() {
    let folder = Folder::new();
    let file = folder.path("td.xml");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(&file);
    let mut program = Program::spawn(command, folder);
    // opens when the program has opened the other end
    let mut writer = fs::OpenOptions::new().write(true).open(&file).unwrap();
    for signal in [SIGHUP, SIGUSR1, SIGTERM] {
        program.signal(signal);
    }
    writer.write_all(one_service("random", &[], "").as_bytes()).unwrap();
    drop(writer);
    assert_eq!(program.wait().code(), Some(0));
    program.wait_for("stop state=done reason=TERM");
}

/// The program in a network whose name server takes the question for this file's one name, and no
/// more, is told to end; returns when it has, in good order and in time.
fn ends_in_spite_of_a_silent_name_server(xml: &str) -> Option<Program> {
    if !can_unshare(&["--mount"]) {
        return None;
    }
    let network = Network::new()?;
    let folder = Folder::new();
    let resolver = folder.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30\n");
    let file = folder.write("td.xml", xml);
    let silent = network.run(|| UdpSocket::bind("127.0.0.1:53")).unwrap();
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""]);
    command.arg(&resolver).arg(PROGRAM).arg("-c").arg(&file);
    let mut program = network.run(|| Program::spawn(command, folder));
    silent.recv(&mut [0; 512]).expect("it looks a name up");
    let began = Instant::now();
    program.signal(SIGTERM);
    assert_eq!(program.wait().code(), Some(0));
    eprintln!("it ended after {:?}", began.elapsed());
    // 100 ms where nothing else runs
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    Some(program)
}

/// It was not heard for up to five seconds.
#[test]
fn term_is_heard_while_names_are_looked_up_at_the_start() {
    let xml = one_service("random", &[], "")
        .replace("</group>", "<host name=\"h\" ip=\"host.example:1\"/></group>");
    let Some(program) = ends_in_spite_of_a_silent_name_server(&xml) else { return };
    program.wait_for("stop state=done reason=TERM");
}

/// It was not heard before the name server was given up.
#[test]
fn term_is_heard_while_the_name_of_a_listen_address_is_looked_up() {
    let xml = one_service("random", &[], "").replace("127.0.0.1:0", "here.example:1");
    ends_in_spite_of_a_silent_name_server(&xml);
}

/// Each check that somebody runs in the container leaves one.
#[test]
fn as_process_1_it_leaves_no_dead_orphans_and_hears_term() {
    let apart = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    if !can_unshare(&apart) {
        return;
    }
    let folder = Folder::new();
    let file = folder.write("td.xml", &one_service("random", &[], ""));
    let mut command = Command::new("unshare");
    // the shell is process 1 before the program is, and so has a child when that begins
    let script = "(sleep 0.5 & sleep 1 & :); exec \"$0\" -c \"$1\"";
    command.args(apart).args(["sh", "-c", script, PROGRAM]).arg(file);
    let mut program = Program::spawn_with(command, null(), folder);
    program.wait_for("listen service=web");
    let children =
        |pid: i32| fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let first: i32 =
        children(program.pid()).trim().parse().expect("one child, which is process 1 in there");
    until("no orphan is left, dead or alive", || children(first).is_empty());
    kill(Pid::from_raw(first), SIGTERM).unwrap();
    assert!(program.wait().success());
}
