//! The sample unit under a real systemd: see `common::machine`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::backend::Backend;
use crate::common::machine::Machine;
use crate::common::replaceable::Load;
use crate::common::server::free_address;
use crate::common::{connect, one_service, until};

/// One service at an address, for an echo; at a stop, sessions may go on for a minute.
fn xml(address: SocketAddr, backend: &Backend) -> String {
    let xml = one_service("random", &[backend.address()], "")
        .replace("127.0.0.1:0\"", &format!("{address}\""));
    xml.replace("</pdconfig>", "<stop grace=\"1m\"/></pdconfig>")
}

/// A session that has begun.
fn session(address: SocketAddr) -> TcpStream {
    let mut client = connect(address);
    goes_on(&mut client);
    client
}

/// Fails unless a session still does its work.
fn goes_on(client: &mut TcpStream) {
    client.write_all(b"x").expect("it goes on");
    client.read_exact(&mut [0]).expect("it goes on");
}

/// Has the program replaced; tells the process ids of the old one and of the new one.
fn replace(machine: &Machine) -> (String, String) {
    let old = machine.show("MainPID");
    machine.must(&["kill", "--kill-whom=main", "--signal=USR2", "tcpdirector"]);
    until("another process is the service", || machine.show("MainPID") != old);
    (old, machine.show("MainPID"))
}

/// Stops the service while clients go on; they go home after two seconds.
fn stop_with(machine: &Machine, clients: Vec<TcpStream>) {
    thread::scope(|scope| {
        let stopping = scope.spawn(|| machine.must(&["stop", "tcpdirector"]));
        let mut clients = clients;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            clients.iter_mut().for_each(goes_on);
            thread::sleep(Duration::from_millis(100));
        }
        assert!(!stopping.is_finished(), "it was stopped under its clients");
        drop(clients);
        stopping.join().unwrap();
    });
    assert_eq!(
        (machine.show("ActiveState"), machine.show("Result")),
        ("inactive".into(), "success".into())
    );
}

#[test]
fn it_starts_takes_a_good_file_and_refuses_a_bad_one_aloud() {
    let Some(machine) = Machine::boot(&[]) else { return };
    let (backend, first, second) = (Backend::echo(), free_address(), free_address());
    machine.configure(&xml(first, &backend));
    machine.must(&["start", "tcpdirector"]);
    assert_eq!(
        (machine.show("ActiveState"), machine.show("StatusText")),
        ("active".into(), "serving web".into())
    );
    let mut client = session(first);
    machine.configure(&xml(second, &backend));
    machine.must(&["reload", "tcpdirector"]);
    until("the new address is open", || TcpStream::connect(second).is_ok());
    machine.configure("<pdconfig><hots/></pdconfig>");
    assert!(!machine.systemctl(&["reload", "tcpdirector"]).status.success());
    assert!(machine.journal().contains("unknown element <hots>"), "{}", machine.journal());
    assert_eq!(machine.show("ActiveState"), "active");
    goes_on(&mut client);
    goes_on(&mut session(second));
}

#[test]
fn a_service_that_was_replaced_is_stopped_with_its_grace() {
    let Some(machine) = Machine::boot(&[]) else { return };
    let (backend, address) = (Backend::echo(), free_address());
    machine.configure(&xml(address, &backend));
    machine.must(&["start", "tcpdirector"]);
    let of_old = session(address);
    replace(&machine);
    let of_new = session(address);
    assert!(!machine.journal().contains("not our child"), "{}", machine.journal());
    stop_with(&machine, vec![of_old, of_new]);
    // the main process has nothing to wait for
    machine.must(&["start", "tcpdirector"]);
    let of_old = session(address);
    replace(&machine);
    stop_with(&machine, vec![of_old]);
}

#[test]
fn the_death_of_either_program_is_noticed_and_mended() {
    let Some(machine) = Machine::boot(&[]) else { return };
    let (backend, address) = (Backend::echo(), free_address());
    machine.configure(&xml(address, &backend));
    machine.must(&["start", "tcpdirector"]);
    let client = session(address);
    let (old, new) = replace(&machine);
    machine.must(&["kill", "--kill-whom=main", "--signal=KILL", "tcpdirector"]);
    until("the death is noticed", || machine.show("ActiveState") != "active");
    drop(client);
    until("it serves again", || {
        machine.show("NRestarts") == "1" && TcpStream::connect(address).is_ok()
    });
    let mut client = session(address);
    let (third, fourth) = replace(&machine);
    assert!(machine.run(&["sh", "-c", &format!("kill -9 {third}")]).status.success());
    assert!(!matches!(client.read(&mut [0]), Ok(1..)));
    goes_on(&mut session(address));
    assert_eq!(
        (machine.show("ActiveState"), machine.show("MainPID")),
        ("active".into(), fourth.clone())
    );
    assert!([&old, &new, &third].iter().all(|pid| **pid != fourth));
}

#[test]
fn a_stop_may_take_longer_than_the_unit_says() {
    let Some(machine) = Machine::boot(&[]) else { return };
    let (backend, address) = (Backend::echo(), free_address());
    machine.configure(&xml(address, &backend));
    let script = "d=/run/systemd/system/tcpdirector.service.d; mkdir -p $d; printf '[Service]\nTimeoutStopSec=1\n' > $d/stop.conf";
    assert!(machine.run(&["sh", "-c", script]).status.success());
    machine.must(&["daemon-reload"]);
    machine.must(&["start", "tcpdirector"]);
    stop_with(&machine, vec![session(address)]);
}

#[test]
fn with_a_socket_unit_no_client_is_refused_by_a_restart_and_none_waits_unseen() {
    let (backend, address, stranger) = (Backend::echo(), free_address(), free_address());
    let unit = format!("[Socket]\nListenStream={address}\nListenStream={stranger}\n");
    let Some(machine) = Machine::boot(&[("tcpdirector.socket", &unit)]) else { return };
    machine.configure(&xml(address, &backend));
    machine.must(&["start", "tcpdirector.socket"]);
    // the first client starts the service
    goes_on(&mut session(address));
    let unwanted = format!("address={stranger} state=unwanted");
    assert!(machine.log().contains(&unwanted), "{}", machine.log());
    let load = Load::default();
    thread::scope(|scope| {
        let _end = load.guard();
        load.run(scope, address);
        for _ in 0..3 {
            load.check();
            machine.must(&["restart", "tcpdirector"]);
        }
        load.check();
        replace(&machine);
        load.check();
    });
    machine.must(&["kill", "--kill-whom=main", "--signal=KILL", "tcpdirector"]);
    goes_on(&mut session(address));
    machine.configure(&xml(free_address(), &backend));
    machine.must(&["reload", "tcpdirector"]);
    let dropped = format!("address={address} state=unwanted");
    until("the reload says so", || machine.log().contains(&dropped));
}
