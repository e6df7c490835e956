//! What systemd gives and what it is told: sockets that are open already, and who is the service.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGHUP, SIGTERM, SIGUSR2};

use crate::common::backend::Backend;
use crate::common::command::output;
use crate::common::program::{Folder, PROGRAM, Program, run};
use crate::common::replaceable::{Replaceable, runs};
use crate::common::server::free_address;
use crate::common::{DEADLINE, ask, connect, exchange, one_service, until};

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
    let old = balancer.pid();
    let pid = balancer.replace();
    // only the main process is listened to, so the old one speaks first, and the new one after it
    // is the main one
    assert_eq!(told(&socket), format!("MAINPID={pid}"));
    assert_eq!(told(&socket), "READY=1\nSTATUS=serving web");
    assert_ne!(parent(pid), old);
    balancer.signal(SIGTERM);
    assert_eq!(
        told(&socket),
        "STOPPING=1\nSTATUS=stopping, 0 sessions\nEXTEND_TIMEOUT_USEC=10000000"
    );
}

fn parent(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("proc(5)");
    fields.split(' ').nth(1).and_then(|parent| parent.parse().ok()).expect("proc(5)")
}

/// systemd looks after no process but its own children: it killed at once what it was told to stop,
/// and waited for ever for what died. It judges by who is the parent when it is told.
#[test]
fn a_new_program_is_no_child_of_the_old_one_when_the_service_manager_hears_of_it() {
    let folder = Folder::new();
    let path = folder.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let backend = Backend::echo();
    let xml = one_service("random", &[backend.address()], "");
    let balancer = Replaceable::start_with(&xml, "", &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert!(told(&socket).starts_with("READY=1\n"));
    // so that the old one lives on
    let client = connect(balancer.address());
    let old = balancer.pid();
    balancer.signal(SIGUSR2);
    let pid = told(&socket).strip_prefix("MAINPID=").unwrap().parse().unwrap();
    assert!(runs(old) && parent(pid) != old, "{pid} is a child of {}", parent(pid));
    assert!(told(&socket).starts_with("READY=1\n"));
    until("the new one has the pid file", || balancer.pid() == pid);
    let children = || fs::read_to_string(format!("/proc/{old}/task/{old}/children")).unwrap();
    until("the process between the two has ended, and the old one has asked for that", || {
        children().is_empty()
    });
    assert_eq!(exchange(client, b"x"), b"x");
}

#[test]
fn a_stop_that_takes_its_time_says_so_every_second() {
    let folder = Folder::new();
    let path = folder.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let backend = Backend::silent();
    let xml = one_service("random", &[backend.address()], "");
    let balancer = Replaceable::start_with(&xml, "", &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert!(told(&socket).starts_with("READY=1\n"));
    let client = connect(balancer.address());
    until("it is connected", || backend.accepted() == 1);
    balancer.signal(SIGTERM);
    for _ in 0..4 {
        assert_eq!(
            told(&socket),
            "STOPPING=1\nSTATUS=stopping, 1 sessions\nEXTEND_TIMEOUT_USEC=10000000"
        );
    }
    drop(client);
}

/// systemd tells all processes of a service to stop, and when the main one has gone it tells those
/// that are left once more.
#[test]
fn a_replaced_program_that_systemd_stops_is_not_hurried_by_the_end_of_the_main_one() {
    let folder = Folder::new();
    let path = folder.path("notify");
    let _socket = UnixDatagram::bind(&path).unwrap();
    let backend = Backend::echo();
    let xml = one_service("random", &[backend.address()], "");
    let mut balancer =
        Replaceable::start_with(&xml, "", &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    let mut client = connect(balancer.address());
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    balancer.replace();
    // the second one that it heard would have ended the session within 20 ms
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(500) {
        balancer.program.signal(SIGTERM);
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).expect("it goes on");
    }
    assert_eq!(exchange(client, b"more"), b"more");
    assert!(balancer.program.wait().success());
    assert!(
        balancer
            .program
            .wait_for("stop state=done")
            .ends_with("reason=replaced sessions=1 silent=0 cut=0")
    );
}

#[test]
fn the_service_manager_hears_that_a_reload_was_refused_and_when_the_next_one_was_not() {
    let folder = Folder::new();
    let path = folder.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let xml = one_service("random", &[], "");
    let balancer = Replaceable::start_with(&xml, "", &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert_eq!(told(&socket), "READY=1\nSTATUS=serving web");
    for (file, status) in
        [("<pdconfig/>", "the last reload, by HUP, was refused: "), (xml.as_str(), "serving web")]
    {
        fs::write(balancer.path("td.xml"), file).unwrap();
        balancer.signal(SIGHUP);
        assert!(told(&socket).starts_with("RELOADING=1\n"));
        let ready = told(&socket);
        assert!(
            ready.starts_with(&format!("READY=1\nSTATUS={status}"))
                && ready.ends_with("serving web"),
            "{ready}"
        );
    }
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

/// Starts the program with descriptors from 3 on, as systemd does; `variables` stands before the
/// command.
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
    let xml = one_service("random", &[backend.address()], "")
        .replace("127.0.0.1:0\"", &format!("{address}\""));
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
    until("the successor has ended", || !runs(successor));
}

#[test]
fn a_socket_for_every_address_fits_a_star() {
    let backend = Backend::named("web");
    let socket = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let xml = one_service("random", &[backend.address()], "")
        .replace("127.0.0.1:0\"", &format!("*:{port}\""));
    let program = activate(&xml, socket.into(), "LISTEN_PID=$$ LISTEN_FDS=1");
    assert!(program.wait_for("listen service=web").contains(&format!("address=0.0.0.0:{port} ")));
    assert_eq!(ask(([127, 0, 0, 1], port).into()), "web");
}

/// It ended the start, and with it all that systemd had opened.
#[test]
fn a_socket_that_nothing_is_to_listen_on_is_closed_with_a_warning() {
    let xml = one_service("random", &[], "");
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap().to_string();
    for (passed, name) in
        [(stranger.into(), address.as_str()), (File::open("/dev/null").unwrap().into(), "-")]
    {
        let program = activate(&xml, passed, "LISTEN_PID=$$ LISTEN_FDS=1");
        let warning = program.wait_for("state=unwanted");
        assert!(warning.contains(&format!(" warn listen address={name} ")), "{warning}");
        program.wait_for("listen service=web");
    }
}

/// Clients of that address wait for ever: systemd goes on listening there, and nothing accepts.
#[test]
fn a_reload_that_drops_an_address_of_systemd_says_so_also_after_a_replacement() {
    let backend = Backend::named("web");
    let other = free_address();
    for is_replaced in [false, true] {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let xml = one_service("random", &[backend.address()], "");
        let at =
            |address: std::net::SocketAddr| xml.replace("127.0.0.1:0\"", &format!("{address}\""));
        let folder = Folder::new();
        let file = folder.write("td.xml", &at(address));
        let mut command = Command::new("sh");
        let script =
            "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$PROGRAM\" -c \"$FILE\"";
        command.env("PROGRAM", PROGRAM).env("FILE", &file).arg("-c").arg(script);
        let program = Program::spawn_with(command, Stdio::from(OwnedFd::from(socket)), folder);
        let mut pid = program.pid();
        program.wait_for("listen service=web");
        if is_replaced {
            program.signal(SIGUSR2);
            let done = program.wait_for("replace state=done");
            pid = crate::common::program::field(&done, "pid").unwrap().parse().unwrap();
            assert!(!program.has("state=unwanted"));
        }
        fs::write(&file, at(other)).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), SIGHUP).unwrap();
        program.wait_for("reload by=HUP state=done");
        let warning = program.wait_for("state=unwanted");
        assert!(warning.contains(&format!(" warn listen address={address} ")), "{warning}");
        assert_eq!(ask(other), "web");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), SIGTERM).unwrap();
        until("it has gone", || !runs(pid));
    }
}

#[test]
fn sockets_that_cannot_be_used_are_errors_that_name_them() {
    let xml = one_service("random", &[], "");
    let mut program =
        activate(&xml, File::open("/dev/null").unwrap().into(), "LISTEN_PID=$$ LISTEN_FDS=7");
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
    let mut program = activate(
        &xml.replace("127.0.0.1:0\"", &format!("{address}\"")),
        bound,
        "LISTEN_PID=$$ LISTEN_FDS=1",
    );
    assert_eq!(program.wait().code(), Some(1));
    program.wait_for("does not listen");
}

#[test]
fn what_is_meant_for_another_process_is_left_alone() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    for variables in [
        "LISTEN_PID=1 LISTEN_FDS=1",
        "LISTEN_FDS=1",
        "LISTEN_PID=$$ LISTEN_FDS=0",
        "TCPDIRECTOR_HANDOVER=1",
    ] {
        let program = activate(
            &one_service("random", &[], ""),
            stranger.try_clone().unwrap().into(),
            variables,
        );
        program.wait_for("listen service=web");
        assert!(
            fs::read_link(format!("/proc/{}/fd/3", program.pid())).is_ok(),
            "{variables}: it was closed"
        );
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
