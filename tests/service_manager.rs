//! What systemd gives and what it is told: sockets that are open already, and who is the service.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal::{SIGTERM, SIGUSR2};

use crate::common::backend::Backend;
use crate::common::command::output;
use crate::common::program::{Folder, PROGRAM, Program, run};
use crate::common::replaceable::Replaceable;
use crate::common::server::free_address;
use crate::common::{DEADLINE, ask, one_service, until};

/// The next message of a program to its service manager.
fn told(socket: &UnixDatagram) -> String {
    let mut space = [0; 4096];
    let count = socket.recv(&mut space).expect("it says something");
    String::from_utf8_lossy(&space[..count]).into_owned()
}

#[test]
fn the_service_manager_hears_of_every_step_in_the_right_order() {
    let folder = Folder::new();
    let path = folder.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let backend = Backend::named("web");
    let xml = one_service("random", &[backend.address()], "");
    let balancer = Replaceable::start_with(&xml, "", &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert_eq!(told(&socket), "READY=1\nSTATUS=serving web");
    let pid = balancer.replace();
    // only the main process is listened to, so the old one speaks first, and the new one after it is the main one
    assert_eq!(told(&socket), format!("MAINPID={pid}"));
    assert_eq!(told(&socket), "READY=1\nSTATUS=serving web");
    balancer.signal(SIGTERM);
    assert_eq!(told(&socket), "STOPPING=1\nSTATUS=stopping, 0 sessions");
}

#[test]
fn an_abstract_name_is_understood_and_a_manager_that_is_gone_is_no_reason_to_fail() {
    let name = format!("tcpdirector-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let backend = Backend::named("web");
    let xml = one_service("random", &[backend.address()], "");
    let balancer = Replaceable::start_with(&xml, "", &[("NOTIFY_SOCKET", &format!("@{name}"))]);
    assert!(told(&socket).starts_with("READY=1\n"));
    drop(socket);
    balancer.replace();
    assert_eq!(ask(balancer.address()), "web");
}

#[test]
fn a_service_that_would_end_with_its_first_process_is_not_replaced() {
    let backend = Backend::named("web");
    let xml = one_service("random", &[backend.address()], "");
    let balancer = Replaceable::start_with(&xml, "SYSTEMD_EXEC_PID=$$", &[]);
    assert!(balancer.fails().contains("use Type=notify"));
    assert_eq!(ask(balancer.address()), "web");
    // the variable names another process after a start in the background, for example
    let balancer = Replaceable::start_with(&xml, "SYSTEMD_EXEC_PID=1", &[]);
    balancer.replace();
}

/// Starts the program with descriptors from 3 on, as systemd does; `variables` stands before the command.
fn activate(xml: &str, first: OwnedFd, variables: &str) -> Program {
    let folder = Folder::new();
    let file = folder.write("td.xml", xml);
    let mut command = Command::new("sh");
    let script = format!("exec 3<&0 4<&0 </dev/null; {variables} exec \"$PROGRAM\" -c \"$FILE\"");
    command.env("PROGRAM", PROGRAM).env("FILE", file).arg("-c").arg(script);
    Program::spawn_with(command, Stdio::from(first), folder)
}

#[test]
fn a_socket_that_systemd_has_opened_is_used_and_goes_on_to_a_successor() {
    let backend = Backend::named("web");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let xml = one_service("random", &[backend.address()], "").replace("127.0.0.1:0\"", &format!("{address}\""));
    // this process has it open, too, so that nobody could bind it
    let passed = socket.try_clone().unwrap().into();
    let mut program = activate(&xml, passed, "LISTEN_PID=$$ LISTEN_FDS=1");
    program.wait_for("listen service=web");
    assert_eq!(ask(address), "web");
    program.signal(SIGUSR2);
    let done = program.wait_for("replace state=done");
    let successor: i32 = crate::common::program::field(&done, "pid").unwrap().parse().unwrap();
    assert!(program.wait().success());
    assert_eq!(ask(address), "web");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(successor), SIGTERM).unwrap();
    until("the successor has ended", || !crate::common::replaceable::runs(successor));
}

#[test]
fn a_socket_for_every_address_fits_a_star() {
    let backend = Backend::named("web");
    let socket = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let xml = one_service("random", &[backend.address()], "").replace("127.0.0.1:0\"", &format!("*:{port}\""));
    let program = activate(&xml, socket.into(), "LISTEN_PID=$$ LISTEN_FDS=1");
    assert!(program.wait_for("listen service=web").contains(&format!("address=0.0.0.0:{port} ")));
    assert_eq!(ask(([127, 0, 0, 1], port).into()), "web");
}

#[test]
fn sockets_that_fit_nothing_are_errors_that_name_them() {
    let xml = one_service("random", &[], "");
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap();
    let mut program = activate(&xml, stranger.into(), "LISTEN_PID=$$ LISTEN_FDS=1");
    assert_eq!(program.wait().code(), Some(1));
    program.wait_for(&format!("{address}, which is no listen address of this configuration"));
    let file = File::open("/dev/null").unwrap();
    let mut program = activate(&xml, file.into(), "LISTEN_PID=$$ LISTEN_FDS=1");
    assert_eq!(program.wait().code(), Some(1));
    program.wait_for("which is not a TCP socket");
    let mut program = activate(&xml, File::open("/dev/null").unwrap().into(), "LISTEN_PID=$$ LISTEN_FDS=7");
    assert_eq!(program.wait().code(), Some(1));
    program.wait_for("the sockets from systemd cannot be used");
    let address = free_address();
    let bound = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::empty(),
        None,
    )
    .unwrap();
    let name = nix::sys::socket::SockaddrIn::from(match address {
        std::net::SocketAddr::V4(address) => address,
        std::net::SocketAddr::V6(_) => panic!("loopback is IPv4 here"),
    });
    nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&bound), &name).unwrap();
    let mut program = activate(&xml.replace("127.0.0.1:0\"", &format!("{address}\"")), bound, "LISTEN_PID=$$ LISTEN_FDS=1");
    assert_eq!(program.wait().code(), Some(1));
    program.wait_for("does not listen");
}

#[test]
fn what_is_meant_for_another_process_is_left_alone() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    for variables in ["LISTEN_PID=1 LISTEN_FDS=1", "LISTEN_FDS=1", "LISTEN_PID=$$ LISTEN_FDS=0", "TCPDIRECTOR_HANDOVER=1"] {
        let program = activate(&one_service("random", &[], ""), stranger.try_clone().unwrap().into(), variables);
        program.wait_for("listen service=web");
        assert!(fs::read_link(format!("/proc/{}/fd/3", program.pid())).is_ok(), "{variables}: it was closed");
    }
}

#[test]
fn a_successor_whose_standard_input_is_no_predecessor_does_not_start() {
    let folder = Folder::new();
    let file = folder.write("td.xml", &one_service("random", &[], ""));
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(&file).env("TCPDIRECTOR_HANDOVER", std::process::id().to_string());
    let output = output(&mut command);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the predecessor cannot be reached"));
    assert!(run(&["-V"]).status.success());
}
