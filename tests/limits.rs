//! What becomes of the program where the system limits its address space, its files or what it can
//! know.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal::SIGUSR1;
use tcpdirector::system::limits::Limits;
use tcpdirector::system::socket::listen;

use crate::common::backend::Backend;
use crate::common::command::{output, text};
use crate::common::left_out::{leave_out, may_open};
use crate::common::net::Network;
use crate::common::program::{Folder, PROGRAM, Program, can_unshare, installed};
use crate::common::server::free_address;
use crate::common::{accept, ask, connect, one_service, until};
use crate::many::THOUSANDS;

/// What a host says to each client: more than the kernel holds for one that does not read.
const SPEECH: usize = 200_000;

/// A host that says [`SPEECH`] bytes to each of so many clients, on one thread.
fn speaking_to(clients: usize) -> SocketAddr {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut open: Vec<(TcpStream, usize)> = Vec::new();
        while open.len() < clients {
            let client = accept(&listener);
            client.set_nonblocking(true).unwrap();
            open.push((client, SPEECH));
        }
        while !open.is_empty() {
            let interest =
                |left: usize| if left > 0 { PollFlags::POLLOUT } else { PollFlags::POLLIN };
            let mut polled: Vec<PollFd> = open
                .iter()
                .map(|(client, left)| PollFd::new(client.as_fd(), interest(*left)))
                .collect();
            poll(&mut polled, PollTimeout::NONE).unwrap();
            let ready: Vec<bool> = polled.iter().map(|p| p.any().unwrap()).collect();
            let mut ready = ready.into_iter();
            open.retain_mut(|(client, left)| !ready.next().unwrap() || goes_on(client, left));
        }
    });
    address
}

fn goes_on(mut client: &TcpStream, left: &mut usize) -> bool {
    if *left == 0 {
        return matches!(client.read(&mut [0; 64]), Ok(1..));
    }
    match client.write(&vec![7; (*left).min(65536)]) {
        Ok(count) => *left -= count,
        Err(e) => return e.kind() == ErrorKind::WouldBlock,
    }
    true
}

/// A command line of the shell, which finds the program and its file in `$PROGRAM` and `$FILE`.
fn shell(folder: &Folder, xml: &str, line: &str) -> Command {
    let mut command = Command::new("sh");
    command.env("PROGRAM", PROGRAM).env("FILE", folder.write("td.xml", xml)).arg("-c").arg(line);
    command
}

/// Starts the program by such a line.
fn start(xml: &str, line: &str) -> Program {
    let folder = Folder::new();
    let program = Program::spawn(shell(&folder, xml, line), folder);
    until("it listens", || program.has("state=open"));
    program
}

/// A network in which the kernel holds little of what nobody reads.
fn narrow() -> Option<Network> {
    let network = Network::new()?;
    network.set("net/ipv4/tcp_wmem", "4096 8192 16384");
    network.set("net/ipv4/tcp_rmem", "4096 8192 32768");
    Some(network)
}

/// Reads to the end what the host says; whether all of that came, or a reset before.
fn hears_all(mut client: &TcpStream) -> bool {
    let mut speech = vec![0; SPEECH];
    match client.read_exact(&mut speech) {
        Ok(()) => speech.iter().all(|byte| *byte == 7),
        Err(e) if e.kind() == ErrorKind::ConnectionReset => false,
        Err(e) => panic!("{e}"),
    }
}

/// It had planned with the memory of the machine, and ended by SIGABRT.
#[test]
fn in_a_small_address_space_readers_that_stop_cost_nobody_a_byte() {
    const READERS: usize = 800;
    let _turn = THOUSANDS.lock();
    if !may_open(2 * READERS as u64) {
        return;
    }
    let Some(network) = narrow() else { return };
    network.run(|| {
        let xml = one_service("random", &[speaking_to(READERS)], "");
        let program = start(&xml, "ulimit -v 60000; exec \"$PROGRAM\" -c \"$FILE\"");
        let readers: Vec<TcpStream> = (0..READERS).map(|_| connect(program.address())).collect();
        program.until_quiet();
        eprintln!(
            "{READERS} readers that stop, in {} kB of address space",
            program.status("VmPeak")
        );
        assert!(readers.iter().all(hears_all));
    });
}

/// It ended by SIGABRT.
#[test]
fn memory_that_cannot_be_had_any_more_costs_the_sessions_that_need_it_and_not_the_others() {
    if !may_open(200) {
        return;
    }
    if !installed("prlimit") {
        return;
    }
    let Some(network) = narrow() else { return };
    network.run(|| {
        let host = Backend::with(|mut client| {
            if client.read(&mut [0]).is_ok_and(|count| count == 1) {
                let _ = client.write_all(&[7; SPEECH]);
            }
        });
        let xml = one_service("random", &[host.address()], "");
        let program = start(&xml, "ulimit -v 2000000; exec \"$PROGRAM\" -c \"$FILE\"");
        let mut readers: Vec<TcpStream> = (0..200).map(|_| connect(program.address())).collect();
        until("all are connected", || host.accepted() == readers.len());
        let space = format!("--as={}", (program.status("VmSize") + 3000) * 1024);
        assert!(
            output(Command::new("prlimit").args(["--pid", &program.pid().to_string(), &space]))
                .status
                .success()
        );
        readers.iter_mut().for_each(|reader| reader.write_all(&[1]).unwrap());
        program.wait_for("end=shortage");
        let whole = readers.iter().filter(|reader| hears_all(reader)).count();
        drop(readers);
        until("all have ended", || program.count(" session ") == 200);
        assert!(whole > 0, "nobody was spared");
        assert_eq!(program.count("end=shortage"), 200 - whole);
    });
}

/// It ended by SIGABRT.
#[test]
fn a_file_that_would_take_more_memory_than_there_is_cannot_be_read() {
    let folder = Folder::new();
    let xml = format!("<pdconfig>{}</pdconfig>", "<x/>".repeat(250_000));
    let output =
        output(&mut shell(&folder, &xml, "ulimit -v 60000; exec \"$PROGRAM\" -t \"$FILE\""));
    let said = text(&output.stderr);
    assert!(
        output.status.code() == Some(78) && said.contains("td.xml: cannot be read: out of memory"),
        "{said}"
    );
}

/// It ended by SIGXFSZ.
#[test]
fn a_log_that_may_not_grow_any_more_loses_lines_and_nothing_else() {
    let (backend, address, folder) = (Backend::named("good"), free_address(), Folder::new());
    let xml = one_service("random", &[backend.address()], "")
        .replace("127.0.0.1:0", &address.to_string());
    let (log, moved) = (folder.path("log"), folder.path("log.1"));
    let mut command =
        shell(&folder, &xml, "ulimit -f 8; exec \"$PROGRAM\" -l \"$LOG\" -c \"$FILE\"");
    command.env("LOG", &log);
    let program = Program::spawn(command, folder);
    until("it serves", || TcpStream::connect(address).is_ok());
    for _ in 0..100 {
        assert_eq!(ask(address), "good");
    }
    fs::rename(&log, moved).unwrap();
    program.signal(SIGUSR1);
    until("it tells how many", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains(" log lost="))
    });
}

/// What `-t` says where /proc is as this command of the shell makes it; `None` where it may not.
fn with_proc(command: &str) -> Option<Output> {
    if !can_unshare(&["--mount"]) {
        return None;
    }
    let (folder, xml) = (Folder::new(), one_service("random", &[], ""));
    let line = format!("unshare -m sh -c '{command} || exit 77; exec \"$PROGRAM\" -t \"$FILE\"'");
    let output = output(&mut shell(&folder, &xml, &line));
    let is_allowed = output.status.code() != Some(77);
    if !is_allowed {
        leave_out("something else may not be mounted over /proc");
    }
    is_allowed.then_some(output)
}

/// It took the memory for as large as a pointer reaches.
#[test]
fn without_proc_little_is_planned_with_and_what_is_not_known_is_named() {
    let Some(output) = with_proc("mount -t tmpfs none /proc") else { return };
    let said = text(&output.stdout);
    let memory: u64 = said
        .split("memory ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap();
    assert!(output.status.success() && memory <= 64 << 20, "{said}");
    for doubt in [
        "pid_max cannot be read: 32768 is assumed",
        "the limit of memory of the control groups cannot be read",
    ] {
        assert!(said.contains(doubt), "no `{doubt}` in\n{said}");
    }
}

#[test]
fn where_proc_has_processes_alone_the_memory_is_that_of_the_machine() {
    let Some(output) = with_proc("mount -t proc -o subset=pid proc /proc") else { return };
    let said = text(&output.stdout);
    let machine = Limits::read();
    assert!(said.contains(&format!(" bytes at most ({} allowed)", machine.memory)), "{said}");
    assert!(said.contains("doubt        /proc/sys/kernel/pid_max cannot be read"), "{said}");
}

/// Runs a program of its arguments under a filter that denies prlimit(2), whose number is the first
/// of them, where it would change something, as `SystemCallFilter=` of systemd does.
const DENYING: &str = "
import ctypes, os, resource, struct, sys
number = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (1000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
LOAD, IS, RETURN = 0x20, 0x15, 0x06
code = [(LOAD, 0, 0, 0), (IS, 0, 3, number), (LOAD, 0, 0, 32), (IS, 1, 0, 0), (RETURN, 0, 0, 0x50001), (RETURN, 0, 0, 0x7fff0000)]
filter = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in code))
program = struct.pack('HxxxxxxP', len(code), ctypes.addressof(filter))
prctl = ctypes.CDLL(None, use_errno=True).prctl
if prctl(38, 1, 0, 0, 0) or prctl(22, 2, program): sys.exit(77)
os.execv(sys.argv[2], sys.argv[2:])
";

/// It did not start.
#[test]
fn a_limit_of_descriptors_that_may_not_be_raised_is_a_warning() {
    if !installed("python3") {
        return;
    }
    let (backend, folder) = (Backend::named("good"), Folder::new());
    let file = folder.write("td.xml", &one_service("random", &[backend.address()], ""));
    let mut command = Command::new("python3");
    command.args(["-c", DENYING, &libc::SYS_prlimit64.to_string(), PROGRAM, "-c"]).arg(file);
    let program = Program::spawn(command, folder);
    until("it listens, or there are no such filters", || {
        program.has("state=open") || !program.is_running()
    });
    if !program.has("start ") && !program.is_running() {
        return leave_out("this machine has no filters of system calls");
    }
    program.wait_for("warn start reason=\"the limit of descriptors stays as it is");
    assert_eq!(ask(program.address()), "good");
}
